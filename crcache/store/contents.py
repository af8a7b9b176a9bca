"""Committed content on disk: found, checked, replaced and dropped. All of it blocks."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from twisted.logger import Logger

from crcache import events
from crcache.errors import StoreError
from crcache.grammar.digest import Digest
from crcache.interfaces import IBody
from crcache.store.content import Content
from crcache.store.files import HOURLY, is_at, make_way, size_of, write_atomically
from crcache.store.layout import Layout
from crcache.store.seal import Seals

log = Logger()

#: Something else than a file in a file's place is not waited for.
READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
#: How open(2) says that it is a symbolic link, or a socket.
NO_FILE = (errno.ELOOP, errno.ENXIO)
_PIECE = 1 << 20


class Contents:
    """The files in C{blobs/}, which anybody may remove, damage or replace at any time.

    @ivar layout: where they are.
    @ivar seals: how they show that nobody has.
    """

    def __init__(self, layout: Layout, clock: Callable[[], float], changed: Callable[[Digest, int, int], None]) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        @param changed: told how many bytes of a digest's content there were before, and are now.
        """
        self.layout = layout
        self.seals = Seals()
        self._clock = clock
        self._changed = changed

    def find(self, digest: Digest) -> Content | None:
        """What is there, sealed or not; its use is noted, hourly at most. What is no file is taken away.

        @raise StoreError: if it cannot be opened.
        """
        path = self.layout.content(digest)
        fd = -1
        try:
            fd = os.open(path, READING)
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode):
                content = self._opened(fd, digest, found)
                fd = -1
                return content
            self.replace_odd(digest)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno not in NO_FILE:
                raise StoreError(f"{path}: {error.strerror}") from error
            self.replace_odd(digest)
        finally:
            if fd >= 0:
                os.close(fd)
        return None

    def _opened(self, fd: int, digest: Digest, found: os.stat_result) -> Content:
        sealed = self.seals.holds(found, digest)
        now = self._clock()
        if sealed and abs(now - found.st_mtime) > HOURLY:
            # A broken seal stays broken until the bytes have been checked.
            self.seals.set(fd, digest, now)
        return Content(fd, found.st_size, found.st_mtime, partial(self.seals.holds, digest=digest), sealed)

    def touch(self, digest: Digest, at: float | None = None) -> None:
        """Note that content is needed, so that it is not what goes next; nothing if it is not there.

        Whether it is sealed stays as it is. Where times are whole seconds nothing is noted: it would break the seals
        that processes remember.

        @param at: when it was needed, in seconds since the epoch; C{None} is now. A use that is noted and later stays.
        """
        path, seconds = self.layout.content(digest), int(self._clock() if at is None else at)
        try:
            fd = os.open(path, READING)
        except OSError:
            return
        try:
            found = os.fstat(fd)
            whole, fraction = divmod(found.st_mtime_ns, 10**9)
            if stat.S_ISREG(found.st_mode) and fraction and (whole < seconds or (at is None and whole != seconds)):
                os.utime(fd, ns=(found.st_atime_ns, seconds * 10**9 + fraction))
        except OSError:
            pass
        finally:
            os.close(fd)

    def replace_odd(self, digest: Digest) -> None:
        """Take away what is in content's place and is no file, and say so.

        @raise StoreError: if it stays.
        """
        path = self.layout.content(digest)
        try:
            aside = make_way(path)
        except OSError as error:
            raise StoreError(f"{path}: is no file, and cannot be removed: {error.strerror}") from error
        done = "it was removed" if aside is None else f"it is {aside} now"
        self._tell(digest, f"{path} was no file; {done}")

    def check(self, digest: Digest) -> None:
        """Hash content whose seal is broken: what is right is sealed again, what is wrong is dropped.

        @raise StoreError: if it cannot be read.
        """
        content = self.find(digest)
        if content is None or content.sealed:
            return
        fd = content.open()
        try:
            before = os.fstat(fd)
            if _sum(fd, digest) == digest.hex:
                self.approve(fd, digest, before, self._clock())
            else:
                self.reject(fd, digest)
        except OSError as error:
            raise StoreError(f"{self.layout.content(digest)}: {error.strerror}") from error
        finally:
            os.close(fd)

    def approve(self, fd: int, digest: Digest, before: os.stat_result, used: float | None = None) -> None:
        """The bytes of this open file have been found right: seal it, unless somebody wrote to it meanwhile.

        @param before: what was known of it before they were read.
        @param used: when it was last used; C{None} leaves that as it is.
        """
        now = os.fstat(fd)
        same = (before.st_size, before.st_mtime_ns) == (now.st_size, now.st_mtime_ns)
        if same and not self.seals.holds(now, digest):
            self.seals.set(fd, digest, used)

    def reject(self, fd: int, digest: Digest, problem: str = "holds other bytes than its name says") -> None:
        """The bytes of this open file have been found wrong: drop it, unless there is another in its place by now.

        @raise StoreError: if it stays.
        """
        path = self.layout.content(digest)
        if is_at(fd, path):
            self._tell(digest, f"{path} {problem}; it is dropped, and fetched anew when it is asked for")
            self._unlink(digest)

    def _tell(self, digest: Digest, problem: str) -> None:
        # With the path in the problem each file has a line of its own, however many there are.
        told, path = "content was damaged on disk: {problem}", str(self.layout.content(digest))
        log.warn(told, event=events.CONTENT_DAMAGED, problem=problem, path=path, digest=str(digest))

    def read(self, digest: Digest, limit: int) -> bytes | None:
        """As L{IStore.read<crcache.interfaces.IStore>}."""
        content = self.find(digest)
        if content is None or content.size is None or content.size > limit:
            return None
        fd = content.open()
        try:
            before = os.fstat(fd)
            with os.fdopen(os.dup(fd), "rb", buffering=0) as source:
                data = source.read(limit + 1) or b""
            hasher = digest.hasher()
            hasher.update(data)
            if hasher.hexdigest() != digest.hex:
                self.reject(fd, digest)
                return None
            self.approve(fd, digest, before, self._clock())
        except OSError as error:
            raise StoreError(f"{self.layout.content(digest)}: {error.strerror}") from error
        finally:
            os.close(fd)
        return data

    def put(self, digest: Digest, data: bytes) -> None:
        """As L{IStore.put<crcache.interfaces.IStore>}."""
        path = self.layout.content(digest)
        before = size_of(path)
        try:
            write_atomically(path, data, mode=0o440, durable=True, ready=lambda fd: self.seals.set(fd, digest))
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        self._changed(digest, before, len(data))

    def drop(self, digest: Digest, damaged: IBody | None = None) -> None:
        """As L{IStore.drop<crcache.interfaces.IStore>}."""
        if damaged is None:
            self._unlink(digest)
            return
        fd, path = damaged.open(), self.layout.content(digest)
        try:
            if is_at(fd, path):
                self._unlink(digest)
        except NotADirectoryError:
            pass
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        finally:
            os.close(fd)

    def _unlink(self, digest: Digest) -> None:
        path = self.layout.content(digest)
        before = size_of(path)
        unlink(path)
        self._changed(digest, before, 0)

    def committed(self, digest: Digest, before: int) -> None:
        """A fill has put its data there, in the place of so many bytes."""
        self._changed(digest, before, size_of(self.layout.content(digest)))


def unlink(path: Path) -> None:
    """Remove a file. Idempotent.

    @raise StoreError: if it stays.
    """
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _sum(fd: int, digest: Digest) -> str:
    """The hex digest of an open file, in this digest's algorithm."""
    hasher = digest.hasher()
    buffer = memoryview(bytearray(_PIECE))
    at = 0
    while count := os.preadv(fd, [buffer], at):
        hasher.update(buffer[:count])
        at += count
    return hasher.hexdigest()
