"""Published speedups are padding times dropping."""

import pytest

from benchmarks.published import AVERAGE_LENGTH, MAX_LENGTH, make_rows, padding_speedup


def test_texts_of_full_length_have_no_padding():
    assert padding_speedup(64, 64.0) == pytest.approx(1.0)


@pytest.mark.parametrize("task", AVERAGE_LENGTH)
def test_padding_costs_a_little_more_than_its_share_of_tokens(task):
    """Attention grows with the square of the length; at 128 tokens it is a small part."""
    tokens = MAX_LENGTH[task] / AVERAGE_LENGTH[task]
    assert tokens < padding_speedup(MAX_LENGTH[task], AVERAGE_LENGTH[task]) < 1.1 * tokens


def test_every_row_has_both_parts_and_their_product():
    rows = make_rows()
    assert len(rows) == 2 * len(AVERAGE_LENGTH)
    for row in rows:
        assert row["together"] == pytest.approx(row["from_padding"] * row["from_dropping"])
        if row["paper"] == "PoWER-BERT":
            assert row["together"] == pytest.approx(row["published"])
    (found,) = (row for row in rows if (row["paper"], row["task"]) == ("ToP", "MNLI"))
    assert found["from_dropping"] == 2.0 and found["published"] == 6.68
    assert found["together"] == pytest.approx(6.68, abs=0.01)
