"""A model directory that anyone can read: config.json, model.safetensors in Hugging Face names, tokenizer, card.

A full disk or a kill while saving leaves the previous model intact.
"""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy

from adapler_jax.flops import leaf_predictor_dim
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.io.atomic_directories import (
    atomic_directory,
    copy_entries,
    recover,
    restore_previous,
)
from adapler_jax.io.messages import bounded_errors, shown
from adapler_jax.types import EncoderConfig, Params
from adapler_jax.weights.card import CARD_FILE, card_text
from adapler_jax.weights.checkpoint_formats import (
    OWN_FILE,
    OWN_TABLES,
    bert_tensors,
    distilbert_tensors,
    renamed,
    saves_as_distilbert,
)
from adapler_jax.weights.config import (
    CONFIG_FILE,
    MAX_LENGTH,
    config_json,
    encoder_config,
    read_class_names,
    read_json,
)
from adapler_jax.weights.files import add_own_tables, read_safetensors
from adapler_jax.weights.hub import TOKENIZER_FILES
from adapler_jax.weights.labels import is_name
from adapler_jax.weights.rules import (
    HEAD_RULES,
    POOLER_RULES,
    axis_sizes,
    model_rules,
    unwrapped_name,
)
from adapler_jax.weights.saved_tokenizer import settle_tokenizer
from adapler_jax.weights.section import (
    FORMAT,
    SECTION,
    check_section,
    head_of,
    is_count,
    options_of,
    read_section,
)
from adapler_jax.weights.tree import canonicalize, check_tensors, to_tensors, to_tree

HIDDEN_BIAS = ("pruner", "hidden", "bias")  # the leaf whose size is that of a pruner's scorers
# The class of transformers that reads encoder and head, or the encoder alone where it has none for the head.
ARCHITECTURES = {
    "classification": "BertForSequenceClassification",
    "choice": "BertForMultipleChoice",
    "span": "BertForQuestionAnswering",
    "candidates": "BertModel",
    "hotpot": "BertModel",
}
WEIGHTS_FILE = "model.safetensors"
DEFAULT_MAX_LENGTH = 512  # token slots of a model that names none, where it has as many positions


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a model directory holds."""

    config: EncoderConfig
    params: Params  # {"encoder", "head", "pruner"}, float32
    pruner_name: str
    pruner_options: dict[str, Any]  # keywords of `make_pruner`
    head: Head
    class_names: tuple[
        str, ...
    ]  # in the order of the logits; none where a head tells no classes apart
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
    there. extra: JSON values to find again in `load_model`. Files of others in the directory are kept, a README.md that
    a user wrote or changed among them.

    Raises ValueError where params do not fit the config, or the directory holds something else than a saved model;
    OSError where the disk is full or cannot be written.
    """
    directory = Path(directory).expanduser().resolve()
    check_max_length(max_length)
    num_outputs = num_outputs_of(params)
    names = check_class_names(class_names, num_outputs) if head is CLASSIFICATION else None
    architecture = architecture_of(config, head)
    section = {
        "format": FORMAT,
        "pruner": pruner_name,
        "pruner_options": pruner_options or {},
        "max_length": max_length,
        "task": task,
        "extra": extra or {},
        "head": head.name,
        "head_options": dict(head.factory_kwargs),
    }
    check_section(json.loads(json.dumps(section)), directory / CONFIG_FILE)
    sizes = axis_sizes(
        config,
        num_classes=num_outputs,
        predictor_dim=leaf_predictor_dim(params),
        num_sites=num_sites_of(params),
    )
    tensors = to_tensors(params, model_rules(pruner_name, head.name), sizes)
    if saves_as_distilbert(config):
        tensors = distilbert_tensors(tensors)

    try:
        restore_previous(directory)
        check_target(directory)
        with atomic_directory(directory) as partial:
            write_tensors(tensors, partial)
            write_tokenizer(partial, tokenizer)
            replaced = {path.name for path in partial.iterdir()} | {CONFIG_FILE, OWN_FILE}
            replaced |= set(() if tokenizer is None else TOKENIZER_FILES) | own_card(directory)
            copy_entries(directory, partial, skip=replaced)
            slots = max_length or min(config.num_positions, DEFAULT_MAX_LENGTH)
            is_copy, has_segments = tokenizer_is_copy(tokenizer), config.num_segments > 1
            special = settle_tokenizer(
                partial, max_length=slots, has_segments=has_segments, is_copy=is_copy
            )
            contents = config_json(config, architecture, names, special=special)
            section |= write_card(partial, card_text(contents, section, slots))
            write_config(partial, contents | {SECTION: section})
    except (OSError, safetensors.SafetensorError) as error:
        raise OSError(
            f"the model was not saved in {directory}; what was there is intact: {error}"
        ) from error
    return directory


def architecture_of(config: EncoderConfig, head: Head) -> str:
    """The class of transformers that computes encoder and head; the encoder's where no class computes both."""
    is_pooled = set(POOLER_RULES) <= set(HEAD_RULES[head.name])
    if is_pooled and config.pooler_activation != "tanh" and not saves_as_distilbert(config):
        return "BertModel"
    return ARCHITECTURES[head.name]


def write_config(partial: Path, contents: dict[str, Any]) -> None:
    """Writes config.json, and lets everybody read the weights who may read it."""
    text = json.dumps(contents, indent=2, ensure_ascii=False) + "\n"
    (partial / CONFIG_FILE).write_text(text, encoding="utf-8")
    for path in partial.glob("*.safetensors"):
        shutil.copymode(partial / CONFIG_FILE, path)  # safetensors lets only the owner read


def write_tensors(tensors: dict, partial: Path) -> None:
    """Write the weights, and the tables that only this library reads into a file of their own."""
    own = {name: tensors[name] for name in OWN_TABLES if name in tensors}
    rest = {name: value for name, value in tensors.items() if name not in own}
    safetensors.numpy.save_file(rest, partial / WEIGHTS_FILE, metadata={"format": "pt"})
    if own:
        safetensors.numpy.save_file(own, partial / OWN_FILE)


def digest_of(path: Path) -> str:
    """A hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def own_card(directory: Path) -> set[str]:
    """The card's name where the one that is there was written here and not changed since."""
    path = directory / CARD_FILE
    if not path.is_file():
        return set()
    section = read_json(directory / CONFIG_FILE).get(SECTION)
    return (
        {CARD_FILE}
        if isinstance(section, dict) and section.get("card") == digest_of(path)
        else set()
    )


def write_card(partial: Path, text: str) -> dict[str, str]:
    """Writes the model card where there is no other, and returns its hash for our part of config.json."""
    path = partial / CARD_FILE
    if path.exists():
        return {}
    path.write_text(text, encoding="utf-8")
    return {"card": digest_of(path)}


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
        raise ValueError(
            f"class_names {names} do not fit a classifier of {num_classes} classes; give each one a name"
        )
    if not all(map(is_name, names)):
        raise ValueError(
            f"class_names {shown(names)} are not all texts that can be written; give such names"
        )
    return names


def check_max_length(max_length) -> None:
    """Raises ValueError where it is neither None nor a number of token slots."""
    if not is_count(max_length, MAX_LENGTH, optional=True):
        raise ValueError(
            f"max_length is {shown(max_length)}; expected None or a whole number from 1 to {MAX_LENGTH}"
        )


def check_target(directory: Path) -> None:
    """Raises ValueError where writing would replace something that save_model did not write."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    config_path = directory / CONFIG_FILE
    if not config_path.is_file() or SECTION not in read_json(config_path):
        raise ValueError(
            f"{directory} holds something else than a saved model; choose an empty or a new directory"
        )


def tokenizer_is_copy(tokenizer) -> bool:
    """Whether a tokenizer's files are kept as they are, not written by an object."""
    return not hasattr(tokenizer, "save_pretrained")


def write_tokenizer(partial: Path, tokenizer) -> None:
    """Writes, or copies, the files of a tokenizer, where there is one."""
    if tokenizer is not None and tokenizer_is_copy(tokenizer):
        copy_tokenizer(Path(tokenizer).expanduser(), partial)
    elif tokenizer is not None:
        try:
            tokenizer.save_pretrained(partial)
        except Exception as error:  # the tokenizers package has no exceptions of its own
            raise OSError(f"the tokenizer cannot be written: {error}") from error


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer files of a model directory. Raises ValueError where there are none."""
    found = [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not found:
        raise ValueError(
            f"{source} holds no tokenizer; expected some of {', '.join(TOKENIZER_FILES)}"
        )
    for path in found:
        shutil.copyfile(path, target / path.name)


@bounded_errors()
def load_model(directory) -> Saved:
    """Reads what `save_model` wrote, exactly. Raises ValueError where it is incomplete, damaged or something else.

    Where a kill fell between the two renames of a save, the previous model is read.
    """
    directory = recover(Path(directory).expanduser().resolve())
    config_path, weights_path = directory / CONFIG_FILE, directory / WEIGHTS_FILE
    raw = read_json(config_path)
    section = read_section(raw, config_path)
    config, class_names = encoder_config(raw, config_path), read_class_names(raw, config_path)
    if (section["max_length"] or 0) > config.num_positions:
        raise ValueError(
            f"{config_path}: max_length is {section['max_length']}, the model has {config.num_positions} positions"
        )
    options = options_of(section, config.num_layers, config_path)
    head = head_of(section)
    rules = model_rules(section["pruner"], head.name)
    if not weights_path.is_file():
        raise ValueError(f"{weights_path} does not exist; the model directory is incomplete")
    tensors = renamed(read_safetensors(weights_path), unwrapped_name, weights_path)
    tensors = add_own_tables(tensors, raw, weights_path)
    tensors = canonicalize(bert_tensors(tensors, raw, weights_path), weights_path)
    bias_names = [rule.name.format(layer=0, site=0) for rule in rules if rule.path == HIDDEN_BIAS]
    hidden_biases = [tensors[name] for name in bias_names if name in tensors]
    sizes = axis_sizes(
        config,
        num_classes=len(class_names or ()) if head is CLASSIFICATION else 1,
        predictor_dim=hidden_biases[0].size if hidden_biases else 0,
        num_sites=len(options.get("layers") or ()),
    )
    check_tensors(tensors, rules, sizes, weights_path)
    return Saved(
        config=config,
        params={"pruner": {}} | to_tree(tensors, rules, sizes, source=weights_path),
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
    return _section_of(directory)["head"]


def class_names_of(directory) -> tuple[str, ...] | None:
    """Return the names of a saved model's classes in the order of the logits; None where it names none.

    Raises:
      ValueError: config.json is damaged.
    """
    path = recover(Path(directory).expanduser().resolve()) / CONFIG_FILE
    return read_class_names(read_json(path), path)


def extra_of(directory) -> dict[str, Any]:
    """Return what the writer of a saved model added. Raises ValueError where the directory holds no saved model."""
    return _section_of(directory)["extra"]


def extra_if_ours(directory) -> dict[str, Any]:
    """Return what the writer of a saved model added; empty for a folder of another program.

    Raises ValueError where our part of its config.json is damaged.
    """
    path = recover(Path(directory).expanduser().resolve()) / CONFIG_FILE
    raw = read_json(path) if path.is_file() else {}
    return read_section(raw, path)["extra"] if SECTION in raw else {}


def _section_of(directory) -> dict[str, Any]:
    """What `save_model` wrote besides the encoder's config."""
    path = recover(Path(directory).expanduser().resolve()) / CONFIG_FILE
    return read_section(read_json(path), path)


def num_sites_of(params: Params) -> int:
    """Sites of a pruner whose networks are stacked by site, else the layers; 0 without networks."""
    hidden = params.get("pruner", {}).get("hidden")
    return 0 if hidden is None else len(hidden["bias"])
