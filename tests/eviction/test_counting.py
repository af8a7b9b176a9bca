"""L{Usage}: what a cache directory holds."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event, Thread

from crcache.store.usage import GLANCE, RECOUNT, Usage
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry
from crcache.store import usage
from crcache.store.fileingest import FileIngest
from crcache.store.filesystem import Filesystem
from crcache.workers import Inline


class UsageTests(SynchronousTestCase):
    """Counting, with work done at once and a clock that stands still."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.clock = Clock()
        self.usage = Usage(self.root, Inline(), self.clock, self.clock.seconds)
        self.addCleanup(self.usage.stop)
        self.store = Filesystem(self.root, Inline(), lambda: 0.0, changed=self.usage.changed)
        self.store.start()

    def put(self, data: bytes) -> Digest:
        """Content that somebody else has put there."""
        digest = Digest.of(data)
        path = self.root / "blobs" / digest.algorithm / digest.hex
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return digest

    def test_unknown(self) -> None:
        """Before anything has been counted nothing is claimed, whatever is committed."""
        self.usage.changed(Digest.of(b""), 0, 5)
        self.assertEqual((self.usage.content, self.usage.room), (None, None))

    def test_counted(self) -> None:
        """Content of every algorithm is counted; what is on its way there, or no file, is not. The rest is room."""
        self.put(b"x" * 1000)
        longer = "ab" * 64
        (self.root / "blobs" / "sha512").mkdir()
        (self.root / "blobs" / "sha512" / longer).write_bytes(b"y" * 50)
        (self.root / "blobs" / "sha512" / f".{longer}.new").write_bytes(b"z" * 7)
        (self.root / "blobs" / "sha512" / ("cd" * 64)).mkdir()
        self.usage.start()
        self.assertEqual(self.usage.content, 1050)
        free = os.statvfs(self.root)
        assert self.usage.room is not None
        self.assertLess(abs(self.usage.room - 1050 - free.f_bavail * free.f_frsize), 1 << 30)

    def test_empty(self) -> None:
        """A directory in which nothing has been committed holds nothing."""
        self.usage.start()
        self.assertEqual(self.usage.content, 0)

    def test_adjusted(self) -> None:
        """What this process puts, fetches and drops is seen at once, and none of it twice."""
        self.usage.start()
        data = b"m" * 77
        digest = Digest.of(data)
        for _ in range(2):
            self.successResultOf(self.store.put(digest, data))
            self.assertEqual(self.usage.content, 77)
        blob = b"b" * 1000
        ingest = self.successResultOf(self.store.ingest(DOCKER_IO, Digest.of(blob)))
        assert isinstance(ingest, FileIngest)
        ingest.settle(len(blob))
        path = next(path for path in (self.root / "ingest").iterdir() if path.suffix != ".marks")
        path.write_bytes(blob)
        self.successResultOf(ingest.commit(len(blob), []))
        self.assertEqual(self.usage.content, 1077)
        for _ in range(2):
            self.successResultOf(self.store.drop(digest))
            self.assertEqual(self.usage.content, 1000)

    def test_others(self) -> None:
        """What others put there is seen when it is counted again, which is rarely."""
        self.usage.start()
        self.put(b"x" * 10)
        self.clock.advance(GLANCE)
        self.assertEqual(self.usage.content, 0)
        self.clock.pump([GLANCE] * int(RECOUNT / GLANCE))
        self.assertEqual(self.usage.content, 10)

    def test_gone(self) -> None:
        """A directory that is away is a line in the log, and is counted when it is back."""
        self.usage.start()
        away = self.root.with_name("away")
        self.root.rename(away)
        self.clock.pump([GLANCE] * 2)
        self.assertEqual(self.usage.content, 0)
        away.rename(self.root)
        self.put(b"x" * 10)
        self.clock.pump([GLANCE] * int(RECOUNT / GLANCE))
        self.assertEqual(self.usage.content, 10)

    def test_committed_meanwhile(self) -> None:
        """What is committed while files are counted is counted once, whether or not the count came by it."""
        self.patch(usage, "BATCH", 1)
        self.put(b"a" * 10)
        later = b"b" * 20

        class Pausing(Event):
            def wait(pausing, timeout: float | None = None) -> bool:
                self.usage.changed(self.put(later), 0, 20)
                return False

        self.usage._stopped = Pausing()
        self.usage.start()
        self.assertEqual(self.usage.content, 30)

    def test_put_again_meanwhile(self) -> None:
        """Content that is put once more while files are counted is counted once, whether or not the count has come by
        it, and with all of its size if it was damaged before."""
        self.patch(usage, "BATCH", 1)
        contents = {digest.hex: data for data in (b"a" * 20, b"b" * 20, b"c" * 20) for digest in [self.put(data)]}
        directory = self.root / "blobs" / "sha256"
        for damaged in (False, True):
            for place in (2,) if damaged else (0, 1, 2):
                again = contents[os.listdir(directory)[place]]
                path = directory / Digest.of(again).hex
                if damaged:
                    path.chmod(0o640)
                    path.write_bytes(again[:3])
                steps: list[int] = []

                class Pausing(Event):
                    def wait(pausing, timeout: float | None = None) -> bool:
                        steps.append(1)  # noqa: B023
                        if len(steps) == 2:  # noqa: B023
                            self.successResultOf(self.store.put(Digest.of(again), again))  # noqa: B023
                        return False

                self.usage._stopped = Pausing()
                self.usage._next = 0
                self.usage._measure()
                self.assertEqual((self.usage.content, len(steps)), (60, 3))

    def test_filled_twice(self) -> None:
        """Content that two registries' fills bring is counted once."""
        self.usage.start()
        blob = b"b" * 1000
        fills = []
        for registry in (DOCKER_IO, Registry("ghcr.io")):
            ingest = self.successResultOf(self.store.ingest(registry, Digest.of(blob)))
            assert isinstance(ingest, FileIngest)
            ingest.settle(len(blob))
            fills.append(ingest)
        for path in (self.root / "ingest").iterdir():
            if path.suffix != ".marks":
                path.write_bytes(blob)
        for ingest in fills:
            self.successResultOf(ingest.commit(len(blob), []))
            self.assertEqual(self.usage.content, 1000)

    def test_paced(self) -> None:
        """It rests several times as long as it works."""
        self.patch(usage, "BATCH", 10)
        rests: list[float] = []

        class Resting(Event):
            def wait(resting, timeout: float | None = None) -> bool:
                rests.append(timeout or 0)
                return False

        for number in range(35):
            self.put(b"%d" % number)
        ticks = iter(range(1000))
        slow = Usage(self.root, Inline(), self.clock, lambda: float(next(ticks)))
        slow._stopped = Resting()
        slow.start()
        slow.stop()
        self.assertEqual(rests, [4.0] * 3)

    def test_stopped(self) -> None:
        """A count that rests ends at once when it is stopped, and claims nothing."""
        self.patch(usage, "BATCH", 1)
        self.patch(usage, "REST", 10_000_000)
        for number in range(5):
            self.put(b"%d" % number)
        counting = Usage(self.root, Inline(), self.clock)
        thread = Thread(target=counting._measure)
        thread.start()
        counting.stop()
        thread.join(5)
        self.assertFalse(thread.is_alive())
        self.assertIsNone(counting.content)
