"""Pad examples into one Batch, and add per-example arrays to it.

I example ids
M token slots of the longest example
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adapler_jax.data.batching.lengths import bucket_for
from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch


@dataclasses.dataclass(frozen=True)
class PerExampleArrays:
    """Arrays that batches carry for each example, by example id; None for an array that is absent.

    Attributes:
      saliency: float rows by example id, as long as the example (Ragged), or zero padded [I, M].
      teacher_logits: float32 [I, C], or [I, M, 2] of a span head, or a dict of arrays by name. A
        name ends in one letter for each axis: the second axis of `span_BL2` is token slots.
      guide: float32 [I, J, M], zero padded: a heuristic's importance of each token at each site.
    """

    saliency: Ragged | np.ndarray | None = None
    teacher_logits: np.ndarray | Mapping[str, np.ndarray] | None = None
    guide: np.ndarray | None = None

    def named_arrays(self) -> Iterator[tuple[str, Ragged | np.ndarray]]:
        """Yield each array that is present, with the name that messages use."""
        teacher = self.teacher_logits
        teachers = teacher.values() if isinstance(teacher, Mapping) else [teacher]
        named = [("saliency", self.saliency), ("guide", self.guide)]
        named += [("teacher logits", values) for values in teachers]
        yield from ((name, values) for name, values in named if values is not None)


def pad_batch(
    token_rows: Sequence[Sequence[int] | np.ndarray],
    segment_rows: Sequence[Sequence[int] | np.ndarray] | None = None,
    *,
    length: int,
    batch_size: int | None = None,
    labels: Sequence[int] | None = None,
    example_ids: Sequence[int] | None = None,
    head_slots: Mapping[str, np.ndarray] | None = None,
) -> Batch:
    """Pad examples to one length, and add padding examples up to one batch size.

    A padding example has one valid token, id 0, so that no sum over tokens is 0. Its example id is
    PADDING_EXAMPLE_ID.

    Args:
      token_rows: token ids of each example, [CLS] first.
      segment_rows: segment ids; None for all 0.
      length: token slots L; at least the longest example.
      batch_size: rows B; None for the number of examples.
      labels: class numbers, or numbers as a float array; None for all 0.
      example_ids: ids; None for 0, 1, 2 ...
      head_slots: int32, or float32 of numbers, [rows, ...] by name; None if the head needs none.

    Returns:
      A Batch of NumPy arrays.

    Raises:
      ValueError: an example is too long, or there are too many examples.
    """
    num_rows = len(token_rows)
    batch_size = num_rows if batch_size is None else batch_size
    if num_rows > batch_size:
        raise ValueError(
            f"{num_rows} examples do not fit into a batch of {batch_size}; raise batch_size"
        )
    count_B = np.ones(batch_size, np.int64)
    count_B[:num_rows] = [len(row) for row in token_rows]
    bucket_for(int(count_B.max(initial=1)), (length,))
    example_id_B = np.full(batch_size, PADDING_EXAMPLE_ID, np.int32)
    example_id_B[:num_rows] = np.arange(num_rows) if example_ids is None else example_ids
    label_B: np.ndarray = np.zeros(batch_size, _label_dtype(labels))
    label_B[:num_rows] = 0 if labels is None else labels
    slots = {name: _pad_slots(rows, batch_size) for name, rows in (head_slots or {}).items()}
    # Batch declares JAX arrays; the data side fills it with NumPy arrays.
    arrays: dict[str, Any] = {
        "token_BL": _pad_rows(token_rows, (batch_size, length), np.int32),
        "segment_BL": _pad_rows(segment_rows or (), (batch_size, length), np.int32),
        "valid_BL": np.arange(length) < count_B[:, None],
        "label_B": label_B,
        "example_id_B": example_id_B,
        "head_slots": slots or None,
    }
    return Batch(**arrays)


def _label_dtype(labels) -> type:
    """Return float32 for numbers, int32 for classes and without labels."""
    return np.float32 if getattr(labels, "dtype", np.dtype(np.int32)).kind == "f" else np.int32


def _pad_slots(slots: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the head slots of the examples, and -1 for padding examples."""
    padded = np.full((batch_size, *slots.shape[1:]), -1, _label_dtype(slots))
    padded[: len(slots)] = slots
    return padded


def _pad_rows(rows: Iterable[Sequence | np.ndarray], shape: tuple[int, ...], dtype) -> np.ndarray:
    """Return rows in a zero array, left aligned."""
    padded = np.zeros(shape, dtype)
    for target, row in zip(padded, rows):
        target[: len(row)] = row
    return padded


def add_example_arrays(
    batch: Batch, lengths_B: np.ndarray, example_arrays: PerExampleArrays
) -> Batch:
    """Add the arrays of the batch's examples to it; 0 on padding and padding examples.

    Args:
      batch: a batch of `pad_batch`.
      lengths_B: int, tokens of each example; padding examples have no entry.
      example_arrays: arrays by example id.
    """
    ids = np.asarray(batch.example_id_B[: len(lengths_B)])
    shape = batch.token_BL.shape
    added: dict[str, Any] = {}
    if example_arrays.saliency is not None:
        rows = [example_arrays.saliency[i][:count] for i, count in zip(ids, lengths_B)]
        added["saliency_BL"] = _pad_rows(rows, shape, np.float32)
    if example_arrays.teacher_logits is not None:
        added["teacher_logits"] = _teacher_logits(example_arrays.teacher_logits, ids, shape)
    if example_arrays.guide is not None:
        added["importance_BJL"] = _take_examples(example_arrays.guide, ids, "BSL", shape)
    return dataclasses.replace(batch, **added)


def _teacher_logits(
    logits: np.ndarray | Mapping[str, np.ndarray], ids: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray | dict[str, np.ndarray]:
    """Return the teacher logits of these examples, in the form in which they are given."""
    if isinstance(logits, Mapping):
        return {
            name: _take_examples(values, ids, axes_of(name), shape)
            for name, values in logits.items()
        }
    return _take_examples(logits, ids, "BC" if logits.ndim == 2 else "BL2", shape)


def axes_of(name: str) -> str:
    """Return the axis letters at the end of an array's name: `BL2` of `span_BL2`."""
    return name.rpartition("_")[2]


def _take_examples(
    values: np.ndarray, ids: np.ndarray, axes: str, shape: tuple[int, ...]
) -> np.ndarray:
    """Return the values of these examples, cut or zero padded to the batch.

    Args:
      values: [I, ...].
      ids: example ids of the batch, without padding examples.
      axes: a letter for each axis of values; the axis L gets the batch's number of token slots.
      shape: rows B and token slots L of the batch.

    Returns:
      float32 [B, ...].
    """
    sizes = [shape[1] if letter == "L" else size for letter, size in zip(axes, values.shape)]
    found = values[ids][tuple(slice(size) for size in [None, *sizes[1:]])]
    padded = np.zeros((shape[0], *sizes[1:]), np.float32)
    padded[tuple(slice(size) for size in found.shape)] = found
    return padded


def check_example_arrays(tokenized: Tokenized, example_arrays: PerExampleArrays | None) -> None:
    """Raise ValueError if arrays lack an example, or saliency does not fit its example."""
    example_arrays = example_arrays or PerExampleArrays()
    last_id = tokenized.example_ids.max()
    for name, values in example_arrays.named_arrays():
        if len(values) <= last_id:
            raise ValueError(
                f"{name} of {len(values)} examples, but the data has the example id {last_id}; "
                "compute them again for this data"
            )
    if isinstance(example_arrays.saliency, Ragged):
        differs = example_arrays.saliency.lengths[tokenized.example_ids] != tokenized.lengths
        if differs.any():
            row = int(np.argmax(differs))
            raise ValueError(
                f"saliency of example {tokenized.example_ids[row]} has another length than its "
                f"{tokenized.lengths[row]} tokens; compute it again for this data"
            )
