"""Follows a fill's unbroken front, hashing its bytes as they are written, or what is on disk already."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from crcache.errors import StoreError
from crcache.grammar.digest import Digest
from crcache.interfaces import IIngest
from crcache.workers import Workers

_BUFFER = 1 << 20
_STEP = 16 << 20


def _nothing() -> None:
    """What a stopped hasher calls: it holds nobody alive."""


class Hasher:
    """Hashes the bytes of one fill as they become readable, in a worker thread, one step at a time.

    @ivar hashed: how many bytes from the beginning have been hashed.
    """

    def __init__(self, ingest: IIngest, digest: Digest, workers: Workers, moved: Callable[[], None]) -> None:
        """
        @param moved: called in the reactor thread after each step.
        @raise StoreError: if there is no descriptor to be had.
        """
        self.hashed = 0
        self._ingest = ingest
        self._state = digest.hasher()
        self._workers = workers
        self._moved = moved
        self._fd = ingest.open()
        self._step: Deferred[int] | None = None
        self._failure: Exception | None = None
        self._stopped = False
        self._lent = False

    def advance(self) -> None:
        """Go on, unless at work already: there may be more to hash. Cheap."""
        if self.busy or self._failure is not None or self._stopped:
            return
        end = self._ingest.readable(self.hashed)
        if end <= self.hashed:
            return
        self._step = self._workers.run(self._consume, self.hashed, min(end, self.hashed + _STEP))
        self._step.addCallbacks(self._stepped, self._failed)

    def write(self, offset: int, buffers: Sequence[bytes]) -> Deferred[None]:
        """Write to the fill; if these bytes are the next to be hashed, that is done on the way, in the same thread.

        Reading them back for it would cost as much again as writing them.
        """
        if self.busy or offset != self.hashed or self._failure is not None or self._stopped:
            return self._ingest.write(offset, buffers)
        length = sum(map(len, buffers))
        writing = self._ingest.write(offset, buffers, self._absorb)
        self._lent = True

        def written(result: None) -> None:
            self._lent = False
            self._stepped(offset + length)

        def failed(failure: Failure) -> Failure:
            self._lent = False
            self._failed(failure)
            return failure

        return writing.addCallbacks(written, failed)

    def _absorb(self, buffers: Sequence[bytes]) -> None:
        for buffer in buffers:
            self._state.update(buffer)

    @property
    def busy(self) -> bool:
        """Whether a step is being done."""
        return self._step is not None or self._lent

    def digest_at(self, size: int) -> str | None:
        """The hex digest once exactly C{size} bytes are hashed, before that C{None}.

        @raise StoreError: if the bytes cannot be read back.
        """
        if self._failure is not None:
            raise self._failure
        return self._state.hexdigest() if self.hashed == size and not self.busy else None

    def stop(self) -> None:
        """Let go of the file, after the step at hand."""
        self._stopped = True
        self._moved = _nothing
        if not self.busy:
            self._close()

    def _consume(self, offset: int, end: int) -> int:
        buffer = memoryview(bytearray(min(_BUFFER, end - offset)))
        while offset < end:
            count = os.preadv(self._fd, [buffer[: end - offset]], offset)
            if not count:
                raise StoreError(f"the cache file ends at byte {offset}, before its marks do")
            self._state.update(buffer[:count])
            offset += count
        return offset

    def _stepped(self, offset: int) -> None:
        self.hashed = offset
        self._ended()

    def _failed(self, failure: Failure) -> None:
        value: BaseException | None = failure.value
        if isinstance(value, OSError):
            value = StoreError(f"reading the cache back failed: {value.strerror}")
        self._failure = value if isinstance(value, Exception) else StoreError("reading the cache back failed")
        self._ended()

    def _ended(self) -> None:
        self._step = None
        if self._stopped:
            self._close()
        else:
            self.advance()
            self._moved()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
