"""Goes through all content and hashes it, piece by piece. All of it blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from crcache import events
from crcache.errors import CrcacheError, StoreError
from crcache.grammar.digest import Digest
from crcache.store.contents import NO_FILE, READING, Contents
from crcache.store.files import is_at, read_small, write_atomically
from crcache.store.layout import ALGORITHMS

log = Logger()

PIECE = 1 << 20
#: What looking at names, or opening a file, is worth in bytes that are read.
LOOK = 64 << 10
#: Names looked at in one go, and names kept in memory.
NAMES = 500
BATCH = 10_000
#: How a disk says that it cannot read what was written.
LOST = (errno.EIO, errno.EBADMSG, errno.EUCLEAN)


@dataclass(frozen=True)
class Piece:
    """A piece of work that has been done.

    @ivar cost: how many bytes it is worth.
    @ivar name: of the content that was checked to its end with it; C{None} while there is more to come.
    @ivar size: in bytes, of that content.
    @ivar damaged: whether it was not what it should be; it has been dropped then.
    """

    cost: int
    name: str | None = None
    size: int = 0
    damaged: bool = False


class Checker:
    """One at a time of all processes that share the cache directory, in whichever thread, but one at a time."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._layout = contents.layout
        self._lock = -1

    def hold(self) -> bool:
        """Whether this process is the one that checks, now or already.

        @raise OSError: if there is no telling.
        """
        path = self._layout.scrub_lock
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        if self._lock >= 0:
            if is_at(self._lock, path):
                return True
            self.release()
        # It makes no directories: the cache's may be a mount that has gone.
        fd = os.open(path, flags, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._lock = fd
        return True

    def release(self) -> None:
        """Let another process check. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def load(self, now: float) -> Mapping[str, Any] | None:
        """What was saved last, by whichever process; C{None} if there is nothing that can be read."""
        return read_small(self._layout.scrub, now)

    def save(self, record: Mapping[str, Any]) -> None:
        """Note how far it has come. A disk that refuses, or has gone, is no reason not to go on."""
        with contextlib.suppress(OSError):
            os.stat(self._layout.root)
            write_atomically(self._layout.scrub, json.dumps(record).encode())

    def walk(self, after: str) -> Generator[Piece, None, None]:
        """Check all content whose name, C{<algorithm>/<hex>}, is greater than this one, in order.

        What is wrong is dropped, with a line in the log; what is right is sealed, if it is not.

        @raise OSError: if the directories cannot be read.
        """
        for algorithm in ALGORITHMS:
            if after >= f"{algorithm}/~":
                continue
            last = after.partition("/")[2] if after.startswith(f"{algorithm}/") else ""
            while True:
                names: list[str] = []
                for cost in self._names(algorithm, last, names):
                    yield Piece(cost)
                if not names:
                    break
                for last in names:
                    name = f"{algorithm}/{last}"
                    try:
                        yield from self._file(Digest.parse(f"{algorithm}:{last}"), name)
                    except StoreError as error:
                        # It stays there. Whoever asks for it is told the same.
                        _untold(self._layout.blobs / name, error.message)
                        yield Piece(LOOK, name, 0, True)

    def _names(self, algorithm: str, last: str, found: list[str]) -> Iterator[int]:
        """Put the next names of content into C{found}. The directory may have millions: few are kept at a time."""
        try:
            entries = os.scandir(self._layout.blobs / algorithm)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for number, entry in enumerate(entries, 1):
                if entry.name > last and _is_content(algorithm, entry.name):
                    found.append(entry.name)
                    if len(found) >= 2 * BATCH:
                        _first(found)
                if number % NAMES == 0:
                    yield LOOK
        _first(found)

    def _file(self, digest: Digest, name: str) -> Iterator[Piece]:
        path = self._layout.content(digest)
        try:
            fd = os.open(path, READING)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if error.errno in NO_FILE:
                yield self._odd(digest, name)
            else:
                _untold(path, str(error.strerror))
            return
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode):
                yield from self._open_file(fd, found, digest, name)
            else:
                yield self._odd(digest, name)
        finally:
            os.close(fd)

    def _odd(self, digest: Digest, name: str) -> Piece:
        self._contents.replace_odd(digest)
        return Piece(LOOK, name, 0, True)

    def _open_file(self, fd: int, found: os.stat_result, digest: Digest, name: str) -> Iterator[Piece]:
        hasher = digest.hasher()
        buffer = memoryview(bytearray(PIECE))
        # What is read ahead could not be told from what others have read, and would stay in memory.
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        at = 0
        try:
            while count := read_sparing(fd, buffer, at):
                hasher.update(buffer[:count])
                at += count
                yield Piece(count)
        except OSError as error:
            if error.errno not in LOST:
                _untold(self._layout.content(digest), str(error.strerror))
                return
            self._contents.reject(fd, digest, f"cannot be read: {error.strerror}")
            yield Piece(LOOK, name, at, True)
            return
        damaged = hasher.hexdigest() != digest.hex
        if damaged:
            self._contents.reject(fd, digest)
        else:
            self._contents.approve(fd, digest, found)
        yield Piece(LOOK, name, at, damaged)


def _is_content(algorithm: str, name: str) -> bool:
    try:
        Digest.parse(f"{algorithm}:{name}")
    except CrcacheError:
        return False
    return True


def _first(names: list[str]) -> None:
    names.sort()
    del names[BATCH:]


def read_sparing(fd: int, buffer: memoryview, at: int) -> int:
    """Read a piece of an open file, and leave in memory only what was there before: clients' files are not pushed out
    by it.

    @return: how many bytes of it there are.
    @raise OSError: as pread(2).
    """
    try:
        count = os.preadv(fd, [buffer], at, os.RWF_NOWAIT)
    except OSError:
        # Not in memory, or a file system that cannot tell.
        count = 0
    if not count:
        count = os.preadv(fd, [buffer], at)
        if count:
            with contextlib.suppress(OSError):
                os.posix_fadvise(fd, at, count, os.POSIX_FADV_DONTNEED)
    return count


def _untold(path: Path, why: str) -> None:
    problem = f"{path} cannot be checked: {why}"
    log.warn("{problem}", event=events.CACHE_FAILED, problem=problem, path=str(path))
