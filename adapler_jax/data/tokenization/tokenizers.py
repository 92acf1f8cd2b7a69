"""Load the tokenizer that belongs to a checkpoint."""

import functools
import os
import pathlib
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from tokenizers import Tokenizer

from adapler_jax.data.tokenization.apply_settings import add_tokens, apply_settings
from adapler_jax.data.tokenization.segments import drop_segments
from adapler_jax.data.tokenization.tokenizer_files import (
    CONFIG_FILE,
    MAX_SIZE,
    Settings,
    read_settings,
)
from adapler_jax.data.tokenization.vocabularies import (
    BERT_SPECIAL,
    MPNET_SPECIAL,
    ROBERTA_SPECIAL,
    build_from_vocabulary,
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
_PROBES = ("a", "A\u00e9\u65e5\U0001f3ac\x00 \u200b")  # texts that a tokenizer must accept

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
            f"the tokenizer in {str(folder)!r} does not put {short_name(cls_token or '[CLS]')} "
            "before a text; pruning and classification need it: use the tokenizer of a BERT "
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
        core, notes = apply_settings(core, settings, folder)
    else:
        core, notes = build_from_vocabulary(folder, settings)
    vocabulary = core.get_vocab(with_added_tokens=True)
    if len(set(vocabulary.values())) < len(vocabulary):
        raise ValueError(
            f"the tokenizer in {str(folder)!r} gives two tokens one id; each needs its own"
        )
    words = {token.content for token in core.get_added_tokens_decoder().values()}
    known = words or vocabulary.keys()
    kinds = (usual for usual in (ROBERTA_SPECIAL, MPNET_SPECIAL) if set(usual.values()) <= known)
    special = special_of(settings, next(kinds, BERT_SPECIAL), vocabulary)
    add_tokens(core, settings, list(special.values()), folder=folder)
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
