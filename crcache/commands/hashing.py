"""Hashes content in several threads, and takes away what is wrong."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from crcache.errors import StoreError
from crcache.eviction.tally import Tally
from crcache.grammar.digest import Digest
from crcache.store.checker import LOST, PIECE, read_sparing
from crcache.store.contents import NO_FILE, READING, Contents
from crcache.store.files import size_of
from crcache.store.layout import Layout
from crcache.store.quarantine import quarantine

#: More read a disk no faster.
_MOST_THREADS = 8
#: Pieces of content that wait for a thread, for each of them.
_WAITING = 4


@dataclass(frozen=True)
class Finding:
    """What was found out about some content.

    @ivar size: bytes that were read.
    @ivar problem: C{None}: it is right.
    @ivar taken: where it is now.
    @ivar failed: nobody can tell, or it cannot be taken away: why.
    """

    digest: Digest
    size: int
    problem: str | None = None
    taken: Path | None = None
    failed: str | None = None


class _Stopped(Exception):
    """Nobody wants to know any more."""


class Hashing:
    """Checks content. What is right is sealed, what is wrong taken to C{quarantine/}; or neither, if it only looks."""

    def __init__(self, layout: Layout, *, looking: bool, advance: Callable[[int], object]) -> None:
        """
        @param looking: change nothing.
        @param advance: called in any thread with the bytes that were read.
        """
        self._layout = layout
        self._looking = looking
        self._advance = advance
        self._contents = Contents(layout, time.time, lambda digest, before, after: None)
        self._tally = Tally(layout)
        self._stopped = Event()

    def check(self, digests: Iterable[Digest]) -> Iterator[Finding]:
        """Check them, by as many threads as there are processors; of what has gone meanwhile there is no finding."""
        threads = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
        waiting: deque[Future[Finding | None]] = deque()
        with ThreadPoolExecutor(threads, "crcache-verify") as pool:
            try:
                for digest in digests:
                    waiting.append(pool.submit(self._check, digest))
                    if len(waiting) >= threads * _WAITING:
                        yield from _told(waiting.popleft())
                while waiting:
                    yield from _told(waiting.popleft())
            finally:
                # Interrupted: those that have begun end with their next piece.
                self._stopped.set()
                for each in waiting:
                    each.cancel()

    def _check(self, digest: Digest) -> Finding | None:
        path = self._layout.content(digest)
        try:
            fd = os.open(path, READING)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in NO_FILE:
                return self._wrong(digest, None, 0, "is no file")
            return Finding(digest, 0, failed=f"{path}: {error.strerror}")
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                return self._wrong(digest, None, 0, "is no file")
            return self._hash(fd, before, digest)
        except _Stopped:
            return None
        finally:
            os.close(fd)

    def _hash(self, fd: int, before: os.stat_result, digest: Digest) -> Finding | None:
        hasher, at = digest.hasher(), 0
        buffer = memoryview(bytearray(PIECE))
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        try:
            while count := read_sparing(fd, buffer, at):
                if self._stopped.is_set():
                    raise _Stopped
                hasher.update(buffer[:count])
                at += count
                self._advance(count)
        except OSError as error:
            if error.errno not in LOST:
                return Finding(digest, at, failed=f"{self._layout.content(digest)}: {error.strerror}")
            return self._wrong(digest, fd, at, f"cannot be read: {error.strerror}")
        if hasher.hexdigest() != digest.hex:
            return self._wrong(digest, fd, at, "holds other bytes than its name says")
        if not self._looking:
            with contextlib.suppress(OSError):
                self._contents.approve(fd, digest, before)
        return Finding(digest, at)

    def _wrong(self, digest: Digest, fd: int | None, size: int, problem: str) -> Finding:
        if self._looking:
            return Finding(digest, size, problem)
        before = size_of(self._layout.content(digest))
        try:
            taken = quarantine(self._layout, digest, fd)
        except StoreError as error:
            return Finding(digest, size, problem, failed=error.message)
        if taken is not None:
            self._tally.changed(digest, before, 0)
        return Finding(digest, size, problem, taken)


def _told(done: Future[Finding | None]) -> Iterator[Finding]:
    finding = done.result()
    if finding is not None:
        yield finding
