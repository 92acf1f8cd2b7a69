"""The few fixed lengths that batches are padded to: one compilation each."""

import math
from collections.abc import Sequence

import numpy as np

_GRAIN = 8  # lengths are multiples of this many token slots, but for the last
_NUM_STEPS = 8


def default_lengths(max_length: int) -> tuple[int, ...]:
    """Return at most seven lengths from a quarter of max_length up to it: 64 -> 16, 24, 32, 40, 48, 56, 64.

    Raises:
      ValueError: max_length holds no text between [CLS] and [SEP].
    """
    if max_length < 3:
        raise ValueError(
            f"max_length is {max_length}; expected at least 3: [CLS], one token, [SEP]"
        )
    step = _GRAIN * math.ceil(max_length / _NUM_STEPS / _GRAIN)
    return (*range(2 * step, max_length, step), max_length)


def batch_lengths(lengths: Sequence[int], max_length: int) -> tuple[int, ...]:
    """Return the user's lengths, none above max_length, or the default ones where there are none.

    Raises:
      ValueError: they are not positive and strictly increasing.
    """
    if not lengths:
        return default_lengths(max_length)
    kept = tuple(length for length in check_lengths(lengths) if length < max_length)
    return kept if len(kept) == len(lengths) else (*kept, max_length)


def check_lengths(lengths: Sequence[int]) -> tuple[int, ...]:
    """Return the lengths as a tuple.

    Raises:
      ValueError: they are not positive and strictly increasing.
    """
    lengths = tuple(lengths)
    whole = all(isinstance(length, int) for length in lengths)
    if (
        not lengths
        or not whole
        or lengths[0] < 1
        or any(a >= b for a, b in zip(lengths, lengths[1:]))
    ):
        raise ValueError(
            f"config.data.bucket_lengths is {lengths}; expected positive numbers in increasing order"
        )
    return lengths


def bucket_for(
    length: int,
    lengths: Sequence[int],
    *,
    what: str = "tokens",
    field: str = "config.data.bucket_lengths",
) -> int:
    """Return the smallest of the (increasing) lengths that holds `length` slots.

    Raises:
      ValueError: none does; `what` and `field` word the message.
    """
    place = int(np.searchsorted(np.asarray(lengths), length))
    if place == len(lengths):
        raise ValueError(
            f"bucket {lengths[-1]} cannot hold {length} {what}; add a larger size to {field}"
        )
    return int(lengths[place])
