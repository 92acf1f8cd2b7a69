"""Convert config.json of a BERT checkpoint to EncoderConfig and back.

Everything that this encoder does not compute is rejected by name.
"""

import json
from pathlib import Path
from typing import Any

from adapler_jax.encoders import ENCODERS, bert_config
from adapler_jax.heads.embedding import CLS, POOLINGS
from adapler_jax.io.messages import bounded_errors, listed, shown
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.checkpoint_formats import (
    BERT_FAMILY,
    MODEL_TYPES,
    OWN_FILE,
    WEIGHTS_FILE,
    as_bert_config,
    distilbert_config,
    saves_as_distilbert,
)
from adapler_jax.weights.labels import UNNAMED, is_name, numbers_of

CONFIG_FILE = "config.json"
MODEL_FILES = (CONFIG_FILE, WEIGHTS_FILE, OWN_FILE)  # that decide what a model answers
FULL_FOLDER = "full"  # of a model's directory: the full model that its certificate needs
CALIBRATION_FILE = "calibration.json"  # of budgets, by `inference.calibration`
EXPORT_FOLDERS = ("onnx", "openvino")  # of a model's directory, by `export.onnx`
EXPORTS_FILE = "exports.json"  # numbers of the files in EXPORT_FOLDERS
SCORES_FILE = "scores.json"  # of an evaluation, by `evaluation.score_card`
# Entries of a model's directory that belong to its weights.
DERIVED_NAMES = (CALIBRATION_FILE, FULL_FOLDER, *EXPORT_FOLDERS, EXPORTS_FILE, SCORES_FILE)
OUR_SECTION = "adapler_jax"  # the part of config.json that `section` reads
MAX_LENGTH = 1 << 16  # token slots and positions at most
MAX_BYTES = 1 << 26  # of a JSON file
MAX_DEPTH = 32  # of lists and objects in it
POOLING_KEY, POOLER_KEY = "classifier_pooling", "pooler_activation"
POOLERS = ("tanh", "relu")  # of pooler_activation, ours, which transformers reads past
# Families besides BERT's whose published files this library reads; a family's name is model_type.
PUBLISHED = tuple(name for name, encoder in ENCODERS.items() if encoder.config_format is not None)
POOLED = tuple(
    name
    for name, encoder in ENCODERS.items()
    if encoder.config_format is not None and encoder.config_format.names_pooling
)
PADDING = {"pad_token_id": 0}  # of a model without a tokenizer
SUPPORTED_VALUES = {"model_type": "bert"} | bert_config.SUPPORTED_VALUES


@bounded_errors()
def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
      ValueError: naming the file, which is missing or not a JSON object.
    """
    try:
        check_file(path)
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        inside = [
            file
            for part in ("model", "*/model")
            for file in sorted(path.parent.glob(f"{part}/{path.name}"))
        ]
        hint = f"; there are {', '.join(str(file.parent) for file in inside)}" if inside else ""
        raise ValueError(f"{path} does not exist; a model directory needs it{hint}") from error
    except RecursionError as error:
        raise ValueError(
            f"{path} is nested too deeply; expected at most {MAX_DEPTH} levels"
        ) from error
    except ValueError as error:  # bad JSON and bad UTF-8
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    if is_deep(value):
        raise ValueError(f"{path} is nested too deeply; expected at most {MAX_DEPTH} levels")
    return value


def check_file(path: Path) -> None:
    """Check that a path is a file of at most MAX_BYTES.

    Raises:
      ValueError: it is not a file, or larger.
      OSError: it does not exist.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError("it is no file")
    if size > MAX_BYTES:
        raise ValueError(f"it has {size} bytes; expected at most {MAX_BYTES}")


def is_deep(value) -> bool:
    """Return whether lists and objects are nested in more than MAX_DEPTH levels."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [item for item in level if isinstance(item, dict | list)]
        level = [
            child for item in inner for child in (item.values() if isinstance(item, dict) else item)
        ]
    return bool(level)


def find_problems(raw: dict[str, Any]) -> list[str]:
    """Return everything in config.json that BERT cannot compute."""
    problems = bert_config.find_problems(raw, SUPPORTED_VALUES)
    pooler = raw.get(POOLER_KEY, POOLERS[0])
    if pooler not in POOLERS:
        problems.append(f"{POOLER_KEY} is {shown(pooler)}, expected one of {', '.join(POOLERS)}")
    return problems + quantization_problems(raw)


def quantization_problems(raw: dict[str, Any]) -> list[str]:
    """Return a line on quantised weights in config.json, empty without them."""
    method = raw.get("quantization_config")
    if method is None:
        return []
    method = method.get("quant_method") if isinstance(method, dict) else method
    return [f"quantization_config is there ({shown(method)}): save the model without quantisation"]


def pooling_of_config(raw: dict[str, Any], source) -> str:
    """Return the state that a published classifier reads: of [CLS], or the mean of all tokens'.

    Raises:
      ValueError: it reads another one.
    """
    pooling = raw.get(POOLING_KEY, CLS) if raw.get("model_type") in POOLED else CLS
    if pooling not in POOLINGS:
        raise ValueError(
            f"{source}: {POOLING_KEY} is {shown(pooling)}; expected {' or '.join(POOLINGS)}"
        )
    return pooling


def family_of(raw: dict[str, Any], source) -> str:
    """Return the family of encoders that our part of a config.json names.

    Without that name it is the published family of the model type, or BERT's.

    Raises:
      ValueError: there is no such family.
    """
    section, model_type = raw.get(OUR_SECTION), raw.get("model_type")
    is_published = isinstance(model_type, str) and model_type in PUBLISHED
    default = model_type if is_published else BERT_FAMILY
    family = section.get("family", default) if isinstance(section, dict) else default
    if not isinstance(family, str) or family not in ENCODERS:
        raise ValueError(
            f"{source}: unknown encoder family {shown(family)}; expected one of {listed(ENCODERS)}"
        )
    return family


def encoder_config(raw: dict[str, Any], source) -> EncoderConfig:
    """Return the EncoderConfig of the contents of a config.json.

    Raises:
      ValueError: with all problems.
    """
    family = family_of(raw, source)
    config_format = ENCODERS[family].config_format
    if config_format is not None:
        problems = config_format.find_problems(raw) + quantization_problems(raw)
        if problems:
            found = listed(problems, limit=700, separator="; ")
            raise ValueError(f"{source} does not describe an encoder of family {family}: {found}")
        return config_format.read(raw)
    if family != BERT_FAMILY:  # `config_json` writes the keys of a BERT for every family
        raw = raw | {"model_type": "bert"}
    model_type = raw.get("model_type", "bert")
    if (
        model_type not in MODEL_TYPES
    ):  # alone: the other keys of a different architecture mean nothing here
        raise ValueError(
            f"{source}: model_type is {shown(model_type)}, expected one of "
            f"{', '.join((*MODEL_TYPES, *PUBLISHED))}"
        )
    raw = as_bert_config(raw, source)
    problems = find_problems(raw)
    if problems:
        found = listed(problems, limit=700, separator="; ")
        raise ValueError(f"{source} does not describe a BERT encoder that can be loaded: {found}")
    return EncoderConfig(
        pooler_activation=raw.get(POOLER_KEY, POOLERS[0]),
        family=family,
        **bert_config.read_fields(raw),
    )


def read_config(directory) -> tuple[EncoderConfig, dict[str, Any]]:
    """Return EncoderConfig and the contents of `directory`/config.json.

    Raises:
      ValueError: with all problems.
    """
    path = Path(directory) / "config.json"
    raw = read_json(path)
    return encoder_config(raw, path), raw


def read_class_names(
    raw: dict[str, Any], source, *, notes: list[str] | None = None, takes_numbers: bool = False
) -> tuple[str, ...] | None:
    """Return the names of the classes in the order of the logits, or None without names.

    Args:
      raw: the contents of config.json.
      source: its path, for messages.
      notes: receives a sentence where id2label and label2id contradict each other.
      takes_numbers: accept integers as names, as published files have them.

    Raises:
      ValueError: a name is not a text, repeats, or its number leaves a gap.
    """
    labels, numbers = raw.get("id2label"), numbers_by_name(raw.get("label2id"))
    if takes_numbers and isinstance(labels, dict):
        labels = {key: str(name) if type(name) is int else name for key, name in labels.items()}
    names = None if labels is None else names_in_order(labels, source)
    if numbers is None or names == tuple(numbers):
        return names
    if names is None or (numbers_of(UNNAMED, names) and len(names) == len(numbers)):
        return tuple(numbers)
    if notes is not None:
        notes.append(
            "id2label and label2id of config.json contradict each other: in the order of their "
            "numbers "
            f"{listed(names)} against {listed(numbers)}; id2label is followed"
        )
    return names


def names_in_order(labels, source) -> tuple[str, ...]:
    """Return the names of id2label in the order of their numbers.

    Raises:
      ValueError: it is not an object of names.
    """
    if not isinstance(labels, dict) or labels.keys() != {
        str(index) for index in range(len(labels))
    }:
        raise ValueError(
            f"{source}: id2label is {shown(labels)}, "
            'expected names under "0", "1", ... without a gap'
        )
    names = tuple(labels[str(index)] for index in range(len(labels)))
    for index, name in enumerate(names):
        if not is_name(name):
            raise ValueError(
                f"{source}: id2label names class {index} {shown(name)}; expected a text"
            )
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"{source}: id2label has the name {shown(twice)} twice; expected another name for "
            "each class"
        )
    return names


def numbers_by_name(numbers) -> dict[str, int] | None:
    """Return label2id by its numbers, or its texts of numbers; None unless each has one name."""
    if not isinstance(numbers, dict):
        return None
    by_text = {str(number): number for number in range(len(numbers))}
    numbers = {name: by_text.get(str(number), number) for name, number in numbers.items()}
    if not all(type(number) is int for number in numbers.values()):
        return None
    if not all(map(is_name, numbers)) or set(numbers.values()) != set(range(len(numbers))):
        return None
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def config_json(
    config: EncoderConfig,
    architecture: str,
    class_names: tuple[str, ...] | None,
    *,
    special: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Return the contents of a config.json that transformers reads as this encoder with a head.

    For a family that is not BERT's, our part has its name. No class of transformers is named for a
    family without published files.

    Args:
      config: of the encoder.
      architecture: the class of transformers.
      class_names: None where the head has no classes.
      special: numbers of special tokens, as {"pad_token_id": 0}.
    """
    own = {"dtype": "float32"} | (special or {})
    own |= {} if class_names is None else label_names(class_names)
    config_format = ENCODERS[config.family].config_format
    if config_format is not None:
        # Classes of transformers have start and end tokens of their own where a file names none.
        ends = {"bos_token_id": "cls_token_id", "eos_token_id": "sep_token_id"}
        own = {name: own[other] for name, other in ends.items() if other in own} | own
        written = PADDING | config_format.write(config) | {"architectures": [architecture]} | own
        return written | {OUR_SECTION: {"family": config.family}}
    activation = {POOLER_KEY: config.pooler_activation}
    contents = {
        "model_type": "bert",
        "architectures": [architecture],
        **bert_config.write_fields(config),
        "position_embedding_type": "absolute",
        **PADDING,
        **own,
        **({} if config.pooler_activation == "tanh" else activation),
    }
    if config.family != BERT_FAMILY:
        left_out = ("architectures", "position_embedding_type")
        found = {key: value for key, value in contents.items() if key not in left_out}
        return found | {"model_type": config.family, OUR_SECTION: {"family": config.family}}
    return distilbert_config(contents) if saves_as_distilbert(config) else contents


def label_names(class_names: tuple[str, ...]) -> dict[str, Any]:
    """Return the entries of a config.json that name classes."""
    return {
        "id2label": {str(index): name for index, name in enumerate(class_names)},
        "label2id": {name: index for index, name in enumerate(class_names)},
    }
