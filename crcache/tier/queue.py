"""What still has to be uploaded: small files that all processes on a cache directory share. All of it blocks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from crcache import events
from crcache.errors import CrcacheError, StoreError
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.store.files import is_at, write_atomically

log = Logger()

#: So many wait at most.
MOST = 20_000
#: One in so many is dropped when there are more: looking for the oldest takes a while.
_SHARE = 50
_LONGEST = 64 << 10
CONTENT, TAG, PRIVACY = "content", "tag", "privacy"


@dataclass(frozen=True)
class Entry:
    """Something that the bucket should have, or have no more; what that is now is on disk.

    @ivar what: L{CONTENT} with its membership, L{TAG} or L{PRIVACY}.
    @ivar name: the digest, or the tag; empty for a privacy.
    @ivar gone: whether it is to be removed there.
    @ivar since: when it was first noted, in seconds since the epoch.
    @ivar tries: how often it has failed.
    @ivar after: it is not tried before that.
    @ivar upload: a multipart upload that was begun for it, and perhaps not ended.
    """

    what: str
    registry: Registry
    repository: Repository
    name: str
    gone: bool = False
    since: float = 0.0
    tries: int = 0
    after: float = 0.0
    upload: str = ""

    @property
    def file(self) -> str:
        """What its file is called: what is noted twice is done once."""
        said = "\0".join((self.what, str(self.registry), str(self.repository), self.name))
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    @property
    def digest(self) -> Digest:
        """Of content."""
        return Digest.parse(self.name)

    @property
    def tag(self) -> Tag:
        """Of a tag."""
        return Tag.parse(self.name)


class Lease:
    """An entry that this process is working at. Nobody else is, until it ends.

    @ivar entry: what has to be done.
    """

    def __init__(self, entry: Entry, fd: int, path: Path) -> None:
        self.entry = entry
        self._fd = fd
        self._path = path

    def done(self) -> None:
        """Nothing is left to do, unless somebody has noted it anew meanwhile."""
        try:
            if is_at(self._fd, self._path):
                os.unlink(self._path)
        except OSError:
            # It is done once more then.
            pass
        finally:
            self.end()

    def note(self, **news: Any) -> None:
        """Change what the file says."""
        self.entry = replace(self.entry, **news)
        with contextlib.suppress(OSError):
            data = _record(self.entry)
            os.pwrite(self._fd, data, 0)
            os.ftruncate(self._fd, len(data))

    def end(self) -> None:
        """Let go of it. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.end()


class Queue:
    """The directory of entries."""

    def __init__(self, directory: Path, clock: Callable[[], float], most: int = MOST) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        """
        self._directory = directory
        self._clock = clock
        self._most = most
        self._count = -1
        self._idle: tuple[int | None, float] = (None, 0.0)

    def add(self, entry: Entry) -> None:
        """Note it, in the place of what was noted of the same thing before.

        @raise StoreError: if the disk does not take it.
        """
        if self._count < 0:
            self._count = len(self._names())
        if self._count >= self._most:
            self._drop()
        path = self._directory / entry.file
        try:
            write_atomically(path, _record(replace(entry, since=entry.since or self._clock())))
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        self._count += 1

    def waiting(self) -> int:
        """How many there are."""
        self._count = len(self._names())
        return self._count

    def due(self, most: int) -> tuple[list[str], float | None]:
        """The oldest that may be tried now, and when the next may be; C{None} if there is none."""
        now, changed = self._clock(), self._changed()
        seen, nothing_before = self._idle
        if changed is not None and changed == seen and now < nothing_before < now + 86400:
            # Looking at thousands that wait takes a while.
            return [], nothing_before
        found: list[tuple[float, str]] = []
        names = self._names()
        self._count = len(names)
        later: float | None = None
        for name in names:
            entry = self._look(name)
            if entry is None:
                continue
            # After a clock was set back nothing waits for long.
            if now < entry.after < now + 86400:
                later = entry.after if later is None else min(later, entry.after)
            else:
                found.append((entry.since, name))
        found.sort()
        self._idle = (None, 0.0) if found or later is None else (changed, later)
        return [name for _, name in found[:most]], later

    def take(self, name: str) -> Lease | None:
        """Begin to work at one; C{None} if it is gone, or another process does."""
        path = self._directory / name
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        kept = False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            entry = _entry(os.pread(fd, _LONGEST, 0), name) if is_at(fd, path) else None
            kept = entry is not None
            return None if entry is None else Lease(entry, fd, path)
        except OSError:
            return None
        finally:
            if not kept:
                os.close(fd)

    def _changed(self) -> int | None:
        """When a file of it last came or went."""
        try:
            return os.stat(self._directory).st_mtime_ns
        except OSError:
            return None

    def _names(self) -> list[str]:
        try:
            # What begins with a dot is being written.
            return [name for name in os.listdir(self._directory) if not name.startswith(".")]
        except OSError:
            return []

    def _look(self, name: str) -> Entry | None:
        path = self._directory / name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            data = os.read(fd, _LONGEST)
        except OSError:
            return None
        finally:
            os.close(fd)
        entry = _entry(data, name)
        if entry is None:
            told = "{path} is no entry of the queue of uploads; it is removed"
            log.warn(told, event=events.UPLOAD_DROPPED, path=str(path))
            with contextlib.suppress(OSError):
                os.unlink(path)
        return entry

    def _drop(self) -> None:
        """Room for more: the oldest go."""
        ages: list[tuple[float, str]] = []
        names = self._names()
        for name in names:
            with contextlib.suppress(OSError):
                ages.append((os.lstat(self._directory / name).st_mtime, name))
        ages.sort()
        excess = len(ages) - self._most
        gone = ages[: excess + max(self._most // _SHARE, 1)] if excess >= 0 else []
        for _, name in gone:
            with contextlib.suppress(OSError):
                os.unlink(self._directory / name)
        self._count = len(ages) - len(gone)
        if gone:
            told = "the bucket does not keep up: the {count} oldest of {most} uploads that wait are dropped"
            log.warn(told, event=events.UPLOAD_DROPPED, count=len(gone), most=self._most, path=str(self._directory))


def _record(entry: Entry) -> bytes:
    return json.dumps(
        {
            "what": entry.what,
            "registry": str(entry.registry),
            "repository": str(entry.repository),
            "name": entry.name,
            "gone": entry.gone,
            "since": entry.since,
            "tries": entry.tries,
            "after": entry.after,
            "upload": entry.upload,
        }
    ).encode()


def _entry(data: bytes, name: str) -> Entry | None:
    """What a file says; C{None} if it is none of ours, whoever has put it there."""
    try:
        said = json.loads(data)
        entry = Entry(
            str(said["what"]),
            Registry.parse(str(said["registry"])),
            Repository.parse(str(said["repository"])),
            str(said["name"]),
            said["gone"] is True,
            float(said["since"]),
            int(said["tries"]),
            float(said["after"]),
            str(said["upload"]),
        )
        known = {CONTENT: lambda: entry.digest, TAG: lambda: entry.tag, PRIVACY: lambda: None}
        known[entry.what]()
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, CrcacheError):
        return None
    return entry if entry.file == name else None
