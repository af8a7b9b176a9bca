"""Bodies of uploads."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from crcache.tier.bytes import PIECE, FilePart
from crcache.workers import Inline, Workers


class Later(Workers):
    """Work that is done when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Any, Any]] = []

    def run(self, work: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Call C{work} later."""
        done: Deferred[Any] = Deferred()
        self.waiting.append((done, work, args))
        return done

    def go(self) -> None:
        """Do it now."""
        done, work, args = self.waiting.pop(0)
        done.callback(work(*args))


class Consumer:
    """Takes bytes until its request has ended."""

    def __init__(self) -> None:
        self.taken = b""
        self.ended: FilePart | None = None

    def write(self, data: bytes) -> None:
        """Take them; or do as Twisted's requests that have ended."""
        if self.ended is not None:
            self.ended.stopProducing()
            raise RuntimeError
        self.taken += data


class FilePartTests(SynchronousTestCase):
    """L{FilePart}."""

    def setUp(self) -> None:
        """A file of a piece and a half."""
        self.data = os.urandom(PIECE + PIECE // 2)
        path = Path(self.mktemp())
        path.write_bytes(self.data)
        self.file = path.open("rb")
        self.addCleanup(self.file.close)
        self.consumer: Any = Consumer()

    def test_part(self) -> None:
        """It is the bytes that are meant, and no others."""
        part = FilePart(self.file, 5, PIECE + 7, Inline())
        self.successResultOf(part.startProducing(self.consumer))
        self.assertEqual(self.consumer.taken, self.data[5 : PIECE + 12])

    def test_request_over(self) -> None:
        """A request that ends while a thread reads is no error of anybody's."""
        later = Later()
        part = FilePart(self.file, 0, len(self.data), later)
        done = part.startProducing(self.consumer)
        self.consumer.ended = part
        later.go()
        self.assertNoResult(done)
        self.assertEqual(later.waiting, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_consumer_fails(self) -> None:
        """Another failure of whoever takes it is not swallowed."""

        def fail(data: bytes) -> None:
            raise ValueError

        self.consumer.write = fail
        FilePart(self.file, 0, 10, Inline()).startProducing(self.consumer)

        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_cut(self) -> None:
        """A file that has become shorter fails."""
        part = FilePart(self.file, len(self.data) - 3, 10, Inline())
        self.assertIn("shorter", str(self.failureResultOf(part.startProducing(self.consumer)).value))
