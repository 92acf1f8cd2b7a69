"""The steps of a compression of any kind of model: save, label, compare, train."""

import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from adapler_jax.data.tokenization.tokenizers import load_tokenizer
from adapler_jax.evaluation.budget_latency import Latency
from adapler_jax.evaluation.certificate import Promise
from adapler_jax.evaluation.task_texts import split_texts
from adapler_jax.heads import CLASSIFICATION, TOKEN_CLASSIFICATION, Head, regression
from adapler_jax.inference.calibration import Calibration
from adapler_jax.inference.compute_dtype import AUTO
from adapler_jax.inference.model_kind import kind_in_words
from adapler_jax.io.atomic_directories import atomic_directory, copy_entries, have_equal_files
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.metrics.classification import THRESHOLD
from adapler_jax.metrics.label_sets import THRESHOLDS
from adapler_jax.presets import common
from adapler_jax.presets.adapler import adapler_config
from adapler_jax.training.compress_texts import Label, check_texts, write_labelled
from adapler_jax.training.methods.adapler import calibration_name
from adapler_jax.training.methods.distill import spread_layers
from adapler_jax.training.run import run_all
from adapler_jax.training.rungs import MIN_REACHED, Judge, Rung, best_rung, rungs_without_training
from adapler_jax.weights.base_model import base_model_entry
from adapler_jax.weights.config import CONFIG_FILE, MODEL_FILES, read_config, read_json
from adapler_jax.weights.folders import describe_folder, embedding_head, settings_of_modules
from adapler_jax.weights.hub import resolve_model
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model, save_model
from adapler_jax.weights.score_heads import check_query_segments, head_of_checkpoint
from adapler_jax.weights.section import SECTION, SINGLE_TEXTS
from adapler_jax.weights.sentence_modules import SETTINGS

SEED = 0  # of the split; equal in every call, so that a second one continues
VALIDATION_FRACTION = 0.2
CALIBRATION_FRACTION = 0.3  # of the texts, or of a reranker's queries; no training sees them
GIVEN_FILE = "given.json"  # names the model that the work is on
CHUNK = 1024  # texts that are tokenized at a time
# Of a model of this library: its decision thresholds, the side that long texts are cut on, prompts.
KEPT_EXTRA = (THRESHOLD, THRESHOLDS, "truncation_side", *SETTINGS)
# Options of models of classes or scores.
OF_OTHERS = ("promise", "latency", "labels", "protects_query")
TASKS_OF_HEADS = {
    "classification": "custom",
    "multi_label": "custom_multi_label",
    "regression": "custom_scores",
    "embedding": "custom_similarity",
}


class CompressOptions(NamedTuple):
    """How a model is compressed."""

    speedup: float = 2.0  # in FLOPs on true tokens
    train: bool = True  # or choose among the models without training
    num_layers: int = 0  # of a student whose tokens are dropped; 0: all layers, no student
    latency: Latency | None = None  # in place of a speedup
    promise: Promise | None = None  # to certify, relative to the given model
    labels: Sequence[str | int] | None = None  # of the texts, for scores and promises alone
    more_texts: Sequence[str | tuple[str, str]] = ()  # without labels, to train on alone
    protects_query: bool = False  # of a reranker: no token of a query is dropped
    pooling: str | None = None  # of a plain encoder, which is taken for a model of vectors
    max_length: int = 0  # token slots; 0: of the longest text, or the model's positions if fewer
    changes: dict[str, Any] | None = None  # dotted fields of the training's config


def begin(model, texts: Sequence, out: pathlib.Path, options: CompressOptions, log) -> pathlib.Path:
    """Save the given model, and what the work is on; return the model's directory."""
    full = _save_full(model, out / "full", texts, options, log)
    log(f"{model} is {kind_in_words(full)}")
    replace_text(out / GIVEN_FILE, json.dumps(_given(model, options)))
    if options.num_layers:
        spread_layers(options.num_layers, read_config(full)[0].num_layers)  # checks it
    return full


def put_model(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a model, unless an earlier call did; the copy may have a calibration."""
    if not have_equal_files(target, source, MODEL_FILES):
        with atomic_directory(target) as partial:
            copy_entries(source, partial)


def make_rungs(
    full: pathlib.Path,
    parts: Mapping[str, Sequence],
    out: pathlib.Path,
    options: CompressOptions,
    log,
) -> list[Rung]:
    """Return the models without training, and the trained one unless it is left out.

    Args:
      full: directory of the given model.
      parts: texts that models are made from, "train", and that compare them, "validation".
      out: directory of the work, with the labelled texts.
      options: the speed, and changes of the training.
      log: receives notes.

    Raises:
      ValueError: there is none.
    """
    judged = parts["validation"]
    unit = "texts" if isinstance(judged[0], str) else "pairs"
    judge = Judge(full, judged, log=log)
    log(f"comparing models on {len(judged):,} {unit}, by their agreement with the given model")
    if judge.constant is not None:
        log(f"one answer to all of them would agree in {100 * judge.constant:.1f}%")
    rungs = rungs_without_training(
        full, parts["train"], judge, out, speedup=options.speedup, log=log
    )
    if options.train:
        has_pairs = unit == "pairs" or describe_folder(full).head.name == "embedding"
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


def keep_best(
    full: pathlib.Path,
    parts: Mapping[str, Sequence],
    out: pathlib.Path,
    options: CompressOptions,
    log,
) -> Rung:
    """Put the best model of `make_rungs` into `out/model`, and return it; arguments as there."""
    best = best_rung(make_rungs(full, parts, out, options, log), options.speedup)
    log(f"kept: {best.name}")
    if best.constant is not None and best.agreement <= best.constant:
        log(
            f"it agrees no more than one answer to all texts, which has {100 * best.constant:.1f}% "
            f"{best.measure}: ask for less speedup, or give texts with other answers too"
        )
    put_model(best.directory, out / "model")
    return best


def compress_without_budgets(
    model,
    texts: Sequence,
    out: pathlib.Path,
    options: CompressOptions,
    log,
    *,
    predict: Callable[[pathlib.Path, list], Iterable[Label]],
) -> None:
    """Make a faster copy of a model whose result takes no budgets.

    Args:
      model: as in `compress.compress`, as the next four.
      texts: of its task.
      out: directory of the work.
      options: of the call.
      log: receives lines.
      predict: the saved full model and texts to their labels.

    Raises:
      ValueError: as `compress`.
    """
    train, validation = split_texts(texts, seed=SEED, fraction=1.0 - VALIDATION_FRACTION)
    parts = {"train": train + other_texts(options.more_texts, texts), "validation": validation}
    full = begin(model, texts, out, options, log)
    write_labelled(parts, out / "texts", functools.partial(predict, full), log)
    check_texts(parts, out)
    keep_best(full, parts, out, options, log)


def check_unused(options: CompressOptions, names: Sequence[str], reason: str) -> None:
    """Raise ValueError if an option of these names, which are of other models, is given."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value is not False:
            raise ValueError(f"{name} is {reason}; leave it out")


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
    """Return the config of the training, as `configs/adapler.py:custom,finetuned` builds it.

    The task is `custom`, or its form for scores or vectors.
    """
    saved = load_model(full)
    task = TASKS_OF_HEADS[saved.head.name]
    config = adapler_config(task, has_student=bool(options.num_layers))
    common.apply_variants(config, ["finetuned"], common.VARIANTS)
    config.model = str(full)
    config.data.source = f"file:{texts}"
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
    head = given_head(model, options.pooling)
    if options.protects_query:
        if head.name != "regression":
            raise ValueError(f"protects_query is for rerankers, and {model} has classes")
        head = regression(dict(head.factory_kwargs)["activation"], protects_query=True)
    loaded = load_pretrained(model, jax.random.key(SEED), head=head)
    check_query_segments(head, loaded.config)
    if loaded.fresh or (head.name == CLASSIFICATION.name and loaded.class_names is None):
        raise ValueError(
            f"{model} has no trained classifier ({', '.join(loaded.fresh) or 'no class names'}); "
            "give a model that was fine-tuned to classify texts, or train one with `adapler train`"
        )
    for note in loaded.notes:
        log(note)
    tokenizer = load_tokenizer(str(loaded.directory), log=log)
    is_own = SECTION in read_json(loaded.directory / CONFIG_FILE)
    own = load_model(loaded.directory) if is_own else None
    is_single = head.name == "regression" and isinstance(texts[0], str)
    longest, extra = settings_of_modules(loaded.directory) if own is None else (None, own.extra)
    given = options.max_length or (own and own.max_length)
    wanted = given or _longest(tokenizer, texts)
    length = min(wanted, longest or wanted, loaded.config.num_positions)
    log(length_note(length, is_longest=not given and length == wanted))
    save_model(
        directory,
        loaded.params | {"pruner": {}},
        loaded.config,
        head=head,
        class_names=loaded.class_names,
        max_length=length,
        tokenizer=tokenizer,
        extra={name: extra[name] for name in KEPT_EXTRA if name in extra}
        | base_model_entry(model)
        | ({SINGLE_TEXTS: True} if is_single else {}),
    )
    return directory


def _given(model, options: CompressOptions) -> dict[str, Any]:
    """Return what all calls on one work have in common."""
    names = ("max_length", "protects_query", "pooling")
    return {"model": str(model)} | {name: getattr(options, name) for name in names}


def check_given(model, options: CompressOptions, out: pathlib.Path) -> None:
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


def length_note(length: int, *, is_longest: bool) -> str:
    """Return the length of a compressed model in words.

    Args:
      length: tokens that it reads.
      is_longest: whether it is the length of the longest text, so that texts to come may be cut.
    """
    reason = ", which the longest of these has" if is_longest else ""
    return f"texts are cut to {length} tokens{reason}; max_length sets another length"


def _longest(tokenizer, texts: Sequence) -> int:
    """Return the tokens of the longest text or pair, [CLS] and [SEP] included."""
    core = tokenizer.backend_tokenizer
    chunks = (texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK))
    return max(len(found) for chunk in chunks for found in core.encode_batch(list(chunk)))


def other_texts(more: Sequence, texts: Sequence) -> list:
    """Return more texts without those that are given already, which may prove the certificate.

    Raises:
      ValueError: one of the files has pairs and the other has single texts.
    """
    there = set(texts)
    if len({isinstance(text, str) for text in (*texts, *more)}) > 1:
        raise ValueError("texts and more texts are single texts or pairs; give one kind")
    return [text for text in dict.fromkeys(more) if text not in there]


def given_head(model, pooling: str | None = None) -> Head:
    """Return the head of a given model: classes, labels, numbers, or vectors.

    Models with other heads are taken for classifiers, which `begin` finds out.

    Args:
      model: directory or hub name.
      pooling: of a plain encoder that is taken for a model of vectors; None for other models.

    Raises:
      ValueError: a pooling is given for a model that names its own.
    """
    directory = resolve_model(model)
    if pooling is not None:
        return embedding_head(directory, pooling)
    head = head_of_checkpoint(directory)
    if head is TOKEN_CLASSIFICATION:
        raise ValueError(
            f"{model} gives tags to tokens, which this command does not make faster yet; run it "
            "with TokenClassifier, or train it with --config=adapler:custom_tokens"
        )
    return head if head.name in TASKS_OF_HEADS else CLASSIFICATION


def divide_rest(texts: list, more: Sequence = ()) -> dict[str, list]:
    """Return the texts that are trained on, with more texts, and those that compare models."""
    middle = round(len(texts) * (1.0 - VALIDATION_FRACTION))
    return {"train": [*texts[:middle], *more], "validation": texts[middle:]}


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
