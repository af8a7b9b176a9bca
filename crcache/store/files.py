"""Small habits of writing to a directory that others may clean at any time. All of it blocks."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HOURLY = 3600.0
_SMALL = 1 << 16
#: How file systems say that they know no hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)


def open_new(path: Path, mode: int, *, makes: bool = True) -> int:
    """Create a file that is not there yet, for reading and writing.

    @param makes: make its directories if they have vanished.
    @raise OSError: as open(2).
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileNotFoundError:
        if not makes:
            raise
        _make_directory(path.parent)
        return os.open(path, flags, mode)


def _make_directory(path: Path) -> None:
    """With those above it, for which C{Path.mkdir} does not take the mode."""
    try:
        path.mkdir(exist_ok=True, mode=0o750)
    except FileNotFoundError:
        if path.parent == path:
            raise
        _make_directory(path.parent)
        path.mkdir(exist_ok=True, mode=0o750)


def beside(path: Path) -> Path:
    """A new name in the same directory; its leading dot is of no tag's, digest's or repository's grammar."""
    return path.parent / f".{secrets.token_hex(8)}"


def probe(directory: Path) -> None:
    """Write there, and leave nothing.

    @raise OSError: as open(2), write(2); its C{filename} is the directory.
    """
    path = beside(directory / "probe")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"x")
        finally:
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(directory)) from error


def is_at(fd: int, path: Path) -> bool:
    """Whether that is the open file's path, still."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(fd))


def is_file(path: Path) -> bool:
    """Whether there is a file at that path.

    @raise OSError: as stat(2), if nobody can tell.
    """
    try:
        return stat.S_ISREG(os.stat(path, follow_symlinks=False).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def size_of(path: Path) -> int:
    """How many bytes the file at a path has; none if there is no such file."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def link_over(fd: int, path: Path) -> None:
    """Put an open file at a path, in the place of what is there. It keeps the path it has.

    Directories that have vanished are made.

    @raise OSError: as linkat(2), rename(2); EPERM and others if the file system knows no hard links.
    """
    draft = beside(path)
    _make_directory(path.parent)
    # Python follows the link there only if it is given a directory.
    directory = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(str(fd), draft, src_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)
    try:
        into_place(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def link_or_move(fd: int, own: Path, path: Path) -> bool:
    """Put an open file at a path, in the place of what is there, as L{link_over}; where there are no hard links it
    leaves its own path for that, which another may have taken by then.

    @return: whether it has moved.
    @raise OSError: as linkat(2), rename(2).
    """
    try:
        link_over(fd, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(own, path)
        return True
    return False


def into_place(draft: Path, path: Path) -> None:
    """Give a draft the name that it was made for, whatever has that now.

    @raise OSError: as rename(2).
    """
    try:
        os.rename(draft, path)
    except IsADirectoryError:
        make_way(path)
        os.rename(draft, path)


def make_way(path: Path) -> Path | None:
    """Take away what is in a file's place and is none. What a directory holds is somebody's, and kept beside it.

    @return: where it is kept.
    @raise OSError: as unlink(2), rmdir(2), rename(2), if it stays.
    """
    try:
        kind = os.lstat(path).st_mode
        if stat.S_ISDIR(kind):
            os.rmdir(path)
        elif not stat.S_ISREG(kind):
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        aside = beside(path)
        os.rename(path, aside)
        return aside
    return None


def remove(path: Path) -> None:
    """Remove what is in a file's place, whatever it is. Idempotent.

    @raise OSError: as unlink(2), if it stays.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        make_way(path)


def write_atomically(
    path: Path,
    data: bytes,
    *,
    mode: int = 0o640,
    durable: bool = False,
    ready: Callable[[int], None] = lambda fd: None,
    makes: bool = True,
) -> None:
    """Put a small file in its place, whole or not at all.

    @param durable: flush file and directory to the disk.
    @param ready: called with the open file when all is written, before it is in its place.
    @param makes: make its directories if they have vanished.
    @raise OSError: as open(2), write(2), rename(2); nothing is left behind then.
    """
    draft = beside(path)
    fd = open_new(draft, mode, makes=makes)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fdatasync(fd)
            ready(fd)
        finally:
            os.close(fd)
        into_place(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the directory's entries safe from a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_small(path: Path, now: float | None) -> Mapping[str, Any] | None:
    """A small JSON object; C{None} if it is missing, cut short, or anything else. Its use is noted, hourly at most; not
    at all without a time."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if now is not None:
            touch(fd, now)
        found = json.loads(os.read(fd, _SMALL))
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(fd)
    return found if isinstance(found, dict) else None


def touch(fd: int, now: float) -> None:
    """Note in an open file's mtime that it is used, if that was last noted over an hour ago.

    Recency is only a help for eviction: a file system that refuses is no reason to refuse a pull.
    """
    if abs(now - os.fstat(fd).st_mtime) > HOURLY:
        with contextlib.suppress(OSError):
            os.utime(fd, (now, now))
