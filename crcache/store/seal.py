"""Seals: modification times by which a file of content shows that nobody has written to it since it was checked.

Whoever writes to a file, cuts it or replaces it leaves the time of doing so. crcache sets the time itself whenever it
knows that the bytes are right: the seconds are those of the last use, and the fraction follows from the digest, the
size and the inode. A fraction that is another one is a broken seal: the bytes are hashed before they are served.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import OrderedDict
from threading import Lock

from crcache.grammar.digest import Digest

_SECOND = 10**9
#: Nanoseconds: the coarsest grain of file systems that keep fractions worth the name (SMB's).
_GRAIN = 100
#: Files that are remembered where times cannot be set.
_MOST = 1 << 16


def seal_of(digest: Digest, found: os.stat_result) -> int:
    """The nanoseconds, never 0, in the modification time of a sealed file of this size and inode."""
    said = f"{digest} {found.st_size} {found.st_ino}".encode()
    number = int.from_bytes(hashlib.sha256(said).digest()[:8], "big")
    return (1 + number % (_SECOND // _GRAIN - 1)) * _GRAIN


class Seals:
    """Sets and reads them. For any thread.

    Where a file's time cannot be set, or is kept in whole seconds only, the seal is remembered here instead: after a
    restart the file is hashed once more. Its last use is not noted then: setting the time would break the seals that
    other processes remember.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._remembered: OrderedDict[tuple[int, int], tuple[Digest, int, int]] = OrderedDict()

    def holds(self, found: os.stat_result, digest: Digest) -> bool:
        """Whether the file is as it was when it was sealed as this digest's."""
        return _kept(found, digest) or self._remembers(found, digest)

    def set(self, fd: int, digest: Digest, seconds: float | None = None) -> None:
        """Seal an open file whose bytes are right.

        @param seconds: when it was last used, since the epoch; C{None} leaves that as it is, as do file systems that
            keep whole seconds only.
        @raise OSError: as fstat(2).
        """
        found = os.fstat(fd)
        if self._remembers(found, digest):
            return
        whole = found.st_mtime_ns // _SECOND
        if not _kept(found, digest):
            # The fraction first, alone: where it is not kept, nothing has changed for other processes.
            found = _stamped(fd, found, digest, whole)
        if not _kept(found, digest):
            self._remember(found, digest)
        elif seconds is not None and int(seconds) != whole:
            _stamped(fd, found, digest, int(seconds))

    def _remembers(self, found: os.stat_result, digest: Digest) -> bool:
        with self._lock:
            return self._remembered.get(_file(found)) == (digest, found.st_size, found.st_mtime_ns)

    def _remember(self, found: os.stat_result, digest: Digest) -> None:
        with self._lock:
            self._remembered.pop(_file(found), None)
            self._remembered[_file(found)] = digest, found.st_size, found.st_mtime_ns
            if len(self._remembered) > _MOST:
                self._remembered.popitem(last=False)


def _kept(found: os.stat_result, digest: Digest) -> bool:
    return found.st_mtime_ns % _SECOND == seal_of(digest, found)


def _stamped(fd: int, found: os.stat_result, digest: Digest, whole: int) -> os.stat_result:
    """What the file looks like after an attempt to set its time."""
    with contextlib.suppress(OSError):
        os.utime(fd, ns=(found.st_atime_ns, whole * _SECOND + seal_of(digest, found)))
    return os.fstat(fd)


def _file(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
