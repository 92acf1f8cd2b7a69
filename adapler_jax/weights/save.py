"""A model directory that anyone can read: config.json, model.safetensors in Hugging Face names, tokenizer files.

A full disk or a kill while saving leaves the previous model intact.
"""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy

from adapler_jax.flops import leaf_predictor_dim
from adapler_jax.heads import CLASSIFICATION, Head, make_head
from adapler_jax.types import EncoderConfig, Params
from adapler_jax.weights.config import config_json, encoder_config, read_class_names, read_json
from adapler_jax.weights.files import read_safetensors
from adapler_jax.weights.hub import TOKENIZER_FILES
from adapler_jax.weights.names import axis_sizes, model_rules
from adapler_jax.weights.replace import copy_entries, readable, replacing, restore_previous
from adapler_jax.weights.tree import canonicalize, check_tensors, to_tensors, to_tree

SECTION = "adapler_jax"  # our part of config.json
FORMAT = 1
HIDDEN_BIAS = re.compile(r"(contribution_predictor|token_selector)\.0\.hidden\.bias")
# The class of transformers that reads encoder and head, or the encoder alone where it has none for the head.
ARCHITECTURES = {
    "classification": "BertForSequenceClassification",
    "choice": "BertForMultipleChoice",
    "span": "BertForQuestionAnswering",
    "candidates": "BertModel",
    "hotpot": "BertModel",
}
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a model directory holds."""

    config: EncoderConfig
    params: Params  # {"encoder", "head", "pruner"}, float32
    pruner_name: str
    pruner_options: dict[str, Any]  # keywords of `make_pruner`
    head: Head
    class_names: tuple[str, ...]  # in the order of the logits; none where a head tells no classes apart
    max_length: int | None  # token slots that the model was trained with
    task: str | None
    extra: dict[str, Any]  # whatever JSON the writer added
    directory: Path  # where it was read; holds the tokenizer


def save_model(
    directory,
    params: Params,
    config: EncoderConfig,
    *,
    pruner_name: str = "keep_all",
    pruner_options: dict[str, Any] | None = None,
    head: Head = CLASSIFICATION,
    class_names: tuple[str, ...] | None = None,
    max_length: int | None = None,
    task: str | None = None,
    tokenizer=None,
    extra: dict[str, Any] | None = None,
) -> Path:
    """Writes a model directory in one step: afterwards it holds the new model, or, on any failure, the previous one.

    Args: params: {"encoder", "head", "pruner"}. pruner_options: keywords of `make_pruner`, numbers, texts and tuples of
    them. class_names: of a classification, in the order of the logits; None for LABEL_0, LABEL_1 ...
    tokenizer: an object with `save_pretrained`, or a directory to copy its files from; None keeps those that are
    there. extra: JSON values to find again in `load_model`. Files of others in the directory are kept.

    Raises ValueError where params do not fit the config, or the directory holds something else than a saved model;
    OSError where the disk is full or cannot be written.
    """
    directory = Path(directory).expanduser().resolve()
    num_outputs = num_outputs_of(params)
    names = check_class_names(class_names, num_outputs) if head is CLASSIFICATION else None
    section = {
        "format": FORMAT, "pruner": pruner_name, "pruner_options": pruner_options or {}, "max_length": max_length,
        "task": task, "extra": extra or {}, "head": head.name, "head_options": dict(head.options),
    }  # fmt: skip
    contents = {**config_json(config, ARCHITECTURES[head.name], names), SECTION: section}
    text = json.dumps(contents, indent=2, ensure_ascii=False) + "\n"
    sizes = axis_sizes(
        config, num_classes=num_outputs, predictor_dim=leaf_predictor_dim(params), num_sites=num_sites_of(params)
    )
    tensors = to_tensors(params, model_rules(pruner_name, head.name), sizes)

    try:
        restore_previous(directory)
        check_target(directory)
        with replacing(directory) as partial:
            write_files(partial, text, tensors, tokenizer)
            replaced = {path.name for path in partial.iterdir()} | set(() if tokenizer is None else TOKENIZER_FILES)
            copy_entries(directory, partial, skip=replaced)
    except (OSError, safetensors.SafetensorError) as error:
        raise OSError(f"the model was not saved in {directory}; what was there is intact: {error}") from error
    return directory


def num_outputs_of(params: Params) -> int:
    """Outputs of the linear over the pooled [CLS]; 0 for a head that has none."""
    classifier = params["head"].get("classifier")
    return 0 if classifier is None else classifier["bias"].shape[-1]


def check_class_names(class_names, num_classes: int) -> tuple[str, ...]:
    """The names as a tuple, or LABEL_0, LABEL_1 ... Raises ValueError where they do not fit the classifier."""
    if class_names is None:
        return tuple(f"LABEL_{index}" for index in range(num_classes))
    names = tuple(class_names)
    if len(names) != num_classes or len(set(names)) != num_classes:
        raise ValueError(f"class_names {names} do not fit a classifier of {num_classes} classes; give each one a name")
    return names


def check_target(directory: Path) -> None:
    """Raises ValueError where writing would replace something that save_model did not write."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    config_path = directory / CONFIG_FILE
    if not config_path.is_file() or SECTION not in read_json(config_path):
        raise ValueError(f"{directory} holds something else than a saved model; choose an empty or a new directory")


def write_files(partial: Path, config_text: str, tensors: dict, tokenizer) -> None:
    """Writes the files of a model into an empty directory."""
    config_path, weights_path = partial / CONFIG_FILE, partial / WEIGHTS_FILE
    config_path.write_text(config_text, encoding="utf-8")
    safetensors.numpy.save_file(tensors, weights_path, metadata={"format": "pt"})
    shutil.copymode(config_path, weights_path)  # safetensors leaves a file that only its owner may read
    if hasattr(tokenizer, "save_pretrained"):
        try:
            tokenizer.save_pretrained(partial)
        except Exception as error:  # the tokenizers package has no exceptions of its own
            raise OSError(f"the tokenizer cannot be written: {error}") from error
    elif tokenizer is not None:
        copy_tokenizer(Path(tokenizer).expanduser(), partial)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer files of a model directory. Raises ValueError where there are none."""
    found = [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not found:
        raise ValueError(f"{source} holds no tokenizer; expected some of {', '.join(TOKENIZER_FILES)}")
    for path in found:
        shutil.copyfile(path, target / path.name)


def load_model(directory) -> Saved:
    """Reads what `save_model` wrote, exactly. Raises ValueError where it is incomplete, damaged or something else.

    Where a kill fell between the two renames of a save, the previous model is read.
    """
    directory = readable(Path(directory).expanduser().resolve())
    config_path, weights_path = directory / CONFIG_FILE, directory / WEIGHTS_FILE
    raw = read_json(config_path)
    section = read_section(raw, config_path)
    config, class_names = encoder_config(raw, config_path), read_class_names(raw, config_path)
    if not weights_path.is_file():
        raise ValueError(f"{weights_path} does not exist; the model directory is incomplete")
    head = make_head(section.get("head", CLASSIFICATION.name), **section.get("head_options", {}))
    rules = model_rules(section["pruner"], head.name)
    tensors = canonicalize(read_safetensors(weights_path), weights_path)
    options = {name: as_tuple(value) for name, value in section.get("pruner_options", {}).items()}
    hidden_biases = [tensors[name] for name in tensors if HIDDEN_BIAS.fullmatch(name)]
    sizes = axis_sizes(
        config, num_classes=len(class_names or ()) if head is CLASSIFICATION else 1,
        predictor_dim=hidden_biases[0].size if hidden_biases else 0,
        num_sites=len(options.get("layers", ())),
    )  # fmt: skip
    check_tensors(tensors, rules, sizes, weights_path)
    return Saved(
        config=config,
        params={"pruner": {}} | to_tree(tensors, rules, sizes),
        pruner_name=section["pruner"],
        pruner_options=options,
        head=head,
        class_names=class_names or (),
        max_length=section["max_length"],
        task=section["task"],
        extra=section["extra"],
        directory=directory,
    )


def task_of(directory) -> str | None:
    """The task that a saved model names. Raises ValueError where the directory holds no saved model."""
    return _section_of(directory)["task"]


def head_name_of(directory) -> str:
    """The name of a saved model's head. Raises ValueError where the directory holds no saved model."""
    return _section_of(directory).get("head", CLASSIFICATION.name)


def extra_of(directory) -> dict[str, Any]:
    """Return what the writer of a saved model added. Raises ValueError where the directory holds no saved model."""
    return _section_of(directory)["extra"]


def _section_of(directory) -> dict[str, Any]:
    """What `save_model` wrote beside the encoder's config."""
    path = readable(Path(directory).expanduser().resolve()) / CONFIG_FILE
    return read_section(read_json(path), path)


def num_sites_of(params: Params) -> int:
    """Sites of a pruner whose networks are stacked by site, else the layers; 0 without networks."""
    hidden = params.get("pruner", {}).get("hidden")
    return 0 if hidden is None else len(hidden["bias"])


def as_tuple(value):
    """JSON's lists as tuples, which are hashable."""
    return tuple(value) if isinstance(value, list) else value


def read_section(raw: dict[str, Any], source: Path) -> dict[str, Any]:
    """Our part of config.json. Raises ValueError where there is none or a later release wrote it."""
    section = raw.get(SECTION)
    if not isinstance(section, dict):
        raise ValueError(f"{source} has no {SECTION!r} section: not a saved model; start from it with load_pretrained")
    if section.get("format") != FORMAT:
        raise ValueError(f"{source} has format {section.get('format')!r}, this release reads {FORMAT}; update it")
    missing = [name for name in ("pruner", "max_length", "task", "extra") if name not in section]
    if missing:
        raise ValueError(f"{source}: the {SECTION!r} section lacks {', '.join(missing)}")
    return section
