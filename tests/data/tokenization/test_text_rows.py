"""Every function gives the tokens of the whole text, at a cost that the kept tokens decide."""

import time
import tracemalloc

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization import condense as condense_module
from adapler_jax.data.tokenization import pieces as pieces_module
from adapler_jax.data.tokenization.condense import condense
from adapler_jax.data.tokenization.offsets import encode_with_offsets
from adapler_jax.data.tokenization.pieces import encode_all, encode_pieces, longest_first
from adapler_jax.data.tokenization.text_rows import encode_rows
from adapler_jax.data.tokenization.tokens import encode
from adapler_jax.inference.words import encode_tokens, encode_whole, encode_words
from tests.data.conftest import build_tokenizer
from tests.data.vocabulary import build_core, build_roberta_core

HOSTILE = [
    "\u200b",
    "\u200c\u00a0",
    "\u200d",
    "\ufeff",
    "\x00",
    "\x1c",
    "\x85",
    "\u2028",
    "\u0301",
    "e\u0301",
    "\u093f",
    "\ud83d",
    "\ude00",
    "\U0001f469\u200d\U0001f52c",
    "🎬",
    "\U000e0041",
    "\ue000",
    "\ufffd",
    "\u202e",
    "שלום",
    "مرحبا",
    "日本",
    "한국",
    "ﬁ",
    "İ",
    "ß",
    " ",
    "  ",
    "\n",
    "\t",
    "\u3000",
    "a",
    "film",
    "Good",
    "don't",
    ".",
    "!!",
    "[SEP]",
    "[MASK]",
    "<s>",
    "</s>",
    "##a",
    "▁",
    "Ġ",
    "x" * 120,
    "12",
    "\u0600",
    "a\u200bb",
]
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(HOSTILE),
        st.tuples(st.sampled_from(HOSTILE), st.integers(2, 60)).map(
            lambda found: found[0] * found[1]
        ),
        st.characters(),
    ),
    max_size=24,
).map("".join)
SIDES = st.sampled_from(["right", "left", "middle"])


def build_unigram(*, split=True) -> Tokenizer:
    """Pieces as XLM-RoBERTa's, or without a split at blanks."""
    pieces = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        "<mask>",
        "▁",
        "▁a",
        "▁film",
        "fi",
        "lm",
        *"abdegilmotx.日▁",
        "▁▁",
    ]
    core = Tokenizer(
        models.Unigram([(piece, -float(i % 7)) for i, piece in enumerate(dict.fromkeys(pieces))], 3)
    )
    core.normalizer = normalizers.NFKC()
    space = pre_tokenizers.Metaspace(prepend_scheme="always" if split else "first", split=split)
    core.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), space]) if split else space
    )
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    core.add_special_tokens(["<s>", "</s>", "<mask>"])
    return core


def build_pairs() -> Tokenizer:
    """Byte pairs as RoBERTa's, of blanks and letters."""
    core = build_roberta_core()
    numbers, merges = (
        core.get_vocab(with_added_tokens=False),
        [("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("x", "x"), ("i", "l")],
    )
    core.model = models.BPE(
        numbers | {"".join(pair): len(numbers) + i for i, pair in enumerate(merges)}, merges
    )
    return core


def build_bert(**options) -> Tokenizer:
    """A WordPiece tokenizer with special tokens."""
    core = build_core(("a", "film", "Good"))
    core.normalizer = normalizers.BertNormalizer(**options)
    core.add_special_tokens(["[SEP]", "[MASK]"])
    return core


CORES = {
    "uncased": build_bert(lowercase=True),
    "cased": build_bert(lowercase=False),
    "bytes": build_pairs(),
    "pieces": build_unigram(),
    "unsplit": build_unigram(split=False),
}


def expected_rows(core, texts, pairs, max_length, side):
    """Return the rows of whole texts.

    The tokenizers library cuts single texts. Its cost for pairs is quadratic: they are cut here.
    """
    texts = [replace_lone_surrogates(text) for text in texts]
    given = texts if pairs is None else list(zip(texts, map(replace_lone_surrogates, pairs)))
    if side != "middle" and pairs is None:
        core.enable_truncation(max_length, strategy="longest_first", direction=side)
        return [(row.ids, row.type_ids, bool(row.overflowing)) for row in core.encode_batch(given)]
    core.no_truncation()
    room = max_length - core.num_special_tokens_to_add(pairs is not None)
    rows = []
    for row in core.encode_batch(given):
        parts = np.array([-1 if part is None else part for part in row.sequence_ids])
        kept = parts < 0
        counts = [room, 0]
        if pairs is not None:
            counts = [
                int(count[0])
                for count in longest_first([np.sum(parts == 0)], [np.sum(parts == 1)], room)
            ]
        for part, count in enumerate(counts):
            indices = np.flatnonzero(parts == part)
            head = {"right": count, "left": 0, "middle": count - count // 2}[side]
            kept[indices[:head]] = kept[indices[max(0, len(indices) - count + head) :]] = True
        rows.append(
            (
                np.array(row.ids)[kept].tolist(),
                np.array(row.type_ids)[kept].tolist(),
                not kept.all(),
            )
        )
    return rows


def check_all_ways(core, texts, pairs, max_length, side):
    """Compare rows of training, prediction and explanation with whole texts; return the last."""
    expected = expected_rows(core, texts, pairs, max_length, side)
    rows = encode_rows(core, texts, pairs, max_length=max_length, truncation_side=side)
    assert [
        (rows.tokens[i].tolist(), rows.segments[i].tolist(), rows.is_cut(i))
        for i in range(len(texts))
    ] == expected
    limits = {"max_length": max_length, "truncation_side": side}
    words = encode_words(core, texts, pairs, **limits)
    for found in (encode_tokens(core, texts, pairs, **limits), words):
        assert [
            (row.token_L.tolist(), row.segment_L.tolist(), row.is_cut) for row in found
        ] == expected
    return words


def check_words(words):
    """Words are whole, without blanks at their ends, where the text has them."""
    for row in words:
        for word in row.words:
            assert word.text == row.texts[word.part][word.start : word.end] != ""
            assert word.text == word.text.strip()
        assert row.word_L.max(initial=-1) < len(row.words) and len(row.word_L) == len(row.token_L)


@pytest.mark.parametrize("name", list(CORES))
@hypothesis.settings(max_examples=50, deadline=None, derandomize=True)
@hypothesis.given(st.lists(TEXTS, min_size=1, max_size=3), st.integers(4, 12), SIDES)
def test_rows_equal_the_cut_tokens_of_whole_texts(name, texts, max_length, side):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces_module, "_FIRST", 1)
        check_words(check_all_ways(CORES[name], texts, None, max_length, side))


@pytest.mark.parametrize("name", ["uncased", "bytes"])
@hypothesis.settings(max_examples=50, deadline=None, derandomize=True)
@hypothesis.given(
    st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=2), st.integers(6, 15), SIDES
)
def test_rows_of_pairs_equal_the_cut_tokens_of_whole_texts(name, pairs, max_length, side):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces_module, "_FIRST", 1)
        check_words(check_all_ways(CORES[name], *map(list, zip(*pairs)), max_length, side))


@pytest.mark.parametrize("name", ["uncased", "cased", "bytes"])
@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(HOSTILE), st.integers(1, 900)), min_size=1, max_size=4),
    SIDES,
)
def test_long_runs_do_not_change_rows(name, runs, side):
    if (
        name == "bytes" and side != "right"
    ):  # bytes of a mixed run may be paired otherwise at its end
        runs = [("film", 1), *runs[:1], (" film", 1)]
    text = "".join(fragment * count for fragment, count in runs)
    with pytest.MonkeyPatch.context() as patch:
        for constant, value in {"_FIRST": 1, "_RUN": 512, "_RUN_TOKEN": 8}.items():
            patch.setattr(pieces_module, constant, value)
        patch.setattr(condense_module, "_PERIOD", 8)
        check_all_ways(CORES[name], [text], None, 8, side)


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(st.lists(TEXTS, min_size=1, max_size=3))
def test_whole_texts_with_long_runs_have_the_same_tokens(texts):
    for core in CORES.values():
        core.no_truncation()
        expected = [
            row.ids
            for row in core.encode_batch(
                list(map(replace_lone_surrogates, texts)), add_special_tokens=False
            )
        ]
        indices, text_of = encode_with_offsets(core, texts)
        for text, number, ids in zip(texts, text_of, expected):
            assert (
                indices.ids[indices.offsets[number] : indices.offsets[number + 1]].tolist() == ids
            )
            assert encode_whole(core, replace_lone_surrogates(text)).token_L.tolist() == ids
        assert [row.ids.tolist() for row in encode_all(core, texts)] == expected


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 9), st.data())
def test_pairs_are_cut_as_the_library_cuts_them(firsts, room, data):
    seconds = data.draw(st.lists(st.integers(0, 9), min_size=len(firsts), max_size=len(firsts)))
    core = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.enable_truncation(room, strategy="longest_first")
    rows = core.encode_batch(
        [("a " * first, "b " * second) for first, second in zip(firsts, seconds)]
    )
    found = np.minimum([firsts, seconds], longest_first(firsts, seconds, room))
    assert found.tolist() == [[row.ids.count(part) for row in rows] for part in (0, 1)]


def test_training_and_prediction_have_the_same_tokens():
    tokenizer = build_tokenizer()
    mail = "\u200c\u00a0" * 300 + "a good film"
    trained = encode([mail], None, tokenizer, max_length=64)[0][0].tolist()
    assert (
        trained
        == encode_tokens(tokenizer.backend_tokenizer, [mail], None, max_length=64)[
            0
        ].token_L.tolist()
    )
    assert trained == [2, 5, 6, 8, 3]


GOOD = " a film"


@pytest.mark.parametrize("name", list(CORES))
@pytest.mark.parametrize(
    "start",
    [
        "x" * 10**6,
        "x7" * 10**6,
        " " * 10**7,
        " \n" * 10**6,
        "\u200b" * 10**6,
        "\u0301" * 10**6,
        "🎬" * 10**6,
        "\u200c\u00a0" * 10**6,
        "!" * 10**6,
        "日" * 10**6,
        "\ue000" * 10**6,
    ],
)
def test_a_text_of_millions_of_characters_costs_little(name, start):
    """Neither memory nor seconds, and the words after it are read where it has few tokens."""
    core = CORES[name]
    begin = time.perf_counter()
    (row,) = encode_words(core, [start + GOOD], None, max_length=32)
    assert time.perf_counter() - begin < 5
    short = encode_words(core, [start[: 64 * 105 * 4] + GOOD], None, max_length=32)[0]
    assert row.token_L.tolist() == short.token_L.tolist()
    if row.words and row.words[-1].text == "film":
        assert row.texts[0][row.words[-1].start : row.words[-1].end] == "film"


def test_condensing_keeps_memory_flat():
    text = " " * 3 * 10**7 + "a"
    condense("x", 4)  # its table
    tracemalloc.start()
    found = condense(text, 1 << 14)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.text) < 1 << 15 and peak < 40 * 10**6


@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(TEXTS.map(replace_lone_surrogates), st.integers(1, 20), st.integers(1, 7))
def test_a_condensed_text_keeps_its_offsets(text, longest, period):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(condense_module, "_PERIOD", period)
        found = condense(text, longest)
    indices = found.whole_starts(np.arange(len(found.text)))
    assert "".join(text[index] for index in indices) == found.text and np.all(np.diff(indices) > 0)
    assert np.array_equal(found.whole_ends(np.arange(1, len(found.text) + 1)), indices + 1)
    assert len(found.text) <= len(text) and (len(found.text) == len(text)) == (found.text == text)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("uncased", "a  film. 日本 e\u0301", ["a", "film", ".", "日", "本", "e\u0301"]),
        ("uncased", "go\u200bod\u200b a", ["go\u200bod", "a"]),
        ("cased", " a\n\nfilm\u3000", ["a", "film"]),
        ("bytes", " a  film 🎬 x", ["a", "film", "🎬", "x"]),
        ("bytes", "a<mask> film", ["a", "<mask>", "film"]),
        ("pieces", " a  film 日x . ", ["a", "film", "日x", "."]),
        ("unsplit", " a  film xx 日 a", ["a", "film", "xx", "日", "a"]),
        ("unsplit", "a film\nb", ["a", "film", "b"]),
    ],
)
def test_words_are_whole_and_without_blanks(name, text, words):
    (row,) = encode_words(CORES[name], [text], None, max_length=40)
    assert [word.text for word in row.words] == words
    assert {word.text for word in encode_whole(CORES[name], text).words} == set(words)
    assert sorted(set(row.word_L.tolist()) - {-1}) == list(range(len(words)))


def test_an_unknown_side_raises():
    with pytest.raises(
        ValueError, match="unknown truncation_side 'both'; known: right, left, middle"
    ):
        encode_rows(CORES["uncased"], ["a"], max_length=8, truncation_side="both")


def test_only_the_kept_end_of_a_long_text_is_tokenized():
    text = "a " * 10**6 + "film"
    for side in ("right", "left", "middle"):
        (found,) = encode_pieces(CORES["uncased"], [text], 8, side=side)
        assert not found.is_whole and len(found.ids) < 300
    kept = found.keep(5, "middle")
    assert kept.head == 3 and len(kept.ids) == 5
    assert CORES["uncased"].id_to_token(int(kept.ids[-1])) == "film"
