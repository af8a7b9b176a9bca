"""Committed content as a body to send from."""

from __future__ import annotations

import os

from zope.interface import implementer

from crcache.errors import StoreError
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


@implementer(IBody)
class Content:
    """An open file of verified bytes. It owns the descriptor, and closes it when nobody holds this object any more."""

    verdict = Verdict.VERIFIED
    problem = None

    def __init__(self, fd: int, size: int, used: float) -> None:
        """
        @param used: when it was last used before now, in seconds since the epoch.
        """
        self._fd = fd
        self.size: int | None = size
        self.used = used

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
