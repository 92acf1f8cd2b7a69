"""Tokenized examples -> batches of few fixed shapes: shuffled for training by grain, sorted for evaluation."""

import functools
import sys
from collections.abc import Callable, Sequence

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

_READ_AHEAD = grain.ReadOptions(
    num_threads=1, prefetch_buffer_size=4
)  # batches made while a step runs


def num_steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Return the full batches in an epoch; a set smaller than one batch makes one, filled up."""
    return max(num_examples // batch_size, 1)


def train_batches(
    tokenized: Tokenized,
    *,
    batch_size: int,
    lengths: Sequence[int],
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    example_arrays: PerExampleArrays | None = None,
) -> grain.DatasetIterator:
    """Yield training batches without end; batch k is a pure function of the arguments and k.

    Each epoch draws a new order, leaves out the examples that do not fill a batch, puts examples of like length
    together, and shuffles the batches. A set smaller than one batch is filled up with filler rows. Rows that belong
    together stay together.

    Args:
      tokenized: the examples.
      batch_size: rows of the global batch B, over all processes.
      lengths: increasing lengths; a batch is padded to the smallest that holds its longest example.
      seed: decides the order of every epoch.
      start_step: the step of the first batch; give the step of a checkpoint to go on from there.
      process_index, process_count: this process gets its equal share of the rows of every batch.
      example_arrays: saliency and teacher logits to put into the batches.

    Returns:
      An iterator of Batch (NumPy arrays). Making batches overlaps with the caller's work.

    Raises:
      ValueError: there is nothing to batch, an example is longer than every length, or the sizes do not fit.
    """
    lengths = _check(tokenized, batch_size, lengths, process_count)
    check_example_arrays(tokenized, example_arrays)
    num_steps = num_steps_per_epoch(len(tokenized), batch_size)
    longest = group_lengths(tokenized)
    share = _share(batch_size, process_index, process_count)

    @functools.lru_cache(maxsize=2)
    def plan(epoch: int) -> list[np.ndarray]:
        """Rows of every batch of an epoch."""
        groups = shuffle_epoch(
            longest,
            batch_size=batch_size // tokenized.group,
            lengths=lengths,
            seed=seed,
            epoch=epoch,
        )
        return [rows_of_groups(chosen, tokenized.group) for chosen in groups]

    def batch_at(step: int) -> Batch:
        """Make the batch of one step."""
        epoch, place = divmod(int(step), num_steps)
        return _make_batch(
            tokenized, plan(epoch)[place], share, lengths=lengths, example_arrays=example_arrays
        )

    steps = grain.MapDataset.range(start_step, sys.maxsize)
    return iter(steps.map(batch_at).to_iter_dataset(_READ_AHEAD))


def group_lengths(tokenized: Tokenized) -> np.ndarray:
    """Tokens of the longest row of each group, int64 [groups]."""
    return tokenized.lengths.reshape(-1, tokenized.group).max(axis=1)


def rows_of_groups(groups: np.ndarray, size: int) -> np.ndarray:
    """The rows of groups of that size."""
    return (groups[:, None] * size + np.arange(size)).ravel()


def shuffle_epoch(
    lengths_N: np.ndarray, *, batch_size: int, lengths: Sequence[int], seed: int, epoch: int
) -> list[np.ndarray]:
    """Return the rows of each batch of an epoch, a pure function of its arguments.

    What does not fill a batch is left out before sorting, so that no length is left out more often than another.
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
    process_index: int = 0,
    process_count: int = 1,
    example_arrays: PerExampleArrays | None = None,
) -> Sequence[Batch]:
    """Every example once, sorted by length; the last batch is filled up with filler rows.

    The arguments are those of train_batches. Each batch is made when it is asked for, so that a split costs no memory
    beside its tokens.

    Raises:
      ValueError: as train_batches.
    """
    lengths = _check(tokenized, batch_size, lengths, process_count)
    check_example_arrays(tokenized, example_arrays)
    share = _share(batch_size, process_index, process_count)
    order = rows_of_groups(np.argsort(group_lengths(tokenized), kind="stable"), tokenized.group)

    def make(start: int) -> Batch:
        return _make_batch(
            tokenized,
            order[start : start + batch_size],
            share,
            lengths=lengths,
            example_arrays=example_arrays,
        )

    return _Batches(make, range(0, len(order), batch_size))


class _Batches(Sequence[Batch]):
    """Batches that are made when they are asked for."""

    def __init__(self, make: Callable[[int], Batch], starts: range):
        """starts: the arguments of `make`, one a batch."""
        self._make, self._starts = make, starts

    def __len__(self) -> int:
        """Count the batches."""
        return len(self._starts)

    def __getitem__(self, place):
        """Make one batch; a slice of the batches makes none yet."""
        found = self._starts[place]
        return _Batches(self._make, found) if isinstance(place, slice) else self._make(found)


def _make_batch(
    tokenized: Tokenized,
    rows: np.ndarray,
    share: slice,
    *,
    lengths: tuple[int, ...],
    example_arrays: PerExampleArrays | None,
) -> Batch:
    """Make this process's share of the batch of these rows; the length is that of the whole batch."""
    length = bucket_for(int(tokenized.lengths[rows].max()), lengths)
    rows = rows[share]
    batch = pad_batch(
        [tokenized.tokens[row] for row in rows],
        [tokenized.segments[row] for row in rows],
        length=length,
        batch_size=share.stop - share.start,
        labels=tokenized.labels[rows],
        example_ids=tokenized.example_ids[rows],
        head_slots={name: slots[rows] for name, slots in tokenized.head_slots.items()},
    )
    return (
        batch
        if example_arrays is None
        else add_example_arrays(batch, tokenized.lengths[rows], example_arrays)
    )


def _share(batch_size: int, process_index: int, process_count: int) -> slice:
    """Return the rows of the global batch that one process takes."""
    size = batch_size // process_count
    return slice(process_index * size, (process_index + 1) * size)


def _check(
    tokenized: Tokenized, batch_size: int, lengths: Sequence[int], process_count: int
) -> tuple[int, ...]:
    """Refuse what cannot be batched; return the lengths as a tuple."""
    lengths = check_lengths(lengths)
    if not len(tokenized):
        raise ValueError("there are no examples to batch; give a split with at least one row")
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"batch size {batch_size} cannot be shared by {process_count} processes; use a multiple"
        )
    if len(tokenized) % tokenized.group or (batch_size // process_count) % tokenized.group:
        raise ValueError(
            f"{len(tokenized)} rows in batches of {batch_size // process_count} cut groups of {tokenized.group} rows "
            "that belong together; use a multiple"
        )
    bucket_for(int(tokenized.lengths.max()), lengths)
    return lengths
