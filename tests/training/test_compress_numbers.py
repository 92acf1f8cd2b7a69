"""Models of numbers that have no order to keep are named before any work."""

import numpy as np
import pytest

from adapler_jax.serving.predictors import ScorePredictor
from adapler_jax.training import compress_numbers


class Rated:
    """A regressor of two outputs that returns given numbers."""

    output_names = ("length", "mood")

    def __init__(self, numbers):
        self.numbers = np.float32(numbers)

    def predict(self, texts):
        return self.numbers[: len(texts)]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([[1, 5], [2, 5]], "gives all of 2 texts the mood 5, so no order can be kept"),
        ([[1, 5], [np.nan, 6]], "gives text 2 a length that is no number"),
    ],
)
def test_the_output_without_an_order_is_named(monkeypatch, numbers, message):
    monkeypatch.setattr(compress_numbers.Regressor, "load", lambda _: Rated(numbers))
    with pytest.raises(ValueError, match=message):
        compress_numbers.predict_numbers("full", ["a", "b"])


def test_an_output_may_not_have_the_name_of_another_column():
    model = Rated([[1, 5]])
    model.output_names = ("mood", "is_cut")
    with pytest.raises(ValueError, match="has an output named is_cut, as the column that says"):
        ScorePredictor(model)
