"""Load a task of pairs whose vectors are compared: a text is a row, and pairs are neighbours."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapler_jax.data.classification.examples import Dataset, Examples
from adapler_jax.data.classification.summary import summarize
from adapler_jax.evaluation.similarity_scoring import SimilarityScorer, check_similarity_metric
from adapler_jax.heads import Head, embedding
from adapler_jax.heads.embedding import MEAN
from adapler_jax.training.task_record import TaskData
from adapler_jax.training.text_tasks import load_data, tokenize_splits
from adapler_jax.weights.folders import settings_of_modules
from adapler_jax.weights.save import extra_if_ours
from adapler_jax.weights.score_heads import head_of_checkpoint
from adapler_jax.weights.sentence_modules import DEFAULT_PROMPT, PROMPTS, SETTINGS


def similarity_data(config, directory, only: Sequence[str]) -> TaskData:
    """Return a task of pairs with a similarity each; arguments as in `load_task_data`.

    Raises:
      ValueError: as in `load_task`, texts are single, a metric does not fit, or a similarity of the
        training is no cosine.
    """
    for name in ("class_names", "activation", "protects_query", "list_size"):
        if config.data.get(name):
            raise ValueError(
                f"config.data.{name} is given, but task {config.task!r} has similarities; leave "
                "it out"
            )
    dataset = load_data(config)
    metric = config.data.get("metric", "") or dataset.task.metric
    check_similarity_metric(metric)
    check_pairs(config, dataset)
    extra = prompts_of(directory)
    prompt = extra.get(PROMPTS, {}).get(extra.get(DEFAULT_PROMPT), "")
    rows = {name: as_rows(examples, prompt) for name, examples in dataset.splits.items()}
    texts = tokenize_splits(config, directory, dataclasses.replace(dataset, splits=rows), only)
    return TaskData(
        name=dataset.task.name,
        metric=metric,
        head=choose_embedding(config, directory),
        class_names=(),
        splits={name: dataclasses.replace(found, group=2) for name, found in texts.splits.items()},
        notes=(*dataset.notes, *texts.notes, *summarize(dataset)),
        make_scorer=lambda split, threshold=None: SimilarityScorer(metric),
        group=2,
        extra=texts.extra | extra,
    )


def choose_embedding(config, directory: Path) -> Head:
    """Return the model's own head of vectors; of another model the mean, or config.data.pooling.

    Raises:
      ValueError: the model has its own head, and the config names a pooling.
    """
    pooling, own = config.data.get("pooling", ""), head_of_checkpoint(directory)
    if own.name != "embedding" or config.reinit_head:
        return embedding(pooling or MEAN)
    if pooling:
        raise ValueError(
            f"config.data.pooling is {pooling!r:.60}, and {directory} names its own; leave it out"
        )
    return own


def prompts_of(directory: Path) -> dict[str, Any]:
    """Return the prompts of a model, as a saved model has them in `Saved.extra`."""
    own = extra_if_ours(directory)
    found = own or settings_of_modules(directory)[1]
    return {name: found[name] for name in SETTINGS if name in found}


def check_pairs(config, dataset: Dataset) -> None:
    """Raise ValueError for single texts, and for training labels that are no cosines."""
    if len(dataset.task.text_fields) < 2:
        raise ValueError(
            f"task {config.task!r} has single texts, and similarities are of pairs: name the "
            "second text in config.data.columns, as {'text': 'first', 'text_pair': 'second'}"
        )
    label_E = dataset.splits["train"].labels
    outside_E = np.abs(label_E) > 1.0
    if outside_E.any():
        raise ValueError(
            f"the split train has the similarity {label_E[outside_E][0]:g}; vectors are trained to "
            "cosines, from -1 to 1: scale the labels"
        )


def as_rows(examples: Examples, prompt: str = "") -> Examples:
    """Return single texts, each pair's one after the other; pair k has the ids 2k and 2k + 1.

    Args:
      examples: pairs.
      prompt: is put before each text.
    """
    assert examples.text_pairs is not None
    pairs = zip(examples.texts, examples.text_pairs, strict=True)
    ids_E2 = 2 * examples.example_ids[:, None] + np.arange(2, dtype=np.int32)
    return Examples(
        texts=[prompt + text for pair in pairs for text in pair],
        text_pairs=None,
        labels=np.repeat(examples.labels, 2),
        example_ids=ids_E2.ravel().astype(np.int32),
    )
