"""Calibrate a saved classifier for any budget, with text of its task and without labels."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax.data.batching.lengths import default_lengths
from adapler_jax.evaluation.budgets import (
    BUDGETS,
    BudgetRow,
    calibrate_budgets,
    check_calibrates,
    measure_budgets,
    predict_classes,
)
from adapler_jax.evaluation.certificate import (
    Certificate,
    certify,
    check_num_texts,
    check_promise,
)
from adapler_jax.evaluation.shares import budget_shares, lengths_of
from adapler_jax.evaluation.training_free import TRAINING_FREE
from adapler_jax.inference.calibration import CALIBRATION_FILE, Calibration, read_calibration
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.loading import sorted_batches
from adapler_jax.io.atomic_files import remove_file
from adapler_jax.io.heartbeat import Heartbeat
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.types import Batch
from adapler_jax.weights.save import Saved, load_model

MIN_TEXTS = 100
# Of the calibration texts: their states are in memory at one time.
MAX_TOKENS = 2**18
BATCH_SIZE = 32


def calibrate_model(
    directory,
    texts: Sequence[str | tuple[str, str]],
    *,
    budgets: Sequence[float] = BUDGETS,
    dtype: DTypeLike = jnp.float32,
    max_disagreement: float | None = None,
    confidence: float = 0.95,
    reference=None,
    seed: int = 0,
    log: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Calibrate a model on one half of the texts, measure it on the other, and write the result.

    `Classifier.predict(texts, budget=...)` then takes any budget. Of equal texts one counts.

    Args:
      directory: of a saved classifier that takes budgets; `calibration.json` is written into
        it.
      texts: of the task, or pairs. Labels are not used.
      budgets: to calibrate, rising to 1; other budgets are interpolated.
      dtype: of the operands of the encoder's products.
      max_disagreement: bound to certify, as in `certify`, on the rate of answers that differ from
        the full model's; None for no certificate.
      confidence: probability that the bound holds.
      reference: directory of the full model; None for this model at budget 1.
      seed: of the shuffle.
      log: receives notes.

    Returns:
      The calibration, with measurements of each budget.

    Raises:
      ValueError: there are too few different texts, or the method has one speed.
    """
    saved = load_model(directory)
    pruner = pruner_of_saved(saved)
    check_calibrates(pruner)
    halves = split_texts(texts, seed=seed)
    _check_request(len(halves[1]), max_disagreement, confidence)
    if len(halves[0]) + len(halves[1]) < len(texts):
        log("equal texts count once")
    _remove_damaged(saved.directory, len(pruner.sites), log)
    classifier = Classifier.load(directory)
    batches = [make_batches(classifier, half) for half in halves]
    kept = batches[0][: max(1, MAX_TOKENS // (BATCH_SIZE * classifier.max_length))]
    log(f"calibrating on {len(lengths_of(kept)):,} texts, measuring on {len(halves[1]):,} others")
    with Heartbeat(lambda: f"calibrating and measuring {len(budgets)} budgets", log=log):
        calibration = _calibrate(saved, kept, budgets, dtype, num_held_out=len(halves[1]))
        measured = _measure(saved, calibration, batches[1], dtype)
        full_E = measured[-1].predicted_E  # the last budget is 1
        if reference is not None:
            full_E = predict_classes(load_model(reference), batches[1], dtype=dtype)
    calibration = calibration.with_rows([row.record(full_E) for row in measured])
    if max_disagreement is not None:
        failures = {row.budget: row.predicted_E != full_E for row in measured}
        found = certify(failures, max_rate=max_disagreement, confidence=confidence)
        calibration = _with_certificate(calibration, found, log)
    log(f"wrote {calibration.write(pathlib.Path(directory))}")
    return calibration


def _remove_damaged(directory: pathlib.Path, num_sites: int, log: Callable[[str], None]) -> None:
    """Remove an earlier calibration that no load accepts; the new one takes its place."""
    try:
        read_calibration(directory, num_sites)
    except ValueError as error:
        log(str(error))
        remove_file(directory / CALIBRATION_FILE)


def _calibrate(
    saved: Saved,
    batches: Sequence[Batch],
    budgets: Sequence[float],
    dtype: DTypeLike,
    *,
    num_held_out: int,
) -> Calibration:
    """Return the values of the budgets, without measurements."""
    pruner = pruner_of_saved(saved)
    if pruner.name in TRAINING_FREE:
        value_JK = budget_shares(saved.config, pruner, lengths_of(batches), budgets)
    else:
        value_JK = calibrate_budgets(
            saved.params, saved.config, pruner, batches, budgets=budgets, dtype=dtype
        )
    return Calibration(
        budgets=tuple(map(float, budgets)),
        values=tuple(map(tuple, value_JK.astype(float).tolist())),
        rows=(),
        num_texts=len(lengths_of(batches)),
        num_held_out=num_held_out,
    )


def _with_certificate(
    calibration: Calibration, found: Certificate | None, log: Callable[[str], None]
) -> Calibration:
    """Return the calibration with a certificate, and log it."""
    log("no budget can be certified" if found is None else found.sentence())
    certificate = None if found is None else found._asdict()
    return dataclasses.replace(calibration, certificate=certificate)


def _measure(
    saved: Saved, calibration: Calibration, batches: Sequence[Batch], dtype: DTypeLike
) -> list[BudgetRow]:
    """Return what each calibrated budget costs on these texts."""
    return measure_budgets(
        calibration.apply(saved.params),
        saved.config,
        pruner_of_saved(saved),
        batches,
        budgets=calibration.budgets,
        head=saved.head,
        dtype=dtype,
    )


def _check_request(num_texts: int, max_disagreement: float | None, confidence: float) -> None:
    """Raise ValueError if a bound is no bound, or so many texts cannot prove it."""
    if max_disagreement is not None:
        check_promise(max_disagreement, confidence)
        check_num_texts(num_texts, max_disagreement, confidence)


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


def make_batches(classifier: Classifier, texts: Sequence) -> list[Batch]:
    """Return the texts in padded batches, in random order of the batches' lengths."""
    tokens = classifier.encode_tokens(texts)
    found = sorted_batches(
        [row.token_L for row in tokens],
        [row.segment_L for row in tokens],
        lengths=default_lengths(classifier.max_length),
        num_rows=BATCH_SIZE,
    )
    batches = [batch for _, batch in found]
    return [batches[index] for index in np.random.default_rng(0).permutation(len(batches))]
