"""Apply the settings of a folder's small files to the tokenizer of its tokenizer.json."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer

from adapler_jax.data.tokenization.tokenizer_files import CONFIG_FILE, Settings
from adapler_jax.data.tokenization.vocabularies import (
    BERT_CLASSES,
    GENERIC_CLASSES,
    OPTIONS,
    ROBERTA_CLASSES,
    rewrite,
)
from adapler_jax.io.messages import shown

_PIECE_CLASSES = frozenset({"CamembertTokenizer", "XLMRobertaTokenizer"})
# Defaults of BERT's class in transformers 5, which a silent tokenizer_config.json leaves open.
_BERT_DEFAULTS: Mapping[str, bool | None] = {"lowercase": True, "strip_accents": None}


def apply_settings(
    core: Tokenizer, settings: Settings, folder: pathlib.Path
) -> tuple[Tokenizer, list[str]]:
    """Apply the fields of tokenizer_config.json that its class uses.

    Returns:
      The tokenizer, and notes on fields that have no effect.

    Raises:
      ValueError: a field contradicts a part of tokenizer.json that cannot be changed.
    """
    name, fields = settings.tokenizer_class, settings.fields
    blank = fields.get("add_prefix_space")
    if blank is not None:
        core = _with_prefix_space(core, name, blank)
    if not name or name in BERT_CLASSES:
        _check_special(core, settings, folder)
        return _apply_bert_fields(core, fields, folder)
    if name in _PIECE_CLASSES and blank is None and '"prepend_scheme":"never"' in core.to_str():
        return core, [_silent_note("add_prefix_space", folder)]
    lowercase = _normalizer(core).get("lowercase")
    if name in GENERIC_CLASSES and fields.get("do_lower_case", lowercase) != lowercase:
        return core, [
            f"{folder / CONFIG_FILE}: do_lower_case is {fields['do_lower_case']}, but its "
            "tokenizer_class leaves that to tokenizer.json, which is followed"
        ]
    return core, []


def _with_prefix_space(core: Tokenizer, name: str, blank: bool) -> Tokenizer:
    """Return a tokenizer of a class that adds a blank before a text, or does not."""
    changes: dict[str, dict[str, Any]] = {}
    if name in ROBERTA_CLASSES | {""}:
        changes["ByteLevel"] = {"add_prefix_space": blank}
    if name in _PIECE_CLASSES | {""}:
        changes["Metaspace"] = {"prepend_scheme": "always" if blank else "never"}
    return rewrite(core, changes) if changes else core


def _silent_note(name: str, folder: pathlib.Path) -> str:
    """Return the note on a field that tokenizer_config.json lacks."""
    return (
        f"{folder}: {CONFIG_FILE} does not say {name}; tokenizer.json is followed, where "
        "transformers 5 takes its own default"
    )


def _check_special(core: Tokenizer, settings: Settings, folder: pathlib.Path) -> None:
    """Raise ValueError if the settings and tokenizer.json have different special tokens.

    BERT's classes in transformers would use the tokens of the settings.
    """
    ends = core.encode("").tokens
    # Byte-level and unigram models name no unknown token.
    found = {
        "sep_token": ends[-1] if ends else None,
        "unk_token": getattr(core.model, "unk_token", None),
    }
    for name, token in found.items():
        given = settings.special.get(name)
        if given and token and given != token:
            raise ValueError(
                f"{folder / CONFIG_FILE} or special_tokens_map.json: {name} is {shown(given)}, but "
                f"tokenizer.json uses {shown(token)}; make both say the same, or leave the field "
                "out"
            )


def _normalizer(core: Tokenizer) -> dict[str, Any]:
    """Return the state of a BertNormalizer; empty for another normalizer."""
    state = {} if core.normalizer is None else json.loads(core.normalizer.__getstate__())
    return state if state.get("type") == "BertNormalizer" else {}


def _apply_bert_fields(
    core: Tokenizer, fields: Mapping[str, Any], folder: pathlib.Path
) -> tuple[Tokenizer, list[str]]:
    """Set case, accents and Chinese characters by the fields of BERT's tokenizer.

    Raises:
      ValueError: tokenizer.json has another normalizer, which contradicts a field.
    """
    given = {option: fields[name] for option, name in OPTIONS.items() if name in fields}
    state = _normalizer(core)
    if not state:
        _check_normalizer(core, given, folder)
        return core, []
    changes = {option: value for option, value in given.items() if state[option] != value}
    if changes:
        core = rewrite(core, {"BertNormalizer": changes})
    notes = [
        _silent_note(OPTIONS[option], folder)
        for option, default in _BERT_DEFAULTS.items()
        if option not in given and state[option] != default
    ]
    return core, notes


def _check_normalizer(core: Tokenizer, given: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Raise ValueError if a normalizer does not treat case and accents as given."""
    found = {
        "lowercase": _normalizes(core, "A", "a"),
        "strip_accents": _normalizes(core, "\u00e9", "e"),
    }
    for option, does_so in found.items():
        value = given.get(option)
        if isinstance(value, bool) and value != does_so:
            verb = "does" if does_so else "does not do"
            raise ValueError(
                f"{folder / CONFIG_FILE}: {OPTIONS[option]} is {value}, but the normalizer of "
                f"tokenizer.json {verb} so; make both say the same, or leave the field out"
            )


def _normalizes(core: Tokenizer, before: str, after: str) -> bool:
    """Return whether the normalizer turns one text into another."""
    return core.normalizer is not None and core.normalizer.normalize_str(before) == after


def add_tokens(
    core: Tokenizer, settings: Settings, special: list[str], *, folder: pathlib.Path
) -> None:
    """Add the tokens of the files that a tokenizer lacks, in the order of their ids.

    Raises:
      ValueError: the vocabulary gives a token another id than its file.
    """
    known = core.get_added_tokens_decoder()
    tokens = [
        token
        for number, token in settings.numbered.items()
        if repr(known.get(number)) != repr(token)
    ]
    words = {token.content for token in (*known.values(), *tokens)}
    tokens += [AddedToken(token, special=True) for token in special if token not in words]
    tokens += [token for token in settings.extra if token.content not in words]
    if tokens:
        core.add_tokens(tokens)
    for number, token in settings.numbered.items():
        found = core.token_to_id(token.content)
        if found != number:
            raise ValueError(
                f"{folder}: {CONFIG_FILE} or added_tokens.json gives {shown(token.content)} the id "
                f"{number}, but the vocabulary gives it {found}; correct the file"
            )
