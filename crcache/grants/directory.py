"""Grants in a directory that a host's processes share: an empty file for each. All of it blocks."""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from crcache.grants.moments import Moment, is_ahead

#: How many files there are at most, and how many a process adds before it looks how many there are. Sixteen processes
#: that do not know of each other's keep to it.
MOST = 65_536
BETWEEN = 2_048
_LEFT = MOST - 16 * BETWEEN

_KEY = "key"
_KEY_LENGTH = 32
_NAME = re.compile("[0-9a-f]{64}")
#: Seconds in which whoever has made a file has finished it.
_FRESH = 5.0
_STALE = 60.0
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Unusable(Exception):
    """The directory, or the key in it, may be somebody else's; the text says which, and why."""


class Directory:
    """Each file's name is the HMAC of a grant under the key beside it, and its times are when that expires.

    The directory may vanish, or files in it: then nothing is known, and it is made anew. Its users are processes of one
    user; whatever somebody else could have made is not used.
    """

    def __init__(self, path: Path, clock: Callable[[], Moment]) -> None:
        """
        @param path: the directory; it and the one above it are made where they are missing, but none above these.
        """
        self.path = path
        self._clock = clock
        self._added = 0

    def known(self, grant: bytes) -> bool:
        """Whether there is one, and it has not expired.

        @raise Unusable: if nobody can tell whose word that would be.
        @raise OSError: if it cannot be read.
        """
        try:
            with self._opened() as directory:
                found = os.stat(_name(self._key(directory), grant), dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and is_ahead(_expiry(found), self._clock())

    def add(self, grant: bytes, expiry: Moment) -> None:
        """Let all know, until then.

        @raise Unusable: if somebody else may have had his hands in it.
        @raise OSError: if it cannot be written.
        """
        with self._made() as (directory, key):
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(_name(key, grant), flags, 0o600, dir_fd=directory)
            try:
                os.utime(fd, ns=(round(expiry.boot * 1e9), round(expiry.day * 1e9)))
            finally:
                os.close(fd)
        self._added += 1
        if self._added >= BETWEEN:
            self.sweep()

    def drop(self, grant: bytes) -> None:
        """Let nobody know any more. Idempotent.

        @raise Unusable: as L{known}.
        @raise OSError: if it is still known.
        """
        with contextlib.suppress(FileNotFoundError), self._opened() as directory:
            os.unlink(_name(self._key(directory), grant), dir_fd=directory)

    def sweep(self) -> None:
        """Remove what has expired and, if there are too many, those that expire first.

        @raise Unusable: as L{add}.
        @raise OSError: if the directory cannot be read, or files not removed.
        """
        self._added = 0
        now = self._clock()
        alive: list[tuple[Moment, str]] = []
        with self._made() as (directory, _), os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if _NAME.fullmatch(entry.name) and is_ahead(_expiry(found), now):
                        alive.append((_expiry(found), entry.name))
                    elif _is_litter(entry.name, now.day - found.st_ctime):
                        os.unlink(entry.name, dir_fd=directory)
            alive.sort(key=lambda each: each[0].boot, reverse=True)
            for _, name in alive[_LEFT:]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            fd = os.open(self.path, _READING | os.O_DIRECTORY)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise Unusable(f"{self.path} is no directory") from error
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise Unusable(f"{self.path} is, or was, not for crcache's own user alone")
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _made(self) -> Iterator[tuple[int, bytes]]:
        """The open directory and the key in it, both made if need be."""
        for path in (self.path.parent, self.path):
            if not os.path.lexists(path):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path, 0o700)
        with self._opened() as directory:
            try:
                key = self._key(directory)
            except FileNotFoundError:
                _make_key(directory)
                key = self._key(directory)
            yield directory, key

    def _key(self, directory: int) -> bytes:
        """Read anew each time, as the directory may be another by now.

        @raise FileNotFoundError: if there is none.
        """
        try:
            fd = os.open(_KEY, _READING, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            raise Unusable(f"{self.path / _KEY} is no file") from error
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise Unusable(f"{self.path / _KEY} is no file")
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o600:
                raise Unusable(f"{self.path / _KEY} is, or was, not for crcache's own user alone")
            key = os.read(fd, _KEY_LENGTH + 1)
        finally:
            os.close(fd)
        if len(key) != _KEY_LENGTH:
            raise Unusable(f"{self.path / _KEY} is not a key of {_KEY_LENGTH} bytes")
        return key


def _make_key(directory: int) -> None:
    """Put a new key there, whole; of two processes that do so at once, the first one's counts."""
    draft = f".{secrets.token_hex(8)}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        try:
            if os.write(fd, secrets.token_bytes(_KEY_LENGTH)) != _KEY_LENGTH:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)
        with contextlib.suppress(FileExistsError):
            os.link(draft, _KEY, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=directory)


def _name(key: bytes, grant: bytes) -> str:
    return hmac.digest(key, grant, "sha256").hex()


def _expiry(found: os.stat_result) -> Moment:
    return Moment(found.st_mtime_ns / 1e9, found.st_atime_ns / 1e9)


def _is_litter(name: str, age: float) -> bool:
    """Whether what expires no more, and is so many seconds old, is to be removed."""
    if _NAME.fullmatch(name):
        # Not one that has just been made, and does not have its times yet.
        return abs(age) > _FRESH
    return name.startswith(".") and abs(age) > _STALE
