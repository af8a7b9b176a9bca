"""Those who wait until the head of an answer can be written."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from crcache.errors import CrcacheError


class Openers:
    """Lets them in, all at once, or tells them why not.

    @ivar open: whether they have been let in.
    """

    def __init__(self) -> None:
        self.open = False
        self._waiting: list[Deferred[None]] = []
        self._timer: IDelayedCall | None = None

    def within(self, clock: IReactorTime, seconds: float, late: Callable[[float], None]) -> None:
        """Call C{late} with these seconds when they have passed, unless it is known by then."""

        def passed() -> None:
            self._timer = None
            late(seconds)

        self._timer = clock.callLater(seconds, passed)

    @property
    def waiting(self) -> bool:
        """Whether somebody waits."""
        return any(not each.called for each in self._waiting)

    def wait(self, problem: CrcacheError | None) -> Deferred[None]:
        """Fires when the head can be written.

        @param problem: why it never will be, if that is known already.
        """
        if problem is not None:
            return fail(problem)
        if self.open:
            return succeed(None)
        # One who has cancelled has been called already, and takes a second result silently.
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def let_in(self) -> None:
        """It can be written."""
        self.open = True
        for each in self._taken():
            each.callback(None)

    def turn_away(self, problem: CrcacheError) -> None:
        """It never will be."""
        for each in self._taken():
            each.errback(problem)

    def _taken(self) -> list[Deferred[None]]:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        waiting, self._waiting = self._waiting, []
        return waiting
