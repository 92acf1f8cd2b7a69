"""Lines of CoNLL files become sentences, and lines that are damaged are named."""

import pytest

from adapler_jax.data.sources.conll import conll_rows


def read(text):
    """Return (line, words, tags) of the sentences of a file."""
    rows = conll_rows(text.split("\n"), "f")
    return [(where, row["words"], row["tags"]) for where, row in rows]


def test_documents_and_empty_lines_end_sentences():
    text = "-DOCSTART- -X- O\n\nAnn N B\n \nsaw V O\n-DOCSTART-\nLee N B\n\t\n"
    assert read(text) == [
        ("f: line 3", ["Ann"], ["B"]),
        ("f: line 5", ["saw"], ["O"]),
        ("f: line 7", ["Lee"], ["B"]),
    ]
    assert read("-DOCSTART-\tO\r\n\r\nAnn\tB\r\n") == [("f: line 3", ["Ann"], ["B"])]
    assert read("\n-DOCSTART- O\n") == []


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\x0b"])
def test_only_blanks_and_tabs_divide_columns(space):
    assert read(f"10{space}000 O\nAnn  B ") == [("f: line 1", [f"10{space}000", "Ann"], ["O", "B"])]
    assert read(f"{space} O") == [("f: line 1", [space], ["O"])]


def test_comments_before_a_sentence_are_left_out_and_signs_of_number_are_words():
    text = "# id 7\tdomain=en\n# text = Ann\nAnn _ _ B\n# _ _ O\n\n# _ _ O\n"
    assert read(text) == [("f: line 3", ["Ann", "#"], ["B", "O"]), ("f: line 6", ["#"], ["O"])]


def test_numbers_are_words_where_there_are_two_columns_or_other_sentences():
    assert read("1 O\n2 B") == [("f: line 1", ["1", "2"], ["O", "B"])]
    assert len(read("Ann N B\n\n1 N O\n2 N O")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ann B\nLee", "f: line 2 has the word 'Lee' without a tag; expected a word in the first"),
        ("Ann\tB\nLee\t ", "f: line 2 has the word 'Lee' without a tag"),
        ("Ann\tB\n\tO", "f: line 2 has the tag 'O' without a word"),
        ("Ann N B\nsaw O", "f: line 2 has 2 columns, and line 1 has 3; expected the same number"),
        ("Ann B\n\nNew York B", "f: line 3 has 3 columns, and line 1 has 2"),
        ("Ann B\rsaw O\n", "f: line 1 has a carriage return inside"),
        ("1\tAnn\tB\n2\tsaw\tO", "f: line 1 and the next ones count the words in their first col"),
    ],
)
def test_damaged_lines_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        read(text)
