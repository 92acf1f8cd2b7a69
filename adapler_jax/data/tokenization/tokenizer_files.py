"""Read the small files next to a tokenizer, with every field checked."""

import json
import pathlib
from typing import Any, NamedTuple

from tokenizers import AddedToken

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.io.messages import excerpt, shown

CONFIG_FILE = "tokenizer_config.json"
MAP_FILE = "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
MAX_SIZE = 1 << 28  # bytes of a vocabulary file; the largest public ones have a tenth
MAX_TOKEN = 256  # characters of an added or special token
SPECIAL_NAMES = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
SIDES = ("right", "left")
_MAX_ID = 1 << 31
# Slow tokenizer classes whose behaviour no file describes.
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
    """The settings in the files.

    Attributes:
      tokenizer_class: without "Fast"; empty if no file names a class.
      fields: flags, sides, model_max_length and auto_map by name; absent fields are missing.
      special: special tokens by name, of SPECIAL_NAMES.
      numbered: tokens with a given id.
      extra: further special tokens.
    """

    tokenizer_class: str
    fields: dict[str, Any]
    special: dict[str, str | None]
    numbered: dict[int, AddedToken]
    extra: tuple[AddedToken, ...]


def read_settings(folder: pathlib.Path) -> Settings:
    """Read the files of a folder as transformers does; every file is optional.

    A tokenizer_config.json with `added_tokens_decoder` is complete. Otherwise
    special_tokens_map.json takes precedence, and added_tokens.json has the ids.

    Raises:
      ValueError: a file is not a JSON object, or a field has the wrong type.
    """
    config_path, map_path = folder / CONFIG_FILE, folder / MAP_FILE
    config, names = read_object(config_path), read_object(map_path)
    is_complete = "added_tokens_decoder" in config
    merged = names | config if is_complete else config | names
    special = {
        name: _special_token(merged[name], name, folder) for name in SPECIAL_NAMES if name in merged
    }
    extra = _extra_tokens(config, config_path)
    if is_complete:
        numbered = _decoder_tokens(config, config_path)
    else:
        known = {*special.values(), *(token.content for token in extra)}
        extra += _extra_tokens(names, map_path)
        numbered = _added_tokens(folder / ADDED_FILE, known)
    return Settings(
        tokenizer_class=_tokenizer_class(config, folder),
        fields=_fields(config, config_path),
        special=special,
        numbered=numbered,
        extra=tuple(extra),
    )


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """Read a JSON object; empty if there is no file.

    Raises:
      ValueError: the file is not JSON, not an object, or too large.
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
    """Read a UTF-8 text file without its byte order mark.

    Raises:
      ValueError: the path is not a file, not UTF-8, or larger than MAX_SIZE.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    if (size := path.stat().st_size) > MAX_SIZE:
        raise ValueError(f"{path} has {size} bytes; expected at most {MAX_SIZE}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {excerpt(str(error))}") from error


def _tokenizer_class(config: dict, folder: pathlib.Path) -> str:
    """Return the class that a file names; raise ValueError if no file describes its behaviour."""
    source, name = folder / CONFIG_FILE, config.get("tokenizer_class")
    if name is None:
        source = folder / "config.json"
        name = read_object(source).get("tokenizer_class")
    if name is None:
        return ""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(
            f"{source}: tokenizer_class is {shown(name)}; expected the name of a class"
        )
    name = name.removesuffix("Fast")
    if name in PROGRAMS:
        raise ValueError(
            f"{source}: tokenizer_class is {name!r}, which splits text by a program of its own; "
            "only tokenizers that a tokenizer.json or a WordPiece vocabulary describes are read: "
            "use another checkpoint"
        )
    return name


def _fields(config: dict, path: pathlib.Path) -> dict[str, Any]:
    """Return the given flags, sides and length; null counts as given only for strip_accents."""
    fields = {name: config[name] for name in _FLAGS if config.get(name) is not None}
    for name, value in fields.items():
        if not isinstance(value, bool):
            raise ValueError(f"{path}: {name} is {shown(value)}; expected true or false")
    if config.get("auto_map") is not None:
        fields["auto_map"] = config["auto_map"]
    if "strip_accents" in config:
        fields["strip_accents"] = config["strip_accents"]
    for name in ("truncation_side", "padding_side"):
        side = config.get(name)
        if side is None:
            continue
        if side not in SIDES:
            raise ValueError(f"{path}: {name} is {shown(side)}; expected 'right' or 'left'")
        fields[name] = side
    length = config.get("model_max_length", config.get("max_len"))
    if length is not None:
        fields["model_max_length"] = _check_length(length, path)
    return fields


def _check_length(length: Any, path: pathlib.Path) -> int | float:
    """Return a length; raise ValueError if it is not a whole number of at least 1."""
    is_number = isinstance(length, int | float) and not isinstance(length, bool)
    if not is_number or not length >= 1 or length % 1:
        raise ValueError(
            f"{path}: model_max_length is {shown(length)}; expected a whole number of at least 1"
        )
    return length


def _special_token(value: Any, name: str, folder: pathlib.Path) -> str | None:
    """Return a special token, which older files write as an object; None for null."""
    if isinstance(value, dict):
        value = value.get("content", False)
    if value is not None and not _is_token(value):
        raise ValueError(
            f"{folder / CONFIG_FILE} or {MAP_FILE}: {name} is {shown(value)}; expected a token, "
            "as in '[CLS]'"
        )
    return value


def _is_token(value: Any) -> bool:
    """Return whether a value can be a token: a short text without lone surrogates."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TOKEN:
        return False
    return replace_lone_surrogates(value) == value


def _extra_tokens(config: dict, path: pathlib.Path) -> list[AddedToken]:
    """Return further special tokens, from a list or an object of named tokens.

    Objects in a list have the flags of added tokens.
    """
    name = "extra_special_tokens"
    if not config.get(name):
        name = "additional_special_tokens"
    values: Any = config.get(name) or []
    is_named = isinstance(values, dict)
    if is_named:
        values = list(values.values())
    if not isinstance(values, list):
        raise ValueError(f"{path}: {name} is {shown(values)}; expected a list of tokens")
    return [
        _token(value, name, path, special=is_named or not isinstance(value, dict))
        for value in values
    ]


def _token(value: Any, name: str, path: pathlib.Path, *, special: bool) -> AddedToken:
    """Return a token from a text, or from an object with its flags."""
    flags: dict[str, Any] = {}
    if isinstance(value, dict):
        flags = {flag: value[flag] for flag in _TOKEN_FLAGS if flag in value}
        value = value.get("content")
    flags["special"] = special or flags.get("special", False)
    flags.setdefault("normalized", not flags["special"])
    if not _is_token(value) or not all(isinstance(flag, bool) for flag in flags.values()):
        raise ValueError(
            f"{path}: {name} holds {shown(value)}; expected a token with flags that are true or "
            "false"
        )
    return AddedToken(value, **flags)


def _decoder_tokens(config: dict, path: pathlib.Path) -> dict[int, AddedToken]:
    """Return the tokens of added_tokens_decoder by id."""
    name = "added_tokens_decoder"
    values = {} if config[name] is None else config[name]
    if not isinstance(values, dict):
        raise ValueError(f"{path}: {name} is {shown(values)}; expected an object of tokens by id")
    found = {}
    for number, value in values.items():
        if not isinstance(value, dict):
            raise ValueError(f"{path}: {name} has {shown(value)}; expected objects with 'content'")
        token = _token(value, name, path, special=False)
        found[_token_id(number, name, path)] = token
    return dict(sorted(found.items()))


def _added_tokens(path: pathlib.Path, special: set[str | None]) -> dict[int, AddedToken]:
    """Return the tokens of added_tokens.json by id; other files name the special ones."""
    found = {}
    for content, number in read_object(path).items():
        token = _token(content, ADDED_FILE, path, special=content in special)
        found[_token_id(number, ADDED_FILE, path)] = token
    return dict(sorted(found.items()))


def _token_id(value: Any, name: str, path: pathlib.Path) -> int:
    """Return the id of a token, which may be written as text."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value, is_number = int(value), True
    if not is_number or not 0 <= value < _MAX_ID:
        raise ValueError(
            f"{path}: {name} has the id {shown(value)}; expected a whole number of at least 0"
        )
    return value
