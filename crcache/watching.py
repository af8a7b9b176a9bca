"""Files that somebody may replace while the daemon runs, looked at now and then."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from crcache import events
from crcache.workers import Workers

log = Logger()

#: Seconds between two looks.
PACE = 5.0

#: What is remembered of a file: when it was written, its size and its inode; C{None} if it cannot be looked at.
_State = tuple[int, int, int] | None

#: What no file looks like.
_OTHER = (-1, -1, -1)


class Watching:
    """Tells whoever uses files that one of them has changed.

    It looks through symbolic links, which is how certificates and secrets are usually replaced. A file that is gone, or
    cannot be looked at for the moment, is no change: it is just being replaced.
    """

    def __init__(
        self, clock: Any, workers: Workers, changed: Callable[[], Deferred[None] | None], pace: float = PACE
    ) -> None:
        """
        @param clock: the reactor's time.
        @param workers: where files are looked at, as that may block.
        @param changed: called in the reactor thread, once for all that have changed; while the Deferred that it may
            return has not fired it is not called again.
        @param pace: seconds between two looks.
        """
        self._workers = workers
        self._changed = changed
        self._states: dict[Path, _State] = {}
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock
        self._pace = pace

    def watch(self, paths: Iterable[Path]) -> None:
        """These, from now on, and no others. What is being watched already is compared with what was seen last."""
        self._states = {path: self._states.get(path) for path in paths}

    def again(self) -> None:
        """Tell once more at the next look, whether or not anything has changed by then."""
        self._states = dict.fromkeys(self._states, _OTHER)

    def start(self) -> None:
        """Begin to look."""
        self._loop.start(self._pace).addErrback(self._broken)

    def stop(self) -> None:
        """Look no more. Idempotent."""
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> Deferred[None]:
        return self._workers.run(_states, tuple(self._states)).addCallback(self._looked)

    def _looked(self, found: dict[Path, _State]) -> Deferred[None] | None:
        before = self._states
        there = {path: state for path, state in found.items() if path in before and state is not None}
        self._states = {**before, **there}
        differ = any(before[path] not in (None, state) for path, state in there.items())
        return self._changed() if differ and self._loop.running else None

    def _broken(self, failure: Any) -> None:
        log.failure("files are not watched any more", failure, event=events.INTERNAL_ERROR)


def _states(paths: Iterable[Path]) -> dict[Path, _State]:
    """Blocks."""
    return {path: _state(path) for path in paths}


def _state(path: Path) -> _State:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
