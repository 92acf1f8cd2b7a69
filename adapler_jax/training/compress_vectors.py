"""Compress a model of vectors with text, by its own vectors.

Each text is trained on, or compares models. Texts are paired at random, and the label of a pair is
the similarity that the given model finds.
"""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from adapler_jax.evaluation.task_texts import MIN_TEXTS
from adapler_jax.inference.embedder import Embedder
from adapler_jax.metrics.similarity import cosines
from adapler_jax.training.compress_steps import (
    OF_OTHERS,
    SEED,
    VALIDATION_FRACTION,
    CompressOptions,
    begin,
    check_unused,
    keep_best,
)
from adapler_jax.training.compress_texts import check_texts, write_labelled


def compress_vectors(
    model, texts: Sequence, out: pathlib.Path, options: CompressOptions, log
) -> None:
    """Make a faster copy of a model of vectors; arguments as in `compress.compress`.

    Raises:
      ValueError: as `compress`, or a promise, a latency or labels are given.
    """
    check_unused(options, OF_OTHERS, "for classes and scores, and the model returns vectors")
    texts, more = as_texts(texts), as_texts(options.more_texts)
    parts = divide_vectors(texts, more)
    full = begin(model, texts, out, options, log)
    pairs = {split: list(zip(part[0::2], part[1::2])) for split, part in parts.items()}
    write_labelled(pairs, out / "texts", functools.partial(_predict_similarities, full), log)
    check_texts(pairs, out)
    keep_best(full, parts, out, options, log)


def as_texts(texts: Sequence) -> list[str]:
    """Return different single texts; a pair is two texts, and empty texts are left out."""
    single = [text for part in texts for text in ([part] if isinstance(part, str) else part)]
    return [text for text in dict.fromkeys(single) if text.strip()]


def divide_vectors(texts: Sequence[str], more: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the texts that are trained on, with more texts, and those that compare models.

    Both numbers are even, for pairs.

    Raises:
      ValueError: there are too few texts.
    """
    if len(texts) < MIN_TEXTS:
        raise ValueError(
            f"there are {len(texts)} different texts; a compression needs at least {MIN_TEXTS}"
        )
    order = np.random.default_rng(SEED).permutation(len(texts)).tolist()
    num_judged = 2 * round(VALIDATION_FRACTION * len(texts) / 2)
    given = set(texts)
    train = [texts[index] for index in order[num_judged:]]
    train += [text for text in more if text not in given]
    return {
        "train": train[: len(train) // 2 * 2],
        "validation": [texts[index] for index in order[:num_judged]],
    }


def _predict_similarities(full: pathlib.Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return the similarity of each pair by the full model.

    Raises:
      ValueError: all similarities are equal, or a vector has NaN.
    """
    vectors = Embedder.load(full).encode([text for pair in pairs for text in pair])
    found = cosines(vectors[0::2], vectors[1::2])
    if not np.all(np.isfinite(found)) or np.ptp(found) == 0:
        raise ValueError(
            f"the given model gives all of {len(pairs)} pairs the similarity {found[0]:g}; give a "
            "trained model of vectors"
        )
    return np.clip(found, -1.0, 1.0).tolist()
