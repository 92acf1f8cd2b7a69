"""The ladder of padded lengths into which the bucketed driver gathers tokens."""

import numpy as np

from adapler_jax.data.batching.lengths import check_sizes
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import BEFORE_ATTENTION

DEFAULT_BUCKETS = (2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


def check_buckets(buckets) -> tuple[int, ...]:
    """The buckets as a tuple. Raises ValueError where they are no positive numbers in increasing order, or none."""
    return check_sizes(buckets, field="config.inference.buckets")


def bucket_sizes(buckets, length) -> tuple[int, ...]:
    """Bucket lengths for a batch of `length` slots: the buckets below it and itself.

    Raises ValueError where the largest bucket is shorter, since a method may keep every token.
    """
    if max(buckets) < length:
        raise ValueError(
            f"bucket {max(buckets)} cannot hold {length} kept tokens; add a larger size to config.inference.buckets"
        )
    return (*sorted(bucket for bucket in set(buckets) if bucket < length), length)


def entry_buckets(pruner: Pruner, rungs) -> tuple[int, ...]:
    """The rungs that a batch may enter at: every other one where the first site is among what enters, the last one
    included, since embedding and first scores are cheap and compiling a branch is not."""
    return tuple(rungs[::-1][::2][::-1]) if pruner.point == BEFORE_ATTENTION else tuple(rungs)


def executed_lengths(pruner: Pruner, length_B, count_NB, buckets, *, num_slots):
    """Padded lengths at which one batch really ran: of what enters, int; and of what each site left, int64 [N].

    Args: length_B: valid tokens. count_NB: tokens that each site left. num_slots: token slots of the batch.
    """
    rungs = np.asarray(bucket_sizes(buckets, num_slots))
    entries = np.asarray(entry_buckets(pruner, rungs))
    entry = int(entries[np.searchsorted(entries, np.max(length_B))])
    return entry, rungs[np.searchsorted(rungs, np.max(count_NB, axis=-1))]
