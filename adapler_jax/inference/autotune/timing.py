"""Seconds, measured so that they can be compared."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

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
    """Median over the rounds of the one's seconds over the other's: what slows a whole round falls out."""
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))


def time_interleaved(
    calls: Mapping[str, Callable], *, repeats: int, warmups: int = 1
) -> dict[str, Timing]:
    """Seconds of several calls that take turns, so that a busy moment of the machine hits all of them.

    Each call is made once before, which compiles and stands apart; what it returns is waited for. Every round starts
    with another call, since the first of a round may find the caches cold.
    Args: repeats: rounds that count. warmups: rounds before them that do not.
    Raises ValueError on no calls or less than one repeat.
    """
    if not calls or repeats < 1:
        raise ValueError(f"{len(calls)} calls and {repeats} repeats; expected at least 1 of each")
    first = {name: seconds_of(call) for name, call in calls.items()}
    seconds = {name: [] for name in calls}
    for round_index, names in enumerate(rounds(calls, warmups + repeats)):
        for name in names:
            elapsed_s = seconds_of(calls[name])
            if round_index >= warmups:
                seconds[name].append(elapsed_s)
    return {name: Timing(first[name], tuple(found)) for name, found in seconds.items()}


def rounds(names: Iterable[Hashable], num_rounds: int) -> Iterator[list]:
    """All names in each round, every round starting with another one."""
    names = list(names)
    for round_index in range(num_rounds):
        start = round_index % len(names)
        yield names[start:] + names[:start]


def seconds_of(call: Callable) -> float:
    """Seconds of one call; what it returns is waited for."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
