"""Compress a fine-tuned classifier with text of its task, without labels.

Two methods drop tokens without training, then AdapLeR is trained. The model that agrees most with
the given one is calibrated. The classes that the given model predicts are the labels of the texts,
and AdapLeR is trained on the model's soft labels. A validation score is therefore the agreement
with the given model.

    OUT/full/         the given model, as a saved model of this library
    OUT/texts/        the texts with predicted labels: train and validation
    OUT/attention-2x/ a model without training, as OUT/vocabulary-2x
    OUT/run/          the workdir of the training, which a second call continues; OUT/run-4-layers
                      with a student of four layers
    OUT/model/        the result, with calibration.json
"""

import json
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from adapler_jax.data.tokenization.tokenizers import load_tokenizer
from adapler_jax.evaluation.budget_latency import Latency
from adapler_jax.evaluation.calibrate import Promise, calibrate_model, check_request
from adapler_jax.evaluation.task_texts import MIN_TEXTS, labels_by_text, split_texts
from adapler_jax.inference.calibration import Calibration
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.compute_dtype import AUTO
from adapler_jax.io.atomic_directories import atomic_directory, copy_entries, have_equal_files
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.io.heartbeat import Heartbeat
from adapler_jax.metrics.classification import THRESHOLD, decide
from adapler_jax.presets import common
from adapler_jax.presets.adapler import adapler_config
from adapler_jax.training.methods.adapler import calibration_name
from adapler_jax.training.methods.distill import spread_layers
from adapler_jax.training.run import run_all
from adapler_jax.training.rungs import (
    MIN_REACHED,
    Judge,
    Rung,
    best_rung,
    rungs_without_training,
    save_without_training,
)
from adapler_jax.weights.base_model import base_model_entry
from adapler_jax.weights.config import CONFIG_FILE, MODEL_FILES, read_config, read_json
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import class_names_of, load_model, save_model
from adapler_jax.weights.section import SECTION

SEED = 0  # of the split; equal in every call, so that a second one continues
VALIDATION_FRACTION = 0.2
GIVEN_FILE = "given.json"  # names the model that the work is on
LATENCY_FILE = "latency.json"  # has the speedup that a latency needs
CHUNK = 1024  # texts that are tokenized at a time
# Of a model of this library: its decision threshold, and the side that long texts are cut on.
KEPT_EXTRA = (THRESHOLD, "truncation_side")
CALIBRATION_FRACTION = 0.3  # of the texts; no training sees them


class CompressOptions(NamedTuple):
    """How a model is compressed."""

    speedup: float = 2.0  # in FLOPs on true tokens
    train: bool = True  # or choose among the models without training
    num_layers: int = 0  # of a student whose tokens are dropped; 0: all layers, no student
    latency: Latency | None = None  # in place of a speedup
    promise: Promise | None = None  # to certify, relative to the given model
    labels: Sequence[str | int] | None = None  # of the texts, for scores and promises alone
    more_texts: Sequence[str | tuple[str, str]] = ()  # without labels, to train on alone
    max_length: int = 0  # token slots; 0: of the longest text, or the model's positions if fewer
    changes: dict[str, Any] | None = None  # dotted fields of the training's config


def compress(
    model,
    texts: Sequence[str | tuple[str, str]],
    out,
    *,
    options: CompressOptions | None = None,
    log: Callable[[str], None] = print,
) -> Calibration:
    """Make a faster copy of a fine-tuned classifier; a second call continues an interrupted one.

    Args:
      model: directory or hub name of a checkpoint in Hugging Face form with a trained classifier,
        or a saved model of this library. Its classes, tokenizer and texts stay as they are.
      texts: of its task, or pairs, without labels.
      out: directory of the work and of the result, `out/model`.
      options: the speed, the promise, and changes of the training.
      log: receives notes.

    Returns:
      The calibration of `out/model`.

    Raises:
      ValueError: the checkpoint has no trained classifier, there are too few texts, `out` has work
        on other texts or another model, or nothing reaches the speedup without training.
    """
    options = options or CompressOptions()
    out = pathlib.Path(out).expanduser()
    _check_given(model, options, out)
    rest, held_back = _divide(texts)
    check_request(
        split_texts(held_back, seed=SEED)[1],
        promise=options.promise,
        latency=options.latency,
        labels=options.labels,
    )
    full = _begin(model, texts, out, options, log)
    names = class_names_of(full) or ()
    label_of = labels_by_text(texts, options.labels, names)
    parts = _parts(rest, _others(options.more_texts, texts))
    if not (out / "texts" / "validation.jsonl").exists():
        _write_labelled(Classifier.load(full), parts, out / "texts", log)
    _check_texts(parts, out)
    if options.latency is not None:
        options = options._replace(speedup=_speedup_of(options.latency, full, rest, out, log))
    best = best_rung(_make_rungs(full, rest, out, options, log), options.speedup)
    log(f"kept: {best.name}")
    _put_model(best.directory, out / "model")
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


def _begin(
    model, texts: Sequence, out: pathlib.Path, options: CompressOptions, log
) -> pathlib.Path:
    """Save the given model, and what the work is on; return the model's directory."""
    full = _save_full(model, out / "full", texts, options, log)
    replace_text(out / GIVEN_FILE, json.dumps(_given(model, options)))
    if options.num_layers:
        spread_layers(options.num_layers, read_config(full)[0].num_layers)  # checks it
    return full


def _put_model(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a model, unless an earlier call did; the copy may have a calibration."""
    if not have_equal_files(target, source, MODEL_FILES):
        with atomic_directory(target) as partial:
            copy_entries(source, partial)


def slower_promise(calibration: Calibration, speedup: float) -> list[str]:
    """Return a note where the certified answers are slower than the model; none elsewhere."""
    found = calibration.certificate or {}
    certified = found.get("flops_speedup")
    if certified is None or certified >= MIN_REACHED * speedup:
        return []
    return [
        f"the promise holds at {certified:.2f}x, with --certified; without it the model answers at "
        f"{speedup:.2f}x and promises nothing"
    ]


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


def _make_rungs(
    full: pathlib.Path, texts: list, out: pathlib.Path, options: CompressOptions, log
) -> list[Rung]:
    """Return the models without training, and the trained one unless it is left out.

    Raises:
      ValueError: there is none.
    """
    trained_on, judged = _parts(texts).values()
    with Heartbeat(lambda: "predicting the texts that compare models", log=log):
        judge = Judge(full, judged)
    log(f"comparing models on {len(judged):,} texts, by their agreement with the given model")
    rungs = rungs_without_training(full, trained_on, judge, out, speedup=options.speedup, log=log)
    if options.train:
        has_pairs = not isinstance(texts[0], str)
        config = make_config(full, out / "texts", options, has_pairs=has_pairs)
        log("training AdapLeR to answer as the given model does; its answers are the labels here")
        trained = _train(config, _workdir(out, options), options, log)
        name = f"AdapLeR on {options.num_layers} layers" if options.num_layers else "AdapLeR"
        measured = judge.measure(f"{name}, trained", trained, log=log)
        log(measured.sentence())
        for rung in rungs:
            log(measured.compared_with(rung))
        rungs.append(measured)
    if not rungs:
        raise ValueError(
            f"no method reaches {options.speedup:g}x without training; train, or ask for less"
        )
    return rungs


def _workdir(out: pathlib.Path, options: CompressOptions) -> pathlib.Path:
    """Return the workdir of the training."""
    return out / (f"run-{options.num_layers}-layers" if options.num_layers else "run")


def _train(config, workdir: pathlib.Path, options: CompressOptions, log) -> pathlib.Path:
    """Train AdapLeR, and return the directory of its model."""
    run_all(config, workdir, log=log)
    trained = workdir / calibration_name(options.speedup) / "model"
    if trained.exists():
        return trained
    log(f"{options.speedup:g}x is out of reach of AdapLeR; its model as trained is compared")
    return workdir / "adapler" / "model"


def make_config(
    full: pathlib.Path, texts: pathlib.Path, options: CompressOptions, *, has_pairs: bool
):
    """Return the config of the training, as `configs/adapler.py:custom,finetuned` builds it."""
    config = adapler_config("custom", has_student=bool(options.num_layers))
    common.apply_variants(config, ["finetuned"], common.VARIANTS)
    config.model = str(full)
    config.data.source = f"file:{texts}"
    saved = load_model(full)
    config.data.class_names = saved.class_names
    if has_pairs:
        config.data.columns = {"text_pair": "text_pair"}
    config.data.max_length = saved.max_length
    if options.num_layers:
        config.distill.layers = spread_layers(options.num_layers, saved.config.num_layers)
    config.adapt.target_speedups = (options.speedup,)
    config.compute_dtype = AUTO
    config.update_from_flattened_dict(options.changes or {})
    return ml_collections.ConfigDict(config).lock()


def _save_full(
    model, directory: pathlib.Path, texts: Sequence, options: CompressOptions, log
) -> pathlib.Path:
    """Save the given model as a model of this library, once."""
    if directory.exists():
        return directory
    loaded = load_pretrained(model, jax.random.key(SEED))
    if loaded.fresh or loaded.class_names is None:
        raise ValueError(
            f"{model} has no trained classifier ({', '.join(loaded.fresh) or 'no class names'}); "
            "give a model that was fine-tuned to classify texts, or train one with `adapler train`"
        )
    for note in loaded.notes:
        log(note)
    tokenizer = load_tokenizer(str(loaded.directory), log=log)
    is_own = SECTION in read_json(loaded.directory / CONFIG_FILE)
    own = load_model(loaded.directory) if is_own else None
    length = options.max_length or (own and own.max_length) or _longest(tokenizer, texts)
    length = min(length, loaded.config.num_positions)
    log(f"texts are cut to {length} tokens; max_length sets another length")
    extra = {} if own is None else own.extra
    save_model(
        directory,
        loaded.params | {"pruner": {}},
        loaded.config,
        class_names=loaded.class_names,
        max_length=length,
        tokenizer=tokenizer,
        extra={name: extra[name] for name in KEPT_EXTRA if name in extra} | base_model_entry(model),
    )
    return directory


def _given(model, options: CompressOptions) -> dict[str, Any]:
    """Return what all calls on one work have in common."""
    return {"model": str(model), "max_length": options.max_length}


def _check_given(model, options: CompressOptions, out: pathlib.Path) -> None:
    """Raise ValueError where the work is on another model, or on texts cut elsewhere.

    A student without training is an error too.
    """
    if options.num_layers and not options.train:
        raise ValueError("a student needs training; leave out num_layers, or train")
    path, now = out / GIVEN_FILE, _given(model, options)
    before = now | (json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})
    for name, value in now.items():
        if before[name] != value:
            raise ValueError(
                f"{out} has work with {name} {before[name]}, not {value}; give another --out"
            )


def _longest(tokenizer, texts: Sequence) -> int:
    """Return the tokens of the longest text or pair, [CLS] and [SEP] included."""
    core = tokenizer.backend_tokenizer
    chunks = (texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK))
    return max(len(found) for chunk in chunks for found in core.encode_batch(list(chunk)))


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


def _others(more: Sequence, texts: Sequence) -> list:
    """Return more texts without those that are given already, which may prove the certificate.

    Raises:
      ValueError: one of the files has pairs and the other has single texts.
    """
    there = set(texts)
    if len({isinstance(text, str) for text in (*texts, *more)}) > 1:
        raise ValueError("texts and more texts are single texts or pairs; give one kind")
    return [text for text in dict.fromkeys(more) if text not in there]


def _parts(texts: list, more: Sequence = ()) -> dict[str, list]:
    """Return the texts that are trained on, with more texts, and those that compare models."""
    middle = round(len(texts) * (1.0 - VALIDATION_FRACTION))
    return {"train": [*texts[:middle], *more], "validation": texts[middle:]}


def _write_labelled(
    classifier: Classifier, parts: dict[str, list], directory: pathlib.Path, log
) -> None:
    """Write the texts of the training with the classes that the full model predicts."""
    num_texts = sum(map(len, parts.values()))
    log(f"predicting the classes of {num_texts:,} texts by the given model")
    with (
        Heartbeat(lambda: "predicting classes", log=log),
        atomic_directory(directory) as partial,
    ):
        for split, texts in parts.items():
            numbers = decide(classifier.predict_probs(texts), classifier.threshold).tolist()
            lines = [
                json.dumps(_row(text, classifier.class_names[number]))
                for text, number in zip(texts, numbers)
            ]
            replace_text(partial / f"{split}.jsonl", "".join(f"{line}\n" for line in lines))


def _check_texts(parts: dict[str, list], out: pathlib.Path) -> None:
    """Raise ValueError where an earlier call divided other texts: some would count twice."""
    for split, texts in parts.items():
        lines = (out / "texts" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        there = [row | {"label": ""} for row in map(json.loads, lines)]
        if there != list(map(_row, texts)):
            raise ValueError(
                f"{out} has work on other texts; give the same texts, or another --out"
            )


def _row(text: str | tuple[str, str], label: str = "") -> dict[str, str]:
    """Return a text or pair with its label, in the columns of the task `custom`."""
    if isinstance(text, str):
        return {"text": text, "label": label}
    return {"text": text[0], "text_pair": text[1], "label": label}
