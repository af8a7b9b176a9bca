"""A fill's two open files, whoever keeps them: what can be read of them, and how the owner writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, succeed

from crcache.errors import NoRoom, OriginLied, StoreError
from crcache.facts import Verdict
from crcache.store.content import duplicate
from crcache.store.marks import Marks, MarksDamaged, State
from crcache.store.space import Boundless, Hold
from crcache.workers import Workers

_VERDICTS = {
    State.ASKING: Verdict.FILLING,
    State.ANSWERED: Verdict.FILLING,
    State.VERIFIED: Verdict.VERIFIED,
    State.FAILED: Verdict.FAILED,
}
_VECTOR = 512
#: Bytes for which room is made ahead of a body. Not for all of it at once: an origin can say any length, and nothing
#: that is of use should have to go before there is something to put in its place.
AHEAD = 256 << 20
#: The largest file (off_t).
_LARGEST = (1 << 63) - 1


def write_all(fd: int, offset: int, buffers: Sequence[bytes]) -> int:
    """Put buffers one behind another from C{offset} on, whole; how many bytes that were. Blocking.

    @raise OSError: as pwritev(2).
    """
    total = 0
    for first in range(0, len(buffers), _VECTOR):
        batch: list[bytes | memoryview] = list(buffers[first : first + _VECTOR])
        while batch:
            written = os.pwritev(fd, batch, offset + total)
            total += written
            while batch and written >= len(batch[0]):
                written -= len(batch.pop(0))
            if batch and written:
                batch[0] = memoryview(batch[0])[written:]
    return total


class OpenIngest:
    """What L{crcache.interfaces.IIngest} says of the open files. Stores add how the fill is owned and ended."""

    owner: bool
    _data: int
    _marks: Marks

    def __init__(self, workers: Workers, syncing: Workers | None = None) -> None:
        """
        @param syncing: do what waits for the disk; by default C{workers} do.
        """
        self._workers = workers
        self._syncing = workers if syncing is None else syncing
        self._written_to = self._spent = 0
        self._hold: Hold = Boundless()
        self._making = workers

    def within(self, hold: Hold, making: Workers) -> None:
        """Write only what there is room for.

        @param making: threads that may be kept waiting while room is made.
        """
        self._hold = hold
        self._making = making

    @property
    def size(self) -> int | None:
        """As L{IIngest.size<crcache.interfaces.IIngest>}."""
        try:
            return self._marks.size
        except MarksDamaged:
            return None

    @property
    def answered(self) -> bool:
        """As L{IIngest.answered<crcache.interfaces.IIngest>}."""
        try:
            return self._marks.state in (State.ANSWERED, State.VERIFIED)
        except MarksDamaged:
            return False

    @property
    def state(self) -> Verdict:
        """As L{IIngest.state<crcache.interfaces.IIngest>}; damaged marks have failed."""
        try:
            return _VERDICTS[self._marks.state]
        except MarksDamaged:
            return Verdict.FAILED

    def open(self) -> int:
        """As L{IBody.open<crcache.interfaces.IBody>}."""
        return duplicate(self._data)

    def readable(self, offset: int) -> int:
        """As L{IBody.readable<crcache.interfaces.IBody>}."""
        return self._marks.readable(offset)

    def hole(self, offset: int) -> tuple[int, int | None] | None:
        """As L{IIngest.hole<crcache.interfaces.IIngest>}."""
        return self._marks.hole(offset, self.size)

    def settle(self, size: int | None) -> None:
        """As L{IIngest.settle<crcache.interfaces.IIngest>}."""
        if size is not None and size > _LARGEST:
            raise OriginLied(f"the origin says {size} bytes, which is more than there can be")
        try:
            known = self._marks.size
            if size is not None and known is not None and size != known:
                raise OriginLied(f"the origin now says {size} bytes where it said {known}")
            if size is not None and known is None:
                self._marks.size = size
            if self._marks.state is State.ASKING:
                self._marks.state = State.ANSWERED
        except (OSError, MarksDamaged) as error:
            raise StoreError(f"a fill's marks cannot be used: {error}") from error

    def write(
        self, offset: int, buffers: Sequence[bytes], also: Callable[[Sequence[bytes]], None] | None = None
    ) -> Deferred[None]:
        """As L{IIngest.write<crcache.interfaces.IIngest>}."""
        self._spent += sum(map(len, buffers))
        if self._hold.covers(self._spent):
            return self._workers.run(self._write, offset, buffers, also)
        making = self._making.run(self._more, self._spent)
        return making.addCallback(lambda _: self._workers.run(self._write, offset, buffers, also))

    def room(self, size: int | None) -> Deferred[None]:
        """As L{IIngest.room<crcache.interfaces.IIngest>}."""
        if size is None or self._hold.covers(min(size, 1)):
            return succeed(None)
        return self._making.run(self._begin_with, size)

    def _begin_with(self, size: int) -> None:
        there = min(os.fstat(self._data).st_blocks * 512, size)
        self._spent = max(self._spent, there)
        self._hold.take(min(size, there + AHEAD), there, size)

    def _more(self, spent: int) -> None:
        size = self.size
        try:
            self._hold.take(spent + AHEAD if size is None else min(spent + AHEAD, max(size, spent)), whole=size)
        except NoRoom:
            self._hold.take(spent, whole=size)

    def _write(self, offset: int, buffers: Sequence[bytes], also: Callable[[Sequence[bytes]], None] | None) -> None:
        try:
            # Cut by somebody, it would grow again, with zeros that nobody has hashed. Nobody uses the file's position.
            # In this order: other streams write meanwhile, in threads of their own.
            reached = self._written_to
            if os.lseek(self._data, 0, os.SEEK_END) < reached:
                raise StoreError("writing to the cache failed: the file was cut while it was being filled")
            count = write_all(self._data, offset, buffers)
            self._written_to = max(self._written_to, offset + count)
            self._marks.add(offset, count)
            self._hold.landed(count)
        except (OSError, MarksDamaged) as error:
            raise StoreError(f"writing to the cache failed: {error}") from error
        if also is not None:
            also(buffers)

    def synced(self, front: int) -> Deferred[None]:
        """As L{IIngest.synced<crcache.interfaces.IIngest>}."""
        return self._syncing.run(self._synced, front)

    def _synced(self, front: int) -> None:
        try:
            os.fdatasync(self._data)
            self._marks.front = max(front, self._marks.front)
        except (OSError, MarksDamaged) as error:
            raise StoreError(f"syncing the cache failed: {error}") from error
