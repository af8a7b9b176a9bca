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
from crcache.store.layout import Layout

PREFIX = ".import-"
_LOCK = ".lock"
_OPENING = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Staging:
    """A directory of one import's own. A context manager: all of it is gone afterwards."""

    def __init__(self, layout: Layout) -> None:
        """
        @raise StoreError: if it cannot be made.
        """
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

    def new(self) -> tuple[Path, int]:
        """A new file in it, open for writing.

        @raise OSError: as open(2).
        """
        self._count += 1
        path = self.directory / str(self._count)
        return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

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
