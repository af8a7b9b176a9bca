"""Where the content of an archive waits until all of it has been seen: on the cache's file system, and seen by nobody.

Two names in C{ingest/}: C{.import-<random>.lock}, whose C{flock} says that somebody is at work, and
C{.import-<random>/}. The lock comes first and goes last, so what has no lock that somebody holds is left over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from crcache.errors import StoreError
from crcache.store.files import is_at, open_new, remove
from crcache.store.ingest import AHEAD
from crcache.store.layout import Layout
from crcache.store.space import Hold, Space

PREFIX = ".import-"
_LOCK = ".lock"
_OPENING = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Staging:
    """A directory of one import's own. A context manager: all of it is gone afterwards."""

    def __init__(self, layout: Layout, space: Space | None = None) -> None:
        """
        @param space: what there is room in; C{None} is as much as the disk has.
        @raise StoreError: if it cannot be made.
        """
        self._space = space
        self._holds: dict[Path, Hold] = {}
        self._count = 0
        self._fd = -1
        try:
            while self._fd < 0:
                self.directory = layout.ingest / f"{PREFIX}{secrets.token_hex(8)}"
                self._path = self.directory.with_name(self.directory.name + _LOCK)
                self._fd = _locked(self._path, open_new(self._path, 0o600))
            self.directory.mkdir(mode=0o700)
        except OSError as error:
            self.close()
            raise StoreError(f"{layout.ingest}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def new(self, size: int = 0) -> tuple[Path, int]:
        """A new file in it, open for writing.

        @param size: how many bytes it will have, for all of which there must be room in principle.
        @raise StoreError: if there is no room for so many.
        @raise OSError: as open(2), statvfs(2).
        """
        self._count += 1
        path = self.directory / str(self._count)
        if self._space is None:
            room = self.room()
            if size > room:
                raise StoreError(f"there is room for {room} bytes in the cache")
        else:
            hold = self._holds[path] = self._space.hold()
            hold.take(min(size, AHEAD), whole=size)
        return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, path: Path, piece: bytes, written: int, size: int) -> None:
        """Write more of a new file.

        @param written: how many bytes of it have been.
        @param size: how many it will have.
        @raise StoreError: if there is no room for them.
        @raise OSError: as write(2).
        """
        hold, after = self._holds.get(path), written + len(piece)
        if hold is not None and not hold.covers(after):
            # As of a fill: whatever length an archive says, nothing has to go before something comes.
            hold.take(min(written + AHEAD, max(size, after)), whole=size)
        view = memoryview(piece)
        while view:
            view = view[os.write(fd, view) :]
        if hold is not None:
            hold.landed(len(piece))

    def adopted(self, path: Path) -> None:
        """A file is content now, and counted as that."""
        hold = self._holds.pop(path, None)
        if hold is not None:
            hold.release()

    def room(self) -> int:
        """Bytes that an ordinary user may still write there.

        @raise OSError: as statvfs(2).
        """
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Remove it. Idempotent."""
        if self._fd >= 0:
            _clear(self._path)
            os.close(self._fd)
            self._fd = -1
        for path in list(self._holds):
            self.adopted(path)


def sweep(layout: Layout) -> int:
    """Remove what imports have left behind that were killed; how many. What others are at work on stays."""
    swept = 0
    try:
        names = set(os.listdir(layout.ingest))
    except OSError:
        return 0
    for name in sorted({name.removesuffix(_LOCK) for name in names if name.startswith(PREFIX)}):
        path = layout.ingest / f"{name}{_LOCK}"
        # One without a lock was being removed when its process died.
        fd = -1
        with contextlib.suppress(OSError):
            fd = _locked(path, os.open(path, _OPENING) if path.name in names else open_new(path, 0o600))
        if fd >= 0:
            _clear(path)
            os.close(fd)
            swept += 1
    return swept


def _locked(path: Path, fd: int) -> int:
    """The same descriptor, if it has the lock and is what others will find; else it is closed, and -1."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(fd, path):
            return fd
    except OSError:
        pass
    os.close(fd)
    return -1


def _clear(lock: Path) -> None:
    shutil.rmtree(lock.with_name(lock.name.removesuffix(_LOCK)), ignore_errors=True)
    with contextlib.suppress(OSError):
        remove(lock)
