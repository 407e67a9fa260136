"""Time for healing: one line that no clock change bends."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """``wall`` is what the journal writes; ``now`` starts there and then follows the monotonic clock.

    Everything that decides by a span uses ``now``, so an hour that the clock jumps is no hour that passed.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()

    def wall(self) -> float:
        return self._wall()

    def now(self) -> float:
        return self._monotonic() + self._offset

    def from_wall(self, at: float) -> float:
        """Where a moment of the journal lies on this line; one that is yet to come counts as now."""
        return self.now() - max(0.0, self.wall() - at)
