"""Padded lengths into which the bucketed driver gathers tokens."""

import itertools
import numbers
from collections.abc import Iterable, Sequence

import numpy as np

from adapler_jax.pruning.base import Pruner
from adapler_jax.types import BEFORE_ATTENTION

DEFAULT_BUCKETS = (
    *(2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048),
    *(3072, 4096, 6144, 8192),
)


def check_buckets(buckets: Iterable[int]) -> tuple[int, ...]:
    """Return the buckets as a tuple.

    Raises:
      ValueError: there are none, or they are not positive numbers in increasing order.
    """
    buckets = tuple(buckets)
    whole = all(isinstance(bucket, numbers.Integral) and bucket > 0 for bucket in buckets)
    if not buckets or not whole or any(a >= b for a, b in itertools.pairwise(buckets)):
        raise ValueError(
            f"config.inference.buckets is {buckets}; expected positive numbers in increasing "
            "order, as (8, 16, 32)"
        )
    return tuple(int(bucket) for bucket in buckets)


def bucket_sizes(buckets: Sequence[int], length: int) -> tuple[int, ...]:
    """Return the buckets for a batch of `length` slots: the smaller ones, and itself.

    Raises:
      ValueError: the largest bucket is shorter; a method may keep every token.
    """
    if max(buckets) < length:
        raise ValueError(
            f"bucket {max(buckets)} cannot hold {length} kept tokens; add a larger size to "
            "config.inference.buckets"
        )
    return (*sorted(bucket for bucket in set(buckets) if bucket < length), length)


def entry_buckets(pruner: Pruner, buckets: Sequence[int]) -> tuple[int, ...]:
    """Return the buckets at which a batch may enter.

    Where the entry includes the first site, it is every other bucket and the last: embeddings and
    first scores are cheap and compiling a branch is not.
    """
    return tuple(buckets[::-1][::2][::-1]) if pruner.point == BEFORE_ATTENTION else tuple(buckets)


def executed_lengths(
    pruner: Pruner, length_B, count_NB, buckets: Sequence[int], *, num_slots: int
) -> tuple[int, np.ndarray]:
    """Return the padded lengths of one batch: at the entry, and after each site, int64 [N].

    Args:
      pruner: the method.
      length_B: valid tokens.
      count_NB: tokens that each site kept.
      buckets: of the driver.
      num_slots: token slots of the batch.
    """
    sizes = np.array(bucket_sizes(buckets, num_slots), np.int64)
    entries = np.array(entry_buckets(pruner, sizes.tolist()), np.int64)
    entry = int(entries[np.searchsorted(entries, np.max(length_B))])
    return entry, sizes[np.searchsorted(sizes, np.max(count_NB, axis=-1))]
