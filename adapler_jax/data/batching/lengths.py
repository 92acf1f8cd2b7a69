"""Choose the few fixed lengths that batches are padded to; each costs one compilation."""

import itertools
import math
import numbers
from collections.abc import Iterable, Sequence

import numpy as np

_MULTIPLE = 8  # of token slots, for every length except the last
_NUM_STEPS = 8


def default_lengths(max_length: int) -> tuple[int, ...]:
    """Return at most seven lengths from a quarter of max_length up to max_length.

    The lengths for 64 are 16, 24, 32, 40, 48, 56, 64.

    Raises:
      ValueError: max_length holds no text between [CLS] and [SEP].
    """
    if max_length < 3:
        raise ValueError(
            f"max_length is {max_length}; expected at least 3: [CLS], one token, [SEP]"
        )
    step = _MULTIPLE * math.ceil(max_length / _NUM_STEPS / _MULTIPLE)
    return (*range(2 * step, max_length, step), max_length)


def batch_lengths(lengths: Sequence[int], max_length: int) -> tuple[int, ...]:
    """Return the user's lengths, at most max_length each; the default lengths without them.

    Raises:
      ValueError: the lengths are not positive and strictly increasing.
    """
    if not lengths:
        return default_lengths(max_length)
    kept = tuple(length for length in check_lengths(lengths) if length < max_length)
    return kept if len(kept) == len(lengths) else (*kept, max_length)


def check_lengths(lengths: Sequence[int]) -> tuple[int, ...]:
    """Return the lengths as a tuple.

    Raises:
      ValueError: the lengths are not positive and strictly increasing.
    """
    return check_sizes(lengths, field="config.data.bucket_lengths")


def check_sizes(sizes: Iterable[int], *, field: str) -> tuple[int, ...]:
    """Return sizes as a tuple.

    Args:
      sizes: the sizes that a config field holds.
      field: name of the field, for the message.

    Raises:
      ValueError: there are none, or they are not positive and strictly increasing.
    """
    sizes = tuple(sizes)
    are_positive = all(isinstance(size, numbers.Integral) and size > 0 for size in sizes)
    if not sizes or not are_positive or any(a >= b for a, b in itertools.pairwise(sizes)):
        raise ValueError(
            f"{field} is {sizes}; expected positive numbers in increasing order, as (8, 16, 32)"
        )
    return tuple(int(size) for size in sizes)


def bucket_for(
    length: int,
    lengths: Sequence[int],
    *,
    what: str = "tokens",
    field: str = "config.data.bucket_lengths",
) -> int:
    """Return the smallest of the (increasing) lengths that holds `length` slots.

    Args:
      length: slots to hold.
      lengths: increasing lengths.
      what: name of the things that fill slots, for the message.
      field: name of the config field to change, for the message.

    Raises:
      ValueError: every length is too small.
    """
    index = int(np.searchsorted(np.asarray(lengths), length))
    if index == len(lengths):
        raise ValueError(
            f"bucket {lengths[-1]} cannot hold {length} {what}; add a larger size to {field}"
        )
    return int(lengths[index])
