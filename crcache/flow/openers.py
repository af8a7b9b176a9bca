"""Those who wait until the head of an answer can be written."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from crcache.errors import CrcacheError


class Openers:
    """Lets them in, all at once, or tells them why not.

    @ivar open: whether they have been let in.
    @ivar doubted: whether what comes may prove wrong any moment.
    """

    def __init__(self) -> None:
        self.open = False
        self.doubted = False
        self._late = False
        self._doubt: IDelayedCall | None = None
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

    def doubt(self, clock: IReactorTime, seconds: float) -> None:
        """Let nobody in for so many seconds, from the first time that this is called on, but with L{believe}."""
        if self.doubted or self.open:
            return
        self.doubted = True
        self._doubt = clock.callLater(seconds, self._convinced)

    def _convinced(self) -> None:
        self._doubt = None
        if self._late:
            self.let_in()

    def believe(self) -> None:
        """There is nothing to doubt any more. Idempotent."""
        self.doubted = self._late = False
        doubt, self._doubt = self._doubt, None
        if doubt is not None:
            doubt.cancel()

    def let_in(self) -> None:
        """It can be written, unless that is doubted."""
        if self._doubt is not None:
            self._late = True
            return
        self.open = True
        for each in self._taken():
            each.callback(None)

    def turn_away(self, problem: CrcacheError) -> None:
        """It never will be."""
        self.believe()
        for each in self._taken():
            each.errback(problem)

    def _taken(self) -> list[Deferred[None]]:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        waiting, self._waiting = self._waiting, []
        return waiting
