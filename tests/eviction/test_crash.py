"""Whoever walks, removes or holds room is killed at any moment: the next goes on, and what must stay does."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from crcache.errors import NoRoom, StoreError
from crcache.eviction import bounded, holders, leftovers, plan, removal, state, sweep, tally, walk
from crcache.eviction.naming import named
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.interfaces import IIngest
from crcache.settings import Bounds
from crcache.store import contents, fileingest, files, ingest, marks, seal
from tests.eviction.case import DAY, HOUR, LATEST, EvictionCase
from tests.store.dying import Dying, lived
from tests.store.other import now

MODULES = (
    bounded, holders, leftovers, plan, removal, state, sweep, tally, walk,
    contents, fileingest, files, ingest, marks, seal,
)  # fmt: skip
KIB = 1024


class FullAndDying(Dying):
    """So it is to one on a disk that has no room for anything new; what is there can be written over."""

    def __getattr__(self, name: str) -> Any:
        function = super().__getattr__(name)
        return (
            partial(getattr(self, f"_{name}"), function) if name in ("open", "mkdir", "write", "pwrite") else function
        )

    def _open(self, function: Callable[..., int], path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_CREAT and not os.path.lexists(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return function(path, flags, *rest)

    def _mkdir(self, function: Callable[..., None], path: Any, *rest: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def _write(self, function: Callable[..., int], fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _pwrite(self, function: Callable[..., int], fd: int, data: bytes, offset: int) -> int:
        if offset + len(data) > os.fstat(fd).st_size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(fd, data, offset)


class CrashTests(EvictionCase):
    """Killed before each of its changes in turn."""

    dying: type[Dying] = Dying

    def setUp(self) -> None:
        """Room is made for what comes alone."""
        super().setUp()
        self.patch(bounded, "AHEAD", 0)
        self.patch(bounded, "PATIENCE", 2.0)

    def lived(self, work: Callable[[], object], changes: int) -> bool:
        """Whether a process lives through the work."""
        return lived(work, self.dying(changes), MODULES)

    def fresh(self) -> None:
        """Another process begins on what there is."""
        self.evictor.stop()
        self.evictor, self.store = self.another()

    def fill_up(self) -> None:
        """Two images that share a layer, one of them pinned, and loose blobs."""
        shared, own = self.blob(1, KIB, age=9 * DAY), self.blob(2, KIB, age=9 * DAY)
        self.kept = self.manifest([shared, self.blob(3, KIB, age=20 * DAY)], age=20 * DAY)
        self.tag(self.kept)
        self.pin(self.kept, LATEST)
        self.manifest([shared, own], age=5 * DAY)
        for number in range(4, 8):
            self.blob(number, KIB, age=number * HOUR)

    def sound(self) -> None:
        """What must hold after every crash, and after whoever comes next has looked."""
        for path in self.root.glob("blobs/sha256/*"):
            if not path.name.startswith("."):
                digest = Digest("sha256", path.name)
                self.assertEqual(Digest.of(path.read_bytes()), digest)
        for digest in (self.kept, *named(self.layout, self.kept)):
            self.assertTrue(self.holds(digest))

    def settled(self, most: int) -> None:
        """The next process' background work sets everything right."""
        self.fresh()
        self.sound()
        self.walk()
        self.assertEqual(self.content(), self.held())
        self.evictor.look()
        self.sound()
        self.assertLessEqual(self.held(), most)
        with self.evictor.tally.open() as book:
            found = self.evictor.space.measure(book)
        self.assertEqual((found.coming, found.there), (0, self.held() + book.left))

    def at_each(self, work: Callable[[], object], most: int) -> int:
        """Have it killed at each of its changes; how many those are."""
        changes, lived = 0, False
        while not lived:
            for path in self.root.glob("*/*"):
                if path.parent.name in ("eviction", "ingest"):
                    path.unlink()
            self.fill_up()
            self.fresh()
            self.walk()
            lived = self.lived(work, changes)
            self.settled(most)
            changes += 1
        return changes

    def test_removing(self) -> None:
        """While content is removed."""
        most = 4 * KIB + 1000

        def remove() -> None:
            self.bounds = Bounds(most, 0, 1.0, 0.9)
            self.evictor.look()

        self.bounds = Bounds(most, 0, 1.0, 0.9)
        self.assertGreater(self.at_each(remove, most), 10)

    def test_walking(self) -> None:
        """While content is counted, and the plan is written."""
        self.bounds = Bounds(100 * KIB, 0, 1.0, 0.9)
        self.assertGreater(self.at_each(self.walk, 100 * KIB), 8)

    def test_filling(self) -> None:
        """While room is made for a fill, it is written, and committed."""
        data = os.urandom(3 * KIB)
        most = 9 * KIB
        self.bounds = Bounds(most, 0, 1.0, 1.0)

        def fill() -> None:
            found = now(self.store.ingest(DOCKER_IO, Digest.of(data)))
            if not IIngest.providedBy(found):
                return
            now(found.room(len(data)))
            found.settle(len(data))
            now(found.write(0, [data]))
            now(found.commit(len(data), []))

        self.assertGreater(self.at_each(fill, most), 30)
        self.assertTrue(self.holds(Digest.of(data)))

    def test_abandoned(self) -> None:
        """While a fill that nobody goes on with is removed: what is left of it is removed by the next, or resumed."""
        digest = Digest.of(b"x" * 5000)
        place = self.layout.fill(DOCKER_IO, digest)
        self.kept = self.blob(0)
        changes, lived = 0, False
        while not lived:
            found = now(self.store.ingest(DOCKER_IO, digest))
            assert IIngest.providedBy(found)
            found.settle(5000)
            now(found.write(0, [b"x" * 5000]))
            found.close()
            for path in (place.data, place.marks):
                os.utime(path, (self.now - 4 * DAY,) * 2)
            lived = self.lived(self.evictor._removal.abandoned, changes)
            changes += 1
            again = now(self.store.ingest(DOCKER_IO, digest))
            assert IIngest.providedBy(again)
            self.assertTrue(again.owner)
            self.assertIn(again.hole(0), (None, (0, None)))
            now(again.discard())
            self.assertEqual(os.listdir(self.root / "ingest"), [])
        self.assertGreater(changes, 3)

    def test_holding(self) -> None:
        """While room is held: nothing of it is held for ever."""
        self.kept = self.blob(0)
        self.bounds = Bounds(10 * KIB, 0, 1.0, 1.0)
        self.walk()
        changes, lived = 0, False

        def hold() -> None:
            one, two = self.evictor.space.hold(), self.evictor.space.hold()
            one.take(4 * KIB)
            two.take(4 * KIB)
            one.release()
            two.take(5 * KIB)
            two.release()

        while not lived:
            lived = self.lived(hold, changes)
            claim = self.evictor.space.hold()
            claim.take(9 * KIB)
            claim.release()
            changes += 1
        self.assertGreater(changes, 4)
        self.assertRaises(NoRoom, self.evictor.space.hold().take, 11 * KIB)

    def test_sweeping(self) -> None:
        """While what is known of content that has gone is removed."""
        changes, lived = 0, False
        gone = [Digest.of(b"%d" % number) for number in range(3)]
        while not lived:
            for each in gone:
                path = self.member(each)
                os.utime(path, (self.now - 2 * DAY,) * 2)
                os.utime(self.layout.given(each), (self.now - 2 * DAY,) * 2)
            lived = self.lived(lambda: self.evictor._sweep.run(self.pace(), False), changes)
            for each in gone:
                if self.layout.given(each).exists():
                    os.utime(self.layout.given(each), (self.now - 2 * DAY,) * 2)
            self.evictor._sweep.run(self.pace(), False)
            changes += 1
            for each in gone:
                self.assertFalse(self.layout.given(each).exists())
        self.assertGreater(changes, 5)


class FullTests(CrashTests):
    """The same where nothing new can be written."""

    dying = FullAndDying

    def test_filling(self) -> None:
        """While room is made for a fill, which cannot be written all the same."""
        data = os.urandom(3 * KIB)
        most = 9 * KIB
        self.bounds = Bounds(most, 0, 1.0, 1.0)

        def fill() -> None:
            with contextlib.suppress(StoreError):
                found = now(self.store.ingest(DOCKER_IO, Digest.of(data)))
                if IIngest.providedBy(found):
                    now(found.room(len(data)))
                    now(found.write(0, [data]))

        self.at_each(fill, most)
        self.assertFalse(self.holds(Digest.of(data)))


class Unlinkless:
    """The C{os} module where files cannot be removed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def unlink(self, path: object) -> None:
        """As of a directory that belongs to somebody else."""
        raise PermissionError(13, "Permission denied", str(path))


class StuckTests(EvictionCase):
    """Files that cannot be removed."""

    def test_stuck(self) -> None:
        """They are passed over; nobody waits for them, or counts them as gone."""
        for number in range(5):
            self.blob(number, 1000)
        self.bounds = Bounds(5000, 0, 1.0, 1.0)
        self.walk()
        self.patch(removal, "os", Unlinkless())
        self.patch(bounded, "PATIENCE", 0.5)
        self.assertIn("no room", str(self.assertRaises(NoRoom, self.evictor.space.hold().take, 1000)))
        self.assertEqual((self.content(), self.held()), (5000, 5000))
