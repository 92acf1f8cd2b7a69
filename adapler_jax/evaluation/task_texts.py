"""Split, batch and label texts of a task, for calibrations and comparisons of models."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from adapler_jax.data.batching.lengths import default_lengths
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.embedder import Embedder
from adapler_jax.inference.loading import sorted_batches
from adapler_jax.inference.multi_label import MultiLabelClassifier
from adapler_jax.inference.reranker import Regressor, Reranker
from adapler_jax.io.messages import listed
from adapler_jax.types import Batch
from adapler_jax.weights.folders import describe_folder

Reader = Classifier | MultiLabelClassifier | Regressor | Embedder
READERS: dict[str, type[Reader]] = {
    "embedding": Embedder,
    "multi_label": MultiLabelClassifier,
    "regression": Regressor,
}
MIN_TEXTS = 100
BATCH_SIZE = 32
# From so many texts on the packed driver, which skips dropped tokens, saves more than it compiles.
MIN_PACKED = 256


def label_numbers(
    texts: Sequence, labels: Sequence[str | int], class_names: Sequence[str]
) -> list[int]:
    """Return the class of each label.

    Labels are names if one of them is a name of a class, else numbers from 0.

    Raises:
      ValueError: a label is none of the model's, or there is not one for each text.
    """
    if len(labels) != len(texts):
        raise ValueError(f"{len(labels)} labels for {len(texts)} texts; give one for each")
    by_name = {name: number for number, name in enumerate(class_names)}
    by_number = {str(number): number for number in range(len(class_names))}
    numbers = by_name if set(map(str, labels)) & set(by_name) else by_number
    for label in labels:
        if str(label) not in numbers:
            raise ValueError(
                f"label {str(label)!r:.60} is no class of the model: {listed(class_names)}"
            )
    return [numbers[str(label)] for label in labels]


def checked_labels(
    directory, texts: Sequence, labels: Sequence[str | int] | None
) -> np.ndarray | None:
    """Return the numbers of the labels, int64 [M]; None without labels.

    Raises:
      ValueError: there are no texts, the model does not classify, or a label is not the model's.
    """
    class_names = describe_folder(directory).class_names
    if not class_names:
        raise ValueError(f"{directory} does not classify texts, so no labels can be compared")
    if not len(texts):
        raise ValueError("there are no texts to compare labels on")
    return None if labels is None else np.array(label_numbers(texts, labels, class_names))


def labels_by_text(
    texts: Sequence, labels: Sequence[str | int] | None, class_names: Sequence[str]
) -> dict[Any, int] | None:
    """Return the class of each text, of equal texts the first's; None without labels.

    Raises:
      ValueError: as `label_numbers`.
    """
    if labels is None:
        return None
    numbers = label_numbers(texts, labels, class_names)
    return dict(reversed(list(zip(texts, numbers))))


class TaskTexts(NamedTuple):
    """Some texts in batches."""

    batches: list[Batch]
    texts: list  # in the order of the batches
    label_E: np.ndarray | None  # int32, in the order of the batches
    driver: str = "masked"  # that runs them faster at many budgets

    def at(self, budget: float) -> "TaskTexts":
        """Return the texts with a budget."""
        sizes = [len(batch.token_BL) for batch in self.batches]
        batches = [
            batch.replace(budget_B=np.full(size, budget, np.float32))
            for batch, size in zip(self.batches, sizes)
        ]
        return self._replace(batches=batches)


def make_task_texts(
    reader: Classifier | Reranker, texts: list, label_of: dict[Any, int] | None
) -> TaskTexts:
    """Return texts in batches, with their labels where they have some."""
    # The packed driver computes no padding, so that one length serves all texts.
    is_packed = len(texts) >= MIN_PACKED
    found = batches_and_rows(reader, texts, (reader.max_length,) if is_packed else None)
    batches, driver = [batch for _, batch in found], "packed" if is_packed else "masked"
    in_order, label_E = [texts[row] for row_B, _ in found for row in row_B], None
    if label_of is not None:
        label_E = np.array([label_of[text] for text in in_order], np.int32)
    return TaskTexts(batches, in_order, label_E, driver)


def split_texts(texts: Sequence, *, seed: int, fraction: float = 0.5) -> tuple[list, list]:
    """Return two parts of the different texts, in random order; the first has this fraction.

    Raises:
      ValueError: there are too few.
    """
    different = list(dict.fromkeys(texts))
    if len(different) < MIN_TEXTS:
        raise ValueError(
            f"there are {len(different)} different texts; a calibration needs at least {MIN_TEXTS}"
        )
    order = np.random.default_rng(seed).permutation(len(different)).tolist()
    shuffled = [different[index] for index in order]
    middle = round(fraction * len(shuffled))
    return shuffled[:middle], shuffled[middle:]


def load_reader(directory) -> Reader:
    """Load a saved model of classes, labels, numbers or vectors of texts.

    Raises:
      ValueError: the model is damaged, or has another head.
    """
    return READERS.get(describe_folder(directory).head.name, Classifier).load(directory)


def make_batches(reader: Reader | Reranker, texts: Sequence) -> list[Batch]:
    """Return the texts in padded batches, in random order of the batches' lengths."""
    return [batch for _, batch in batches_and_rows(reader, texts)]


def batches_and_rows(
    reader: Reader | Reranker, texts: Sequence, lengths: Sequence[int] | None = None
) -> list[tuple[np.ndarray, Batch]]:
    """Return the batches of `make_batches`, each with the numbers of its texts.

    Args:
      reader: whose tokenizer is used.
      texts: or pairs.
      lengths: to which batches are padded; None for the default ones.
    """
    tokens = reader.encode_tokens(texts)
    found = sorted_batches(
        [row.token_L for row in tokens],
        [row.segment_L for row in tokens],
        lengths=lengths or default_lengths(reader.max_length),
        num_rows=BATCH_SIZE,
    )
    pairs = list(found)
    return [pairs[index] for index in np.random.default_rng(0).permutation(len(pairs))]
