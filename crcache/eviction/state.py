"""The small files in C{eviction/}, which processes share, and anybody may remove or damage. All of it blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from crcache.store.files import is_at, make_way

_SAFELY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_PAUSE = 0.002


def open_state(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """A descriptor of a file there, which is made if C{flags} say so. What is no file makes way.

    The directory is made, too, but not the cache's own: that may be a mount that has gone.

    @raise OSError: as open(2).
    """
    for _ in range(3):
        try:
            fd = os.open(path, flags | _SAFELY, 0o640)
        except OSError as error:
            if error.errno == errno.ENOENT and flags & os.O_CREAT:
                with contextlib.suppress(FileExistsError):
                    path.parent.mkdir(mode=0o750)
            elif error.errno == errno.ENOTDIR:
                # Somebody has put something else in the directory's place.
                with contextlib.suppress(OSError):
                    path.parent.unlink()
            elif error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
                make_way(path)
            else:
                raise
            continue
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        make_way(path)
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


@contextlib.contextmanager
def locked(path: Path, patience: float) -> Iterator[int]:
    """Hold the C{flock} of a file; its descriptor, which is closed, and the lock let go, afterwards.

    @param patience: seconds that others may have it meanwhile.
    @raise BlockingIOError: if they have it for longer.
    @raise OSError: as open(2), flock(2).
    """
    until = time.monotonic() + patience
    while True:
        fd = open_state(path)
        try:
            if _try(fd):
                # The lock means something only if it is on the file that others will find.
                if is_at(fd, path):
                    yield fd
                    return
                continue
        finally:
            os.close(fd)
        if time.monotonic() >= until:
            raise BlockingIOError(errno.EAGAIN, "others hold it", str(path))
        time.sleep(_PAUSE)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
