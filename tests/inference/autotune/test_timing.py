import time

import jax
import pytest

from adapler_jax.inference.autotune.timing import Timing, median_speedup, time_interleaved


def test_every_repeat_comes_back_and_rounds_interleave():
    calls = []
    timings = time_interleaved(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmups=1
    )
    assert [len(timing.seconds) for timing in timings.values()] == [3, 3]
    assert calls == ["a", "b"] + ["a", "b", "b", "a"] * 2


def test_the_first_call_is_apart():
    pauses = iter([0.1, 0.0, 0.0, 0.0])
    timing = time_interleaved({"a": lambda: time.sleep(next(pauses))}, repeats=2)["a"]
    assert timing.first_s >= 0.1 and max(timing.seconds) < 0.1


def test_the_time_includes_the_result(monkeypatch):
    waited = []
    monkeypatch.setattr(jax, "block_until_ready", waited.append)
    time_interleaved({"a": lambda: 5}, repeats=2, warmups=0)
    assert waited == [5, 5, 5]


def test_medians_by_hand():
    slow, fast = Timing(9.0, (4.0, 8.0, 6.0)), Timing(9.0, (1.0, 4.0, 2.0))
    assert slow.median_s == 6.0 and slow.spread_s == (4.0, 8.0)
    assert median_speedup(slow, fast) == 3.0


@pytest.mark.parametrize("arguments", [({}, 1), ({"a": int}, 0)])
def test_nothing_to_time_is_rejected(arguments):
    with pytest.raises(ValueError, match="expected at least 1 of each"):
        time_interleaved(arguments[0], repeats=arguments[1])
