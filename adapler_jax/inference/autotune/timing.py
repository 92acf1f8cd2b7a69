"""Measure seconds so that they can be compared."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

import jax

Name = TypeVar("Name", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one call, repeated."""

    first_s: float  # the first call, with compilation; it is not one of the repeats
    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Return the median of the repeats."""
        return statistics.median(self.seconds)

    @property
    def spread_s(self) -> tuple[float, float]:
        """Return the fastest and the slowest repeat."""
        return min(self.seconds), max(self.seconds)


def median_speedup(slow: Timing, fast: Timing) -> float:
    """Return the median over the rounds of slow over fast seconds; a slow round cancels out."""
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))


def time_interleaved(
    calls: Mapping[Name, Callable[[], object]], *, repeats: int, warmups: int = 1
) -> dict[Name, Timing]:
    """Return the seconds of several calls that take turns.

    A busy moment of the machine then affects all of them. Each call runs once before the rounds,
    which compiles it. Every round starts with another call: the first call of a round may find
    cold caches. The time of a call ends when its result is ready.

    Args:
      calls: functions without arguments, by name.
      repeats: rounds that count.
      warmups: rounds before them that do not count.

    Raises:
      ValueError: there are no calls or fewer than one repeat.
    """
    if not calls or repeats < 1:
        raise ValueError(f"{len(calls)} calls and {repeats} repeats; expected at least 1 of each")
    first = {name: seconds_of(call) for name, call in calls.items()}
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for round_index, names in enumerate(rounds(calls, warmups + repeats)):
        for name in names:
            elapsed_s = seconds_of(calls[name])
            if round_index >= warmups:
                seconds[name].append(elapsed_s)
    return {name: Timing(first[name], tuple(found)) for name, found in seconds.items()}


def rounds(names: Iterable[Name], num_rounds: int) -> Iterator[list[Name]]:
    """Yield all names for each round; every round starts with another one."""
    names = list(names)
    for round_index in range(num_rounds):
        start = round_index % len(names)
        yield names[start:] + names[:start]


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds until the result of a call is ready."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
