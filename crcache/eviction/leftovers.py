"""Fills that nobody goes on with: how much they take, and how they go. All of it blocks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crcache.eviction.state import open_state
from crcache.store.files import is_at, remove
from crcache.store.layout import Layout
from crcache.store.marks import HEADER, Marks, MarksDamaged, State

_NAME = re.compile(r"((?:[0-9a-f]{16}|[0-9a-f]{32})-(?:sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128}))(\.marks)?")


@dataclass(frozen=True)
class Leftover:
    """A fill whose owner has let go of it, or died.

    @ivar size: bytes that it takes.
    @ivar written: when it was last written to, in seconds since the epoch.
    """

    name: str
    size: int
    written: float


class Leftovers:
    """Those in C{ingest/}. Whoever removes one holds the lock on its marks, as every owner does."""

    def __init__(self, layout: Layout) -> None:
        self._directory = layout.ingest

    def look(self, step: Callable[[], object] = lambda: None) -> list[Leftover]:
        """All of them, those that were written to least recently first.

        @param step: called for each name that is looked at.
        """
        names: set[str] = set()
        with contextlib.suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                step()
                match = _NAME.fullmatch(entry.name)
                if match is not None:
                    names.add(match[1])
        found = []
        for name in names:
            step()
            data, marks = self._paths(name)
            if not _owned(marks):
                size, written = _takes(data, marks)
                if written:
                    found.append(Leftover(name, size, written))
        return sorted(found, key=lambda each: each.written)

    def remove(self, leftover: Leftover, before: float) -> int:
        """Remove it, unless somebody has begun to go on with it; how many bytes that has freed.

        @param before: nor if it was written to at or after this time.
        """
        data, marks = self._paths(leftover.name)
        there = os.path.lexists(marks)
        try:
            fd = open_state(marks)
        except OSError:
            return 0
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size, written = _takes(data, marks if there else data)
            if not is_at(fd, marks) or written >= before:
                return 0
            if os.fstat(fd).st_size >= HEADER:
                # Whoever follows it is told.
                with contextlib.suppress(MarksDamaged):
                    Marks(fd, b"").state = State.FAILED
            remove(data)
            remove(marks)
            return size
        except OSError:
            return 0
        finally:
            os.close(fd)

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self._directory / name, self._directory / f"{name}.marks"


def _takes(*paths: Path) -> tuple[int, float]:
    """The bytes that files take, and when one of them was last written to; 0 if there is none."""
    size, written = 0, 0.0
    for path in paths:
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            size += found.st_blocks * 512
            written = max(written, found.st_mtime)
    return size, written


def _owned(marks: Path) -> bool:
    try:
        fd = open_state(marks, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
