"""Movie reviews with human rationales as windows that a model can hold: files to train on, and windows to look into."""

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
    """One window as tokens that know their words."""

    token_L: np.ndarray  # int32, [CLS] first
    word_L: np.ndarray  # int32, index into the window's words; -1 for [CLS] and [SEP]


def encode_windows(
    core: Tokenizer, windows: Sequence[AnnotatedText], *, max_length: int | None
) -> list[EncodedWindow]:
    """Tokenizes the windows word by word, which gives the tokens of their texts. max_length: cut there; None never."""
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
    """The windows of max_length tokens that hold a piece of a rationale; the others are left out, as the authors do."""
    windows = []
    for document, encoded in zip(documents, encode_windows(core, documents, max_length=None)):
        pieces_W = np.bincount(encoded.word_L[encoded.word_L >= 0], minlength=len(document.words))
        windows += cut_chunks(document, pieces_W, max_length - NUM_SPECIAL)
    return [window for window in windows if window.rationale_W.any()]


def share_out(
    splits: dict[str, list[AnnotatedText]], *, seed: int = 0
) -> dict[str, list[AnnotatedText]]:
    """Documents to train on, to choose epochs by, and to look into, as train, validation and test: the official splits
    where test has rationales; else validation is looked into, and a tenth of train, drawn by the seed, chooses.

    Raises ValueError where a split is missing or there are no rationales to look into.
    """
    missing = {"train", "validation"} - splits.keys()
    if missing:
        raise ValueError(
            f"there is no split {' and no '.join(sorted(missing))}; found {', '.join(splits) or 'none'}"
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
    """Writes the texts and labels of each split as JSON lines; the sources of the splits, as configs take them."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = {}
    for split, texts in windows.items():
        lines = [json.dumps({"text": text.text, "label": text.label}) + "\n" for text in texts]
        replace_text(folder / f"{split}.jsonl", "".join(lines))
        sources[split] = f"file:{folder / split}.jsonl"
    return sources
