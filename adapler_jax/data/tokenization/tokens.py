"""Tokenize splits with the checkpoint's tokenizer, without padding, and cache the tokens."""

import hashlib
import json
import os
import pathlib
import typing
import warnings
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from adapler_jax.data.batching.ragged import Ragged, join_ragged
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.classification.examples import Examples
from adapler_jax.data.tokenization.text_rows import encode_rows
from adapler_jax.io.atomic_files import check_file, has_checksum, is_read_only, replacing_file

if typing.TYPE_CHECKING:  # transformers takes seconds to import, and batches do not need it
    from transformers import PreTrainedTokenizerFast

_CHUNK = 2048  # texts that are tokenized together
_CACHE_FORMAT = 1  # part of the key: increase it when the stored arrays change
_FILE_ERRORS = (OSError, EOFError, zipfile.BadZipFile, zlib.error)
_DAMAGE_ERRORS = (*_FILE_ERRORS, ValueError, KeyError, AttributeError)


def tokenize(
    examples: Examples,
    tokenizer: "PreTrainedTokenizerFast",
    *,
    max_length: int,
    cache_dir: str | os.PathLike | None = None,
    truncation_side: str = "right",
) -> Tokenized:
    """Tokenize a split, or read its tokens from the cache.

    Args:
      examples: the split.
      tokenizer: from load_tokenizer.
      max_length: tokens kept of an example, with special tokens; the longer text of a pair is cut
        first.
      cache_dir: folder of token ids under a key of texts, tokenizer and settings; None keeps
        nothing. A damaged file is replaced. A folder that cannot be written causes a warning.
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
        encoded = encode(
            examples.texts,
            examples.text_pairs,
            tokenizer,
            max_length=max_length,
            truncation_side=truncation_side,
        )
        if path:
            _write_cache(path, *encoded)
    tokens, segments = encoded
    labels, slots = examples.labels, {}
    if labels.ndim > 1:  # several labels or numbers a text
        name = "number_BC" if labels.dtype.kind == "f" else "label_BC"
        labels, slots = np.zeros(len(labels), np.int32), {name: labels}
    return Tokenized(tokens, segments, labels, examples.example_ids, slots)


def encode(
    texts: Sequence[str],
    text_pairs: Sequence[str] | None,
    tokenizer: "PreTrainedTokenizerFast",
    *,
    max_length: int,
    truncation_side: str = "right",
) -> tuple[Ragged, Ragged]:
    """Tokenize texts or pairs without padding; arguments as in `encode_rows`.

    Returns:
      Token ids, int32 rows, and segment ids, int8 rows.

    Raises:
      ValueError: max_length leaves no room for text.
    """
    core, chunks = tokenizer.backend_tokenizer, []
    for start in range(0, max(len(texts), 1), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        rows = encode_rows(
            core,
            texts[chunk],
            None if text_pairs is None else text_pairs[chunk],
            max_length=max_length,
            truncation_side=truncation_side,
        )
        chunks.append(rows)
    tokens = join_ragged([rows.tokens for rows in chunks])
    return tokens, join_ragged([rows.segments for rows in chunks])


def _cache_key(
    examples: Examples,
    tokenizer: "PreTrainedTokenizerFast",
    *,
    max_length: int,
    truncation_side: str,
) -> str:
    """Hash texts, tokenizer and settings; 32 hexadecimal digits."""
    core = tokenizer.backend_tokenizer
    state = json.loads(core.to_str())
    for setting in ("truncation", "padding"):  # of the tokenizer's last call
        state.pop(setting, None)
    settings = [_CACHE_FORMAT, max_length, state]
    if truncation_side != "right" or core.encode_special_tokens:
        settings += [truncation_side, core.encode_special_tokens]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for texts in (examples.texts, examples.text_pairs):
        digest.update(b"single" if texts is None else f"{len(texts)} texts".encode())
        for text in texts or ():
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    return digest.hexdigest()[:32]


def _write_cache(path: pathlib.Path, tokens: Ragged, segments: Ragged) -> None:
    """Write a cache file atomically; warn if the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path, checksum=True) as partial, partial.open("wb") as file:
            np.savez(file, tokens=tokens.values, segments=segments.values, offsets=tokens.offsets)
    except OSError as error:
        if not is_read_only(error):
            raise
        warnings.warn(
            f"tokens are not kept ({error}); they are made again by the next call; name another "
            "folder, or none, in config.data.cache_dir",
            stacklevel=3,
        )


def _read_cache(path: pathlib.Path, num_examples: int) -> tuple[Ragged, Ragged] | None:
    """Read a cache file; return None if it is missing or damaged."""
    try:
        if not has_checksum(path):
            return None
        check_file(path, "it is made again")
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            tokens, segments, offsets = (arrays[name] for name in ("tokens", "segments", "offsets"))
    except _DAMAGE_ERRORS:
        return None
    is_whole = len(offsets) == num_examples + 1 and offsets[-1] == len(tokens) == len(segments)
    return (Ragged(tokens, offsets), Ragged(segments, offsets)) if is_whole else None
