"""Calibrate a saved classifier for any budget, with text of its task; labels are not needed."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax.data.batching.lengths import default_lengths
from adapler_jax.evaluation.budget_latency import Latency, measure_latency
from adapler_jax.evaluation.budgets import (
    BUDGETS,
    calibrate_budgets,
    check_calibrates,
    measure_budgets,
    natural_shares,
    predict_classes,
    profile_shares,
)
from adapler_jax.evaluation.calibration_card import card_section
from adapler_jax.evaluation.certificate import (
    Certificate,
    certify,
    check_num_texts,
    check_promise,
)
from adapler_jax.evaluation.escalation import MeasuredTexts, certify_escalation
from adapler_jax.evaluation.models import lengths_of
from adapler_jax.evaluation.shares import budget_shares, ranked_shares
from adapler_jax.evaluation.training_free import TRAINING_FREE
from adapler_jax.inference.calibration import (
    FIXED,
    MODES,
    THRESHOLDS,
    Calibration,
    check_budgets,
    read_calibration,
)
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.loading import sorted_batches, threshold_of
from adapler_jax.io.atomic_files import remove_file
from adapler_jax.io.heartbeat import Heartbeat
from adapler_jax.io.messages import listed
from adapler_jax.io.provenance import device_name
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.types import Batch
from adapler_jax.weights.card import set_card_part
from adapler_jax.weights.config import CALIBRATION_FILE
from adapler_jax.weights.save import Saved, load_model
from adapler_jax.weights.students import full_config

MIN_TEXTS = 100
SEED = 0  # of the split into halves
# Of the calibration texts: their states are in memory at one time.
MAX_TOKENS = 2**18
BATCH_SIZE = 32


class Promise(NamedTuple):
    """A bound to certify, on how often a model fails."""

    max_rate: float  # of failures
    confidence: float = 0.95  # probability that the bound holds
    # A failure is an answer that differs from the full model's, or, of labelled texts, one that is
    # wrong where the full model is right.
    needs_labels: bool = False
    escalates: bool = True  # uncertain texts may run again with all tokens


def calibrate_model(
    directory,
    texts: Sequence[str | tuple[str, str]],
    *,
    labels: Sequence[str | int] | None = None,
    budgets: Sequence[float] = BUDGETS,
    dtype: DTypeLike = jnp.float32,
    mode: str = THRESHOLDS,
    promise: Promise | None = None,
    latency: Latency | None = None,
    reference=None,
    log: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Calibrate a model on one half of the texts, measure it on the other, and write the result.

    `Classifier.predict(texts, budget=...)` then takes any budget. Of equal texts one counts.

    Args:
      directory: of a saved classifier that takes budgets, where `calibration.json` is written.
      texts: of the task, or pairs.
      labels: of the texts, names or numbers of classes, for scores and some promises.
      budgets: to calibrate, rising to 1; other budgets are interpolated.
      dtype: of the operands of the encoder's products.
      mode: "thresholds": a text keeps the tokens above a threshold, so its count depends on its
        scores. "fixed": a text keeps its highest scores, as many as its length says, so that its
        latency depends on its length alone. Methods without training are fixed in any mode.
      promise: to certify; None for no certificate.
      latency: to find the budget of; every budget is timed on this device.
      reference: directory of the full model; None for this model at budget 1.
      log: receives notes.

    Returns:
      The calibration, with measurements of each budget.

    Raises:
      ValueError: there are too few texts, labels are not the model's, or it has one speed.
    """
    saved = load_model(directory)
    check_calibrates(pruner_of_saved(saved))
    halves = split_texts(texts, seed=SEED)
    check_request(halves[1], budgets, mode=mode, promise=promise, latency=latency, labels=labels)
    label_of = labels_by_text(texts, labels, saved.class_names)
    if len(halves[0]) + len(halves[1]) < len(texts):
        log("equal texts count once")
    _remove_damaged(saved, log)
    classifier = Classifier.load(directory)
    first, second = (_make_part(classifier, half, label_of) for half in halves)
    first = first.starting(max(1, MAX_TOKENS // (BATCH_SIZE * classifier.max_length)))
    log(f"calibrating on {first.num_texts:,} texts, measuring on {second.num_texts:,} others")
    with Heartbeat(lambda: f"calibrating and measuring {len(budgets)} budgets", log=log):
        full = saved if reference is None else load_model(reference)
        calibration = _calibrate(saved, first, budgets, dtype, mode=mode)
        measure = functools.partial(_measure, saved, full, calibration, dtype=dtype)
        calibration = _judged(calibration, saved, promise, measure, parts=(first, second), log=log)
    log(f"wrote {calibration.write(saved.directory)}")
    set_card_part(saved.directory, card_section(calibration))
    if latency is not None:
        calibration = _timed(calibration, saved.directory, halves[1], latency, dtype)
        log(latency.sentence(calibration))
    return calibration


def _judged(
    calibration: Calibration,
    saved: Saved,
    promise: Promise | None,
    measure: functools.partial[MeasuredTexts],
    *,
    parts: tuple["_Part", "_Part"],
    log: Callable[[str], None],
) -> Calibration:
    """Return a calibration with measurements of the second part, and the certificate.

    A certificate is for the decision threshold and the operands that were measured.
    """
    held_out = measure(parts[1])
    calibration = dataclasses.replace(calibration, num_held_out=parts[1].num_texts)
    calibration = calibration.with_rows(held_out.records())
    if promise is None:
        return calibration
    ordering = measure(parts[0]).at(calibration.budgets) if promise.escalates else None
    found = _certify(promise, ordering, held_out.at(calibration.budgets), log)
    if found is None:
        return calibration
    dtype = jnp.dtype(measure.keywords["dtype"]).name
    certificate = found._asdict() | {"threshold": threshold_of(saved, None), "dtype": dtype}
    return dataclasses.replace(calibration, certificate=certificate)


def check_request(
    measured: Sequence,
    budgets: Sequence[float] = BUDGETS,
    *,
    mode: str = THRESHOLDS,
    promise: Promise | None,
    latency: Latency | None,
    labels: Sequence[str | int] | None,
) -> None:
    """Raise ValueError if an argument has a wrong value, or texts cannot prove a promise.

    Args:
      measured: the texts that would prove it.
      budgets: to calibrate.
      mode: as of `calibrate_model`, like the others.
      promise: to certify.
      latency: to find the budget of.
      labels: of all texts.
    """
    check_budgets(budgets)
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r:.40}; expected {' or '.join(MODES)}")
    if latency is not None:
        latency.check()
    if promise is not None:
        check_promise(promise.max_rate, promise.confidence)
        check_num_texts(len(measured), promise.max_rate, promise.confidence)
        if promise.needs_labels and labels is None:
            raise ValueError(
                "a bound on the drop of accuracy needs labelled texts; name their column with "
                "--label, or give `labels` in Python"
            )


def _timed(
    calibration: Calibration, directory, texts: list, latency: Latency, dtype: DTypeLike
) -> Calibration:
    """Return the calibration with the milliseconds of each budget, and write it."""
    classifier = Classifier.load(directory, dtype=jnp.dtype(dtype).name)
    classifier = dataclasses.replace(classifier, drift=None)  # texts run many times
    found = measure_latency(classifier, texts, calibration.budgets, batch_size=latency.batch_size)
    rows = [row | {"milliseconds": found[row["budget"]]} for row in calibration.rows]
    timing = {"batch_size": latency.batch_size, "device": device_name()}
    timed = dataclasses.replace(calibration, rows=tuple(rows), timing=timing)
    timed.write(directory)
    return timed


def _remove_damaged(saved: Saved, log: Callable[[str], None]) -> None:
    """Remove an earlier calibration that no load accepts; the new one takes its place."""
    try:
        read_calibration(saved.directory, len(pruner_of_saved(saved).sites))
    except ValueError as error:
        log(str(error))
        remove_file(saved.directory / CALIBRATION_FILE)


def _calibrate(
    saved: Saved, part: "_Part", budgets: Sequence[float], dtype: DTypeLike, *, mode: str
) -> Calibration:
    """Return the values of the sites at the budgets, without measurements."""
    pruner, length_E = pruner_of_saved(saved), lengths_of(part.batches)
    model = saved.params, saved.config, pruner, part.batches
    if pruner.name in TRAINING_FREE:
        value_JK = budget_shares(saved.config, pruner, length_E, budgets)
        mode = THRESHOLDS
    elif mode == FIXED:
        profile = functools.partial(profile_shares, natural_shares(*model, dtype=dtype))
        value_JK = ranked_shares(saved.config, pruner, length_E, budgets, profile=profile)
    else:
        value_JK = calibrate_budgets(*model, budgets=budgets, dtype=dtype)
    return Calibration(
        budgets=tuple(map(float, budgets)),
        values=tuple(map(tuple, value_JK.astype(float).tolist())),
        rows=(),
        num_texts=part.num_texts,
        num_held_out=0,
        mode=mode,
    )


def _certify(
    promise: Promise, ordering: MeasuredTexts | None, held_out: MeasuredTexts, log
) -> Certificate | None:
    """Return the certificate of a promise, and log it.

    Args:
      promise: to certify.
      ordering: calibration texts where uncertain texts may run again; None where they may not.
      held_out: texts that test the budgets.
      log: receives the certificate in words.
    """
    bound = {"max_rate": promise.max_rate, "confidence": promise.confidence}
    if not promise.needs_labels:
        held_out = held_out._replace(label_E=None)
        ordering = None if ordering is None else ordering._replace(label_E=None)
    plain = certify(held_out.plain_failures(), **bound)
    if plain is not None:
        plain = plain._replace(flops_speedup=held_out.measured[plain.budget].flops_speedup)
    found = plain if ordering is None else certify_escalation(ordering, held_out, **bound)
    if found is None:
        log("no budget can be certified")
        return None
    found = found._replace(needs_labels=promise.needs_labels)
    log(f"{found.sentence()}: {found.speed()}")
    if found.margin:
        log(f"without running texts again: {'none' if plain is None else plain.speed()}")
    return found


def _measure(
    saved: Saved, full: Saved, calibration: Calibration, part: "_Part", *, dtype: DTypeLike
) -> MeasuredTexts:
    """Return what each calibrated budget does to these texts."""
    measured = measure_budgets(
        calibration.apply(saved.params),
        saved.config,
        pruner_of_saved(saved),
        part.batches,
        budgets=calibration.budgets,
        head=saved.head,
        dtype=dtype,
        threshold=threshold_of(saved, None),
        dense_config=full_config(saved),
    )
    if full is saved:
        full_E = measured[1.0].predicted_E
    else:
        full_E = predict_classes(full, part.batches, dtype=dtype)
    return MeasuredTexts(measured, full_E, part.label_E)


def labels_by_text(
    texts: Sequence, labels: Sequence[str | int] | None, class_names: Sequence[str]
) -> dict[Any, int] | None:
    """Return the class of each text, as `first_labels`; None without labels.

    Labels are names if one of them is a name of a class, else numbers from 0.

    Raises:
      ValueError: a label is none of the model's, or there is not one for each text.
    """
    if labels is None:
        return None
    found = first_labels(texts, labels)
    by_name = {name: number for number, name in enumerate(class_names)}
    by_number = {str(number): number for number in range(len(class_names))}
    numbers = by_name if set(map(str, labels)) & set(by_name) else by_number
    for label in found.values():
        if str(label) not in numbers:
            raise ValueError(
                f"label {str(label)!r:.60} is no class of the model: {listed(class_names)}"
            )
    return {text: numbers[str(label)] for text, label in found.items()}


def first_labels(texts: Sequence, labels: Sequence[str | int]) -> dict[Any, str | int]:
    """Return the label of each text; of equal texts the first counts.

    Raises:
      ValueError: there is not one for each text.
    """
    if len(labels) != len(texts):
        raise ValueError(f"{len(labels)} labels for {len(texts)} texts; give one for each")
    return dict(reversed(list(zip(texts, labels))))


class _Part(NamedTuple):
    """Some texts in batches."""

    batches: list[Batch]
    label_E: np.ndarray | None  # int32, in the order of the batches

    @property
    def num_texts(self) -> int:
        """Return the number of texts."""
        return len(lengths_of(self.batches))

    def starting(self, num_batches: int) -> "_Part":
        """Return the first batches."""
        kept = self.batches[:num_batches]
        label_E = None if self.label_E is None else self.label_E[: len(lengths_of(kept))]
        return _Part(kept, label_E)


def _make_part(classifier: Classifier, texts: list, label_of: dict[Any, int] | None) -> _Part:
    """Return texts in batches, with their labels where they have some."""
    found = batches_and_rows(classifier, texts)
    batches = [batch for _, batch in found]
    if label_of is None:
        return _Part(batches, None)
    label_E = np.array([label_of[texts[row]] for row_B, _ in found for row in row_B], np.int32)
    return _Part(batches, label_E)


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
    return [batch for _, batch in batches_and_rows(classifier, texts)]


def batches_and_rows(classifier: Classifier, texts: Sequence) -> list[tuple[np.ndarray, Batch]]:
    """Return the batches of `make_batches`, each with the numbers of its texts."""
    tokens = classifier.encode_tokens(texts)
    found = sorted_batches(
        [row.token_L for row in tokens],
        [row.segment_L for row in tokens],
        lengths=default_lengths(classifier.max_length),
        num_rows=BATCH_SIZE,
    )
    pairs = list(found)
    return [pairs[index] for index in np.random.default_rng(0).permutation(len(pairs))]
