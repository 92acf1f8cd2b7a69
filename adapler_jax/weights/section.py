"""Read and check our section of a saved model's config.json."""

import inspect
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapler_jax.heads import CLASSIFICATION, HEADS, TEXT_OPTIONS, Head, make_head
from adapler_jax.io.messages import listed, shown
from adapler_jax.metrics.label_sets import THRESHOLDS
from adapler_jax.presets.old_names import upgrade_section
from adapler_jax.weights.config import MAX_LENGTH, OUR_SECTION
from adapler_jax.weights.labels import is_name

SECTION = OUR_SECTION
FORMAT = 1
# Of classes of transformers.
TEXTS_ENDING, TOKENS_ENDING = "ForSequenceClassification", "ForTokenClassification"
NEEDED = ("pruner", "max_length", "task", "extra")
SINGLE_TEXTS = "single_texts"  # field of extra: true for a model of numbers of single texts
REGRESSOR = "regressor"  # a model of several numbers, or of single texts
MAX_NUMBER = 1_000_000  # of options that count something
# Fields of extra["qa"] by their type; others are not read here.
QA_COUNTS = (
    *("doc_stride", "max_question_tokens", "max_answer_tokens", "n_best_size", "max_option_tokens"),
    *("max_sentences", "max_candidates"),
)
# Options of this library's pruners by their type; a float is a finite number.
OPTIONS = {
    "predictor_dim": int,
    "selector_dim": int,
    "final_threshold": float,
    "initial_threshold": float,
    "length_target": float,
}
OPTIONS |= dict.fromkeys(("relative_length", "stop_target_gradient", "clip_cls_ratio"), bool)
OPTIONS |= dict.fromkeys(("by_batch", "counts_padding"), bool)
# Others check their options themselves.
OWN_PRUNERS = (
    "adapler",
    "attention",
    "keep_all",
    "ltp",
    "powerbert",
    "trbert",
    "vocabulary",
)
QA_FIELDS = dict.fromkeys(QA_COUNTS, int) | {
    "score_options_independently": bool,
    "protects_markers": bool,
}


def is_for_tokens(raw: dict[str, Any]) -> bool:
    """Return whether config.json names a class for tags of tokens; raw is its content."""
    return _names_class(raw, TOKENS_ENDING)


def is_for_texts(raw: dict[str, Any]) -> bool:
    """Return whether config.json names a class for whole texts; raw is its content."""
    return _names_class(raw, TEXTS_ENDING)


def _names_class(raw: dict[str, Any], ending: str) -> bool:
    """Return whether config.json names a class of transformers with an ending."""
    architectures = raw.get("architectures")
    return isinstance(architectures, list) and any(
        isinstance(name, str) and name.endswith(ending) for name in architectures
    )


def make_section(
    pruner: str,
    options: dict[str, Any] | None,
    head: Head,
    *,
    max_length: int | None,
    task: str | None,
    extra: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the section of a model, in the order of its fields in the file."""
    return {
        "format": FORMAT,
        "pruner": pruner,
        "pruner_options": options or {},
        "max_length": max_length,
        "task": task,
        "extra": extra or {},
        "head": head.name,
        "head_options": dict(head.factory_kwargs),
    }


def use_of(head: str, options: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
    """Return the name of a head, or REGRESSOR for numbers that rank no documents.

    Args:
      head: its name.
      options: keywords of its factory.
      extra: of the saved model.
    """
    if head == "regression" and (extra.get(SINGLE_TEXTS) is True or "num_outputs" in options):
        return REGRESSOR
    return head


def read_section(raw: dict[str, Any], source: Path) -> dict[str, Any]:
    """Return our part of config.json.

    Raises:
      ValueError: the section is missing, a later release wrote it, or fields have other types or
      ranges.

    Warns:
      FutureWarning: the section has option names of release 0.1.
    """
    section = raw.get(SECTION)
    if isinstance(section, dict):
        section, before = upgrade_section(section), section
        if section != before:
            warnings.warn(
                f"{source} has option names of release 0.1, which release 1.0 will not read; save "
                "the model again",
                FutureWarning,
                stacklevel=2,
            )
    if not isinstance(section, dict):
        raise ValueError(
            f"{source} has no {SECTION!r} section: not a saved model of this library. "
            f"{_advice(raw, source.parent)}"
        )
    if type(section.get("format")) is not int or section["format"] != FORMAT:
        raise ValueError(
            f"{source} has format {shown(section.get('format'))}, this release reads {FORMAT}; "
            "update it"
        )
    missing = [name for name in NEEDED if name not in section]
    if missing:
        raise ValueError(f"{source}: the {SECTION!r} section lacks {', '.join(missing)}")
    section = {"head": CLASSIFICATION.name, "head_options": {}, "pruner_options": {}} | section
    check_section(section, source)
    return section


def _advice(raw: dict[str, Any], where: Path) -> str:
    """Return what to do with a folder of another program; raw is the content of its config.json."""
    if is_for_tokens(raw):
        return "It gives tags to tokens: load it with TokenClassifier"
    if is_for_texts(raw):
        return (
            "It is for whole texts: load it with Classifier, MultiLabelClassifier, Regressor or "
            "Reranker"
        )
    return (
        f"It names {shown(raw.get('architectures'))}, and classes of transformers that end in "
        f"{TEXTS_ENDING} or {TOKENS_ENDING} are run as they are. Make one from it: "
        f"`adapler compress --model={where}` where it is fine-tuned, else "
        f"`adapler train --config=adapler:custom --config.model={where}`"
    )


def check_section(section: dict[str, Any], source: Path) -> None:
    """Check the fields of a section.

    Raises:
      ValueError: with all fields that have other types or ranges.
    """
    if problems := find_problems(section):
        found = listed(problems, limit=700, separator="; ")
        raise ValueError(f"{source}: the {SECTION!r} section has {found}; save the model again")


def check_new_section(section: dict[str, Any], num_layers: int, source: Path) -> dict[str, Any]:
    """Check a section before it is written; return `options_of` it.

    Raises:
      ValueError: as `check_section` and `options_of`.
    """
    as_read = json.loads(json.dumps(section))
    check_section(as_read, source)
    return options_of(as_read, num_layers, source)


def find_problems(section: dict[str, Any]) -> list[str]:
    """Return what is wrong with the fields of a section, a phrase each."""
    checks = {
        "pruner": (isinstance(section["pruner"], str), "a name"),
        "pruner_options": (
            are_options(section["pruner_options"]),
            "an object of numbers, texts and lists of these",
        ),
        "max_length": (
            is_count(section["max_length"], MAX_LENGTH, optional=True),
            f"null or a number from 1 to {MAX_LENGTH}",
        ),
        "task": (section["task"] is None or is_name(section["task"]), "null or a text"),
        "extra": (
            isinstance(section["extra"], dict) and is_json(section["extra"]),
            "an object without NaN or infinity",
        ),
    }
    problems = [
        f"{name} {shown(section[name])}, expected {expected}"
        for name, (is_right, expected) in checks.items()
        if not is_right
    ]
    if not problems:
        problems = find_option_problems(section["pruner"], section["pruner_options"])
        problems += find_extra_problems(section["extra"])
    return problems + find_head_problems(section["head"], section["head_options"])


def find_option_problems(pruner: str, options: dict[str, Any]) -> list[str]:
    """Return what is wrong with the options of a pruner of this library; others check their own."""
    problems = []
    for name, value in options.items() if pruner in OWN_PRUNERS else ():
        kind = OPTIONS.get(name)
        if kind is int and not is_count(value, MAX_NUMBER):
            problems.append(f"{name} {shown(value)}, expected a number from 1 to {MAX_NUMBER}")
        elif kind is bool and type(value) is not bool:
            problems.append(f"{name} {shown(value)}, expected true or false")
        elif kind is float and (type(value) not in (int, float) or abs(value) > MAX_NUMBER):
            problems.append(f"{name} {shown(value)}, expected a number")
    return [f"pruner_options with {problem}" for problem in problems]


def find_head_problems(name, options) -> list[str]:
    """Return what is wrong with a head's name and the keywords of its factory."""
    if not isinstance(name, str) or name not in HEADS:
        return [f"unknown head {shown(name)}, there are {', '.join(HEADS)}"]
    known = inspect.signature(HEADS[name]).parameters
    if not isinstance(options, dict) or not options.keys() <= known.keys():
        return [
            f"head_options {shown(options)}, expected an object with fields of "
            f"{listed(known) or 'nothing'}"
        ]
    required = [key for key, field in known.items() if field.default is field.empty]
    problems = [f"head_options without {key}" for key in required if key not in options]
    for key, value in options.items():
        is_right, expected = is_count(value, MAX_NUMBER), f"a number from 1 to {MAX_NUMBER}"
        if known[key].annotation is bool:
            is_right, expected = type(value) is bool, "true or false"
        elif key in TEXT_OPTIONS:
            is_right, expected = value in TEXT_OPTIONS[key], " or ".join(TEXT_OPTIONS[key])
        if not is_right:
            problems.append(f"head_options with {key} {shown(value)}, expected {expected}")
    return problems


def find_extra_problems(extra: dict[str, Any]) -> list[str]:
    """Return what is wrong with the fields of `extra` that this library writes."""
    problems = []
    threshold, qa = extra.get("no_answer_threshold"), extra.get("qa", {})
    if threshold is not None and type(threshold) not in (int, float):
        problems.append(
            f"extra with no_answer_threshold {shown(threshold)}, expected null or a number"
        )
    by_label = extra.get(THRESHOLDS, [])
    if not (isinstance(by_label, list) and all(map(is_share, by_label))):
        problems.append(f"extra with {THRESHOLDS} {shown(by_label)}, expected numbers from 0 to 1")
    if not isinstance(qa, dict):
        return [*problems, f"extra with qa {shown(qa)}, expected an object"]
    for name, kind in QA_FIELDS.items():
        value = qa.get(name)
        if name in qa and not (
            type(value) is bool if kind is bool else is_count(value, MAX_NUMBER)
        ):
            expected = "true or false" if kind is bool else f"a number from 1 to {MAX_NUMBER}"
            problems.append(f"extra with qa.{name} {shown(value)}, expected {expected}")
    return problems


def head_of(section: dict[str, Any]) -> Head:
    """Return the head that a checked section names."""
    return make_head(section["head"], **section["head_options"])


def options_of(section: dict[str, Any], num_layers: int, source: Path) -> dict[str, Any]:
    """Return the keywords of the pruner's factory, lists as tuples, which are hashable.

    Raises:
      ValueError: `layers` of a pruner of this library are no increasing layers of the encoder.
    """
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in section["pruner_options"].items()
    }
    layers = options.get("layers") if section["pruner"] in OWN_PRUNERS else None
    is_right = isinstance(layers, tuple) and all(
        is_count(layer, num_layers - 1) for layer in layers
    )
    if layers is not None and not (is_right and list(layers) == sorted(set(layers))):
        raise ValueError(
            f"{source}: the {SECTION!r} section has pruner_options with layers {shown(layers)}, "
            "expected increasing "
            f"numbers from 1 to {num_layers - 1}"
        )
    return options


def is_count(value, highest: int, *, optional: bool = False) -> bool:
    """Return whether a value is an integer from 1 to the highest, or null where optional."""
    return (optional and value is None) or (type(value) is int and 1 <= value <= highest)


def is_share(value) -> bool:
    """Return whether a value is a number from 0 to 1."""
    return type(value) in (int, float) and 0 <= value <= 1


def is_plain(value) -> bool:
    """Return whether a value is null, a truth value, a text or a finite number."""
    if isinstance(value, float):
        return math.isfinite(value)
    if type(value) is int:
        return abs(value) < 1 << 63
    return value is None or isinstance(value, bool) or is_name(value)


def are_options(value) -> bool:
    """Return whether a value is an object of plain values and lists of them."""
    return isinstance(value, dict) and all(
        is_plain(option) or (isinstance(option, list) and all(map(is_plain, option)))
        for option in value.values()
    )


def is_json(value) -> bool:
    """Return whether lists and objects hold plain values only."""
    if isinstance(value, dict):
        return all(map(is_name, value)) and all(map(is_json, value.values()))
    return all(map(is_json, value)) if isinstance(value, list) else is_plain(value)
