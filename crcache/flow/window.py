"""Which bytes of a body one client gets, and how far they may go by now."""

from __future__ import annotations

import os

from crcache.errors import CrcacheError, GivenUp, OriginLied
from crcache.facts import Verdict
from crcache.interfaces import IBody

#: How many of the last bytes are withheld until the body is verified.
HELD = 64 << 10
_BUFFER = 1 << 20


class Window:
    """A run of a body's bytes, with the place that the client has come to. It owns a descriptor.

    @ivar offset: the next byte to be sent.
    """

    def __init__(self, body: IBody, start: int, stop: int | None, held: bool) -> None:
        """
        @param stop: the end, exclusive; C{None} for that of the body, whose size nobody knows yet.
        @param held: whether the last bytes wait for the verdict.
        @raise crcache.errors.StoreError: if there is no descriptor to be had.
        """
        self.body = body
        self.fd = body.open()
        self.offset = start
        self._start = start
        self._stop = stop
        self._held = held

    @property
    def sent(self) -> int:
        """How many bytes have been sent."""
        return self.offset - self._start

    @property
    def span(self) -> tuple[int, int | None]:
        """What is still to be sent, from the first byte to the end (exclusive); C{None} is that of the body."""
        return self.offset, self._stop

    @property
    def failed(self) -> bool:
        """Whether the body is known to be wrong, or will not be had whole."""
        return self.body.verdict is Verdict.FAILED

    @property
    def wrong(self) -> bool:
        """Whether of what has been sent some is wrong, as far as one knows, or nothing will ever tell."""
        lied = self.problem is None or isinstance(self.problem, OriginLied)
        return self.failed and (lied or (isinstance(self.problem, GivenUp) and not self._held))

    @property
    def torn(self) -> bool:
        """Whether a verified file has been cut, and no digest will tell whether its other bytes are still right."""
        size = self.body.size
        if self._held or size is None or self.body.verdict is not Verdict.VERIFIED:
            return False
        return os.fstat(self.fd).st_size < size

    @property
    def problem(self) -> CrcacheError | None:
        """Why the body has failed."""
        return self.body.problem

    @property
    def held(self) -> bool:
        """Whether the last bytes wait for the verdict."""
        return self._held

    @property
    def unbroken(self) -> bool:
        """Whether everything before what was asked for is there as well."""
        at = 0
        while at < self._start and (further := self.body.readable(at)) > at:
            at = further
        return at >= self._start

    @property
    def finished(self) -> bool:
        """Whether all has been sent."""
        stop = self._stop
        if stop is None and self.body.verdict is Verdict.VERIFIED:
            stop = self.body.size
        return stop is not None and self.offset >= stop

    def limit(self) -> int:
        """Up to where bytes may be sent now."""
        body = self.body
        limit = body.readable(self.offset)
        if self._held and body.verdict is not Verdict.VERIFIED:
            # Without a size any byte may be the last: then what is there now, less what is held, may go.
            limit = min(limit, (limit if body.size is None else body.size) - HELD)
        return limit if self._stop is None else min(limit, self._stop)

    def read_in(self, end: int) -> None:
        """Have what lies before C{end} in memory. Blocking: for a worker thread.

        @raise OSError: as preadv(2).
        """
        buffer = memoryview(bytearray(min(_BUFFER, end - self.offset)))
        at = self.offset
        while at < end and (count := os.preadv(self.fd, [buffer[: end - at]], at)):
            at += count

    def read(self, end: int) -> bytes:
        """The bytes from the offset to C{end}, or fewer if the file is cut short. Blocking: for a worker thread.

        @raise OSError: as pread(2).
        """
        return os.pread(self.fd, end - self.offset, self.offset)

    def close(self) -> None:
        """Let go of the descriptor. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
