"""Texts -> token ids by the checkpoint's own fast tokenizer, without padding, cached on disk."""

import dataclasses
import hashlib
import json
import os
import pathlib
import typing
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from adapler_jax.data.batching.ragged import Ragged, join_ragged
from adapler_jax.data.classification.examples import Examples
from adapler_jax.data.tokenization.text_rows import encode_rows
from adapler_jax.io.atomic_files import check_file, has_checksum, is_read_only, replacing_file

if typing.TYPE_CHECKING:  # transformers takes seconds to import, and batches do not need it
    from transformers import PreTrainedTokenizerFast

_CHUNK = 2048  # texts that are tokenized at once
_CACHE_FORMAT = 1  # part of the key: raise it when the stored arrays change


@dataclasses.dataclass(frozen=True)
class Tokenized:
    """Tokenized examples.

    Attributes:
      tokens: int32 rows, [CLS] first, at most max_length long.
      segments: int8 rows of the same lengths: 0 for the first text and its [SEP], 1 for the second.
      labels: int32 [rows].
      example_ids: int32 [rows], unique, at least 0.
      head_slots: int32 arrays [rows, ...] by name: token slots that a head reads or is trained by, -1 for fillers.
      group: rows that follow each other and belong together, as the options of a question; 1: each stands alone.
    """

    tokens: Ragged
    segments: Ragged
    labels: np.ndarray
    example_ids: np.ndarray
    head_slots: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    group: int = 1

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each example, int64 [rows]."""
        return self.tokens.lengths


def tokenize(
    examples: Examples,
    tokenizer: "PreTrainedTokenizerFast",
    *,
    max_length: int,
    cache_dir: str | os.PathLike | None = None,
    truncation_side: str = "right",
) -> Tokenized:
    """Tokenize a split, or read it back from the cache.

    Args:
      examples: the split.
      tokenizer: from load_tokenizer.
      max_length: tokens kept of an example, special ones included; the longer text of a pair is cut first.
      cache_dir: where token ids are kept under a key of texts, tokenizer and settings; None keeps nothing. A file
        that is damaged is rebuilt. A folder that cannot be written is warned about.
      truncation_side: where long texts lose tokens: right, left, or middle.

    Returns:
      The tokens of every example, with its label and id.

    Raises:
      ValueError: max_length leaves no room for text.
    """
    path = None
    if cache_dir is not None:
        key = _cache_key(
            examples, tokenizer, max_length=max_length, truncation_side=truncation_side
        )
        path = pathlib.Path(cache_dir) / f"tokens-{key}.npz"
    encoded = _read_cache(path, len(examples)) if path else None
    if encoded is None:
        limits = {"max_length": max_length, "truncation_side": truncation_side}
        encoded = encode(examples.texts, examples.text_pairs, tokenizer, **limits)
        if path:
            _write_cache(path, *encoded)
    tokens, segments = encoded
    return Tokenized(tokens, segments, examples.labels, examples.example_ids)


def encode(
    texts: Sequence[str],
    text_pairs: Sequence[str] | None,
    tokenizer: "PreTrainedTokenizerFast",
    *,
    max_length: int,
    truncation_side: str = "right",
) -> tuple[Ragged, Ragged]:
    """Turn texts (or pairs) into token ids (int32 rows) and segment ids (int8 rows), unpadded; see `encode_rows`.

    Raises:
      ValueError: max_length leaves no room for text.
    """
    core, rows = tokenizer.backend_tokenizer, []
    for start in range(0, max(len(texts), 1), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        pairs = None if text_pairs is None else text_pairs[chunk]
        rows.append(
            encode_rows(
                core, texts[chunk], pairs, max_length=max_length, truncation_side=truncation_side
            )
        )
    return join_ragged([found.tokens for found in rows]), join_ragged(
        [found.segments for found in rows]
    )


def _cache_key(
    examples: Examples,
    tokenizer: "PreTrainedTokenizerFast",
    *,
    max_length: int,
    truncation_side: str,
) -> str:
    """Hash texts, tokenizer and settings; 32 hexadecimal digits."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for setting in (
        "truncation",
        "padding",
    ):  # left behind by the last call, no part of the content
        state.pop(setting, None)
    content = [_CACHE_FORMAT, max_length, state]
    if truncation_side != "right" or tokenizer.backend_tokenizer.encode_special_tokens:
        content += [truncation_side, tokenizer.backend_tokenizer.encode_special_tokens]
    digest = hashlib.sha256(json.dumps(content).encode())
    for texts in (examples.texts, examples.text_pairs):
        digest.update(b"single" if texts is None else f"{len(texts)} texts".encode())
        for text in texts or ():
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    return digest.hexdigest()[:32]


def _write_cache(path: pathlib.Path, tokens: Ragged, segments: Ragged) -> None:
    """Write a cache file whole; warn where the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path, checksum=True) as partial, partial.open("wb") as file:
            np.savez(file, tokens=tokens.values, segments=segments.values, offsets=tokens.offsets)
    except OSError as error:
        if not is_read_only(error):
            raise
        warnings.warn(
            f"tokens are not kept ({error}); they are made again by the next call; name another folder, or none, "
            "in config.data.cache_dir",
            stacklevel=3,
        )


def _read_cache(path: pathlib.Path, num_examples: int) -> tuple[Ragged, Ragged] | None:
    """Read a cache file; None where there is none or it is damaged."""
    try:
        if not has_checksum(path):
            return None
        check_file(path, "it is made again")
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            tokens, segments, offsets = (arrays[name] for name in ("tokens", "segments", "offsets"))
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        return None
    fits = len(offsets) == num_examples + 1 and offsets[-1] == len(tokens) == len(segments)
    return (Ragged(tokens, offsets), Ragged(segments, offsets)) if fits else None
