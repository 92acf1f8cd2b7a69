"""Systems take turns, so that a busy moment of the machine hits all of them."""

import os
import time
from collections.abc import Callable, Hashable, Mapping

import numpy as np

from adapler_jax.inference.autotune.timing import rounds

PAUSE_S = 0.1  # threads of ONNX Runtime spin for 20 to 30 ms after a call, and would slow the next system down


def use_cores(num_cores: int) -> int:
    """Restricts what this process starts from now on to some of its cores, 0 for all, and returns their number.

    JAX takes the cores that it finds at its first computation: call this before. Raises ValueError where there are
    fewer.
    """
    found = sorted(os.sched_getaffinity(0))
    if not 0 <= num_cores <= len(found):
        raise ValueError(
            f"{num_cores} threads for {len(found)} cores; expected at most one a core, 0 for all"
        )
    if num_cores:
        os.sched_setaffinity(0, found[:num_cores])
    return num_cores or len(found)


def time_turns(
    turns: Mapping[Hashable, Callable], *, num_rounds: int, pause_s: float = PAUSE_S
) -> dict:
    """Seconds by system, float64 [rounds, calls]; a turn returns the seconds of its calls.

    A pause stands before every turn, in which the threads of the system before come to rest. Every round starts with
    another system. Raises ValueError on no systems or less than one round.
    """
    if not turns or num_rounds < 1:
        raise ValueError(
            f"{len(turns)} systems and {num_rounds} rounds; expected at least 1 of each"
        )
    seconds = {name: [] for name in turns}
    for names in rounds(turns, num_rounds):
        for name in names:
            time.sleep(pause_s)
            seconds[name].append(turns[name]())
    return {name: np.array(found) for name, found in seconds.items()}
