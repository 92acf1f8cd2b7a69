"""Cut movie reviews with human rationales into windows: training files, and windows to study."""

import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.classification.rationales import AnnotatedText, cut_chunks
from adapler_jax.data.classification.splits import holdout_rows
from adapler_jax.io.atomic_files import replace_text

VALIDATION_SHARE = (
    0.1  # of the training documents, where the official validation split is looked into
)
NUM_SPECIAL = 2  # [CLS] and [SEP]


class EncodedWindow(NamedTuple):
    """One window as tokens with the word of each."""

    token_L: np.ndarray  # int32, [CLS] first
    word_L: np.ndarray  # int32, index into the window's words; -1 for [CLS] and [SEP]


def encode_windows(
    core: Tokenizer, windows: Sequence[AnnotatedText], *, max_length: int | None
) -> list[EncodedWindow]:
    """Tokenize the windows word by word, which gives the tokens of their texts.

    Args:
      max_length: longer windows are cut there; None for no limit.
    """
    core.no_truncation()
    if max_length is not None:
        core.enable_truncation(max_length)
    encodings = core.encode_batch([list(window.words) for window in windows], is_pretokenized=True)
    return [
        EncodedWindow(
            np.asarray(encoding.ids, np.int32),
            np.asarray([-1 if word is None else word for word in encoding.word_ids], np.int32),
        )
        for encoding in encodings
    ]


def windows_of(
    core: Tokenizer, documents: Sequence[AnnotatedText], max_length: int
) -> list[AnnotatedText]:
    """Return the windows of max_length tokens that contain part of a rationale."""
    windows = []
    for document, encoded in zip(documents, encode_windows(core, documents, max_length=None)):
        pieces_W = np.bincount(encoded.word_L[encoded.word_L >= 0], minlength=len(document.words))
        windows += cut_chunks(document, pieces_W, max_length - NUM_SPECIAL)
    return [window for window in windows if window.rationale_W.any()]


def share_out(
    splits: dict[str, list[AnnotatedText]], *, seed: int = 0
) -> dict[str, list[AnnotatedText]]:
    """Split documents into train, validation (to choose epochs) and test (to study).

    These are the official splits where test has rationales. Otherwise validation becomes test, and
    a tenth of train, drawn by the seed, becomes validation.

    Raises:
      ValueError: a split is missing, or no split to study has rationales.
    """
    missing = {"train", "validation"} - splits.keys()
    if missing:
        raise ValueError(
            f"there is no split {' and no '.join(sorted(missing))}; "
            f"found {', '.join(splits) or 'none'}"
        )
    if any(text.rationale_W.any() for text in splits.get("test", ())):
        return {name: splits[name] for name in ("train", "validation", "test")}
    if not any(text.rationale_W.any() for text in splits["validation"]):
        raise ValueError(
            "neither test nor validation has rationales, so there is nothing to compare with"
        )
    carved = holdout_rows(len(splits["train"]), {"validation": VALIDATION_SHARE}, seed=seed)
    return {name: [splits["train"][row] for row in rows] for name, rows in carved.items()} | {
        "test": splits["validation"]
    }


def write_windows(windows: dict[str, list[AnnotatedText]], folder: pathlib.Path) -> dict[str, str]:
    """Write each split as JSON lines and return the sources, in the form that configs take."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = {}
    for split, texts in windows.items():
        lines = [json.dumps({"text": text.text, "label": text.label}) + "\n" for text in texts]
        replace_text(folder / f"{split}.jsonl", "".join(lines))
        sources[split] = f"file:{folder / split}.jsonl"
    return sources
