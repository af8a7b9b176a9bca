"""Committed content as a body to send from."""

from __future__ import annotations

import os
from collections.abc import Callable

from zope.interface import implementer

from crcache.errors import CrcacheError, GivenUp, StoreError
from crcache.facts import Verdict
from crcache.interfaces import IBody, IWatcher


def duplicate(fd: int) -> int:
    """Another descriptor of an open file.

    @raise StoreError: if there is none to be had.
    """
    try:
        return os.dup(fd)
    except OSError as error:
        raise StoreError(f"no descriptor to be had: {error.strerror}") from error


def _always(_: os.stat_result) -> bool:
    return True


@implementer(IBody)
class Content:
    """An open file of verified bytes. It owns the descriptor, and closes it when nobody holds this object any more."""

    def __init__(
        self, fd: int, size: int, used: float, intact: Callable[[os.stat_result], bool] = _always, sealed: bool = True
    ) -> None:
        """
        @param used: when it was last used before now, in seconds since the epoch.
        @param intact: whether a file that looks like this has not been written to since it was verified.
        @param sealed: whether it looked so when it was opened.
        """
        self._fd = fd
        self._intact = intact
        self.size: int | None = size
        self.used = used
        self.sealed = sealed

    @property
    def verdict(self) -> Verdict:
        """As L{IBody.verdict<crcache.interfaces.IBody>}: failed, once somebody has written over it.

        A file that was cut short is told by its reader, who knows whether it needs what is missing.
        """
        found = os.fstat(self._fd)
        cut = self.size is not None and found.st_size < self.size
        return Verdict.VERIFIED if cut or self._intact(found) else Verdict.FAILED

    @property
    def problem(self) -> CrcacheError | None:
        """As L{IBody.problem}: of a file of its old size the time alone is known to have changed, by a C{touch} even.

        Its digest tells, to those who see all of it.
        """
        touched = self.verdict is Verdict.FAILED and os.fstat(self._fd).st_size == self.size
        return GivenUp("somebody has touched the file, or written over it") if touched else None

    def open(self) -> int:
        """As L{IBody.open}."""
        return duplicate(self._fd)

    def readable(self, offset: int) -> int:
        """All of it is there."""
        return max(offset, self.size or 0)

    def watch(self, watcher: IWatcher, span: tuple[int, int | None] | None = None) -> None:
        """Nothing will change."""

    def unwatch(self, watcher: IWatcher) -> None:
        """Nothing to undo."""

    def __del__(self) -> None:
        os.close(self._fd)
