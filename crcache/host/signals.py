"""Signals, handled in the reactor thread, and given back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


class Signals:
    """Handlers of this process's signals. To be used in its main thread alone."""

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: its C{callFromThread}.
        """
        self._reactor = reactor
        self._before: dict[int, Any] = {}

    def on(self, number: int, call: Callable[[], object]) -> None:
        """From now on C{call} is called when that signal comes."""

        def handle(number: int, frame: FrameType | None) -> None:
            self._reactor.callFromThread(call)

        before = signal.signal(number, handle)
        self._before.setdefault(number, before)

    def restore(self) -> None:
        """Every signal does what it did before. Idempotent."""
        while self._before:
            number, before = self._before.popitem()
            # None: a handler that C has installed, which Python cannot put back.
            if before is not None:
                signal.signal(number, before)
