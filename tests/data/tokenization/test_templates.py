"""Pieces are put between the special tokens of the tokenizer, and chunks are joined."""

import dataclasses
import itertools

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from adapler_jax.data.batching.ragged import Ragged, ragged
from adapler_jax.data.sources.chunks import at_least_one, in_chunks
from adapler_jax.data.tokenization.templates import (
    fill_template,
    join_chunks,
    marker_ids,
    read_template,
    token_rows,
)
from tests.data.vocabulary import build_core, build_roberta_core, words_of

NOTHING = np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True)
class Rows:
    tokens: Ragged
    labels: np.ndarray
    question: np.ndarray
    size: int
    ids: list[str]


@pytest.mark.parametrize("build", [build_core, build_roberta_core])
@pytest.mark.parametrize("pair", [True, False])
def test_a_filled_template_equals_the_tokens_of_the_pair(build, pair):
    core = build()
    texts = [("a film", "bad"), ("", "é 🎬"), ("日本", "")]
    parts = list(zip(*(token_rows(core, part) for part in zip(*texts))))
    tokens, segments = fill_template(
        read_template(core, pair=pair), [part if pair else (part[0], NOTHING) for part in parts]
    )
    whole = [core.encode(*text[: 1 + pair]) for text in texts]
    assert [row.tolist() for row in (tokens[i] for i in range(3))] == [row.ids for row in whole]
    assert [row.tolist() for row in (segments[i] for i in range(3))] == [
        row.type_ids for row in whole
    ]
    assert tokens.values.dtype == np.int32 and segments.values.dtype == np.int8


def test_robertas_template_has_two_ends_in_the_middle():
    core = build_roberta_core()
    template = read_template(core, pair=True)
    assert [words_of(core, part) for part in template[:3]] == [["<s>"], ["</s>", "</s>"], ["</s>"]]
    assert template.num_special == 4 and template.segments.tolist() == [0] * 5
    assert read_template(build_core(), pair=True).segments.tolist() == [0, 0, 0, 1, 1]
    assert read_template(build_core(), pair=False).num_special == 2


def test_truncation_and_padding_left_in_a_tokenizer_do_not_count():
    core = build_core()
    core.enable_truncation(4)
    core.enable_padding(length=8)
    assert read_template(core, pair=True).num_special == 3
    assert len(token_rows(core, ["abcdefgh ij"])[0]) == 10


def test_lone_surrogates_are_replaced():
    assert words_of(build_core(), token_rows(build_core(), ["a \ud83c b"])[0]) == ["a", "b"]


def test_a_tokenizer_without_letters_raises():
    with pytest.raises(ValueError, match="the tokenizer has no tokens for 'a' and 'b'"):
        read_template(Tokenizer(models.BPE({}, [])), pair=True)


def test_markers_must_be_in_the_vocabulary():
    assert marker_ids(build_core(), ("[unused2]", "[unused1]")) == [6, 5]
    with pytest.raises(
        ValueError, match=r"the vocabulary has no '\[unused1\]'.*; use the tokenizer of a BERT"
    ):
        marker_ids(build_roberta_core(), ("[unused1]",))


def test_no_pieces_are_no_rows():
    tokens, segments = fill_template(read_template(build_core(), pair=True), [])
    assert len(tokens) == len(segments) == 0 and tokens.values.dtype == np.int32
    assert len(ragged([], np.int8)) == 0 and ragged([], np.int8).values.dtype == np.int8


def test_joined_chunks_continue_the_count_of_questions():
    def chunk(start, count):
        numbers = np.arange(count, dtype=np.int32)
        rows = ragged([np.full(start + number, number) for number in numbers], np.int32)
        return Rows(rows, numbers + start, numbers, start, [str(number) for number in numbers])

    joined = join_chunks([chunk(1, 2), chunk(5, 1), chunk(9, 0)])
    assert [joined.tokens[row].tolist() for row in range(3)] == [[0], [1, 1], [0] * 5]
    assert (
        joined.labels.tolist() == [1, 2, 5] and joined.ids == ["0", "1", "0"] and joined.size == 9
    )
    assert joined.question.tolist() == [0, 1, 2] and joined.question.dtype == np.int32


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, [0]), (1, [1]), (2, [2]), (3, [2, 1]), (4, [2, 2])]
)
def test_chunks_are_full_but_for_the_last(count, sizes):
    chunks = list(at_least_one(in_chunks(range(count), 2)))
    assert [len(chunk) for chunk in chunks] == sizes and list(itertools.chain(*chunks)) == list(
        range(count)
    )
    assert list(in_chunks(range(count), 2)) == (chunks if count else [])
