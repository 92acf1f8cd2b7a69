"""The small files next to a tokenizer: what they say, checked field by field."""

import json
import pathlib
from typing import Any, NamedTuple

from tokenizers import AddedToken

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.io.messages import excerpt

CONFIG_FILE, MAP_FILE, ADDED_FILE = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
MAX_SIZE = 1 << 28  # bytes of a file of a vocabulary; the largest public ones have a tenth
MAX_TOKEN = 256  # characters of an added or special token
SPECIAL_NAMES = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
SIDES = ("right", "left")
# Classes of tokenizers that are programs of their own: no file holds what they do.
PROGRAMS = frozenset(
    f"{name}Tokenizer"
    for name in (
        "BertJapanese",
        "Bertweet",
        "Bartpho",
        "BioGpt",
        "BlenderbotSmall",
        "ByT5",
        "Canine",
        "CTRL",
        "Esm",
        "Flaubert",
        "FSMT",
        "GPTNeoXJapanese",
        "Luke",
        "MLuke",
        "MyT5",
        "Perceiver",
        "Phobert",
        "ProphetNet",
        "RoCBert",
        "Tapas",
        "XLM",
    )
)
_FLAGS = (
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "add_prefix_space",
    "split_special_tokens",
)
_TOKEN_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")


class Settings(NamedTuple):
    """What the files say; a field that they leave out is missing in `fields`."""

    tokenizer_class: str  # without "Fast"; empty where no file names one
    fields: dict[str, Any]  # flags, sides, model_max_length and auto_map by name
    special: dict[str, str | None]  # by SPECIAL_NAMES
    numbered: dict[int, AddedToken]  # tokens that have a number
    extra: tuple[AddedToken, ...]  # further special tokens


def read_settings(folder: pathlib.Path) -> Settings:
    """Read the files of a folder as transformers does; none of them need be there.

    Returns:
      The settings. Where tokenizer_config.json has `added_tokens_decoder`, it is complete; else
      special_tokens_map.json goes before it, and added_tokens.json has the numbers.

    Raises:
      ValueError: a file is no JSON object, or a field has another type than it must have.
    """
    config, names = read_object(folder / CONFIG_FILE), read_object(folder / MAP_FILE)
    is_complete = "added_tokens_decoder" in config
    merged = names | config if is_complete else config | names
    special = {
        name: _special(merged[name], name, folder) for name in SPECIAL_NAMES if name in merged
    }
    extra = _extra(config, folder / CONFIG_FILE)
    known = {*special.values(), *(token.content for token in extra)}
    extra += _extra({} if is_complete else names, folder / MAP_FILE)
    numbered = (
        _decoder(config, folder / CONFIG_FILE)
        if is_complete
        else _added(folder / ADDED_FILE, known)
    )
    return Settings(
        _class(config, folder),
        _fields(config, folder / CONFIG_FILE),
        special,
        numbered,
        tuple(extra),
    )


def read_object(path: pathlib.Path) -> dict:
    """Read a JSON object; empty where there is no file.

    Raises:
      ValueError: it is no JSON, no object, or larger than any such file.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {excerpt(str(error))}") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds {type(content).__name__}; expected a JSON object of named fields"
        )
    return content


def read_text(path: pathlib.Path) -> str:
    """Read a text file of UTF-8, without a byte order mark.

    Raises:
      ValueError: it is no file, no UTF-8, or larger than MAX_SIZE.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    if (size := path.stat().st_size) > MAX_SIZE:
        raise ValueError(f"{path} has {size} bytes; expected at most {MAX_SIZE}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {excerpt(str(error))}") from error


def _class(config: dict, folder: pathlib.Path) -> str:
    """The class that tokenizer_config.json or config.json names; refuse one that is a program of its own."""
    source, name = folder / CONFIG_FILE, config.get("tokenizer_class")
    if name is None:
        source = folder / "config.json"
        name = read_object(source).get("tokenizer_class") if source.exists() else None
    if name is None:
        return ""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{source}: tokenizer_class is {name!r:.60}; expected the name of a class")
    name = name.removesuffix("Fast")
    if name in PROGRAMS:
        raise ValueError(
            f"{source}: tokenizer_class is {name!r}, which splits text by a program of its own; only tokenizers that "
            "a tokenizer.json or a WordPiece vocabulary describes are read: use another checkpoint"
        )
    return name


def _fields(config: dict, path: pathlib.Path) -> dict[str, Any]:
    """The flags, sides and length that are given; null counts as given for strip_accents alone."""
    fields = {name: config[name] for name in _FLAGS if config.get(name) is not None}
    if wrong := [name for name, value in fields.items() if not isinstance(value, bool)]:
        raise ValueError(f"{path}: {wrong[0]} is {fields[wrong[0]]!r:.60}; expected true or false")
    if config.get("auto_map") is not None:
        fields["auto_map"] = config["auto_map"]
    if "strip_accents" in config:
        fields["strip_accents"] = config["strip_accents"]
    for name in ("truncation_side", "padding_side"):
        if config.get(name) is not None:
            fields[name] = config[name]
            if fields[name] not in SIDES:
                raise ValueError(
                    f"{path}: {name} is {fields[name]!r:.60}; expected 'right' or 'left'"
                )
    length = config.get("model_max_length", config.get("max_len"))
    if length is not None:
        if (
            not isinstance(length, int | float)
            or isinstance(length, bool)
            or not length >= 1
            or length % 1
        ):
            raise ValueError(
                f"{path}: model_max_length is {length!r:.60}; expected a whole number of at least 1"
            )
        fields["model_max_length"] = length
    return fields


def _special(value, name: str, folder: pathlib.Path) -> str | None:
    """A special token, which older files write as an object; None where it is null."""
    if isinstance(value, dict):
        value = value.get("content", False)
    if value is not None and not _is_word(value):
        raise ValueError(
            f"{folder / CONFIG_FILE} or {MAP_FILE}: {name} is {value!r:.60}; expected a token, as in '[CLS]'"
        )
    return value


def _is_word(value) -> bool:
    """Whether a value can be a token: a text that is neither empty, nor endless, nor holds half a character."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_TOKEN
        and replace_lone_surrogates(value) == value
    )


def _extra(config: dict, path: pathlib.Path) -> list[AddedToken]:
    """Further special tokens, a list or an object of named ones. Objects in a list have the flags of added tokens."""
    name = (
        "extra_special_tokens"
        if config.get("extra_special_tokens")
        else "additional_special_tokens"
    )
    values = config.get(name) or []
    is_named = isinstance(values, dict)
    values = list(values.values()) if is_named else values
    if not isinstance(values, list):
        raise ValueError(f"{path}: {name} is {values!r:.60}; expected a list of tokens")
    return [
        _token(value, name, path, special=is_named or not isinstance(value, dict))
        for value in values
    ]


def _token(value, name: str, path: pathlib.Path, *, special: bool) -> AddedToken:
    """One token, a text or an object with its flags."""
    flags = {}
    if isinstance(value, dict):
        flags = {flag: value[flag] for flag in _TOKEN_FLAGS if flag in value}
        value = value.get("content")
    flags["special"] = special or flags.get("special", False)
    flags.setdefault("normalized", not flags["special"])
    if not _is_word(value) or not all(isinstance(flag, bool) for flag in flags.values()):
        raise ValueError(
            f"{path}: {name} holds {value!r:.60}; expected a token with flags that are true or false"
        )
    return AddedToken(value, **flags)


def _decoder(config: dict, path: pathlib.Path) -> dict[int, AddedToken]:
    """The tokens of added_tokens_decoder by their number."""
    values = {} if config["added_tokens_decoder"] is None else config["added_tokens_decoder"]
    if not isinstance(values, dict):
        raise ValueError(
            f"{path}: added_tokens_decoder is {values!r:.60}; expected an object of tokens by number"
        )
    found = {}
    for number, value in values.items():
        if not isinstance(value, dict):
            raise ValueError(
                f"{path}: added_tokens_decoder has {value!r:.60}; expected objects with 'content'"
            )
        token = _token(value, "added_tokens_decoder", path, special=False)
        found[_number(number, "added_tokens_decoder", path)] = token
    return dict(sorted(found.items()))


def _added(path: pathlib.Path, special: set) -> dict[int, AddedToken]:
    """The tokens of added_tokens.json by their number; special: those that other files name as special."""
    found = {}
    for content, number in read_object(path).items():
        token = _token(content, ADDED_FILE, path, special=content in special)
        found[_number(number, ADDED_FILE, path)] = token
    return dict(sorted(found.items()))


def _number(value, name: str, path: pathlib.Path) -> int:
    """The number of a token."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value, is_number = int(value), True
    if not is_number or not 0 <= value < 1 << 31:
        raise ValueError(
            f"{path}: {name} has the number {value!r:.60}; expected a number of at least 0"
        )
    return value
