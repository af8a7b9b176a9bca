"""Bodies of uploads: what is in memory, and parts of files."""

from __future__ import annotations

import os
from typing import BinaryIO

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from crcache.tier.problems import Wrong
from crcache.workers import Workers

#: Bytes that are read, and on their way, at a time.
PIECE = 256 << 10


@implementer(IBodyProducer)
class Bytes:
    """A small body.

    @ivar length: in bytes.
    """

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """As L{IBodyProducer}."""
        if self._data:
            consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """As L{IBodyProducer}: there is nothing more."""

    def resumeProducing(self) -> None:
        """As L{IBodyProducer}: there is nothing more."""

    def stopProducing(self) -> None:
        """As L{IBodyProducer}: there is nothing more."""


@implementer(IBodyProducer)
class FilePart:
    """Some bytes of an open file, read by threads as they are taken: one piece is in memory at a time.

    @ivar length: in bytes.
    """

    def __init__(self, file: BinaryIO, offset: int, length: int, workers: Workers) -> None:
        """
        @param file: stays open as long as somebody holds it; its position does not matter.
        """
        self.length = length
        self._file = file
        self._at = offset
        self._left = length
        self._workers = workers
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] = Deferred()
        self._paused = self._reading = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """As L{IBodyProducer}."""
        self._consumer = consumer
        self._go_on()
        return self._done

    def pauseProducing(self) -> None:
        """As L{IBodyProducer}."""
        self._paused = True

    def resumeProducing(self) -> None:
        """As L{IBodyProducer}."""
        self._paused = False
        self._go_on()

    def stopProducing(self) -> None:
        """As L{IBodyProducer}."""
        self._consumer = None

    def _go_on(self) -> None:
        if self._consumer is None or self._paused or self._reading:
            return
        if not self._left:
            self._consumer = None
            self._done.callback(None)
            return
        self._reading = True
        reading = self._workers.run(_read, self._file, min(PIECE, self._left), self._at)
        reading.addCallbacks(self._got, self._failed)

    def _got(self, data: bytes) -> None:
        self._reading = False
        if self._consumer is None:
            return
        if not data:
            self._failed(Failure(Wrong("has become shorter while it was uploaded")))
            return
        self._at += len(data)
        self._left -= len(data)
        try:
            self._consumer.write(data)
        except Exception:
            # Twisted says so to whoever writes for a request that has ended meanwhile, having called stopProducing.
            if self._consumer is not None:
                raise
        self._go_on()

    def _failed(self, failure: Failure) -> None:
        self._reading = False
        if self._consumer is not None:
            self._consumer = None
            self._done.errback(failure)


def _read(file: BinaryIO, count: int, offset: int) -> bytes:
    return os.pread(file.fileno(), count, offset)
