"""Seconds, measured so that they can be compared."""

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one call, repeated."""

    first_s: float  # the first call, compilation included; not among the others
    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The median of the repeats."""
        return statistics.median(self.seconds)

    @property
    def spread_s(self) -> tuple[float, float]:
        """The fastest and the slowest repeat."""
        return min(self.seconds), max(self.seconds)


def median_speedup(slow: Timing, fast: Timing) -> float:
    """Median seconds of the one over those of the other."""
    return slow.median_s / fast.median_s


def time_interleaved(calls: dict[str, Callable], *, repeats: int) -> dict[str, Timing]:
    """Seconds of several calls that take turns, so that a busy moment of the machine hits all of them.

    Each call is made once before, which compiles and stands apart; what it returns is waited for.
    Raises ValueError on less than one repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; expected at least 1")
    first = {name: _seconds(call) for name, call in calls.items()}
    seconds = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(_seconds(call))
    return {name: Timing(first[name], tuple(seconds[name])) for name in calls}


def _seconds(call: Callable) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
