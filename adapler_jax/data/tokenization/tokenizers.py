"""Load the tokenizer that belongs to a checkpoint."""

import functools
import json
import os
import pathlib
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tokenizers import AddedToken, Tokenizer

from adapler_jax.data.tokenization.segments import drop_segments
from adapler_jax.data.tokenization.tokenizer_files import (
    CONFIG_FILE,
    MAX_SIZE,
    Settings,
    read_settings,
)
from adapler_jax.data.tokenization.vocabularies import (
    BERT_CLASSES,
    BERT_SPECIAL,
    GENERIC_CLASSES,
    OPTIONS,
    ROBERTA_CLASSES,
    ROBERTA_SPECIAL,
    build_from_vocabulary,
    rewrite,
    special_of,
)
from adapler_jax.io.hub import download
from adapler_jax.io.messages import bounded_errors, excerpt, short_name, shown

# transformers warns that PyTorch is missing, which is intended here.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

if typing.TYPE_CHECKING:  # takes a second to import, which inference avoids
    from transformers import PreTrainedTokenizerFast

_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_PIECE_CLASSES = frozenset({"CamembertTokenizer", "XLMRobertaTokenizer"})
_PROBES = ("a", "A\u00e9\u65e5\U0001f3ac\x00 \u200b")  # texts that a tokenizer must accept
# Defaults of BERT's class in transformers 5, which a silent tokenizer_config.json leaves open.
_BERT_DEFAULTS: Mapping[str, bool | None] = {"lowercase": True, "strip_accents": None}

Result = TypeVar("Result")


class LoadedTokenizer(typing.NamedTuple):
    """A tokenizer and the settings of its folder.

    Attributes:
      core: the tokenizer, without truncation and padding.
      special: special tokens by name, as in {"cls_token": "[CLS]"}.
      settings: of the folder's files.
      truncation_side: where long texts lose tokens: right or left.
      notes: one sentence for each doubt.
    """

    core: Tokenizer
    special: dict[str, str]
    settings: Settings
    truncation_side: str
    notes: tuple[str, ...]


@bounded_errors()
def load_tokenizer(
    path_or_name: str,
    *,
    log: Callable[[str], None] | None = None,
    split_special_tokens: bool = False,
) -> "PreTrainedTokenizerFast":
    """Load a fast BERT tokenizer, without the truncation and padding that its file sets.

    Args:
      path_or_name: a folder with tokenizer.json or a vocabulary, or a name on the hub.
      log: receives a sentence for every doubt about the files.
      split_special_tokens: treat special tokens inside a text, such as [SEP], as text.

    Returns:
      The tokenizer; `save_pretrained` writes it into a model directory.

    Raises:
      ValueError: there is no tokenizer, it is damaged, or it puts no [CLS] before a text.
    """
    from transformers import PreTrainedTokenizerFast

    folder = pathlib.Path(path_or_name).expanduser()
    if not folder.is_dir():
        folder = download(path_or_name, _FILES)
    loaded = read_tokenizer(folder, split_special_tokens=split_special_tokens)
    if log:
        for note in loaded.notes:
            log(note)
    options: dict[str, Any] = dict(loaded.special)
    length = loaded.settings.fields.get("model_max_length")
    if length is not None:
        options["model_max_length"] = length
    return PreTrainedTokenizerFast(
        tokenizer_object=loaded.core,
        **options,
        extra_special_tokens=[token.content for token in loaded.settings.extra],
        truncation_side=loaded.truncation_side,
        split_special_tokens=loaded.core.encode_special_tokens,
    )


def load_core(folder: str | os.PathLike, *, split_special_tokens: bool = False) -> Tokenizer:
    """Load the Rust tokenizer that `load_tokenizer` wraps, for inference.

    With a tokenizer.json this takes hundredths of a second.

    Args:
      folder: a folder with tokenizer.json or a vocabulary.
      split_special_tokens: as in `load_tokenizer`.

    Returns:
      The tokenizer, without truncation and padding. It gives the tokens of `load_tokenizer`.

    Raises:
      ValueError: as `load_tokenizer`.
    """
    return read_tokenizer(pathlib.Path(folder), split_special_tokens=split_special_tokens).core


def load_core_and_side(folder: str | os.PathLike) -> tuple[Tokenizer, str]:
    """Return `load_core` and the side where the folder's files cut long texts: right or left."""
    loaded = read_tokenizer(pathlib.Path(folder))
    return loaded.core, loaded.truncation_side


@bounded_errors()
def read_tokenizer(folder: pathlib.Path, *, split_special_tokens: bool = False) -> LoadedTokenizer:
    """Build the tokenizer of a folder; tokenizer_config.json takes precedence.

    Raises:
      ValueError: as `load_tokenizer`.
    """
    settings = read_settings(folder)
    loaded = _guarded(functools.partial(_build, folder, settings), folder)
    core = loaded.core
    drop_segments(core, folder)
    splits = settings.fields.get("split_special_tokens", False)
    core.encode_special_tokens = split_special_tokens or splits
    first, *_ = _guarded(lambda: [core.encode(text).ids[:1] for text in _PROBES], folder)
    cls_token = loaded.special.get("cls_token")
    if not first or first != [core.token_to_id(cls_token or "")]:
        raise ValueError(
            f"the tokenizer in {str(folder)!r} does not put {short_name(cls_token or '[CLS]')} in "
            "front of a text; pruning and classification need it: use the tokenizer of a BERT "
            "checkpoint"
        )
    return loaded


def max_token_id(core: Tokenizer) -> int:
    """Return the highest token id, including added tokens; -1 for an empty vocabulary."""
    return max(core.get_vocab(with_added_tokens=True).values(), default=-1)


@bounded_errors()
def check_embedding_rows(core: Tokenizer, num_rows: int, source: object) -> None:
    """Raise ValueError if a token id has no row in an embedding table.

    Args:
      core: from `load_core`.
      num_rows: rows of the table.
      source: names the model in the message.
    """
    highest = max_token_id(core)
    if highest >= num_rows:
        raise ValueError(
            f"the tokenizer of {source} gives {shown(core.id_to_token(highest))} the id {highest} "
            f"and has {core.get_vocab_size()} tokens, but its embedding table has {num_rows} rows; "
            "take tokenizer and weights of one checkpoint, or enlarge the table"
        )


def _guarded(load: Callable[[], Result], folder: pathlib.Path) -> Result:
    """Call a function of the Rust library and turn its errors into a ValueError.

    The library raises bare Exceptions on damaged files, and panics that are no Exceptions.
    """
    try:
        return load()
    except BaseException as error:
        is_ours = isinstance(error, ValueError) and str(folder) in str(error)
        is_panic = type(error).__name__ == "PanicException"
        if is_ours or not (isinstance(error, Exception) or is_panic):
            raise
        raise ValueError(
            f"the tokenizer in {str(folder)!r} is damaged: {excerpt(str(error))}"
        ) from error


def _build(folder: pathlib.Path, settings: Settings) -> LoadedTokenizer:
    """Build a tokenizer from all files of a folder."""
    path = folder / "tokenizer.json"
    side = settings.fields.get("truncation_side")
    if path.exists():
        core, file_side = _load_json(path)
        side = side or file_side
        core, notes = _apply_settings(core, settings, folder)
    else:
        core, notes = build_from_vocabulary(folder, settings)
    vocabulary = core.get_vocab(with_added_tokens=True)
    if len(set(vocabulary.values())) < len(vocabulary):
        raise ValueError(
            f"the tokenizer in {str(folder)!r} gives two tokens one id; each needs its own"
        )
    words = {token.content for token in core.get_added_tokens_decoder().values()}
    is_roberta = set(ROBERTA_SPECIAL.values()) <= (words or vocabulary.keys())
    special = special_of(settings, ROBERTA_SPECIAL if is_roberta else BERT_SPECIAL, vocabulary)
    _add_tokens(core, settings, list(special.values()), folder=folder)
    notes += _ignored_fields(settings, folder)
    return LoadedTokenizer(core, special, settings, side or "right", tuple(notes))


def _load_json(path: pathlib.Path) -> tuple[Tokenizer, str | None]:
    """Load a tokenizer.json without truncation and padding, and return its truncation side."""
    size = path.stat().st_size
    if size > MAX_SIZE:
        raise ValueError(f"{path} has {size} bytes; expected at most {MAX_SIZE}")
    core = Tokenizer.from_file(str(path))
    side = (core.truncation or {}).get("direction")
    core.no_truncation()
    core.no_padding()
    return core, side


def _ignored_fields(settings: Settings, folder: pathlib.Path) -> list[str]:
    """Return notes on the fields that have no effect."""
    notes = []
    if "auto_map" in settings.fields:
        notes.append(
            f"{folder / CONFIG_FILE}: auto_map names a program of the checkpoint's own, which is "
            "not run"
        )
    if settings.fields.get("padding_side") == "left":
        notes.append(
            f"{folder}: padding_side is 'left'; here padding is right of the text, which it does "
            "not change"
        )
    return notes


def _apply_settings(
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
    """Raise ValueError if special tokens of the settings differ from those of tokenizer.json.

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


def _add_tokens(
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
