"""A cache directory, and the C{VERSION} file that says whose layout it has. All of it blocks."""

from __future__ import annotations

import contextlib
import os
import stat

from twisted.logger import Logger

from crcache import events
from crcache.errors import StoreAway, StoreError
from crcache.store.files import write_atomically
from crcache.store.layout import VERSION, Layout

log = Logger()

#: What a directory without C{VERSION} may hold besides the layout's own names, and drafts, whose names have a dot.
_OTHERS = frozenset({"lost+found"})
#: Bytes of C{VERSION}, whichever release's.
_LONGEST = 64


def check(layout: Layout) -> bool:
    """Whether the file is there and right. Nothing is touched: another release's directory is left as it is.

    What a power cut has left empty, or nothing but zeros, is as good as missing in a directory like ours.

    @raise StoreError: if the layout is another release's, or there is no telling.
    @raise OSError: as open(2), read(2).
    """
    try:
        fd = os.open(layout.version, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        file = os.fstat(fd)
        if not stat.S_ISREG(file.st_mode):
            raise StoreError(f"cache directory {layout.root}: {layout.version.name} is no file")
        found = os.read(fd, _LONGEST)
    finally:
        os.close(fd)
    said = found.decode(errors="replace").strip()
    if said == VERSION and file.st_size <= _LONGEST:
        return True
    if not found.strip(b"\0") and _ours(layout):
        problem = f"{layout.version} is empty; it is written anew"
        told, path = "the cache directory was damaged: {problem}", str(layout.version)
        log.warn(told, event=events.CONTENT_DAMAGED, problem=problem, path=path)
        return False
    later = said.isdecimal() and int(said) > int(VERSION)
    raise StoreError(
        f"cache directory {layout.root}: its layout is {said[:20]!r}, this release knows {VERSION!r}: "
        + ("take the later release, or an empty directory" if later else "take another directory")
    )


def _ours(layout: Layout) -> bool:
    paths = (
        layout.version,
        layout.blobs,
        layout.ingest,
        layout.openly,
        layout.registries,
        layout.scrub,
        layout.scrub_lock,
        layout.eviction,
        layout.uploads,
        layout.quarantine,
    )
    known = {path.name for path in paths} | _OTHERS
    return all(name in known or name.startswith(".") for name in os.listdir(layout.root))


def make(layout: Layout, *, parents: bool) -> None:
    """The cache directory itself. What is above it may be a mount that is late: made here, it would hide below.

    @param parents: make what is above it as well.
    @raise StoreAway: if what is above it is not there.
    @raise OSError: as mkdir(2).
    """
    root = layout.root
    if parents:
        root.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        root.mkdir(exist_ok=True, mode=0o750)
    except FileNotFoundError as error:
        if not root.parent.exists():
            raise StoreAway(f"cache directory {root}: {root.parent} is not there") from error
        raise


def write(layout: Layout, *, durable: bool = True) -> None:
    """Say that the layout is this release's.

    @raise OSError: as open(2), write(2), rename(2).
    """
    write_atomically(layout.version, f"{VERSION}\n".encode(), durable=durable)


def restore(layout: Layout) -> None:
    """Say so again in a directory that was removed, or emptied, under the daemon, before something is written there.

    That it fails says nothing: so will what is to be written.
    """
    if not os.path.lexists(layout.version):
        with contextlib.suppress(OSError):
            write(layout, durable=False)
