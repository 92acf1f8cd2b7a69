"""Compress a model of classes, numbers or vectors with text of its task, without labels.

Two methods drop tokens without training, then AdapLeR is trained. The model that agrees most with
the given one is the result. Classifiers and rerankers are calibrated. The answers of the given
model are the labels of the texts, and AdapLeR is trained on the model's soft labels. A validation
score is therefore the agreement with the given model.

    OUT/full/         the given model, as a saved model of this library
    OUT/texts/        the texts with predicted labels: train and validation
    OUT/attention-2x/ a model without training, as OUT/vocabulary-2x
    OUT/run/          the workdir of the training, which a second call continues; OUT/run-4-layers
                      with a student of four layers
    OUT/model/        the result; with calibration.json of a classifier or a reranker
"""

import functools
import json
import math
import pathlib
from collections.abc import Callable, Sequence

from adapler_jax.evaluation.budget_latency import Latency
from adapler_jax.evaluation.calibrate import calibrate_model, check_request
from adapler_jax.evaluation.certificate import allowance
from adapler_jax.evaluation.task_texts import MIN_TEXTS, labels_by_text, split_texts
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.inference.calibration import Calibration
from adapler_jax.inference.classifier import Classifier
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.metrics.classification import decide
from adapler_jax.training.compress_labels import compress_label_sets
from adapler_jax.training.compress_numbers import compress_numbers
from adapler_jax.training.compress_scores import compress_scores
from adapler_jax.training.compress_steps import (
    CALIBRATION_FRACTION,
    SEED,
    CompressOptions,
    begin,
    check_given,
    divide_rest,
    given_head,
    keep_best,
    other_texts,
    slower_promise,
)
from adapler_jax.training.compress_texts import check_texts, write_labelled
from adapler_jax.training.compress_vectors import compress_vectors
from adapler_jax.training.rungs import save_without_training
from adapler_jax.training.workdir import only_process
from adapler_jax.weights.save import class_names_of

# By the head, functions for models whose results take no budgets.
WITHOUT_BUDGETS = {"embedding": compress_vectors, "multi_label": compress_label_sets}
LATENCY_FILE = "latency.json"  # has the speedup that a latency needs


def compress(
    model,
    texts: Sequence[str | tuple[str, str]],
    out,
    *,
    options: CompressOptions | None = None,
    log: Callable[[str], None] = print,
) -> Calibration | None:
    """Make a faster copy of a fine-tuned model of classes, labels, numbers or vectors.

    A second call continues an interrupted one.

    Args:
      model: directory or hub name of a checkpoint in Hugging Face form with a trained classifier,
        of classes, labels or numbers, a folder of sentence-transformers, or a saved model of this
        library. Its classes and tokenizer stay as they are.
      texts: of its task, or pairs, without labels.
      out: directory of the work and of the result, `out/model`.
      options: the speed, the promise, and changes of the training.
      log: receives notes.

    Returns:
      The calibration of `out/model`; None for labels, vectors, numbers of single texts, or several
      numbers, which have no budgets.

    Raises:
      ValueError: the checkpoint has no trained classifier, there are too few texts, `out` has work
        on other texts or another model, or nothing reaches the speedup without training.
    """
    options = options or CompressOptions()
    out, texts = pathlib.Path(out).expanduser(), list(texts)
    check_given(model, options, out)
    head = given_head(model, options.pooling)
    out.mkdir(parents=True, exist_ok=True)
    with only_process(out, action="compresses a model", flag="--out"):
        return _compress_head(head, (model, texts, out, options, log))


def _compress_head(head: Head, request: tuple) -> Calibration | None:
    """Make a faster copy of a model with this head; `request` are the arguments of `compress`."""
    if head.name == CLASSIFICATION.name:
        return _compress_classes(*request)
    if head.name in WITHOUT_BUDGETS:
        WITHOUT_BUDGETS[head.name](*request)
        return None
    if head.has_classes or all(isinstance(text, str) for text in request[1]):
        compress_numbers(*request)
        return None
    return compress_scores(*request)


def _compress_classes(
    model, texts: Sequence, out: pathlib.Path, options: CompressOptions, log
) -> Calibration:
    """Make a faster copy of a classifier; arguments as in `compress`."""
    rest, held_back = _divide(texts)
    measured = split_texts(held_back, seed=SEED)[1]
    check_request(
        measured,
        promise=options.promise,
        latency=options.latency,
        labels=options.labels,
    )
    if options.promise is not None:
        log(allowance(len(measured), options.promise))
    full = begin(model, texts, out, options, log)
    names = class_names_of(full) or ()
    label_of = labels_by_text(texts, options.labels, names)
    parts = divide_rest(rest, other_texts(options.more_texts, texts))
    write_labelled(parts, out / "texts", functools.partial(_predict_names, full), log)
    check_texts(parts, out)
    if options.latency is not None:
        options = options._replace(speedup=_speedup_of(options.latency, full, rest, out, log))
    best = keep_best(full, divide_rest(rest), out, options, log)
    calibration = calibrate_model(
        out / "model",
        held_back,
        labels=None if label_of is None else [names[label_of[text]] for text in held_back],
        reference=full,
        promise=options.promise,
        latency=options.latency,
        log=log,
    )
    for note in slower_promise(calibration, best.flops_speedup):
        log(note)
    return calibration


def _speedup_of(latency: Latency, full: pathlib.Path, texts: list, out: pathlib.Path, log) -> float:
    """Return the FLOPs speedup that a latency needs, as measured by the first call for it.

    The model without training that keeps the tokens of the most attention is timed at every budget.
    Seconds depend on the number of tokens, not on the method that chooses them.
    """
    path = out / LATENCY_FILE
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if found.get("asked") != list(latency):
        made = out / "latency"
        if not made.exists():
            save_without_training(full, texts, made, method="attention", speedup=1.5)
        calibration = calibrate_model(made, texts, latency=latency, log=log)
        budget = latency.budget_of(calibration)
        (row,) = (row for row in calibration.rows if row["budget"] == budget)
        found = {"asked": list(latency), "speedup": round(max(1.0, row["flops_speedup"]), 2)}
        replace_text(path, json.dumps(found))
    log(f"{latency.milliseconds:g} ms need a FLOPs speedup of {found['speedup']:g}x")
    return found["speedup"]


def _predict_names(full: pathlib.Path, texts: list) -> list[str]:
    """Return the names of the classes that the full model predicts."""
    classifier = Classifier.load(full)
    numbers = decide(classifier.predict_probs(texts), classifier.threshold)
    return [classifier.class_names[number] for number in numbers.tolist()]


def _divide(texts: Sequence) -> tuple[list, list]:
    """Return the texts of the training, and the texts of the calibration and certificate."""
    num_texts = len(dict.fromkeys(texts))
    fraction = CALIBRATION_FRACTION
    if num_texts * fraction < MIN_TEXTS:
        needed = math.ceil(MIN_TEXTS / fraction)
        raise ValueError(
            f"there are {num_texts} different texts; a compression needs at least {needed}"
        )
    return split_texts(texts, seed=SEED, fraction=1.0 - fraction)
