"""Calibrate a saved model for any budget, with text of its task; labels are not needed."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from adapler_jax.evaluation.budget_latency import Latency, measure_latency
from adapler_jax.evaluation.budgets import (
    BUDGETS,
    calibrate_budgets,
    check_calibrates,
    measure_budgets,
    measure_saved,
    natural_shares,
    profile_shares,
)
from adapler_jax.evaluation.calibration_card import card_section
from adapler_jax.evaluation.certificate import (
    MIN_SHARED,
    NONE,
    Certificate,
    Promise,
    certify,
    check_num_texts,
    check_promise,
)
from adapler_jax.evaluation.escalation import MeasuredTexts, certify_escalation
from adapler_jax.evaluation.full_model import escalation_of, keep_full, load_full_model
from adapler_jax.evaluation.models import lengths_of
from adapler_jax.evaluation.order_calibration import (
    CALIBRATED,
    check_orders,
    judge_orders,
    split_queries,
)
from adapler_jax.evaluation.shares import budget_shares, ranked_shares
from adapler_jax.evaluation.task_texts import (
    MIN_TEXTS,
    TaskTexts,
    labels_by_text,
    make_batches,
    make_task_texts,
    split_texts,
)
from adapler_jax.evaluation.training_free import TRAINING_FREE, protected_counts
from adapler_jax.inference.calibration import (
    ESCALATIONS,
    FIXED,
    MODES,
    THRESHOLDS,
    Calibration,
    check_budgets,
    read_calibration,
)
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.loading import threshold_of
from adapler_jax.inference.model_kind import check_classifies
from adapler_jax.inference.reranker import Reranker
from adapler_jax.io.atomic_files import remove_file
from adapler_jax.io.heartbeat import Heartbeat, watch
from adapler_jax.io.provenance import device_name
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.types import Batch
from adapler_jax.weights.card import set_card_part
from adapler_jax.weights.config import CALIBRATION_FILE
from adapler_jax.weights.folders import load_folder
from adapler_jax.weights.save import Saved
from adapler_jax.weights.students import full_config

SEED = 0  # of the split into halves
MAX_SAMPLE = 256  # texts that thresholds are made from
MAX_TOKENS = 2**18  # of them, unless they are MIN_TEXTS


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

    `predict(texts, budget=...)` then takes any budget. Of equal texts one counts. Of a reranker, a
    fifth of the queries calibrates, and the others measure.

    Args:
      directory: of a saved classifier or reranker; `calibration.json` is written into it.
      texts: of the task, or pairs; of a reranker pairs of a query and a document.
      labels: of the texts, names or numbers of classes, for scores and some promises.
      budgets: to calibrate, rising to 1; other budgets are interpolated.
      dtype: of the operands of the encoder's products.
      mode: "thresholds": a text keeps the tokens above a threshold, so its count depends on its
        scores. "fixed": a text keeps its highest scores, as many as its length says, so that its
        latency depends on its length alone. Methods without training are fixed in any mode.
      promise: to certify; None for no certificate.
      latency: to find the budget of; every budget is timed on this device.
      reference: directory of the full model, of the same tokenizer and classes; None for the one
        that an earlier certificate keeps in the folder `full`, or else for this model at budget 1.
      log: receives notes.

    Returns:
      The calibration, with measurements of each budget.

    Raises:
      ValueError: there are too few texts, labels are not the model's, or it has one speed.
    """
    saved = load_folder(directory)
    halves = _divide(
        saved, texts, budgets, mode=mode, promise=promise, latency=latency, labels=labels
    )
    label_of = labels_by_text(texts, labels, saved.class_names)
    if len(halves[0]) + len(halves[1]) < len(texts):
        log("equal texts count once")
    full = load_full_model(saved, reference, _earlier_calibration(saved, log), halves[0], log=log)
    reader = _load(saved)
    sample = halves[0][: _sample_size(reader.max_length)]
    parts = [functools.partial(make_task_texts, reader, half, label_of) for half in halves]
    log(f"calibrating on {len(sample):,} texts, measuring on {len(halves[1]):,} others")
    with Heartbeat(lambda: f"calibrating {len(budgets)} budgets", log=log):
        calibration = _calibrate(saved, make_batches(reader, sample), budgets, dtype, mode=mode)
    calibration = _judged(calibration, saved, full, promise, parts=parts, dtype=dtype, log=log)
    keep_full(calibration, full, saved.directory)
    log(f"wrote {calibration.write(saved.directory)}")
    set_card_part(saved.directory, card_section(calibration), log=log)
    if latency is not None:
        calibration = _timed(calibration, saved, halves[1], latency, dtype, log=log)
    return calibration


def _divide(
    saved: Saved, texts: Sequence, budgets: Sequence[float], **request: Any
) -> tuple[list, list]:
    """Return the texts that calibrate, and the texts that measure; check the request of these."""
    if saved.head.name == "regression" and saved.head.has_classes:
        raise ValueError(
            f"{saved.directory} gives several numbers to a text, and budgets are for classifiers "
            "and rerankers; train or compress it to the speed that you need"
        )
    if not is_reranker(saved):
        check_classifies(saved)
    check_calibrates(pruner_of_saved(saved))
    if not is_reranker(saved):
        halves = split_texts(texts, seed=SEED)
        check_request(halves[1], budgets, **request)
        return halves
    parts = split_queries(texts, seed=SEED)
    check_request(parts[1], budgets, certified_queries=1 - CALIBRATED, **request)
    return parts


def _judged(
    calibration: Calibration,
    saved: Saved,
    full: Saved,
    promise: Promise | None,
    *,
    parts: Sequence[Callable[[], TaskTexts]],
    dtype: DTypeLike,
    log: Callable[[str], None],
) -> Calibration:
    """Return a calibration with measurements of the second part, and the certificate.

    A certificate is for the decision threshold and the operands that were measured. It alone needs
    the first part.
    """
    if is_reranker(saved):
        judged = calibration, saved, full, promise
        return judge_orders(*judged, part=parts[1](), dtype=dtype, log=log)
    measure = functools.partial(measure_part, saved, full, calibration, dtype=dtype, log=log)
    held_out = measure(parts[1]())
    calibration = dataclasses.replace(calibration, num_held_out=len(held_out.full_E))
    calibration = calibration.with_rows(held_out.records())
    if promise is None:
        return calibration
    ordering = None
    if promise.escalates_to != NONE:
        escalates_to = escalation_of(promise.escalates_to, saved, full, log)
        ordering = measure(parts[0]()).at(calibration.budgets)._replace(escalates_to=escalates_to)
        held_out = held_out._replace(escalates_to=escalates_to)
    found = _certify(promise, ordering, held_out.at(calibration.budgets), log)
    if found is None:
        return calibration
    certificate = found._asdict() | {
        "threshold": threshold_of(saved, None),
        "dtype": jnp.dtype(dtype).name,
    }
    return dataclasses.replace(calibration, certificate=certificate)


def check_request(
    measured: Sequence,
    budgets: Sequence[float] = BUDGETS,
    *,
    mode: str = THRESHOLDS,
    promise: Promise | None,
    latency: Latency | None,
    labels: Sequence[str | int] | None,
    certified_queries: float | None = None,
) -> None:
    """Raise ValueError if an argument has a wrong value, or texts cannot prove a promise.

    Args:
      measured: the texts that would prove it.
      budgets: to calibrate.
      mode: as of `calibrate_model`, like the others.
      promise: to certify.
      latency: to find the budget of.
      labels: of all texts.
      certified_queries: of a reranker, the fraction of all queries that is in `measured`.
    """
    check_budgets(budgets)
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r:.40}; expected {' or '.join(MODES)}")
    if latency is not None:
        latency.check()
    if promise is not None:
        check_promise(promise.max_rate, promise.confidence)
    if certified_queries is not None:
        check_orders(measured, promise, labels=labels, fraction=certified_queries)
    elif promise is not None:
        _check_answers(measured, promise, labels)


def _check_answers(
    measured: Sequence, promise: Promise, labels: Sequence[str | int] | None
) -> None:
    """Raise ValueError if texts cannot prove a classifier's promise; as in `check_request`."""
    if promise.escalates_to not in (*ESCALATIONS, NONE, None):
        raise ValueError(
            f"escalates_to is {promise.escalates_to!r:.40}; expected full, own or none"
        )
    if promise.min_shared != MIN_SHARED:
        raise ValueError("min_shared is for rerankers, and the model is a classifier; leave it out")
    check_num_texts(len(measured), promise.max_rate, promise.confidence)
    if promise.needs_labels and labels is None:
        raise ValueError(
            "a bound on the drop of accuracy needs labelled texts; name their column with "
            "--label, or give `labels` in Python"
        )


def _load(saved: Saved, **options: Any) -> Classifier | Reranker:
    """Load a saved classifier or reranker for texts; options as in `Classifier.load`."""
    if is_reranker(saved):
        return Reranker.load(saved.directory, **options)
    return Classifier.load(saved.directory, **options)


def is_reranker(saved: Saved) -> bool:
    """Return whether a saved model gives one number to a pair."""
    return saved.head.name == "regression" and not saved.head.has_classes


def _timed(
    calibration: Calibration, saved: Saved, texts: list, latency: Latency, dtype: DTypeLike, *, log
) -> Calibration:
    """Return the calibration with the milliseconds of each budget; write it, log the answer."""
    reader = _load(saved, dtype=jnp.dtype(dtype).name)
    # Texts run many times, and none of them again on the full model.
    reader = dataclasses.replace(reader, drift=None)
    if isinstance(reader, Classifier):
        reader = dataclasses.replace(reader, load_full=None)
    found = measure_latency(reader, texts, calibration.budgets, batch_size=latency.batch_size)
    rows = [row | {"milliseconds": found[row["budget"]]} for row in calibration.rows]
    timing = {"batch_size": latency.batch_size, "device": device_name()}
    timed = dataclasses.replace(calibration, rows=tuple(rows), timing=timing)
    timed.write(saved.directory)
    log(latency.sentence(timed))
    return timed


def _earlier_calibration(saved: Saved, log: Callable[[str], None]) -> Calibration | None:
    """Return the earlier calibration; remove one that no load accepts, since a new one follows."""
    try:
        return read_calibration(saved.directory, len(pruner_of_saved(saved).sites))
    except ValueError as error:
        log(str(error))
        remove_file(saved.directory / CALIBRATION_FILE)
        return None


def _calibrate(
    saved: Saved, batches: list[Batch], budgets: Sequence[float], dtype: DTypeLike, *, mode: str
) -> Calibration:
    """Return the values of the sites at the budgets, without measurements."""
    pruner, length_E = pruner_of_saved(saved), lengths_of(batches)
    model, head = (saved.params, saved.config, pruner, batches), saved.head
    lengths = saved.config, pruner, length_E, budgets
    protected_E = protected_counts(head, batches)
    if pruner.name in TRAINING_FREE:
        value_JK = budget_shares(*lengths, protected_E=protected_E)
        mode = THRESHOLDS
    elif mode == FIXED:
        profile = functools.partial(profile_shares, natural_shares(*model, head=head, dtype=dtype))
        value_JK = ranked_shares(*lengths, profile=profile, protected_E=protected_E)
    else:
        value_JK = calibrate_budgets(*model, budgets=budgets, head=head, dtype=dtype)
    return Calibration(
        budgets=tuple(map(float, budgets)),
        values=tuple(map(tuple, value_JK.astype(float).tolist())),
        rows=(),
        num_texts=len(length_E),
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


def _sample_size(max_length: int) -> int:
    """Return the number of texts that calibrate: their states are in memory at one time."""
    return max(MIN_TEXTS, min(MAX_SAMPLE, MAX_TOKENS // max_length))


def measure_part(
    saved: Saved,
    full: Saved,
    calibration: Calibration,
    part: TaskTexts,
    *,
    dtype: DTypeLike,
    budgets: Iterable[float] = (),
    log: Callable[[str], None] = lambda line: None,
) -> MeasuredTexts:
    """Return what each calibrated budget, and others, do to these texts.

    Args:
      saved: the model.
      full: the model that answers are compared with, or `saved`.
      calibration: of the model.
      part: the texts.
      dtype: of the operands of the encoder's products.
      budgets: in addition to the calibrated ones.
      log: receives the number of budgets that are done, where that takes long.
    """
    all_budgets = sorted({*calibration.budgets, *budgets})
    measured = measure_budgets(
        calibration.apply(saved.params),
        saved.config,
        pruner_of_saved(saved),
        part.batches,
        budgets=watch(all_budgets, "budgets measured", total=len(all_budgets), log=log),
        driver=part.driver,
        head=saved.head,
        dtype=dtype,
        threshold=threshold_of(saved, None),
        dense_config=full_config(full),
    )
    if full is saved:
        return MeasuredTexts(measured, measured[1.0].predicted_E, part.label_E)
    found = measure_saved(full, part.batches, dtype=dtype, driver=part.driver)
    return MeasuredTexts(measured, found.predicted_E, part.label_E, full_cost_E=found.pruned_E)
