"""A fill that does only what the test lets it do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from crcache.facts import Membership, Verdict
from crcache.grammar.reference import Repository
from crcache.interfaces import IIngest


@implementer(IIngest)
class SlowIngest:
    """Notes what is written; the test says when a write has ended, and what can be read.

    @ivar writes: the offset and bytes of each write.
    @ivar writing: the writes that have not ended.
    """

    def __init__(self, data: bytes = b"") -> None:
        self.owner = True
        self.size: int | None = None
        self.answered = False
        self.state = Verdict.FILLING
        self.writes: list[tuple[int, bytes]] = []
        self.writing: list[Deferred[None]] = []
        self.also: list[Callable[[], None]] = []
        self.front = 0
        self.data = data
        self.opened: list[int] = []

    def end(self) -> None:
        """The oldest write is done, and what was to be done with it."""
        self.also.pop(0)()
        self.writing.pop(0).callback(None)

    @property
    def taken(self) -> bytes:
        """All that was written, which must be one piece."""
        data = b""
        start = self.writes[0][0] if self.writes else 0
        for offset, piece in self.writes:
            assert offset == start + len(data), (offset, start, len(data))
            data += piece
        return data

    def open(self) -> int:
        """As L{IIngest.open}: a file with all of the data."""
        fd = os.memfd_create("slow", os.MFD_CLOEXEC)
        os.pwrite(fd, self.data, 0)
        self.opened.append(fd)
        return fd

    def readable(self, offset: int) -> int:
        """As L{IIngest.readable}: up to the front."""
        return max(offset, self.front)

    def hole(self, offset: int) -> tuple[int, int | None] | None:
        """As L{IIngest.hole}."""
        return None if self.front == self.size else (self.front, self.size)

    def settle(self, size: int | None) -> None:
        """As L{IIngest.settle}."""
        self.size, self.answered = size, True

    def room(self, size: int | None) -> Deferred[None]:
        """As L{IIngest.room}: there is some."""
        return succeed(None)

    def write(
        self, offset: int, buffers: Sequence[bytes], also: Callable[[Sequence[bytes]], None] | None = None
    ) -> Deferred[None]:
        """As L{IIngest.write}; ends at L{end}."""
        self.also.append(lambda: None if also is None else also(buffers))
        self.writes.append((offset, b"".join(buffers)))
        writing: Deferred[None] = Deferred()
        self.writing.append(writing)
        return writing

    def synced(self, front: int) -> Deferred[None]:
        """As L{IIngest.synced}."""
        return succeed(None)

    def commit(self, size: int, members: Sequence[tuple[Repository, Membership]]) -> Deferred[None]:
        """As L{IIngest.commit}."""
        self.state = Verdict.VERIFIED
        return succeed(None)

    def discard(self) -> Deferred[None]:
        """As L{IIngest.discard}."""
        self.state = Verdict.FAILED
        return succeed(None)

    def claim(self) -> Deferred[bool]:
        """As L{IIngest.claim}."""
        return succeed(self.owner)

    def close(self) -> None:
        """As L{IIngest.close}."""
        self.owner = False
