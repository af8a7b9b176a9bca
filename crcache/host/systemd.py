"""What systemd is told of this process (sd_notify(3)), and the watchdog it is fed with."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events

log = Logger()

#: Seconds between looks at whether the status has changed.
STATUS_EVERY = 3.0

_MISSING = (
    "systemd waits for word from this process, but the Python module 'systemd' is missing:"
    " install python3-systemd, or crcache[systemd]"
)


class Manager:
    """The service manager; without C{NOTIFY_SOCKET} in the environment there is none, and all of this does nothing.

    @ivar warning: one line, if there is one that cannot be told anything.
    """

    def __init__(
        self, environ: Mapping[str, str], pid: int, load: Callable[[str], Any] = importlib.import_module
    ) -> None:
        """
        @param load: imports python3-systemd's C{systemd.daemon}.
        """
        self.warning: str | None = None
        self._send: Callable[[str], object] | None = None
        self._status: str | None = None
        self._ready = False
        self._refused = False
        self._watchdog = _watchdog(environ, pid)
        self._loops: list[LoopingCall] = []
        if environ.get("NOTIFY_SOCKET"):
            try:
                self._send = load("systemd.daemon").notify
            except ImportError:
                self.warning = _MISSING

    def begin(self, clock: Any, status: Callable[[], str]) -> None:
        """Say C{status()} now and whenever it has changed, and feed the watchdog, both in the reactor's own time.

        @param clock: an C{IReactorTime}: if it stands still for too long, systemd starts the daemon anew.
        """
        if self._send is None:
            return
        self._loop(clock, STATUS_EVERY, lambda: self.status(status()))
        if self._watchdog is not None:
            self._loop(clock, self._watchdog / 2, lambda: self._tell("WATCHDOG=1"))

    def ready(self, status: str) -> None:
        """It can serve."""
        self._ready = True
        self._tell("READY=1")
        self.status(status)

    def reloading(self) -> None:
        """The configuration is being read again. That makes nobody ready who was not."""
        if self._ready:
            self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """That is over."""
        if self._ready:
            self._tell("READY=1")

    def stopping(self, seconds: float) -> None:
        """It ends, which may take so long from now."""
        self._ready = False
        self._tell(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def status(self, text: str) -> None:
        """One line for C{systemctl status}; sent if it is new."""
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={text}")

    def end(self) -> None:
        """Stop what L{begin} began. Idempotent."""
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._loops.clear()

    def _loop(self, clock: Any, seconds: float, work: Callable[[], None]) -> None:
        loop = LoopingCall(work)
        loop.clock = clock
        self._loops.append(loop)
        # It ends then. The watchdog's does not: only the reactor's standing still may have that effect.
        loop.start(seconds).addErrback(_not_told)

    def _tell(self, message: str) -> None:
        if self._send is None:
            return
        try:
            self._send(message)
        except OSError:
            # Neither the watchdog nor the end may hang on it: the next word may get through.
            if not self._refused:
                self._refused = True
                log.failure("systemd cannot be told", event=events.INTERNAL_ERROR)


def _not_told(failure: Failure) -> None:
    log.failure("systemd cannot be told", failure, event=events.INTERNAL_ERROR)


def _watchdog(environ: Mapping[str, str], pid: int) -> float | None:
    """How often systemd wants to hear, in seconds (sd_watchdog_enabled(3))."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None
