"""Make batches of few fixed shapes: shuffled for training by grain, sorted for evaluation.

    N groups of examples

Examples of one question are a group: `Tokenized.group` consecutive rows that stay in one batch.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import overload

import grain
import numpy as np

from adapler_jax.data.batching.lengths import bucket_for, check_lengths
from adapler_jax.data.batching.padding import (
    PerExampleArrays,
    add_example_arrays,
    check_example_arrays,
    pad_batch,
)
from adapler_jax.data.tokenization.tokens import Tokenized
from adapler_jax.types import Batch

# Batches that are made while a step runs.
_READ_AHEAD = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)


def num_steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Return the number of full batches in an epoch; at least one, which padding examples fill."""
    return max(num_examples // batch_size, 1)


def train_batches(
    tokenized: Tokenized,
    *,
    batch_size: int,
    lengths: Sequence[int],
    seed: int,
    start_step: int = 0,
    example_arrays: PerExampleArrays | None = None,
) -> grain.DatasetIterator:
    """Yield training batches without end; batch k is a pure function of the arguments and k.

    Each epoch draws a new order and leaves out the examples that do not fill a batch. It puts
    examples of similar length together, then shuffles the batches. Padding examples fill up a set
    smaller than one batch. Rows of one group stay together.

    Args:
      tokenized: the examples.
      batch_size: rows B of a batch.
      lengths: increasing lengths; a batch is padded to the smallest that holds its longest example.
      seed: decides the order of every epoch.
      start_step: the step of the first batch; the step of a checkpoint continues from it.
      example_arrays: saliency and teacher logits to add to the batches.

    Returns:
      An iterator of Batch (NumPy arrays). Making batches overlaps with the caller's work.

    Raises:
      ValueError: there are no examples, an example is longer than every length, or the sizes do
        not fit.
    """
    lengths = _check(tokenized, batch_size, lengths)
    check_example_arrays(tokenized, example_arrays)
    num_steps = num_steps_per_epoch(len(tokenized), batch_size)
    longest_N = group_lengths(tokenized)

    @functools.lru_cache(maxsize=2)
    def rows_of_epoch(epoch: int) -> list[np.ndarray]:
        """Return the rows of every batch of an epoch."""
        batches = shuffle_epoch(
            longest_N,
            batch_size=batch_size // tokenized.group,
            lengths=lengths,
            seed=seed,
            epoch=epoch,
        )
        return [rows_of_groups(groups, tokenized.group) for groups in batches]

    def batch_at(step: int) -> Batch:
        """Make the batch of one step."""
        epoch, index = divmod(int(step), num_steps)
        return _make_batch(
            tokenized,
            rows_of_epoch(epoch)[index],
            batch_size=batch_size,
            lengths=lengths,
            example_arrays=example_arrays,
        )

    steps = grain.MapDataset.range(start_step, sys.maxsize)
    return iter(steps.map(batch_at).to_iter_dataset(_READ_AHEAD))


def group_lengths(tokenized: Tokenized) -> np.ndarray:
    """Return the tokens of the longest row of each group, int64 [N]."""
    return tokenized.lengths.reshape(-1, tokenized.group).max(axis=1)


def rows_of_groups(groups: np.ndarray, size: int) -> np.ndarray:
    """Return the rows of groups of `size` rows each."""
    return (groups[:, None] * size + np.arange(size)).ravel()


def shuffle_epoch(
    lengths_N: np.ndarray, *, batch_size: int, lengths: Sequence[int], seed: int, epoch: int
) -> list[np.ndarray]:
    """Return the groups of each batch of an epoch, a pure function of its arguments.

    Groups that do not fill a batch are left out before sorting, so that no length is left out more
    often than another.

    Args:
      lengths_N: int, tokens of the longest row of each group.
      batch_size: groups in a batch.
      lengths: increasing padded lengths.
      seed: random seed of the run.
      epoch: number of the epoch.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths_N))
    num_steps = len(order) // batch_size
    if num_steps == 0:
        return [order]
    order = order[: num_steps * batch_size]
    buckets = np.searchsorted(np.asarray(lengths), lengths_N[order])
    batches = order[np.argsort(buckets, kind="stable")].reshape(num_steps, batch_size)
    return list(batches[generator.permutation(num_steps)])


def eval_batches(
    tokenized: Tokenized,
    *,
    batch_size: int,
    lengths: Sequence[int],
    example_arrays: PerExampleArrays | None = None,
) -> Sequence[Batch]:
    """Return every example once, sorted by length; padding examples fill up the last batch.

    Each batch is made when the caller indexes it, so that a split needs no memory except for its
    tokens.

    Args:
      tokenized: the examples.
      batch_size: rows B of a batch.
      lengths: increasing lengths; a batch is padded to the smallest that holds its longest example.
      example_arrays: arrays to add to the batches.

    Raises:
      ValueError: there are no examples, an example is longer than every length, or the sizes do
        not fit.
    """
    lengths = _check(tokenized, batch_size, lengths)
    check_example_arrays(tokenized, example_arrays)
    groups = np.argsort(group_lengths(tokenized), kind="stable")
    order = rows_of_groups(groups, tokenized.group)

    def make(start: int) -> Batch:
        return _make_batch(
            tokenized,
            order[start : start + batch_size],
            batch_size=batch_size,
            lengths=lengths,
            example_arrays=example_arrays,
        )

    return _Batches(make, range(0, len(order), batch_size))


class _Batches(Sequence[Batch]):
    """Batches that are made on access."""

    def __init__(self, make: Callable[[int], Batch], starts: range):
        """Store the function that makes a batch, and its argument for each batch."""
        self._make, self._starts = make, starts

    def __len__(self) -> int:
        """Count the batches."""
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> "_Batches": ...

    def __getitem__(self, index):
        """Make one batch; a slice of the batches makes none yet."""
        if isinstance(index, slice):
            return _Batches(self._make, self._starts[index])
        return self._make(self._starts[index])


def _make_batch(
    tokenized: Tokenized,
    rows: np.ndarray,
    *,
    batch_size: int,
    lengths: tuple[int, ...],
    example_arrays: PerExampleArrays | None,
) -> Batch:
    """Make the batch of these rows."""
    batch = pad_batch(
        [tokenized.tokens[row] for row in rows],
        [tokenized.segments[row] for row in rows],
        length=bucket_for(int(tokenized.lengths[rows].max()), lengths),
        batch_size=batch_size,
        labels=tokenized.labels[rows],
        example_ids=tokenized.example_ids[rows],
        head_slots={name: slots[rows] for name, slots in tokenized.head_slots.items()},
    )
    if example_arrays is None:
        return batch
    return add_example_arrays(batch, tokenized.lengths[rows], example_arrays)


def _check(tokenized: Tokenized, batch_size: int, lengths: Sequence[int]) -> tuple[int, ...]:
    """Return the lengths as a tuple; raise ValueError if the examples cannot be batched."""
    lengths = check_lengths(lengths)
    if not len(tokenized):
        raise ValueError("there are no examples to batch; give a split with at least one row")
    if batch_size < 1:
        raise ValueError(f"batch size {batch_size} holds no example; give 1 or more")
    if len(tokenized) % tokenized.group or batch_size % tokenized.group:
        raise ValueError(
            f"{len(tokenized)} rows in batches of {batch_size} cut groups of {tokenized.group} "
            "rows that belong together; use a multiple"
        )
    bucket_for(int(tokenized.lengths.max()), lengths)
    return lengths
