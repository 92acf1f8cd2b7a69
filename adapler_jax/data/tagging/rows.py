"""Turn sentences with tags into rows of tokens: the first token of a word has its tag."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import join_ragged
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.tagging.sentences import Sentences
from adapler_jax.data.tokenization.text_rows import encode_rows
from adapler_jax.data.tokenization.word_tokens import NO_TOKEN, first_tokens

NO_TAG = -1  # of special tokens, and of the other pieces of a word
TAGS = "tag_BL"  # of `heads.token_classification`
CHUNK = 2048  # sentences that are tokenized together


class TaggedRows(NamedTuple):
    """Sentences in tokens."""

    tokenized: Tokenized  # with head slots TAGS
    slots: list[np.ndarray]  # int64, of each sentence the slot of each word's first token, or -1
    num_lost: int  # words without a token: cut off, or of signs that the tokenizer leaves out


def tokenize_sentences(
    sentences: Sentences,
    core: Tokenizer,
    class_names: Sequence[str],
    *,
    max_length: int,
    truncation_side: str = "right",
) -> TaggedRows:
    """Tokenize sentences, the words with a blank between them, as a token classifier does.

    Args:
      sentences: of a split.
      core: the tokenizer.
      class_names: the tags, in the order of the logits.
      max_length: tokens kept of a sentence, special tokens included.
      truncation_side: where long sentences lose tokens.

    Raises:
      ValueError: max_length leaves no room for text.
    """
    parts, slots = [], []
    for start in range(0, len(sentences), CHUNK):
        chunk = sentences.words[start : start + CHUNK]
        texts = [" ".join(words) for words in chunk]
        rows = encode_rows(
            core,
            texts,
            max_length=max_length,
            truncation_side=truncation_side,
            with_offsets=True,
        )
        parts.append(rows)
        for words, pieces in zip(chunk, rows.parts[0], strict=True):
            first_W = first_tokens(words, pieces.starts, pieces.ends)
            slots.append(np.where(first_W == NO_TOKEN, -1, first_W + len(rows.template.first)))
    tokens = join_ragged([rows.tokens for rows in parts])
    tag_BL = np.full((len(sentences), int(tokens.lengths.max(initial=1))), NO_TAG, np.int32)
    numbers = {name: number for number, name in enumerate(class_names)}
    for row, (tags, slot_W) in enumerate(zip(sentences.tags, slots, strict=True)):
        kept_W = slot_W >= 0
        tag_BL[row, slot_W[kept_W]] = np.array([numbers[tag] for tag in tags])[kept_W]
    return TaggedRows(
        tokenized=Tokenized(
            tokens=tokens,
            segments=join_ragged([rows.segments for rows in parts]),
            labels=np.zeros(len(sentences), np.int32),
            example_ids=np.arange(len(sentences), dtype=np.int32),
            head_slots={TAGS: tag_BL},
        ),
        slots=slots,
        num_lost=int(sum(np.sum(slot_W < 0) for slot_W in slots)),
    )
