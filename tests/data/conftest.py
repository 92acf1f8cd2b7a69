"""A tiny WordPiece tokenizer and hand-made tokenized sets for the data tests."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.batching.tokenized import Tokenized

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "good",
    "bad",
    "film",
    "##s",
    "not",
    "日",
    "本",
    "привет",
    ".",
)


def build_tokenizer(words=WORDS) -> PreTrainedTokenizerFast:
    """Build a lower-casing BERT tokenizer over these words."""
    vocab = {word: number for number, word in enumerate(words)}
    core = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.BertProcessing(
        ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
    )
    special = {
        f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")
    }
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def build_tokenized(lengths) -> Tokenized:
    """Make examples of these lengths; example i holds only the token i + 1."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(len(lengths), dtype=np.int32)
    tokens = Ragged(np.repeat(ids + 1, lengths).astype(np.int32), offsets)
    segments = Ragged(np.zeros(offsets[-1], np.int8), offsets)
    return Tokenized(tokens, segments, (ids % 2).astype(np.int32), ids)


@pytest.fixture(name="tokenizer")
def _tokenizer():
    return build_tokenizer()


@pytest.fixture(name="make_tokenized")
def _make_tokenized():
    return build_tokenized
