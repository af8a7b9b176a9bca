"""L{crcache.flow.hasher}."""

from __future__ import annotations

import os
from hashlib import sha256

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import StoreError
from crcache.flow.hasher import Hasher
from crcache.grammar.digest import Digest
from crcache.workers import Inline, Workers
from tests.flow.ingests import SlowIngest
from tests.flow.scene import Held

DATA = os.urandom(40_000_000)
DIGEST = Digest.of(DATA)


class HasherTests(SynchronousTestCase):
    """Follows the front of one fill."""

    def setUp(self) -> None:
        """Have a fill of which nothing can be read yet."""
        self.ingest = SlowIngest(DATA)
        self.moves = 0

    def _moved(self) -> None:
        self.moves += 1

    def hasher(self, workers: Workers) -> Hasher:
        """One that starts at the beginning."""
        made = Hasher(self.ingest, DIGEST, workers, self._moved)
        self.addCleanup(made.stop)
        return made

    def test_follows(self) -> None:
        """It hashes what is readable when it is told to look, to the end of that, and says so."""
        hasher = self.hasher(Inline())
        hasher.advance()
        self.assertEqual((hasher.hashed, self.moves), (0, 0))
        for front in (1, 1000, 1 << 20, 20_000_001, len(DATA)):
            self.ingest.front = front
            hasher.advance()
            self.assertEqual(hasher.hashed, front)
            self.assertEqual(hasher.digest_at(front), sha256(DATA[:front]).hexdigest())
        self.assertGreaterEqual(self.moves, 5)

    def test_digest_at(self) -> None:
        """The digest is that of exactly so many bytes, or nothing."""
        hasher = self.hasher(Inline())
        self.assertEqual(hasher.digest_at(0), sha256(b"").hexdigest())
        self.ingest.front = 500
        hasher.advance()
        self.assertIsNone(hasher.digest_at(499))
        self.assertIsNone(hasher.digest_at(501))

    def test_one_step_at_a_time(self) -> None:
        """It keeps one thread busy at most, in steps of bounded length, and goes on by itself."""
        workers = Held()
        hasher = self.hasher(workers)
        self.ingest.front = len(DATA)
        for _ in range(3):
            hasher.advance()
        self.assertEqual((workers.waiting, hasher.busy), (1, True))
        steps = 0
        while workers.waiting:
            self.assertIsNone(hasher.digest_at(len(DATA)))
            before = hasher.hashed
            workers.step()
            self.assertLessEqual(hasher.hashed - before, 16 << 20)
            steps += 1
        self.assertEqual(hasher.digest_at(len(DATA)), DIGEST.hex)
        self.assertEqual((steps, self.moves, hasher.busy), (3, 3, False))

    def test_on_the_way(self) -> None:
        """Bytes that are the next to be hashed are hashed as they are written, and not read back."""
        workers = Held()
        hasher = self.hasher(workers)
        for start in range(0, 4000, 1000):
            writing = hasher.write(start, [DATA[start : start + 500], DATA[start + 500 : start + 1000]])
            self.assertTrue(hasher.busy)
            self.ingest.front = start + 1000
            hasher.advance()
            self.assertEqual(workers.waiting, 0)
            self.ingest.end()
            self.successResultOf(writing)
            self.assertEqual(hasher.digest_at(start + 1000), sha256(DATA[: start + 1000]).hexdigest())
        self.assertEqual(self.ingest.taken, DATA[:4000])

    def test_behind(self) -> None:
        """Bytes behind a gap, or behind what is being read back, are written now and hashed when their turn comes."""
        workers = Held()
        hasher = self.hasher(workers)
        self.successResultOf(self._ended(hasher, 1000, 2000))
        self.assertEqual(hasher.hashed, 0)
        self.successResultOf(self._ended(hasher, 0, 1000))
        self.ingest.front = 2000
        hasher.advance()
        self.assertEqual(workers.waiting, 1)
        self.successResultOf(self._ended(hasher, 2000, 3000))
        self.ingest.front = 3000
        while workers.waiting:
            workers.step()
        self.assertEqual(hasher.digest_at(3000), sha256(DATA[:3000]).hexdigest())

    def _ended(self, hasher: Hasher, start: int, stop: int) -> Deferred[None]:
        writing = hasher.write(start, [DATA[start:stop]])
        self.ingest.end()
        return writing

    def test_failed_write(self) -> None:
        """A write that fails is told to the one who writes, and to the one who asks for the digest."""
        hasher = self.hasher(Inline())
        writing = hasher.write(0, [DATA[:10]])
        self.ingest.writing.pop(0).errback(Failure(StoreError("no space left")))
        self.failureResultOf(writing, StoreError)
        self.assertRaises(StoreError, hasher.digest_at, 10)

    def test_short_file(self) -> None:
        """Data that ends before its marks do is an error of the cache, not a wrong digest."""
        hasher = self.hasher(Inline())
        self.ingest.front = len(DATA) + 5
        hasher.advance()
        self.assertRaises(StoreError, hasher.digest_at, len(DATA) + 5)
        self.assertFalse(hasher.busy)

    def test_unreadable(self) -> None:
        """A file that cannot be read is one, too."""
        hasher = self.hasher(Inline())
        os.dup2(os.open("/", os.O_RDONLY | os.O_CLOEXEC), self.ingest.opened[0], inheritable=False)
        self.ingest.front = 5
        hasher.advance()
        self.assertRaises(StoreError, hasher.digest_at, 5)

    def test_stop(self) -> None:
        """A stopped one lets its descriptor go, after the step at hand, and says nothing more."""
        for busy in (False, True):
            workers = Held()
            hasher = Hasher(self.ingest, DIGEST, workers, self._moved)
            fd = self.ingest.opened[-1]
            if busy:
                self.ingest.front = 1000
                hasher.advance()
            hasher.stop()
            if busy:
                os.fstat(fd)
                workers.step()
            self.assertRaises(OSError, os.fstat, fd)
            hasher.advance()
            self.assertEqual((workers.waiting, self.moves), (0, 0))
            hasher.stop()
