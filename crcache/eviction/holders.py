"""What processes hold room for: a file for each, locked as long as it lives. All of it blocks, but only a moment."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import struct
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from crcache.eviction.state import open_state
from crcache.store.files import is_at

_NUMBERS = struct.Struct("<qqqq")
#: Bytes that have come, until other processes are told.
_TELL = 16 << 20
#: No process holds more: a file that says so is damaged.
_MOST = 1 << 60


@dataclass(frozen=True)
class Held:
    """What room is held for, in bytes.

    @ivar coming: what is not on the disk yet.
    @ivar there: what is.
    """

    coming: int = 0
    there: int = 0

    def __add__(self, other: Held) -> Held:
        return Held(self.coming + other.coming, self.there + other.there)


class Holders:
    """This process' own file, and those of others.

    A file whose lock nobody has is that of a process that has died: what it held room for is in C{ingest/} or nowhere.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / f"holder-{secrets.token_hex(8)}"
        self._fd = -1
        # The first is the reactor's as well, so nobody has it while the disk is waited for; the second is had first.
        self._lock, self._writing = Lock(), Lock()
        self._coming = self._there = self._told = self._left = 0

    def change(self, coming: int, there: int) -> bool:
        """So many bytes more, or fewer; whether others should be told now. For any thread, the reactor's too."""
        with self._lock:
            self._coming += coming
            self._there += there
            return abs(self._there - self._told) >= _TELL or there < 0 or coming + there < 0

    def leave(self, count: int) -> None:
        """So many bytes that are there are nobody's any more. They are held until L{counted}."""
        with self._lock:
            self._left += count

    def counted(self) -> None:
        """What had been left has been counted with what others have left."""
        with self._lock:
            self._there -= self._left
            self._left = 0
        self.tell()

    def tell(self) -> None:
        """Tell the other processes now."""
        with self._writing:
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            held = self._coming, self._there
            self._told = self._there
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                # A file that is open for writing all the time would keep the disk from being mounted read-only.
                fd = open_state(self._path, os.O_WRONLY)
                try:
                    os.pwrite(fd, _NUMBERS.pack(*held, ~held[0], ~held[1]), 0)
                finally:
                    os.close(fd)

    def show(self) -> None:
        """Have the other processes see what this one holds. Only with the tally's lock.

        @raise OSError: if that cannot be written.
        """
        with self._writing:
            if self._fd < 0 or not is_at(self._fd, self._path):
                self._close()
                os.close(open_state(self._path))
                self._fd = open_state(self._path, os.O_RDONLY)
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._tell()

    def all(self) -> tuple[Held, int]:
        """What all processes hold room for, and what those held of whom it was found just now that they have died.
        Only with the tally's lock.
        """
        with self._lock:
            held, lost = Held(max(self._coming, 0), max(self._there, 0)), 0
        try:
            names = os.listdir(self._directory)
        except OSError:
            return held, 0
        for name in names:
            if name.startswith("holder-") and name != self._path.name:
                other, alive = _look(self._directory / name)
                if alive:
                    held += other
                else:
                    lost += other.there
        return held, lost

    def close(self) -> None:
        """Hold nothing any more."""
        with self._writing:
            with self._lock:
                self._coming = self._there = self._left = 0
            if self._fd >= 0 and is_at(self._fd, self._path):
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _look(path: Path) -> tuple[Held, bool]:
    """What a process holds, and whether it lives; the file of one that has died is removed."""
    try:
        fd = open_state(path, os.O_RDONLY)
    except OSError:
        return Held(), True
    try:
        data = os.pread(fd, _NUMBERS.size, 0)
        held = Held()
        if len(data) == _NUMBERS.size:
            coming, there, *others = _NUMBERS.unpack(data)
            if others == [~coming, ~there] and 0 <= coming <= _MOST and 0 <= there <= _MOST:
                held = Held(coming, there)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return held, True
        os.unlink(path)
        return held, False
    except OSError:
        return Held(), True
    finally:
        os.close(fd)
