"""Let systems take turns, so that a busy moment of the machine affects all of them."""

import os
import time
from collections.abc import Callable, Hashable, Mapping

import numpy as np

from adapler_jax.inference.autotune.timing import rounds

# Threads of ONNX Runtime spin for 20 to 30 ms after a call and would slow the next system down.
PAUSE_S = 0.1


def use_cores(num_cores: int) -> int:
    """Restrict later work of this process to some of its cores, 0 for all; return their number.

    JAX uses the cores that it finds at its first computation: call this before.

    Raises:
      ValueError: the process has fewer cores.
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
    """Return the seconds by system, float64 [rounds, calls].

    A turn returns the seconds of its calls.
    A pause before every turn lets the threads of the previous system finish. Every round starts
    with another system.

    Raises:
      ValueError: there are no systems, or less than one round.
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
