"""Work in a thread that nobody feels: after each bit of it, a rest of a multiple of what it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

#: Times as long as it works it rests, and when there is a hurry.
REST = 4.0
HURRIED = 0.5
#: Steps (files that are looked at, or about as much) between two rests.
STEPS = 100


class Stopped(Exception):
    """There is no more to be done; the process ends."""


class Pace:
    """For one piece of work."""

    def __init__(
        self, stop: Event, rest: Callable[[], float] = lambda: REST, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """
        @param stop: once it is set, the next step raises L{Stopped}; it ends every rest.
        @param rest: how many times as long as it has worked it rests.
        @param monotonic: seconds.
        """
        self._stop = stop
        self._rest = rest
        self._monotonic = monotonic
        self._began = monotonic()
        self._steps = 0

    def step(self, count: int = 1) -> None:
        """So much more has been done.

        @raise Stopped: if nothing more is to be done.
        """
        self._steps += count
        if self._steps >= STEPS:
            self.rest()

    def rest(self) -> None:
        """Rest now."""
        self._steps = 0
        if self._stop.wait(max((self._monotonic() - self._began) * self._rest(), 0.0)):
            raise Stopped
        self._began = self._monotonic()
