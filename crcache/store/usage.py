"""How much content a cache directory holds, and how much it could."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.grammar.digest import Digest
from crcache.store.layout import Layout
from crcache.workers import Workers

log = Logger()

#: Seconds between two looks at the file system's free space.
GLANCE = 30.0

#: Seconds between the end of a count and the next.
RECOUNT = 600.0

#: Files that are looked at in one go, and how many times as long as that took is rested before the next.
BATCH = 500
REST = 4


class Usage:
    """Counts the bytes of committed content in one directory, whoever put it there.

    What this process commits and drops is added at once. What other processes and administrators do is seen when all
    files are counted again, every ten minutes, by one thread that rests four times as long as it works. A million
    files with their inodes in memory were measured to take 6 s of processor time, 36 s in all, and no memory that
    grows with them. On a cold disk it takes as long as the disk takes, for one request at a time.

    @ivar content: bytes of committed content; C{None} before it was counted for the first time.
    @ivar room: bytes of content that there would be with the file system full: what is there, and what an unprivileged
        user may still write. C{None} as long as C{content} is.
    """

    def __init__(
        self, directory: Path, workers: Workers, clock: Any, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """
        @param directory: the cache directory.
        @param workers: one of their threads is kept busy while files are counted.
        @param clock: the reactor's time.
        @param monotonic: seconds, for the thread.
        """
        self.content: int | None = None
        self.room: int | None = None
        self._layout = Layout(directory)
        self._workers = workers
        self._monotonic = monotonic
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock
        self._next = 0.0
        self._lock = Lock()
        #: While files are counted: the sizes that they have got meanwhile.
        self._since: dict[str, int] | None = None
        self._stopped = Event()

    def start(self) -> None:
        """Begin to look; the workers run, and the directory is there."""
        self._stopped.clear()
        self._looking.start(GLANCE)

    def stop(self) -> None:
        """Look no more; a count that is under way ends at once. Idempotent."""
        self._stopped.set()
        if self._looking.running:
            self._looking.stop()

    def changed(self, digest: Digest, before: int, after: int) -> None:
        """This digest's content had so many bytes, and has so many now; none is no content. For any thread."""
        if before == after:
            # Also for a count that is under way: the size is the same whether it has come by the file or will.
            return
        with self._lock:
            if self._since is not None:
                # It may or may not come by this file, or may have: what had been there stays in it until the next.
                self._since[f"{digest.algorithm}/{digest.hex}"] = after
            if self.content is not None:
                self.content = max(self.content + after - before, 0)
            if self.room is not None:
                self.room = max(self.room, self.content or 0)

    def _look(self) -> Deferred[None]:
        # The next look waits for this one: a disk that hangs has one thread wait for it, not one more every time.
        return self._workers.run(self._measure).addErrback(_unseen)

    def _measure(self) -> None:
        if self._monotonic() >= self._next:
            counted = self._count()
            if counted is None:
                return
            self._next = self._monotonic() + RECOUNT
        free = os.statvfs(self._layout.root)
        with self._lock:
            if self.content is not None:
                self.room = self.content + free.f_bavail * free.f_frsize

    def _count(self) -> int | None:
        with self._lock:
            self._since = {}
        try:
            total = 0
            for path in self._layout.algorithms():
                found = self._sum(path, hashlib.new(path.name).digest_size * 2)
                if found is None:
                    return None
                total += found
            with self._lock:
                self.content = total + sum(self._since.values())
            return total
        finally:
            with self._lock:
                self._since = None

    def _sum(self, directory: Path, length: int) -> int | None:
        """The bytes below it, without what this process has committed meanwhile; C{None} if told to stop.

        @param length: of the names of content: whatever is called otherwise is on its way there, or was put by hand.
        """
        total = seen = 0
        began = self._monotonic()
        try:
            entries = os.scandir(directory)
        except FileNotFoundError:
            return 0
        with entries:
            for entry in entries:
                seen += 1
                if seen % BATCH == 0:
                    if self._stopped.wait((self._monotonic() - began) * REST):
                        return None
                    began = self._monotonic()
                if len(entry.name) == length:
                    total += self._size(directory.name, entry)
        return None if self._stopped.is_set() else total

    def _size(self, algorithm: str, entry: os.DirEntry[str]) -> int:
        try:
            found = entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
        except FileNotFoundError:
            return 0
        with self._lock:
            return 0 if self._since is None or f"{algorithm}/{entry.name}" in self._since else found


def _unseen(failure: Failure) -> None:
    failure.trap(OSError)
    log.warn("the cache's content cannot be counted: {problem}", event=events.CACHE_FAILED, problem=failure.value)
