"""Decide when a phase writes its state inside of an epoch, by minutes."""

import contextlib
import math
import time
from collections.abc import Iterator

from adapler_jax.presets.sections import CHECKPOINT_EVERY_MINUTES

FIELD = "checkpoint_every_minutes"  # of a config section
WAIT_RATIO = 33.0  # seconds between two saves over the seconds of a save: at most 3% is saving


def minutes_of(options) -> float:
    """Return the minutes between checkpoints of a config section; the default without the field."""
    return options.get(FIELD, CHECKPOINT_EVERY_MINUTES)


def clock() -> float:
    """Return seconds of a clock that never goes back."""
    return time.monotonic()


class SavePace:
    """Measure the saves of a phase, and report when the next one is due."""

    def __init__(self, every_minutes: float):
        """Start to count; with 0 minutes no save is ever due."""
        self._every_s = 60.0 * every_minutes if every_minutes else math.inf
        self._wait_s, self._last_s = self._every_s, clock()

    def is_due(self) -> bool:
        """Return whether so many minutes passed since the last save, and saving stays cheap."""
        return clock() - self._last_s >= self._wait_s

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Measure the save of the block, and count from its end.

        The state must be computed before, else the block waits for the device.
        """
        start = clock()
        yield
        self._last_s = clock()
        self._wait_s = max(self._every_s, WAIT_RATIO * (self._last_s - start))
