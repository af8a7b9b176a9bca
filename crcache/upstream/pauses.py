"""Pauses between two tries, which the end of everything cuts short."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred


class Pauses:
    """All that are being made."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._waiting: dict[Deferred[None], Any] = {}

    def wait(self, seconds: float) -> Deferred[None]:
        """Fires after so many seconds, or at L{end}. Cancelling it ends the pause."""
        over: Deferred[None] = Deferred(self._forget)
        self._waiting[over] = self._clock.callLater(seconds, self._fire, over)
        return over

    def _fire(self, over: Deferred[None]) -> None:
        del self._waiting[over]
        over.callback(None)

    def _forget(self, over: Deferred[None]) -> None:
        self._waiting.pop(over).cancel()

    def end(self) -> None:
        """End them all now."""
        for over, timer in list(self._waiting.items()):
            timer.cancel()
            self._fire(over)
