"""L{Bounded}: room is made before something is stored, by however many at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

from crcache import evictor
from crcache.errors import NoRoom, StoreError
from crcache.eviction import bounded, holders, state
from crcache.eviction.holders import Held
from crcache.eviction.leftovers import Leftovers
from crcache.eviction.removal import OLD
from crcache.eviction.state import locked
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.interfaces import IIngest
from crcache.settings import Bounds, Share
from crcache.store import ingest
from crcache.store.filesystem import Filesystem
from crcache.store.staging import PREFIX, Staging
from tests.eviction.case import DAY, HOUR, TOTAL, EvictionCase
from tests.store.other import now

MIB = 1 << 20
_TOP = Path(__file__).parents[2]


class SpaceTests(EvictionCase):
    """A cache that may have ten MiB."""

    def setUp(self) -> None:
        """Count what there is."""
        super().setUp()
        self.patch(bounded, "AHEAD", 0)
        self.bounds = Bounds(10 * MIB, 0, 1.0, 0.9)

    def test_made(self) -> None:
        """What was used least recently goes for what comes, and no more of it than must."""
        blobs = [self.blob(number, MIB, age=number * HOUR) for number in range(10)]
        self.walk()
        hold = self.evictor.space.hold()
        hold.take(2 * MIB + 1)
        self.assertEqual([self.holds(each) for each in blobs], [True] * 7 + [False] * 3)
        self.assertEqual(sum(self.evicted), 3 * MIB)
        hold.take(2 * MIB + 1)
        hold.take(3 * MIB)
        self.assertEqual(self.held(), 7 * MIB)

    def test_nothing_to_do(self) -> None:
        """What there is room for has nothing go; room that is given back is there again."""
        self.blob(1, MIB)
        self.walk()
        for _ in range(20):
            hold = self.evictor.space.hold()
            hold.take(9 * MIB)
            self.refused(2 * MIB)
            hold.release()
            hold.release()
        self.assertEqual(self.held(), MIB)

    def test_too_large(self) -> None:
        """What is larger than the bound is refused at once, with the keys that say so, and nothing goes for it."""
        self.blob(1, MIB)
        self.walk()
        self.assertIn("cache.max-size", self.refused(10 * MIB + 1))
        self.assertEqual(self.held(), MIB)

    def test_pinned(self) -> None:
        """What is pinned makes no room: what does not fit beside it is refused, and nothing else goes in vain."""
        self.pin(self.blob(1, 6 * MIB))
        self.blob(2, MIB)
        self.walk()
        self.refused(5 * MIB)
        self.assertEqual(self.held(), 7 * MIB)
        self.evictor.space.hold().take(4 * MIB)
        self.assertEqual(self.held(), 6 * MIB)

    def test_min_free(self) -> None:
        """What everybody has left free is looked at as well, and the stricter of the two bounds holds."""
        self.bounds = Bounds(Share(100), Share(50), 1.0, 1.0)
        self.blob(1, MIB)
        self.walk()
        self.free = TOTAL // 2 + MIB
        self.evictor.space.hold().take(MIB)
        self.free = TOTAL // 2
        self.refused(5 * MIB)
        self.assertEqual(self.held(), MIB)

    def test_free_again(self) -> None:
        """Content goes when others fill the file system up."""
        self.bounds = Bounds(TOTAL, MIB, 1.0, 1.0)
        for number in range(4):
            self.blob(number, MIB, age=number)
        self.walk()
        self.free = MIB - 2 * MIB + 1
        self.evictor.look()
        self.assertEqual(self.held(), 2 * MIB)

    def test_uncounted(self) -> None:
        """Before anybody has counted, what is free decides; no content goes."""
        self.blob(1, 9 * MIB)
        self.evictor.space.hold().take(9 * MIB)
        self.free = 5 * MIB
        self.refused(9 * MIB)
        self.assertEqual(self.held(), 9 * MIB)

    def test_uncounted_too_large(self) -> None:
        """Before anybody has counted, what is larger than the bound is refused at once as well, not in its middle."""
        hold = self.evictor.space.hold()
        problem = self.assertRaises(NoRoom, hold.take, MIB, whole=11 * MIB)
        self.assertIn("cache.max-size", problem.message)

    def test_replanned(self) -> None:
        """If nothing is left of the plan there is a new one at once, so that a pull need not go without."""
        self.walk()
        blobs = [self.blob(number, MIB, age=100 - number) for number in range(10)]
        with self.evictor.tally.open() as book:
            book.content = 10 * MIB
        self.evictor.space.hold().take(MIB)
        self.assertEqual([self.holds(each) for each in blobs], [False] + [True] * 9)

    def test_waited_once(self) -> None:
        """While a plan is made that takes long, one waits for it; those behind are refused at once, and do not wait one
        after another."""
        self.walk()
        self.blob(1, 9 * MIB)
        with self.evictor.tally.open() as book:
            book.content = 9 * MIB
        self.patch(evictor, "FEW", -1)
        waited: list[float | None] = []
        self.patch(self.evictor, "_stopped", Mock(is_set=lambda: False, wait=waited.append))
        self.patch(self.evictor, "_monotonic", itertools.count(0, 0.5).__next__)
        self.refused(2 * MIB)
        before = len(waited)
        self.assertGreater(before, 0)
        self.refused(2 * MIB)
        self.assertEqual(len(waited), before)

    def test_planned_early(self) -> None:
        """There is a new plan before the old one is used up: on a large cache it takes minutes, in which nothing could
        be kept."""
        for number in range(10):
            self.blob(number, MIB, age=number * HOUR)
        self.walk()
        self.evictor._walked = -1e9
        self.evictor.space.hold().take(5 * MIB)
        self.assertFalse(self.evictor._due())
        self.evictor.space.hold().take(3 * MIB)
        self.assertTrue(self.evictor._due())
        self.evictor.walk()
        self.assertEqual(len(self.plan()), 2)

    def test_full(self) -> None:
        """On a disk on which nothing can be noted, what is free decides, and what is planned goes."""
        for number in range(4):
            self.blob(number, MIB, age=number)
        self.walk()

        class Full:
            def __getattr__(self, name: str) -> Any:
                if name in ("open", "pwrite", "write", "mkdir"):
                    return self.refuse
                return getattr(os, name)

            def refuse(self, path: Any, flags: int = 0, *_: object) -> int:
                if isinstance(path, int) or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    raise OSError(28, "No space left on device")
                return os.open(path, flags)

        from crcache.eviction import tally

        for module in (state, tally):
            self.patch(module, "os", Full())
        self.bounds = Bounds(TOTAL, MIB, 1.0, 1.0)
        self.free = 0
        removed = self.evictor._removal.free(lambda: 2 * MIB, self.evictor._monotonic() + 1)
        self.assertEqual((removed.size, self.held()), (2 * MIB, 2 * MIB))
        self.free = 4 * MIB
        self.evictor.space.hold().take(2 * MIB)
        self.refused(2 * MIB)

    def test_noted_in_vain(self) -> None:
        """Room that is had is had once, if the tally cannot be written afterwards."""
        self.walk()
        with self.evictor.tally.open() as book:
            book.left = MIB

        def refuse(*_: object) -> int:
            raise OSError(28, "No space left on device")

        from crcache.eviction import tally

        self.patch(tally, "os", Mock(wraps=os, pwrite=refuse))
        hold = self.evictor.space.hold()
        hold.take(2 * MIB, MIB)
        self.assertEqual(self.evictor.tally.holders.all()[0], Held(MIB, MIB))

    def test_at_once(self) -> None:
        """Streams of one body that ask at the same time for room for all of it get that once."""
        self.walk()
        hold, looking = self.evictor.space.hold(), threading.Barrier(2)
        statvfs = self.statvfs

        def slowly() -> os.statvfs_result:
            with contextlib.suppress(threading.BrokenBarrierError):
                looking.wait(0.3)
            return statvfs()

        self.patch(self, "statvfs", slowly)
        both = [threading.Thread(target=hold.take, args=(4 * MIB,)) for _ in range(2)]
        for each in both:
            each.start()
        for each in both:
            each.join()
        self.assertEqual(self.evictor.tally.holders.all()[0], Held(4 * MIB, 0))

    def test_disk_hangs(self) -> None:
        """Room is given back without waiting for a disk that does not answer: the reactor does that."""
        self.walk()
        self.patch(self.evictor.space, "_later", lambda work: None)
        other, hold = self.evictor.space.hold(), self.evictor.space.hold()
        for each in (other, hold):
            each.take(MIB)
            each.landed(MIB)
        hangs, begun = threading.Event(), threading.Event()

        def hang(*_: object) -> int:
            begun.set()
            hangs.wait(30)
            raise OSError(5, "Input/output error")

        self.patch(holders, "open_state", hang)
        telling = threading.Thread(target=self.evictor.tally.holders.tell)
        telling.start()
        begun.wait(5)
        releasing = threading.Thread(target=hold.release)
        releasing.start()
        releasing.join(5)
        hung = releasing.is_alive()
        hangs.set()
        for thread in (telling, releasing):
            thread.join()
        self.assertFalse(hung)

    def test_lock_replaced(self) -> None:
        """A lock is on the file that others will find, though somebody cleans just as it is taken."""
        path = self.layout.eviction / "walk.lock"
        take, tries = state._try, itertools.count()

        def cleaned(fd: int) -> bool:
            if not next(tries):
                path.unlink()
                path.touch()
            return take(fd)

        self.patch(state, "_try", cleaned)
        with locked(path, 0.0) as fd:
            self.assertTrue(os.path.samestat(os.fstat(fd), path.stat()))
            self.assertRaises(BlockingIOError, locked(path, 0.0).__enter__)

    def test_others_at_it(self) -> None:
        """That another process removes what is too much, for however long, is nothing to be warned of."""
        self.patch(evictor, "TURN", 0.0)
        self.blob(1, 6 * MIB)
        self.blob(2, 6 * MIB)
        self.walk()
        with locked(self.layout.eviction / "evict.lock", 0.0):
            self.evictor.look()
        self.assertEqual(self.held(), 12 * MIB)
        self.evictor.look()
        self.assertEqual(self.held(), 6 * MIB)

    def test_no_plan_can_be_written(self) -> None:
        """On a disk too full for a plan, what is too much goes by what is in memory."""
        for number in range(4):
            self.blob(number, MIB, age=number)

        def refuse(lines: bytes, now: float) -> None:
            raise OSError(28, "No space left on device")

        self.patch(self.evictor._plan, "write", refuse)
        self.walk()
        self.bounds = Bounds(2 * MIB, 0, 1.0, 1.0)
        self.evictor._hurry.set()
        self.evictor._walked = -1e9
        self.evictor.walk()
        self.assertEqual(self.held(), 2 * MIB)


class FillTests(EvictionCase):
    """Fills and manifests, by way of the store."""

    def setUp(self) -> None:
        """Count what there is."""
        super().setUp()
        self.patch(bounded, "AHEAD", 0)
        self.bounds = Bounds(10 * MIB, 0, 1.0, 1.0)
        self.walk()

    def fill(self, data: bytes, store: Filesystem | None = None) -> IIngest:
        """The owned fill of some bytes."""
        found = now((store or self.store).ingest(DOCKER_IO, Digest.of(data)))
        assert IIngest.providedBy(found) and found.owner
        self.addCleanup(found.close)
        return found

    def coming(self) -> tuple[int, int]:
        """Bytes for which room is held, and those of them that are on the disk."""
        with self.evictor.tally.open():
            held, _ = self.evictor.tally.holders.all()
        return held.coming, held.there

    def test_held(self) -> None:
        """Room is held for all of a fill from its beginning, and no longer than until its end."""
        data = os.urandom(3 * MIB)
        fill = self.fill(data)
        now(fill.room(len(data)))
        self.assertEqual(self.coming(), (3 * MIB, 0))
        fill.settle(len(data))
        now(fill.write(0, [data[:MIB]]))
        self.assertEqual(self.coming(), (2 * MIB, MIB))
        now(fill.write(MIB, [data[MIB:]]))
        now(fill.commit(len(data), []))
        self.assertEqual((self.coming(), self.content()), ((0, 0), 3 * MIB))

    def test_refused(self) -> None:
        """A fill that is too large is refused before anything of it is written."""
        fill = self.fill(b"x")
        self.assertRaises(NoRoom, now, fill.room(11 * MIB))
        now(fill.discard())
        self.assertEqual(self.coming(), (0, 0))

    def test_discarded(self) -> None:
        """What is discarded holds nothing; what is left to be resumed is counted until it is, and then once."""
        data = os.urandom(4 * MIB)
        fill = self.fill(data)
        now(fill.room(len(data)))
        fill.settle(len(data))
        now(fill.write(0, [data[: 2 * MIB]]))
        fill.close()
        self.assertEqual(self.coming(), (0, 2 * MIB))
        self.evictor.look()
        self.assertEqual(self.coming(), (0, 0))
        with self.evictor.tally.open() as book:
            self.assertLess(abs(book.left - 2 * MIB), 65536)
        again = self.fill(data)
        now(again.room(len(data)))
        self.assertLess(abs(sum(self.coming()) - 4 * MIB), 65536)
        with self.evictor.tally.open() as book:
            self.assertLess(book.left, 65536)
        now(again.discard())
        self.assertEqual(self.coming(), (0, 0))

    def test_resumed(self) -> None:
        """What is there of a fill that is gone on with needs no room a second time."""
        self.bounds = Bounds(10 * MIB + 65536, 0, 1.0, 1.0)
        blob = self.blob(1, 2 * MIB)
        fill = self.fill(b"x")
        fill.settle(8 * MIB)
        now(fill.write(0, [b"y" * (4 * MIB)]))
        fill.close()
        self.evictor.tally.holders.counted()
        self.walk()
        self.evictor.look()
        again = self.fill(b"x")
        now(again.room(8 * MIB))
        self.assertTrue(self.holds(blob))
        self.assertLess(abs(self.coming()[1] - 4 * MIB), 65536)

    def test_grows(self) -> None:
        """A fill of which nobody knows the size is refused where there is no more room, and not before."""
        fill = self.fill(b"x")
        now(fill.room(None))
        data = b"y" * MIB
        for number in range(10):
            now(fill.write(number * MIB, [data]))
        self.assertRaises(NoRoom, now, fill.write(10 * MIB, [data]))

    def test_announced(self) -> None:
        """What an origin announces has nothing go before it comes; what then comes has others go as it does."""
        self.patch(ingest, "AHEAD", MIB)
        blobs = [self.blob(number, MIB, age=number * HOUR) for number in range(9)]
        self.walk()
        fill = self.fill(b"x")
        now(fill.room(8 * MIB))
        self.assertEqual((self.coming(), self.held()), ((MIB, 0), 9 * MIB))
        fill.settle(8 * MIB)
        for number in range(8):
            now(fill.write(number * MIB, [b"y" * MIB]))
            self.assertLessEqual(self.held() + sum(self.coming()), 10 * MIB)
            self.assertGreaterEqual(sum(map(self.holds, blobs)), 9 - number - 1)
        self.assertEqual((self.coming(), self.held()), ((0, 8 * MIB), 2 * MIB))

    def test_pinned_meanwhile(self) -> None:
        """A fill that no room can be made for in its middle is given up there, and holds nothing any more."""
        self.patch(ingest, "AHEAD", MIB)
        fill = self.fill(b"x")
        now(fill.room(8 * MIB))
        fill.settle(8 * MIB)
        now(fill.write(0, [b"y" * MIB]))
        self.pin(self.blob(1, 9 * MIB))
        self.walk()
        self.assertRaises(NoRoom, now, fill.write(MIB, [b"y" * MIB]))
        now(fill.discard())
        self.assertEqual((self.coming(), self.held()), ((0, 0), 9 * MIB))

    def test_manifest(self) -> None:
        """Manifests are stored within the bounds as well."""
        self.bounds = Bounds(1000, 0, 1.0, 1.0)
        old = self.blob(1, 600)
        self.walk()
        data = b"m" * 500
        now(self.store.put(Digest.of(data), data))
        self.assertEqual((self.holds(old), self.held(), self.content()), (False, 500, 500))
        self.assertRaises(StoreError, now, self.store.put(Digest.of(b"x" * 1001), b"x" * 1001))
        self.assertEqual(self.coming(), (0, 0))

    def test_two(self) -> None:
        """Two processes that fetch at once never have more together than the bound, and make room for each other."""
        _, store = self.another()
        blob = self.blob(1, 4 * MIB)
        self.walk()
        one, two = os.urandom(4 * MIB), os.urandom(4 * MIB)
        first, second = self.fill(one), self.fill(two, store)
        for fill in (first, second):
            now(fill.room(4 * MIB))
        self.assertFalse(self.holds(blob))
        third = self.fill(b"z", store)
        self.assertRaises(NoRoom, now, third.room(4 * MIB))
        now(first.discard())
        now(third.room(4 * MIB))

    def test_old_fills_first(self) -> None:
        """Fills that nobody goes on with for long go before any content; those that somebody does never do."""
        blob = self.blob(1, 4 * MIB, age=9 * DAY)
        for name in (b"old", b"new", b"owned"):
            fill = self.fill(name)
            now(fill.write(0, [b"x" * MIB]))
            if name != b"owned":
                fill.close()
        self.now += OLD
        paths = {name: self.layout.fill(DOCKER_IO, Digest.of(name)) for name in (b"old", b"new", b"owned")}
        for name, place in paths.items():
            for path in (place.data, place.marks):
                age = self.now - (2 * OLD if name != b"new" else 60)
                os.utime(path, (age, age))
        self.evictor.tally.holders.counted()
        self.walk()
        self.evictor.look()
        self.bounds = Bounds(int(6.9 * MIB), 0, 1.0, 1.0)
        self.evictor.look()
        there = {name: (place.data.exists(), place.marks.exists()) for name, place in paths.items()}
        self.assertEqual(there, {b"old": (False, False), b"new": (True, True), b"owned": (True, True)})
        self.assertTrue(self.holds(blob))

    def test_abandoned(self) -> None:
        """A fill that nobody has gone on with for days goes without any need, and whoever still reads it is told."""
        fill = self.fill(b"x")
        now(fill.write(0, [b"y" * MIB]))
        fill.close()
        self.now += 4 * DAY
        for path in self.root.glob("ingest/*"):
            os.utime(path, (self.now - 3.5 * DAY,) * 2)
        self.evictor.look()
        self.assertEqual(list(self.root.glob("ingest/*")), [])
        self.assertEqual(fill.state.value, "failed")

    def test_gone_on_with(self) -> None:
        """A fill that was written to, or is somebody's, between the look and the removal stays."""
        fill = self.fill(b"x")
        now(fill.write(0, [b"y" * MIB]))
        fill.close()
        leftovers = Leftovers(self.layout)
        (found,) = leftovers.look()
        self.assertEqual(leftovers.remove(found, found.written), 0)
        again = self.fill(b"x")
        self.assertEqual(leftovers.remove(found, found.written + DAY), 0)
        again.close()
        self.assertEqual(len(list(self.root.glob("ingest/*"))), 2)
        self.assertEqual(leftovers.remove(found, found.written + DAY), found.size)
        self.assertEqual(list(self.root.glob("ingest/*")), [])

    def test_import_killed(self) -> None:
        """What an import that was killed has left goes at the next look; that of one that is at work stays."""
        work = Staging(self.layout)
        self.addCleanup(work.close)
        work.new()
        left = self.layout.ingest / f"{PREFIX}old"
        left.mkdir()
        (left / "1").write_bytes(b"x" * MIB)
        self.evictor.look()
        self.assertEqual((left.exists(), os.listdir(work.directory)), (False, ["1"]))

    def test_killed(self) -> None:
        """What a process held room for that was killed is nobody's; what it had written is counted."""
        script = f"""
import os, sys
from pathlib import Path
from crcache.evictor import Evictor
from crcache.settings import Bounds
from crcache.workers import Inline
evictor = Evictor(Path({str(self.root)!r}), lambda: Bounds({10 * MIB}, 0, 1.0, 1.0), Inline(), None)
hold = evictor.space.hold()
hold.take({8 * MIB})
hold.landed({3 * MIB})
evictor.tally.holders.show()
print("held", flush=True)
sys.stdin.read()
"""
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_TOP
        )
        assert process.stdout is not None and process.stdin is not None
        try:
            self.assertEqual(process.stdout.readline(), b"held\n")
            self.assertEqual(self.coming(), (5 * MIB, 3 * MIB))
            self.refused(3 * MIB)
        finally:
            process.kill()
            process.stdout.close()
            process.stdin.close()
            process.wait()
        self.evictor.space.hold().take(7 * MIB)
        with self.evictor.tally.open() as book:
            self.assertEqual(book.left, 3 * MIB)
        self.assertEqual(len(list(self.root.glob("eviction/holder-*"))), 1)
