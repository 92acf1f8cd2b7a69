"""Save and load model directories: config.json, model.safetensors, tokenizer, card.

Tensors have Hugging Face names, so that other programs can read them.

A full disk or a kill during a save leaves the previous model intact.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.numpy

from adapler_jax.encoders import encoder_of
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.io.atomic_directories import (
    atomic_directory,
    copy_entries,
    have_equal_files,
    recover,
    restore_previous,
)
from adapler_jax.io.messages import bounded_errors, shown
from adapler_jax.pruning import make_pruner, pruner_of_file
from adapler_jax.pruning.shares import check_shares
from adapler_jax.types import EncoderConfig, Params
from adapler_jax.weights.card import CARD_FILE, card_text, is_own_card, with_kept_parts, write_card
from adapler_jax.weights.checkpoint_formats import (
    OWN_FILE,
    OWN_TABLES,
    WEIGHTS_FILE,
    distilbert_tensors,
    saves_as_distilbert,
)
from adapler_jax.weights.config import (
    CONFIG_FILE,
    DERIVED_NAMES,
    MAX_LENGTH,
    config_json,
    encoder_config,
    read_class_names,
    read_json,
)
from adapler_jax.weights.files import named_tensors, read_safetensors
from adapler_jax.weights.hub import TOKENIZER_FILES
from adapler_jax.weights.labels import is_name
from adapler_jax.weights.rules import (
    architecture_of,
    axis_sizes,
    check_own_outputs,
    model_rules,
    own_outputs_of,
)
from adapler_jax.weights.saved_tokenizer import (
    settle_tokenizer,
    tokenizer_is_copy,
    write_tokenizer,
)
from adapler_jax.weights.score_heads import has_one_output, score_entries
from adapler_jax.weights.section import (
    SECTION,
    check_new_section,
    head_of,
    is_count,
    make_section,
    options_of,
    read_section,
)
from adapler_jax.weights.sentence_modules import write_modules
from adapler_jax.weights.shapes import model_sizes, shapes_of_leaves, shapes_of_tensors
from adapler_jax.weights.torch_model import MODELING_FILE, add_program
from adapler_jax.weights.tree import check_layer_counts, check_tensors, to_tensors, to_tree

DEFAULT_MAX_LENGTH = 512  # token slots of a model that names none; at most its positions


@dataclasses.dataclass(frozen=True)
class Saved:
    """The content of a model directory."""

    config: EncoderConfig
    params: Params  # {"encoder", "head", "pruner"}, float32
    pruner_name: str
    pruner_options: dict[str, Any]  # keywords of `make_pruner`
    head: Head
    class_names: tuple[str, ...]  # in the order of the logits; empty without classes
    max_length: int | None  # token slots that the model was trained with
    task: str | None
    extra: dict[str, Any]  # JSON values of the writer
    directory: Path  # its path, with the tokenizer


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
    """Write a model directory in one step: after a failure it has the previous model.

    It keeps other files, a README.md that a user changed, and the derived files of equal weights.

    Args:
      directory: to write; new, empty, or with a saved model.
      params: {"encoder", "head", "pruner"}.
      config: of the encoder.
      pruner_name: of the pruner.
      pruner_options: keywords of `make_pruner`: numbers, texts and tuples of them.
      head: of the model.
      class_names: in the order of the logits; None for LABEL_0, LABEL_1 ...
      max_length: token slots that the model was trained with.
      task: its name.
      tokenizer: an object with `save_pretrained`, or a directory to copy its files from; None keeps
        the present files.
      extra: JSON values, which `load_model` returns.

    Returns:
      The resolved directory.

    Raises:
      ValueError: params do not fit the config, or the directory holds something else.
      OSError: the disk is full or cannot be written.
    """
    directory = Path(directory).expanduser().resolve()
    check_max_length(max_length)
    num_outputs = num_outputs_of(params)
    names = check_class_names(class_names, num_outputs) if head.has_classes else None
    section = make_section(
        pruner_name, pruner_options, head, max_length=max_length, task=task, extra=extra
    )
    options = check_new_section(section, config.num_layers, directory / CONFIG_FILE)
    tensors = tensors_of(params, config, pruner_name, options, head)
    parts = _Parts(config, head, names, max_length, tokenizer)
    try:
        restore_previous(directory)
        check_target(directory)
        with atomic_directory(directory) as partial:
            write_tensors(tensors, partial)
            _write_parts(directory, partial, section, parts)
    except (OSError, safetensors.SafetensorError) as error:
        raise OSError(
            f"the model was not saved in {directory}; its previous content is intact: {error}"
        ) from error
    return directory


class _Parts(NamedTuple):
    """The description of a model that is written next to its tensors."""

    config: EncoderConfig
    head: Head
    class_names: tuple[str, ...] | None
    max_length: int | None
    tokenizer: Any


def _write_parts(directory: Path, partial: Path, section: dict[str, Any], parts: _Parts) -> None:
    """Write tokenizer, card and config.json, and copy other files of the previous directory."""
    config, tokenizer = parts.config, parts.tokenizer
    write_tokenizer(partial, tokenizer)
    copy_others(directory, partial, has_tokenizer=tokenizer is not None)
    slots = parts.max_length or min(config.num_positions, DEFAULT_MAX_LENGTH)
    special = settle_tokenizer(
        partial,
        max_length=slots,
        has_segments=config.num_segments > 1,
        is_copy=tokenizer_is_copy(tokenizer),
    )
    architecture = architecture_of(config, parts.head)
    contents = config_json(config, architecture, parts.class_names, special=special)
    write_modules(partial, parts.head, config, max_length=slots, extra=section["extra"])
    contents |= score_entries(parts.head, config) | add_program(partial, contents, section)
    text = card_text(contents, section, slots)
    card = write_card(partial, with_kept_parts(text, directory, partial, section))
    written = section | contents.get(SECTION, {}) | card
    write_config(partial, contents | {SECTION: written})


def tensors_of(
    params: Params, config: EncoderConfig, pruner_name: str, options: dict[str, Any], head: Head
) -> dict:
    """Return the tensors of a model directory by name.

    Raises:
      ValueError: params do not fit the config.
    """
    check_own_outputs(head, num_outputs_of(params), "params")
    rules = model_rules(pruner_name, head, encoder=encoder_of(config))
    sizes = model_sizes(
        config,
        rules,
        shapes_of_leaves(params, rules),
        num_classes=num_outputs_of(params),
        get_pruner=lambda: make_pruner(pruner_name, config, **options),
    )
    tensors = to_tensors(params, rules, sizes)
    config_format = encoder_of(config).config_format
    if config_format is not None:
        return config_format.to_published(tensors, head.name)
    return distilbert_tensors(tensors) if saves_as_distilbert(config) else tensors


def copy_others(directory: Path, partial: Path, *, has_tokenizer: bool) -> None:
    """Copy the files of the previous directory that this save does not write.

    A calibration is copied where the weights are equal.
    """
    written = {path.name for path in partial.iterdir()} | {CONFIG_FILE, OWN_FILE, MODELING_FILE}
    if not have_equal_files(directory, partial, (WEIGHTS_FILE, OWN_FILE)):
        written |= set(DERIVED_NAMES)
    if has_tokenizer:
        written |= set(TOKENIZER_FILES)
    if (directory / CARD_FILE).is_file():
        section = read_json(directory / CONFIG_FILE).get(SECTION)
        written |= {CARD_FILE} if is_own_card(directory, section) else set()
    copy_entries(directory, partial, skip=written)


def write_config(partial: Path, contents: dict[str, Any]) -> None:
    """Write config.json, and give the weights its permissions."""
    text = json.dumps(contents, indent=2, ensure_ascii=False) + "\n"
    (partial / CONFIG_FILE).write_text(text, encoding="utf-8")
    for path in partial.glob("*.safetensors"):
        shutil.copymode(partial / CONFIG_FILE, path)  # safetensors lets only the owner read


def write_tensors(tensors: dict, partial: Path) -> None:
    """Write the weights, and into another file the tables that only this library reads."""
    own = {name: tensors[name] for name in OWN_TABLES if name in tensors}
    rest = {name: value for name, value in tensors.items() if name not in own}
    safetensors.numpy.save_file(rest, partial / WEIGHTS_FILE, metadata={"format": "pt"})
    if own:
        safetensors.numpy.save_file(own, partial / OWN_FILE)


def num_outputs_of(params: Params) -> int:
    """Return the outputs of the linear over the pooled states; 0 for a head without it."""
    last = params["head"].get("classifier", params["head"].get("dense"))
    return 0 if last is None else last["bias"].shape[-1]


def check_class_names(class_names, num_classes: int) -> tuple[str, ...]:
    """Return the names as a tuple; for None LABEL_0, LABEL_1 ...

    Raises:
      ValueError: the names do not fit the classifier.
    """
    if class_names is None:
        return tuple(f"LABEL_{index}" for index in range(num_classes))
    names = tuple(class_names)
    if len(names) != num_classes or len(set(names)) != num_classes:
        raise ValueError(
            f"class_names {names} do not fit a classifier of {num_classes} classes; "
            "give each one a name"
        )
    if not all(map(is_name, names)):
        raise ValueError(
            f"class_names {shown(names)} are not all texts that can be written; give such names"
        )
    return names


def check_max_length(max_length) -> None:
    """Raise ValueError unless a length is None or a number of token slots."""
    if not is_count(max_length, MAX_LENGTH, optional=True):
        raise ValueError(
            f"max_length is {shown(max_length)}; "
            f"expected None or a whole number from 1 to {MAX_LENGTH}"
        )


def check_target(directory: Path) -> None:
    """Raise ValueError if a save would replace other content than a saved model."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    config_path = directory / CONFIG_FILE
    if not config_path.is_file() or SECTION not in read_json(config_path):
        raise ValueError(
            f"{directory} holds something else than a saved model; "
            "choose an empty or a new directory"
        )


@bounded_errors()
def load_model(directory) -> Saved:
    """Load a model that `save_model` wrote, with exactly its values.

    If a kill interrupted the swap of a save, the previous model is loaded.

    Raises:
      ValueError: the directory is incomplete, damaged or something else.
    """
    directory = recover(Path(directory).expanduser().resolve())
    config_path, weights_path = directory / CONFIG_FILE, directory / WEIGHTS_FILE
    raw = read_json(config_path)
    section = read_section(raw, config_path)
    config, class_names = encoder_config(raw, config_path), read_class_names(raw, config_path)
    if (section["max_length"] or 0) > config.num_positions:
        raise ValueError(
            f"{config_path}: max_length is {section['max_length']}, "
            f"the model has {config.num_positions} positions"
        )
    options = options_of(section, config.num_layers, config_path)
    head = head_of(section)
    rules = model_rules(section["pruner"], head, encoder=encoder_of(config))
    if not weights_path.is_file():
        raise ValueError(f"{weights_path} does not exist; the model directory is incomplete")
    tensors = named_tensors(read_safetensors(weights_path), config, raw, weights_path)
    class_names = class_names or () if head.has_classes else ()
    num_classes = len(class_names) if head.has_classes else own_outputs_of(head) or 1
    check_own_outputs(head, num_classes, f"{config_path}: id2label")
    # Before the pruner makes a site for each layer.
    check_layer_counts(tensors, rules, axis_sizes(config, num_classes=0), source=weights_path)
    sizes = model_sizes(
        config,
        rules,
        shapes_of_tensors(tensors, rules),
        num_classes=num_classes,
        get_pruner=lambda: pruner_of_file(section["pruner"], config, options, config_path),
    )
    check_tensors(tensors, rules, sizes, weights_path)
    params = {"pruner": {}, "head": {}} | to_tree(tensors, rules, sizes, source=weights_path)
    check_shares(params["pruner"], weights_path)
    return Saved(
        config=config,
        params=params,
        pruner_name=section["pruner"],
        pruner_options=options,
        head=head,
        class_names=class_names,
        max_length=section["max_length"],
        task=section["task"],
        extra=section["extra"],
        directory=directory,
    )


def class_names_of(directory) -> tuple[str, ...] | None:
    """Return the names of a saved model's classes in the order of the logits, or None.

    Raises:
      ValueError: config.json is damaged.
    """
    path = recover(Path(directory).expanduser().resolve()) / CONFIG_FILE
    raw = read_json(path)
    return None if has_one_output(raw) else read_class_names(raw, path)


def extra_if_ours(directory) -> dict[str, Any]:
    """Return the JSON values of a saved model's writer; empty for another program's folder.

    Raises:
      ValueError: our part of its config.json is damaged.
    """
    path = recover(Path(directory).expanduser().resolve()) / CONFIG_FILE
    raw = read_json(path) if path.is_file() else {}
    return read_section(raw, path)["extra"] if SECTION in raw else {}
