"""How the process ends: with the line that says why, and whatever still hangs."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Sequence
from threading import Thread
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from crcache import events
from crcache.workers import Workers

log = Logger()


class CannotStart(Exception):
    """What keeps the daemon from starting, in one line.

    Not a L{SystemExit}: in the background twistd tells the waiting parent process of an L{Exception} alone.
    """


def tell_why(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """As L{sys.excepthook}, but of L{CannotStart} only its line: in the log, and on the process's own stderr."""
    if not isinstance(error, CannotStart):
        sys.__excepthook__(kind, error, traceback)
        return
    log.critical("{line}", event=events.CANNOT_START, line=f"crcache: {error}", problem=str(error))
    # By now sys.stderr is the log. In the background this one leads nowhere, and twistd's first process tells.
    if sys.__stderr__ is not None:
        print(f"crcache: {error}", file=sys.__stderr__, flush=True)


def give_up(reactor: Any, error: CannotStart) -> None:
    """Tell why, and end the process with status 1, where the reactor runs already."""
    tell_why(CannotStart, error, None)
    # twistd has no say in its exit status once the reactor runs; whatever else ends with the process ends before this.
    atexit.register(_fail)
    reactor.stop()


def _fail() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(1)


def within(clock: Any, seconds: float, waiting: Deferred[Any]) -> Deferred[None]:
    """Fires with C{waiting}, or after so many seconds without it; a failure of its is nobody's concern any more.

    What is waited for is not cancelled.
    """
    done: Deferred[None] = Deferred()

    def late() -> None:
        told = "something does not end within {seconds:g} s, and is left behind"
        log.warn(told, event=events.LEFT_BEHIND, seconds=seconds)
        done.callback(None)

    timer = clock.callLater(seconds, late)

    def over(_: object) -> None:
        if timer.active():
            timer.cancel()
            done.callback(None)

    waiting.addBoth(over)
    return done


def end_threads(workers: Sequence[Workers], seconds: float) -> None:
    """Wait for the threads' work at hand, but no longer than so many seconds: a disk may never answer."""
    stopping = [Thread(target=each.stop, daemon=True) for each in workers]
    deadline = time.monotonic() + seconds
    for each in stopping:
        each.start()
    for each in stopping:
        each.join(max(deadline - time.monotonic(), 0))
    if any(each.is_alive() for each in stopping):
        log.warn("a thread still waits for the disk or for a name, and is left behind", event=events.LEFT_BEHIND)
