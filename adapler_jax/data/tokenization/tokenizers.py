"""Load the tokenizer that belongs to a checkpoint."""

import json
import os
import pathlib
import typing
from collections.abc import Callable

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
from adapler_jax.io.messages import bounded_errors, excerpt

os.environ.setdefault(
    "TRANSFORMERS_NO_ADVISORY_WARNINGS", "1"
)  # that PyTorch is missing is no news here

if typing.TYPE_CHECKING:  # a second to import, which answers do not wait for
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
_PROBES = ("a", "A\u00e9\u65e5\U0001f3ac\x00 \u200b")  # texts that a tokenizer must take


class LoadedTokenizer(typing.NamedTuple):
    """A tokenizer and what its folder says of it."""

    core: Tokenizer  # without truncation and padding
    special: dict[str, str]  # special tokens by name, as in {"cls_token": "[CLS]"}
    settings: Settings
    truncation_side: str  # where long texts lose tokens: right or left
    notes: tuple[str, ...]  # doubts, a sentence each


@bounded_errors()
def load_tokenizer(
    path_or_name: str,
    *,
    log: Callable[[str], None] | None = None,
    split_special_tokens: bool = False,
) -> "PreTrainedTokenizerFast":
    """Load a fast BERT tokenizer; truncation and padding that its file asks for are switched off.

    Args:
      path_or_name: a folder with tokenizer.json or a vocabulary, or a name on the hub.
      tell: receives a sentence for every doubt about the files.
      split_special_tokens: read special tokens that a text holds, as [SEP], as text.

    Returns:
      The tokenizer; `save_pretrained` writes it into a model directory.

    Raises:
      ValueError: there is no tokenizer, it is damaged, or it puts no [CLS] in front.
    """
    from transformers import PreTrainedTokenizerFast

    folder = pathlib.Path(path_or_name).expanduser()
    if not folder.is_dir():
        folder = download(path_or_name, _FILES)
    loaded = read_tokenizer(folder, split_special_tokens=split_special_tokens)
    for note in loaded.notes if log else ():
        log(note)
    length = loaded.settings.fields.get("model_max_length")
    return PreTrainedTokenizerFast(
        tokenizer_object=loaded.core,
        **loaded.special,
        **({} if length is None else {"model_max_length": length}),
        extra_special_tokens=[token.content for token in loaded.settings.extra],
        truncation_side=loaded.truncation_side,
        split_special_tokens=loaded.core.encode_special_tokens,
    )


def load_core(folder: str | os.PathLike, *, split_special_tokens: bool = False) -> Tokenizer:
    """Load what `load_tokenizer` wraps, in hundredths of a second where there is a tokenizer.json: for inference.

    Args:
      folder: a folder with tokenizer.json or a vocabulary.
      split_special_tokens: as in `load_tokenizer`.

    Returns:
      The tokenizer, without truncation and padding; equal texts become equal tokens.

    Raises:
      ValueError: as `load_tokenizer`.
    """
    return read_tokenizer(pathlib.Path(folder), split_special_tokens=split_special_tokens).core


def load_core_and_side(folder: str | os.PathLike) -> tuple[Tokenizer, str]:
    """Return `load_core` and where the folder's files say that long texts lose tokens: right or left."""
    loaded = read_tokenizer(pathlib.Path(folder))
    return loaded.core, loaded.truncation_side


@bounded_errors()
def read_tokenizer(folder: pathlib.Path, *, split_special_tokens: bool = False) -> LoadedTokenizer:
    """Build the tokenizer of a folder as its files say, fields of tokenizer_config.json before those of tokenizer.json.

    Raises:
      ValueError: as `load_tokenizer`.
    """
    settings = read_settings(folder)
    loaded = _guarded(lambda: _build(folder, settings), folder)
    core = loaded.core
    drop_segments(core, folder)
    core.encode_special_tokens = split_special_tokens or settings.fields.get(
        "split_special_tokens", False
    )
    first = _guarded(lambda: [core.encode(text).ids[:1] for text in _PROBES][0], folder)
    cls_token = loaded.special.get("cls_token")
    if not first or first != [core.token_to_id(cls_token or "")]:
        raise ValueError(
            f"the tokenizer in {str(folder)!r} does not put {cls_token or '[CLS]':.60} in front of a text; pruning and "
            "classification need it: use the tokenizer of a BERT checkpoint"
        )
    return loaded


def max_token_id(core: Tokenizer) -> int:
    """The highest number of a token, added ones included."""
    return max(core.get_vocab(with_added_tokens=True).values(), default=-1)


@bounded_errors()
def check_embedding_rows(core: Tokenizer, num_rows: int, source: object) -> None:
    """Refuse a tokenizer whose numbers pass an embedding table.

    Args:
      core: as `load_core` gives it.
      num_rows: rows of the table.
      source: names the model in the message.

    Raises:
      ValueError: a token has a number of at least num_rows.
    """
    highest = max_token_id(core)
    if highest >= num_rows:
        raise ValueError(
            f"the tokenizer of {source} gives {core.id_to_token(highest)!r:.60} the number {highest} and knows "
            f"{core.get_vocab_size()} tokens, but its embedding table has {num_rows} rows; take tokenizer and weights "
            "of one checkpoint, or enlarge the table"
        )


def _guarded(load: Callable, folder: pathlib.Path):
    """Call a function of the Rust library; whatever a damaged file raises becomes a ValueError."""
    try:
        return load()
    except BaseException as error:  # the parser raises bare Exception, and its panics are none
        is_ours = isinstance(error, ValueError) and str(folder) in str(error)
        if is_ours or not (
            isinstance(error, Exception) or type(error).__name__ == "PanicException"
        ):
            raise
        raise ValueError(
            f"the tokenizer in {str(folder)!r} is damaged: {excerpt(str(error))}"
        ) from error


def _build(folder: pathlib.Path, settings: Settings) -> LoadedTokenizer:
    """The tokenizer of tokenizer.json, or of a vocabulary alone, with the settings and tokens of the other files."""
    path, side = folder / "tokenizer.json", settings.fields.get("truncation_side")
    if path.exists():
        if path.stat().st_size > MAX_SIZE:
            raise ValueError(f"{path} has {path.stat().st_size} bytes; expected at most {MAX_SIZE}")
        core = Tokenizer.from_file(str(path))
        side = side or (core.truncation or {}).get("direction")
        core.no_truncation()
        core.no_padding()
        core, notes = _follow(core, settings, folder)
    else:
        core, notes = build_from_vocabulary(folder, settings)
    vocabulary = core.get_vocab(with_added_tokens=True)
    if len(set(vocabulary.values())) < len(vocabulary):
        raise ValueError(
            f"the tokenizer in {str(folder)!r} gives two tokens one number; each needs its own"
        )
    words = {token.content for token in core.get_added_tokens_decoder().values()}
    is_roberta = set(ROBERTA_SPECIAL.values()) <= (words or vocabulary.keys())
    special = special_of(settings, ROBERTA_SPECIAL if is_roberta else BERT_SPECIAL, vocabulary)
    _add(core, settings, list(special.values()), folder=folder)
    if "auto_map" in settings.fields:
        notes.append(
            f"{folder / CONFIG_FILE}: auto_map names a program of the checkpoint's own, which is not run"
        )
    if settings.fields.get("padding_side") == "left":
        notes.append(
            f"{folder}: padding_side is 'left'; here padding is right of the text, which it does not change"
        )
    return LoadedTokenizer(core, special, settings, side or "right", tuple(notes))


def _follow(
    core: Tokenizer, settings: Settings, folder: pathlib.Path
) -> tuple[Tokenizer, list[str]]:
    """Bring a tokenizer to the fields of tokenizer_config.json that its class reads; notes on those that it does not.

    Raises:
      ValueError: a field says something else than tokenizer.json, in a form that cannot be changed.
    """
    name, fields = settings.tokenizer_class, settings.fields
    if (blank := fields.get("add_prefix_space")) is not None:
        changes = (
            {"ByteLevel": {"add_prefix_space": blank}} if name in ROBERTA_CLASSES | {""} else {}
        )
        if name in _PIECE_CLASSES | {""}:
            changes["Metaspace"] = {"prepend_scheme": "always" if blank else "never"}
        core = rewrite(core, changes) if changes else core
    if not name or name in BERT_CLASSES:
        _check_special(core, settings, folder)
        return _follow_bert(core, fields, folder)
    if name in _PIECE_CLASSES and blank is None and '"prepend_scheme":"never"' in core.to_str():
        return core, [
            f"{folder}: {CONFIG_FILE} does not say add_prefix_space; tokenizer.json is followed, where transformers 5 "
            "takes its own default"
        ]
    state = _normalizer(core)
    if name in GENERIC_CLASSES and fields.get("do_lower_case", state.get("lowercase")) != state.get(
        "lowercase"
    ):
        return core, [
            f"{folder / CONFIG_FILE}: do_lower_case is {fields['do_lower_case']}, but its tokenizer_class leaves that "
            "to tokenizer.json, which is followed"
        ]
    return core, []


def _check_special(core: Tokenizer, settings: Settings, folder: pathlib.Path) -> None:
    """Refuse special tokens that BERT's classes take before those that tokenizer.json puts into a text."""
    ends = core.encode("").tokens
    found = {
        "sep_token": ends[-1] if ends else None,
        "unk_token": getattr(core.model, "unk_token", None),
    }
    for name, token in found.items():
        given = settings.special.get(name)
        if (
            given and token and given != token
        ):  # byte-level and unigram models name no unknown token
            raise ValueError(
                f"{folder / CONFIG_FILE} or special_tokens_map.json: {name} is {given!r:.60}, but tokenizer.json uses "
                f"{token!r:.60}; make both say the same, or leave the field out"
            )


def _normalizer(core: Tokenizer) -> dict:
    """What BertNormalizer is set to; empty where a tokenizer has another."""
    state = {} if core.normalizer is None else json.loads(core.normalizer.__getstate__())
    return state if state.get("type") == "BertNormalizer" else {}


def _follow_bert(
    core: Tokenizer, fields: dict, folder: pathlib.Path
) -> tuple[Tokenizer, list[str]]:
    """Set case, accents and Chinese characters as the fields of BERT's tokenizer say."""
    given = {option: fields[name] for option, name in OPTIONS.items() if name in fields}
    state = _normalizer(core)
    if state:
        changes = {option: value for option, value in given.items() if state[option] != value}
        core = rewrite(core, {"BertNormalizer": changes}) if changes else core
        silent = [
            OPTIONS[option]
            for option, usual in {"lowercase": True, "strip_accents": None}.items()
            if option not in given and state[option] != usual
        ]
        return core, [
            f"{folder}: {CONFIG_FILE} does not say {name}; tokenizer.json is followed, where transformers 5 takes its "
            "own default"
            for name in silent
        ]
    found = {"lowercase": _changes(core, "A", "a"), "strip_accents": _changes(core, "\u00e9", "e")}
    for option, is_complete in found.items():
        if isinstance(given.get(option), bool) and given[option] != is_complete:
            raise ValueError(
                f"{folder / CONFIG_FILE}: {OPTIONS[option]} is {given[option]}, but the normalizer of tokenizer.json "
                f"{'does' if is_complete else 'does not do'} so; make both say the same, or leave the field out"
            )
    return core, []


def _changes(core: Tokenizer, before: str, after: str) -> bool:
    """Whether the normalizer makes one text of another."""
    return core.normalizer is not None and core.normalizer.normalize_str(before) == after


def _add(core: Tokenizer, settings: Settings, special: list[str], *, folder: pathlib.Path) -> None:
    """Add the tokens that the files list to a tokenizer that does not know them, in the order of their numbers.

    Raises:
      ValueError: a token would have another number than its file gives it.
    """
    known = core.get_added_tokens_decoder()
    tokens = [
        token
        for number, token in settings.numbered.items()
        if repr(known.get(number)) != repr(token)
    ]
    words = {token.content for token in known.values()} | {token.content for token in tokens}
    more = [AddedToken(token, special=True) for token in special if token not in words]
    more += [token for token in settings.extra if token.content not in words]
    if tokens or more:
        core.add_tokens(tokens + more)
    for number, token in settings.numbered.items():
        if core.token_to_id(token.content) != number:
            raise ValueError(
                f"{folder}: {CONFIG_FILE} or added_tokens.json gives {token.content!r:.60} the number {number}, "
                f"but the vocabulary gives it {core.token_to_id(token.content)}; correct the file"
            )
