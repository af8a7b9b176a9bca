"""A file that a command writes: there once it is whole, and whoever called the command owns it."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from crcache.commands.outcome import Misused
from crcache.errors import StoreError
from crcache.store.files import beside, sync_directory

STDOUT = "-"
_MODE = 0o640


class Outgoing:
    """Written beside its place, under a name of its own, until L{commit}. A context manager: without that nothing is
    left. What is no file, such as a pipe or a device, is written as it is.

    It is opened before the command becomes somebody else, and remembers who called.

    @ivar file: to write to.
    """

    file: BinaryIO

    def __init__(self, name: str) -> None:
        """
        @param name: C{-} is stdout.
        @raise Misused: if that is a terminal.
        @raise StoreError: if it cannot be written.
        """
        self._caller = os.geteuid(), os.getegid()
        self._draft: Path | None = None
        self._path = Path(name)
        if name == STDOUT:
            if sys.stdout.isatty():
                raise Misused("stdout is a terminal: name a file with -o, or have another program read it")
            self.file = os.fdopen(os.dup(sys.stdout.fileno()), "wb", 1 << 20)
            return
        try:
            path = self._path = Path(os.path.realpath(name))
            if path.exists() and not stat.S_ISREG(path.stat().st_mode):
                self.file = path.open("wb")
                return
            self._draft = beside(path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.file = os.fdopen(os.open(self._draft, flags, _MODE), "wb", 1 << 20)
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What could not be written before cannot be now.
        with contextlib.suppress(OSError):
            self.file.close()
        self._return()
        if self._draft is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._draft)

    def commit(self) -> None:
        """All of it is written: put it in its place.

        @raise StoreError: if that fails.
        @raise BrokenPipeError: if nobody reads it any more.
        """
        try:
            self.file.flush()
            if self._draft is not None:
                os.fsync(self.file.fileno())
                self._return()
                os.rename(self._draft, self._path)
                self._draft = None
                sync_directory(self._path.parent)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from error

    def _return(self) -> None:
        """Be who called again."""
        user, group = self._caller
        if os.geteuid() != user:
            os.seteuid(user)
            os.setegid(group)

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(f"{self._path}: cannot be written: {error.strerror}")
