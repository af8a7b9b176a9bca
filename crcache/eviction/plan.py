"""The plan: what goes next, a line each, which all processes follow from where the last one has stopped. It blocks."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from twisted.logger import Logger

from crcache import events
from crcache.eviction.state import open_state
from crcache.grammar.digest import Digest
from crcache.store.files import write_atomically
from crcache.store.layout import Layout

log = Logger()

#: Lines of a plan; when they are used up, there is a new one.
MOST = 100_000
#: The part of a plan after which there is to be a new one: it may take minutes, and what is left has to last.
ENOUGH = 0.75
_LINE = re.compile(rb"([0-9]{1,12}) ([0-9]{1,19}) (sha256/[0-9a-f]{64}|sha512/[0-9a-f]{128})\n")
_LONGEST = 256
_CURSOR = re.compile(rb"([0-9]{1,20}) ([0-9]{1,12}) *\n")
_PIECE = 1 << 16


class Step(NamedTuple):
    """A line of it.

    @ivar used: when it was last used as the plan was made, in seconds since the epoch.
    @ivar size: in bytes.
    @ivar end: where the next line begins.
    """

    used: int
    size: int
    digest: Digest
    end: int


def line(digest: Digest, size: int, used: int) -> bytes:
    """How one is written."""
    return f"{max(used, 0)} {size} {digest.algorithm}/{digest.hex}\n".encode()


class Plan:
    """C{eviction/plan}, and the cursor beside it. Neither is believed: each file is looked at before it goes."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.eviction / "plan"
        self._cursor = layout.eviction / "cursor"

    def write(self, lines: bytes, now: float) -> None:
        """Here is a new one.

        @param now: when it was made, in seconds since the epoch.
        @raise OSError: if it cannot be written; then there is the old one, or none.
        """
        os.close(open_state(self._cursor))
        # No directory is made: the cache's own may be a mount that has gone.
        write_atomically(self._path, lines, ready=lambda fd: os.utime(fd, (now, now)), makes=False)

    def made(self) -> tuple[int, float] | None:
        """The inode of the one that there is, and when it was made, in seconds since the epoch."""
        try:
            found = os.lstat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime

    def used_up(self) -> bool:
        """Whether there is none, or little is left of one that had something."""
        try:
            found = os.lstat(self._path)
        except OSError:
            return True
        return found.st_size > 0 and self._position(found.st_ino) >= found.st_size * ENOUGH

    def steps(self) -> Iterator[Step]:
        """What is left of it. One that is none is refused, and removed, at the first line that is wrong."""
        try:
            fd = open_state(self._path, os.O_RDONLY)
        except OSError:
            return
        try:
            found = os.fstat(fd)
            if found.st_size > MOST * _LONGEST:
                self._refuse(f"has {found.st_size} bytes")
                return
            position = self._position(found.st_ino)
            if position and os.pread(fd, 1, position - 1) != b"\n":
                position = 0
            yield from self._lines(fd, position)
        finally:
            os.close(fd)

    @staticmethod
    def read(lines: bytes) -> Iterator[Step]:
        """The steps of a plan that is nowhere but in memory."""
        for each in lines.splitlines(keepends=True):
            match = _LINE.fullmatch(each)
            if match is not None:
                yield _step(match, 0)

    def _lines(self, fd: int, position: int) -> Iterator[Step]:
        rest, at = b"", position
        while data := os.pread(fd, _PIECE, at + len(rest)):
            lines = (rest + data).splitlines(keepends=True)
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            for each in lines:
                match = _LINE.fullmatch(each)
                if match is None:
                    self._refuse(f"has a line at byte {at} that is none of a plan")
                    return
                at += len(each)
                yield _step(match, at)
            if len(rest) > _LONGEST:
                break
        if rest:
            self._refuse(f"has a line at byte {at} that is none of a plan")

    def _refuse(self, what: str) -> None:
        problem = f"{self._path} {what}; it is removed, and made anew"
        log.warn("the cache directory was damaged: {problem}", event=events.CONTENT_DAMAGED, problem=problem)
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def advance(self, inode: int, position: int) -> None:
        """Everything before this byte of that plan has been done. What cannot be noted is looked at again."""
        with contextlib.suppress(OSError):
            fd = open_state(self._cursor)
            try:
                # Of one length, so that it is never longer than what is written over it.
                os.pwrite(fd, f"{inode} {position}".ljust(40).encode() + b"\n", 0)
            finally:
                os.close(fd)

    def _position(self, inode: int) -> int:
        try:
            fd = open_state(self._cursor, os.O_RDONLY)
        except OSError:
            return 0
        try:
            match = _CURSOR.fullmatch(os.pread(fd, 64, 0))
        finally:
            os.close(fd)
        return int(match[2]) if match is not None and int(match[1]) == inode else 0


def _step(match: re.Match[bytes], end: int) -> Step:
    return Step(int(match[1]), int(match[2]), Digest.parse(match[3].decode().replace("/", ":")), end)
