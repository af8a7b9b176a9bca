"""Takes content, and what is noted of it, away beside daemons that may be using it. All of it blocks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crcache.errors import StoreError
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.store.contents import unlink
from crcache.store.files import HOURLY, is_at, remove
from crcache.store.givers import Givers
from crcache.store.layout import Layout
from crcache.store.marks import Marks, State, boot_id

_MARKS = ".marks"
_SAFELY = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def remove_content(layout: Layout, digest: Digest, used: int) -> int | None:
    """Remove content, unless it has been used since. Sends that have it open go on.

    @param used: when it was last used as far as was known, in whole seconds since the epoch.
    @return: how many bytes there were; C{None} if it stays.
    @raise StoreError: if it cannot be removed.
    """
    path = layout.content(digest)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0
    if int(found.st_mtime) > used:
        return None
    unlink(path)
    return found.st_size


def forget_member(layout: Layout, registry: Registry, repository: Repository, digest: Digest) -> None:
    """Note no more that a repository holds, or gives everyone, something.

    @raise StoreError: if it stays noted.
    """
    # First: what is given must not outlive what it can be found by.
    Givers(layout, time.time).take_back(registry, repository, digest)
    unlink(layout.member(registry, repository, digest))


def tidy(layout: Layout, registry: Registry, repository: Repository) -> None:
    """Remove the directories of a repository that nothing is noted of any more, and that it was private.

    A daemon that begins to note something meanwhile makes them again.
    """
    digests, tags = layout.known(registry, repository)
    for directory in (digests, tags, layout.pins(registry, repository)):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    if os.path.lexists(digests) or os.path.lexists(tags):
        return
    privacy = layout.privacy(registry, repository)
    with contextlib.suppress(StoreError):
        unlink(privacy)
    directory = privacy.parent
    while directory != layout.registries:
        try:
            os.rmdir(directory)
        except OSError:
            return
        directory = directory.parent


@dataclass(frozen=True)
class Abandoned:
    """A fill that nobody works on.

    @ivar size: bytes that it takes on disk.
    @ivar used: when it last grew, in seconds since the epoch.
    """

    data: Path
    size: int
    used: float


def abandoned(layout: Layout) -> Iterator[Abandoned]:
    """The fills in progress that no process works on now. A daemon would go on with them when they are asked for.

    @raise StoreError: if nobody can tell.
    """
    try:
        names = set(os.listdir(layout.ingest))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{layout.ingest}: {error.strerror}") from error
    for name in sorted(names):
        data = layout.ingest / name.removesuffix(_MARKS)
        if name.endswith(_MARKS):
            with _locked(layout.ingest / name) as fd:
                nobody = fd is not None
            if nobody:
                yield _abandoned(data, layout.ingest / name)
        elif f"{name}{_MARKS}" not in names:
            # It has no owner that it could be locked by. One that is just being removed is gone soon.
            found = _abandoned(data, data)
            if time.time() - found.used > HOURLY:
                yield found


def remove_fill(layout: Layout, fill: Abandoned) -> int:
    """Remove a fill, unless some process works on it by now.

    @return: how many bytes it took; 0 if it stays.
    @raise StoreError: if it cannot be removed.
    """
    marks = layout.ingest / f"{fill.data.name}{_MARKS}"
    try:
        if not os.path.lexists(marks):
            remove(fill.data)
            return fill.size
        with _locked(marks) as fd:
            if fd is None:
                return 0
            if os.fstat(fd).st_size:
                # Whoever follows it is told.
                Marks(fd, boot_id()).state = State.FAILED
            remove(fill.data)
            remove(marks)
    except OSError as error:
        raise StoreError(f"{fill.data}: {error.strerror}") from error
    return fill.size


@contextlib.contextmanager
def _locked(marks: Path) -> Iterator[int | None]:
    """The open marks of a fill, held; C{None} if another holds them, or they are none."""
    try:
        fd = os.open(marks, _SAFELY)
    except OSError:
        yield None
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = stat.S_ISREG(os.fstat(fd).st_mode) and is_at(fd, marks)
        except OSError:
            mine = False
        yield fd if mine else None
    finally:
        os.close(fd)


def _abandoned(data: Path, marks: Path) -> Abandoned:
    size, used = 0, 0.0
    for path in {data, marks}:
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            size += min(found.st_size, found.st_blocks * 512)
            used = max(used, found.st_mtime)
    return Abandoned(data, size, used)
