"""A latency has the largest budget whose calls are short enough."""

import dataclasses

import pytest

from adapler_jax.evaluation import budget_latency
from adapler_jax.evaluation.budget_latency import NUM_CALLS, NUM_ROUNDS, Latency, measure_latency
from adapler_jax.inference.calibration import Calibration


def make_calibration(milliseconds):
    """Return a calibration with the milliseconds of each budget."""
    rows = tuple({"budget": b, "milliseconds": value} for b, value in milliseconds.items())
    return Calibration(tuple(milliseconds), ((0.0,) * len(rows),), rows, 1, 1)


FOUND = make_calibration({0.2: 4.0, 0.5: 9.0, 0.8: 15.0, 1.0: 20.0})


@pytest.mark.parametrize(
    ("asked", "budget"), [(4.0, 0.2), (8.9, 0.2), (9.0, 0.5), (19.0, 0.8), (100.0, 1.0)]
)
def test_the_largest_budget_within_the_latency_counts(asked, budget):
    assert Latency(asked).budget_of(FOUND) == budget
    assert Latency(asked).sentence(FOUND) == (
        f"budget {budget:g} is the largest within {asked:g} ms"
    )


def test_timings_need_not_rise_with_the_budget():
    assert Latency(9.5).budget_of(make_calibration({0.2: 4.0, 0.5: 10.0, 0.8: 9.0})) == 0.8


def test_a_latency_that_no_budget_reaches_names_the_nearest():
    with pytest.raises(ValueError) as error:
        Latency(1.5, batch_size=8).budget_of(FOUND)
    expected = (
        "no budget takes 1.5 ms or less with batch size 8; the nearest is budget 0.2 with 4.0 ms"
    )
    assert str(error.value) == Latency(1.5, batch_size=8).sentence(FOUND) == expected


@pytest.mark.parametrize(
    "latency", [Latency(0.0), Latency(-1.0), Latency(float("nan")), Latency(5.0, batch_size=0)]
)
def test_other_numbers_are_rejected(latency):
    with pytest.raises(ValueError, match="expected numbers above 0"):
        latency.check()


@dataclasses.dataclass
class Clocked:
    """A classifier whose calls take as long as their budget says."""

    clock: float = 0.0
    calls: list = dataclasses.field(default_factory=list)

    def warm_up(self, batch_size):
        self.calls.append(("warm up", batch_size))

    def predict(self, texts, *, batch_size, budget):
        self.calls.append((len(texts), batch_size, budget))
        self.clock += budget / 1000.0


def test_budgets_take_turns_and_compilation_is_not_counted(monkeypatch):
    classifier = Clocked()
    monkeypatch.setattr(budget_latency.time, "perf_counter", lambda: classifier.clock)
    found = measure_latency(classifier, ["a", "b", "c"], (0.5, 1.0), batch_size=2)
    assert found == pytest.approx({0.5: 0.5, 1.0: 1.0})
    assert classifier.calls[0] == ("warm up", 2)
    budgets = [call[2] for call in classifier.calls[1:]]
    assert budgets == (1 + NUM_ROUNDS) * (NUM_CALLS * [0.5] + NUM_CALLS * [1.0])
    assert all(call[:2] == (2, 2) for call in classifier.calls[1:])
