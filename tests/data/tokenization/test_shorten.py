"""Shortened rows are the rows of a text without these words."""

import numpy as np
import pytest
import sklearn.feature_extraction.text
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from adapler_jax.data.batching.ragged import ragged
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.tokenization.shorten import (
    KeepOrder,
    keep_tokens,
    piece_kinds,
    share_of_speedup,
    without_stop_words,
)
from adapler_jax.data.tokenization.stop_words import ENGLISH_STOP_WORDS
from adapler_jax.data.tokenization.text_rows import encode_rows
from tests.data.vocabulary import build_core, words_of

CORE = build_core(("the", "film", "is", "not", "good", "##is", "##s", "them", "a"))
KINDS = piece_kinds(CORE)


def rows_of(texts, pairs=None, core=CORE, max_length=32):
    """Return texts in tokens, with labels and ids that differ."""
    rows = encode_rows(core, texts, pairs, max_length=max_length)
    numbers = np.arange(len(texts), dtype=np.int32)
    return Tokenized(rows.tokens, rows.segments, numbers % 2, 10 + numbers)


def shown(tokenized, core=CORE):
    """Return each row as words."""
    return [" ".join(words_of(core, tokenized.tokens[row])) for row in range(len(tokenized.tokens))]


def assert_same_rows(left, right):
    """Tokens, segments, labels and ids are equal."""
    for name in ("tokens", "segments"):
        found, expected = getattr(left, name), getattr(right, name)
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(left.labels, right.labels)
    np.testing.assert_array_equal(left.example_ids, right.example_ids)


def test_the_stop_words_are_those_of_scikit_learn():
    assert ENGLISH_STOP_WORDS == sklearn.feature_extraction.text.ENGLISH_STOP_WORDS


def test_a_text_without_stop_words_is_the_shorter_text():
    short = without_stop_words(rows_of(["The film is not good .", "film"]), KINDS)
    assert_same_rows(short, rows_of(["film good", "film"]))


def test_each_text_of_a_pair_is_shortened_and_special_tokens_stay():
    pairs = rows_of(["the film ."], ["is a good film"])
    assert shown(without_stop_words(pairs, KINDS)) == ["[CLS] film [SEP] good film [SEP]"]
    assert_same_rows(without_stop_words(pairs, KINDS), rows_of(["film"], ["good film"]))


def test_a_piece_of_a_longer_word_is_no_stop_word():
    found = shown(without_stop_words(rows_of(["thes a films this"]), KINDS))
    assert found == ["[CLS] the ##s film ##s t ##h ##is [SEP]"]


def test_a_text_of_stop_words_alone_stays_as_it_is():
    texts, seconds = ["the .", "the film", ""], ["is film", "a .", "good"]
    found = shown(without_stop_words(rows_of(texts, seconds), KINDS))
    assert found == [
        "[CLS] the . [SEP] film [SEP]",
        "[CLS] film [SEP] a . [SEP]",
        "[CLS] [SEP] good [SEP]",
    ]


def test_words_of_bytes_begin_at_blanks_and_after_signs():
    words = ["<s>", "<pad>", "</s>", "<unk>", "the", "\u0120the", "\u0120film", "\u0120not"]
    words += ["ing", ".", "is", "\u0120is"]
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False
    )
    core.add_tokens(["a", "b"])  # which templates are read from
    kinds = piece_kinds(core)
    texts = [
        "the \u0120film \u0120not ing . is \u0120is",
        "\u0120film the . \u0120the",  # a piece without a blank before it continues the film
    ]
    found = shown(without_stop_words(rows_of(texts, core=core), kinds), core)
    assert found == ["<s> \u0120film \u0120not ing </s>", "<s> \u0120film the </s>"]


def test_rows_with_slots_of_a_head_are_rejected():
    rows = rows_of(["film"])
    with_slots = Tokenized(
        rows.tokens, rows.segments, rows.labels, rows.example_ids, {"marker": np.zeros((1, 2))}
    )
    with pytest.raises(ValueError, match=r"head slots \(marker\) are not shortened"):
        keep_tokens(with_slots, np.ones(3, bool), KINDS)


def random_rows(lengths, seed=0):
    """Return rows of these numbers of letters."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(list("bcdefgh"), size)) for size in lengths]
    return rows_of(texts, max_length=512)


def test_random_tokens_are_a_subsequence_drawn_by_the_seed():
    whole = random_rows([9, 30, 1, 0])
    order = KeepOrder(whole, KINDS, seed=3, is_random=True)
    half = order.keep(0.5)
    for row in range(4):
        kept, remaining = half.tokens[row].tolist(), iter(whole.tokens[row].tolist())
        assert all(token in remaining for token in kept)  # in order
        assert kept[0] == CORE.token_to_id("[CLS]") and kept[-1] == CORE.token_to_id("[SEP]")
    assert half.lengths.tolist()[2:] == [3, 2]  # one token stays of a text that has one
    np.testing.assert_array_equal(half.example_ids, whole.example_ids)
    np.testing.assert_array_equal(half.tokens.offsets, half.segments.offsets)
    again = KeepOrder(whole, KINDS, seed=3, is_random=True).keep(0.5)
    assert_same_rows(again, half)
    other = KeepOrder(whole, KINDS, seed=4, is_random=True).keep(0.5)
    assert other.tokens.values.tolist() != half.tokens.values.tolist()


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_a_larger_share_keeps_more_of_each_text_and_lengths_foretell_it(lengths, share, other):
    order = KeepOrder(random_rows(lengths), KINDS, seed=1, is_random=True)
    small, large = sorted((share, other))
    np.testing.assert_array_equal(order.lengths(small), order.keep(small).lengths)
    assert np.all(order.lengths(small) <= order.lengths(large))
    assert np.all(np.abs(order.counts(share).sum() - share * sum(lengths)) <= len(order.counts(0)))
    assert order.keep(1.0).lengths.tolist() == [2 + size for size in lengths]


def test_a_cut_text_is_its_first_tokens_and_each_text_of_a_pair_is_cut():
    pairs = rows_of(["film good is a", "film"], ["good the not is", ""])
    half = KeepOrder(pairs, KINDS, seed=0, is_random=False).keep(0.5)
    expected = ["[CLS] film good [SEP] good the [SEP]", "[CLS] film [SEP] [SEP]"]
    assert shown(half) == expected
    whole = random_rows([9, 30, 1, 0])
    order = KeepOrder(whole, KINDS, seed=3, is_random=False)
    for share in (0.2, 0.5, 0.9):
        cut = order.keep(share)
        assert cut.lengths.tolist() == order.lengths(share).tolist()
        for row in range(4):
            kept = cut.tokens[row].tolist()
            assert kept[:-1] == whole.tokens[row].tolist()[: len(kept) - 1]
            assert kept[-1] == CORE.token_to_id("[SEP]")


def test_the_share_of_tokens_keeps_its_mean_in_short_texts():
    order = KeepOrder(random_rows([3] * 400), KINDS, seed=0, is_random=True)
    assert order.counts(0.5).sum() / 1200 == pytest.approx(0.5, abs=0.02)


def test_a_share_is_found_for_a_speedup_within_one_percent():
    order = KeepOrder(random_rows([20] * 50), KINDS, seed=0, is_random=True)

    def speedup_of(share):
        return 22 * 50 / order.lengths(share).sum()

    share = share_of_speedup(speedup_of, 2.0)
    assert speedup_of(share) == pytest.approx(2.0, rel=0.01)
    assert share_of_speedup(speedup_of, 50.0) is None
    assert share_of_speedup(speedup_of, 0.5) is None


def test_left_out_tokens_close_up():
    rows = Tokenized(
        ragged([np.array([2, 7, 8, 9, 3])], np.int32),
        ragged([np.array([0, 0, 1, 1, 1])], np.int8),
        np.zeros(1, np.int32),
        np.zeros(1, np.int32),
    )
    kinds = KINDS
    assert kinds.is_special_V[[2, 3]].all()
    found = keep_tokens(rows, np.array([False, True, False, True, False]), kinds)
    assert found.tokens[0].tolist() == [2, 7, 9, 3] and found.segments[0].tolist() == [0, 0, 1, 1]
