"""Texts are any ordered iterable of strings or pairs; a message names a wrong entry."""

import numpy as np
import pytest

from adapler_jax.inference.multiple_choice import as_choice
from adapler_jax.inference.text_reader import as_question
from adapler_jax.inference.texts import split_pairs

TEXTS = ["a film", "", "日本"]
PAIRS = [("a", "b"), ("c", "")]


class Series:
    """Has the interface of a pandas column."""

    ndim = 1

    def __init__(self, values):
        self.values = values

    def __iter__(self):
        return iter(self.values)


class Table:
    """Has the interface of a pandas table: it iterates over the names of its columns."""

    iloc, columns = None, ("text",)

    def __iter__(self):
        return iter(self.columns)


@pytest.mark.parametrize(
    "texts",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, object),
        (text for text in TEXTS),
        Series(TEXTS),
        dict.fromkeys(TEXTS).keys(),
        [{"text": text} for text in TEXTS],
        [{"text": TEXTS[0], "text_pair": None}] * 0,
        [np.str_(text) for text in TEXTS],
    ],
)
def test_every_ordered_iterable_of_strings_is_a_list_of_texts(texts):
    firsts, seconds = split_pairs(texts)
    assert seconds is None and firsts in (TEXTS, [])
    assert all(type(text) is str for text in firsts)


@pytest.mark.parametrize(
    "texts",
    [
        PAIRS,
        [list(pair) for pair in PAIRS],
        np.array(PAIRS),
        iter(PAIRS),
        [np.array(pair) for pair in PAIRS],
        [{"text": first, "text_pair": second} for first, second in PAIRS],
        Series(PAIRS),
    ],
)
def test_every_ordered_iterable_of_pairs_is_a_list_of_pairs(texts):
    assert split_pairs(texts) == (["a", "c"], ["b", ""])


def test_a_tuple_of_two_strings_is_two_texts_and_in_a_list_a_pair():
    assert split_pairs(("a", "b")) == (["a", "b"], None)
    assert split_pairs([("a", "b")]) == (["a"], ["b"])
    assert split_pairs([]) == ([], None)


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (None, "NoneType"),
        (float("nan"), "float"),
        (b"a", "bytes"),
        (3, "int"),
        (np.float32(1), "float32"),
        (["a"], "list"),
        (["a", "b", "c"], "list"),
        (("a", None), "tuple"),
        ({"a"}, "set"),
        (("a", "b"), "tuple"),
        ({"label": "a"}, "dict"),
        ({"text": "a", "text_pair": 3}, "dict"),
        ({"text_pair": "a"}, "dict"),
        ({}, "dict"),
        (np.array([["a", "b"]]), "ndarray"),
    ],
)
def test_one_wrong_entry_is_named_by_index_and_type(entry, kind):
    with pytest.raises(
        TypeError, match=f"^text 1 is .*, of type {kind}; expected all strings, or all pairs of str"
    ):
        split_pairs(["a", entry, "b"])


@pytest.mark.parametrize("texts", ["a", b"a", {"text": "a"}, {"a", "b"}, None, 3, np.array("a")])
def test_an_unordered_collection_or_one_text_is_no_list(texts):
    with pytest.raises(
        TypeError, match=r"expected a list of texts, not .*; write \[text\] for a single one"
    ):
        split_pairs(texts)


def test_a_table_is_rejected_before_its_column_names_are_classified():
    with pytest.raises(TypeError, match=r"not a table; give a column of it, as table\['text'\]"):
        split_pairs(Table())


def test_questions_and_options_may_be_rows_of_arrays():
    asked = as_question(0, np.array(["who", "she"]))
    assert (type(asked.question), asked.question, asked.context) == (str, "who", "she")
    assert as_choice(0, ("who", "she", np.array(["a", "b"]))).options == ("a", "b")
    for wrong in (
        np.array(["who"]),
        np.array([["who", "she"]]),
        np.array("who"),
        ("who", float("nan")),
        None,
    ):
        with pytest.raises(
            TypeError, match=r"pair 1 is .*; expected .question, context., two strings"
        ):
            as_question(1, wrong)
