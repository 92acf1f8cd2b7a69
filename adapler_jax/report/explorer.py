"""Collect texts of the test split for the report, with the layers that each word reached."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from adapler_jax.data.classification.examples import Dataset, take_examples
from adapler_jax.data.classification.splits import subset
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.explanation import Explanation
from adapler_jax.report.packing import CHUNK_SIZE, pack_chunk
from adapler_jax.weights.labels import names_in_run

SAMPLE_SEED = 0
# Scores are most of a large page: above NUM_FINE examples they have fewer levels.
FINE_LEVELS, COARSE_LEVELS, NUM_FINE = 63, 15, 2500


@dataclasses.dataclass(frozen=True)
class Explorer:
    """Data for the page's script."""

    meta: dict  # of the model, and what examples are filtered by, a list entry an example
    chunks: list[str]  # the examples themselves, as `pack_chunk` gives them


def explore(
    name: str, classifier: Classifier, dataset: Dataset, num_examples: int, *, log: Callable
) -> Explorer:
    """Run a model over a seeded sample of the first test split.

    Raises:
      ValueError: the model drops no tokens, or its classes are not the data's.
    """
    if not classifier.site_layers:
        raise ValueError(
            f"{name} drops no words, so there are none to follow; train a model that does"
        )
    if classifier.class_names != names_in_run(classifier.class_names, dataset.task.class_names):
        raise ValueError(
            f"{name} has the classes {', '.join(classifier.class_names)}, the data now has "
            f"{', '.join(dataset.task.class_names)}; restore the data"
        )
    split = dataset.eval_splits[0]
    examples = dataset.split(split)
    num_sampled = min(num_examples, len(examples))
    sample = take_examples(examples, subset(len(examples), num_sampled, seed=SAMPLE_SEED))
    log(f"{name}: {len(sample)} texts of {split} explained")
    explorer = build_explorer(
        explain_chunks(classifier, sample.inputs),
        sample.labels.tolist(),
        model=name,
        class_names=classifier.class_names,
        num_layers=classifier.num_layers,
        site_layers=classifier.site_layers,
    )
    meta = explorer.meta | {"split": split, "splitSize": len(examples)}
    return dataclasses.replace(explorer, meta=meta)


def explain_chunks(classifier: Classifier, texts: list) -> Iterator[list[Explanation]]:
    """Yield explanations of the texts, a chunk at a time."""
    for start in range(0, len(texts), CHUNK_SIZE):
        yield classifier.explain_all(texts[start : start + CHUNK_SIZE])


def build_explorer(
    chunks: Iterable[list[Explanation]],
    labels: list[int],
    *,
    model: str,
    class_names,
    num_layers: int,
    site_layers,
) -> Explorer:
    """Pack explanations in chunks of CHUNK_SIZE.

    Args:
      chunks: explanations of texts.
      labels: true labels, indices of class_names, in the order of the explanations.
      model: its name.
      class_names: of the model.
      num_layers: of the model.
      site_layers: layers at which the model drops tokens.
    """
    packed, predicted, percent, kept = [], [], [], []
    num_levels = FINE_LEVELS if len(labels) <= NUM_FINE else COARSE_LEVELS
    for explanations in chunks:
        packed.append(pack_chunk(explanations, num_levels=num_levels))
        for explanation in explanations:
            predicted.append(class_names.index(explanation.prediction.label))
            percent.append(round(100 * explanation.prediction.probability))
            kept.append(round(100 * kept_fraction(explanation)))
    meta = {
        "model": model,
        "classes": list(class_names),
        "layers": num_layers,
        "sites": list(site_layers),
        "chunkSize": CHUNK_SIZE,
        "label": labels,
        "predicted": predicted,
        "percent": percent,
        "kept": kept,
    }
    return Explorer(meta, packed)


def kept_fraction(explanation: Explanation) -> float:
    """Return the fraction of a text's tokens that layers ran on, [CLS] included, layer mean."""
    return float(np.mean(explanation.prediction.num_tokens)) / len(explanation.tokens)
