"""A second run replaces uncertain rows; its model may have more layers."""

import types

import numpy as np
import pytest

from adapler_jax.inference.rows import RowResult, SecondRun

FIRST = np.float32([[0.9, 0.1], [0.55, 0.45], [0.4, 0.6], [0.02, 0.98]])


class FakeRunner:
    """Answers class 1 for every row, by three layers that keep all of four tokens."""

    def __init__(self):
        self.seen = []

    def results(self, encoded, num_rows, budget):
        self.seen.append((list(encoded), num_rows, budget))
        keep_NL = np.ones((3, 4), bool)
        return [
            RowResult(row, np.float32([0.0, 1.0]), keep_NL, None) for row, _ in enumerate(encoded)
        ]

    def probs(self, tokens, num_rows, budget, *, num_classes):
        self.seen.append((list(tokens), num_rows, budget))
        return np.tile(np.float32([0.0, 1.0]), (len(tokens), 1)), np.ones(len(tokens))


def make_results():
    keep_NL = np.array([[1, 1, 1, 1], [1, 0, 0, 1]], bool)
    return [RowResult(row, prob_C, keep_NL, None) for row, prob_C in enumerate(FIRST)]


@pytest.mark.parametrize(
    ("margin", "threshold", "expected"),
    [(0.05, None, []), (0.15, None, [1]), (0.25, None, [1, 2]), (2.0, None, [0, 1, 2, 3])],
)
def test_rows_of_less_margin_run_again(margin, threshold, expected):
    runner = FakeRunner()
    second = SecondRun(runner, None, margin, threshold)
    assert second.rows(FIRST) == expected
    prob_MC, results = FIRST.copy(), make_results()
    assert second.replace_probs(prob_MC, ["a", "b", "c", "d"], 8) == expected
    second.replace_results(results, ["a", "b", "c", "d"], 8)
    for row, result in enumerate(results):
        assert result.row == row
        if row in expected:
            assert prob_MC[row].tolist() == result.prob_C.tolist() == [0.0, 1.0]
            assert result.earlier_N.tolist() == [4, 2, 0] and len(result.keep_NL) == 3
        else:
            assert prob_MC[row].tolist() == result.prob_C.tolist() == FIRST[row].tolist()
            assert result.earlier_N is None
    assert runner.seen[0] == (["abcd"[row] for row in expected], 8, None)


def test_a_threshold_of_the_decision_decides_what_is_uncertain():
    second = SecondRun(types.SimpleNamespace(), 1.0, 0.2, 0.98)
    assert second.rows(FIRST) == [3]


def test_no_rows_have_no_second_run():
    runner = FakeRunner()
    second = SecondRun(runner, 1.0, 0.5, None)
    second.replace_results([], [], 1)
    assert second.replace_probs(np.zeros((0, 2), np.float32), [], 1) == []
