"""Pad examples into one Batch, and put per-example arrays beside them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from adapler_jax.data.batching.lengths import bucket_for
from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.tokenization.tokens import Tokenized
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch


@dataclasses.dataclass(frozen=True)
class PerExampleArrays:
    """Arrays that travel with their example, looked up by example id.

    Attributes:
      saliency: float rows by example id, as long as the example (Ragged) or zero padded [ids, longest]; or None.
      teacher_logits: float32 [ids, C], or of a span head [ids, longest, 2]; or a dict of arrays by name, whose last
        part has a letter an axis (`span_BL2`: token slots are the second); or None.
      guide: float32 [ids, sites, longest], zero padded: what a heuristic makes of each token; or None.
    """

    saliency: Ragged | np.ndarray | None = None
    teacher_logits: np.ndarray | Mapping[str, np.ndarray] | None = None
    guide: np.ndarray | None = None


def pad_batch(
    token_rows: Sequence[Sequence[int]],
    segment_rows: Sequence[Sequence[int]] | None = None,
    *,
    length: int,
    batch_size: int | None = None,
    labels: Sequence[int] | None = None,
    example_ids: Sequence[int] | None = None,
    head_slots: Mapping[str, np.ndarray] | None = None,
) -> Batch:
    """Pad examples to one length, and with filler rows to one batch size.

    A filler row has one valid token, id 0, so that nothing divides by zero; its example id is PADDING_EXAMPLE_ID.

    Args:
      token_rows: token ids of each example, [CLS] first.
      segment_rows: segment ids; None for all 0.
      length: token slots L; at least the longest example.
      batch_size: rows B; None for as many as there are examples.
      labels: class numbers; None for all 0.
      example_ids: ids; None for 0, 1, 2 ...
      head_slots: int32 [rows, ...] by name; None for none.

    Returns:
      A Batch of NumPy arrays.

    Raises:
      ValueError: an example or the examples do not fit.
    """
    num_rows = len(token_rows)
    batch_size = num_rows if batch_size is None else batch_size
    if num_rows > batch_size:
        raise ValueError(
            f"{num_rows} examples do not fit into a batch of {batch_size}; raise batch_size"
        )
    counts = np.array([len(row) for row in token_rows] + [1] * (batch_size - num_rows), np.int64)
    bucket_for(int(counts.max(initial=1)), (length,))
    ids = np.full(batch_size, PADDING_EXAMPLE_ID, np.int32)
    ids[:num_rows] = np.arange(num_rows) if example_ids is None else example_ids
    label_B = np.zeros(batch_size, np.int32)
    label_B[:num_rows] = 0 if labels is None else labels
    return Batch(
        token_BL=_pad_rows(token_rows, (batch_size, length), np.int32),
        segment_BL=_pad_rows(segment_rows or (), (batch_size, length), np.int32),
        valid_BL=np.arange(length) < counts[:, None],
        label_B=label_B,
        example_id_B=ids,
        head_slots={name: _fill_up(rows, batch_size) for name, rows in head_slots.items()}
        if head_slots
        else None,
    )


def _fill_up(rows: np.ndarray, batch_size: int) -> np.ndarray:
    """The head slots of examples with -1 for filler rows."""
    filled = np.full((batch_size, *rows.shape[1:]), -1, np.int32)
    filled[: len(rows)] = rows
    return filled


def _pad_rows(rows: Sequence[Sequence], shape: tuple[int, int], dtype) -> np.ndarray:
    """Lay rows into a zero array, left aligned."""
    padded = np.zeros(shape, dtype)
    for target, row in zip(padded, rows):
        target[: len(row)] = row
    return padded


def add_example_arrays(
    batch: Batch, lengths_B: np.ndarray, example_arrays: PerExampleArrays
) -> Batch:
    """Put the example_arrays of the batch's examples into it; zero on padding and filler rows."""
    ids = batch.example_id_B[: len(lengths_B)]
    added = {}
    if example_arrays.saliency is not None:
        rows = [example_arrays.saliency[i][:count] for i, count in zip(ids, lengths_B)]
        added["saliency_BL"] = _pad_rows(rows, batch.token_BL.shape, np.float32)
    if example_arrays.teacher_logits is not None:
        logits, shape = example_arrays.teacher_logits, batch.token_BL.shape
        if isinstance(logits, Mapping):
            found = {
                name: _logits_of(rows, ids, axes_of(name), shape) for name, rows in logits.items()
            }
        else:
            found = _logits_of(logits, ids, "BC" if logits.ndim == 2 else "BL2", shape)
        added["teacher_logits"] = found
    if example_arrays.guide is not None:
        length = batch.token_BL.shape[1]
        importance_BSL = np.zeros(
            (len(batch.label_B), example_arrays.guide.shape[1], length), np.float32
        )
        importance_BSL[: len(ids), :, : example_arrays.guide.shape[2]] = example_arrays.guide[ids][
            :, :, :length
        ]
        added["importance_BSL"] = importance_BSL
    return batch.replace(**added)


def axes_of(name: str) -> str:
    """The axes of an array, a letter each, by the last part of its name: `span_BL2` has examples, token slots and 2."""
    return name.rpartition("_")[2]


def _logits_of(
    logits: np.ndarray, ids: np.ndarray, axes: str, shape: tuple[int, int]
) -> np.ndarray:
    """The logits of these examples, float32; 0 on filler rows, and at the batch's token slots that they lack.

    shape: rows and token slots of the batch.
    """
    sizes = [shape[1] if letter == "L" else size for letter, size in zip(axes, logits.shape)]
    found = logits[ids][tuple(slice(size) for size in [None, *sizes[1:]])]
    padded = np.zeros((shape[0], *sizes[1:]), np.float32)
    padded[tuple(slice(size) for size in found.shape)] = found
    return padded


def check_example_arrays(tokenized: Tokenized, example_arrays: PerExampleArrays | None) -> None:
    """Refuse example_arrays that lack an example, or ragged saliency that is shorter or longer than its example."""
    example_arrays = example_arrays or PerExampleArrays()
    teacher = example_arrays.teacher_logits
    teachers = teacher.values() if isinstance(teacher, Mapping) else [teacher]
    for name, values in (
        ("saliency", example_arrays.saliency),
        ("guide", example_arrays.guide),
        *(("teacher logits", values) for values in teachers),
    ):
        if values is not None and len(values) <= tokenized.example_ids.max():
            raise ValueError(
                f"{name} of {len(values)} examples, but the data has the example id {tokenized.example_ids.max()}; "
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
