"""L{Removal}: what goes, in which order, and what stays."""

from __future__ import annotations

import os
import shutil
from unittest.mock import patch

from crcache.eviction.plan import Plan, line
from crcache.eviction.state import locked
from crcache.facts import Membership
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.settings import Bounds
from tests.eviction.case import ALPINE, DAY, HOUR, LATEST, EvictionCase
from tests.store.case import logged_by
from tests.store.other import now


class OrderTests(EvictionCase):
    """A few files, and bounds that are smaller."""

    def within(self, size: int) -> None:
        """Remove what is beyond this size."""
        self.bounds = Bounds(size, 0, 1.0, 1.0)
        self.evictor.look()

    def test_oldest_first(self) -> None:
        """Of blobs that nothing names the least recently used go, and no more than must."""
        blobs = [self.blob(number, age=number * HOUR) for number in range(10)]
        self.walk()
        self.within(7000)
        self.assertEqual([self.holds(each) for each in blobs], [True] * 7 + [False] * 3)
        self.assertEqual(self.content(), 7000)
        self.assertEqual(sum(self.evicted), 3000)

    def test_watermarks(self) -> None:
        """Nothing goes up to the high watermark; beyond it, down to the low one."""
        for number in range(10):
            self.blob(number)
        self.walk()
        self.bounds = Bounds(10_600, 0, 0.95, 0.8)
        self.evictor.look()
        self.assertEqual(self.held(), 10_000)
        self.bounds = Bounds(10_400, 0, 0.95, 0.8)
        self.evictor.look()
        self.assertEqual(self.held(), 8000)

    def test_parents_first(self) -> None:
        """A manifest goes before what it names; what another that stays names as well outlives it."""
        shared, own, kept = self.blob(1, age=9 * DAY), self.blob(2, age=9 * DAY), self.blob(3, age=9 * DAY)
        old = self.manifest([shared, own], age=5 * DAY)
        new = self.manifest([shared, kept], age=DAY)
        self.walk()
        self.assertEqual(self.plan()[:2], [old, own])
        self.within(self.held() - 1)
        self.assertEqual([self.holds(each) for each in (old, own, shared, kept, new)], [False, True, True, True, True])
        self.within(self.held() - 1)
        self.assertEqual([self.holds(each) for each in (own, shared, kept, new)], [False, True, True, True])

    def test_tagged(self) -> None:
        """A tag that is asked for keeps its image, though all who ask have that already and want no more of it."""
        layer, loose = self.blob(1, age=9 * DAY), self.blob(2, age=DAY)
        image = self.manifest([layer], age=9 * DAY)
        self.tag(image)
        tag = self.layout.tag(DOCKER_IO, ALPINE, LATEST)
        os.utime(tag, (self.now - 8 * DAY,) * 2)
        self.walk()
        self.assertEqual(self.plan(), [image, layer, loose])
        self.assertIsNotNone(now(self.store.tag(DOCKER_IO, ALPINE, LATEST)))
        self.walk()
        self.assertEqual(self.plan(), [loose, image, layer])

    def test_pinned(self) -> None:
        """What is pinned stays with all that it names, however old: by tag as that means now, or by digest."""
        layer, other = self.blob(1, age=90 * DAY), self.blob(2, age=80 * DAY)
        image = self.manifest([layer], age=90 * DAY)
        index = self.index([image], age=90 * DAY)
        single = self.manifest([other], age=90 * DAY)
        loose = self.blob(3)
        self.tag(index)
        self.pin(loose, LATEST)
        self.pin(single)
        self.walk()
        self.assertEqual(self.plan(), [loose])
        self.within(1)
        self.assertEqual([self.holds(each) for each in (layer, image, index, single, other)], [True] * 5)
        self.assertFalse(self.holds(loose))

    def test_pinned_since(self) -> None:
        """What was pinned after the plan was made stays as well, with what it names."""
        layer = self.blob(1, age=9 * DAY)
        image = self.manifest([layer], age=9 * DAY)
        self.walk()
        self.pin(image)
        self.within(1)
        self.assertEqual((self.holds(image), self.holds(layer)), (True, True))

    def test_used_since(self) -> None:
        """What was used after the plan was made stays; and what a manifest names that was."""
        layer, blob, loose = (self.blob(number, age=9 * DAY) for number in range(3))
        image = self.manifest([layer], age=9 * DAY)
        index = self.index([image], age=9 * DAY)
        self.walk()
        now(self.store.find(blob))
        now(self.store.read(index, 10_000))
        self.within(self.held() - 1)
        self.assertEqual([self.holds(each) for each in (blob, index, image, layer, loose)], [True] * 4 + [False])

    def test_used_within_the_second(self) -> None:
        """Also if what it names had been used in that very second before, so that its time does not tell."""
        layer = self.blob(1, age=DAY)
        image = self.manifest([layer], age=9 * DAY)
        self.walk()
        self.used(image, age=DAY)
        self.evictor._removal.free(lambda: 5000, self.evictor._monotonic() + 5)
        self.assertEqual((self.holds(image), self.holds(layer)), (True, True))

    def test_named_since(self) -> None:
        """A manifest that is noted newly has what it names stay, whoever stored that and when; seals stay whole."""
        layer, loose = self.blob(1, age=9 * DAY), self.blob(2, age=8 * DAY)
        self.walk()
        now(self.store.enrol(DOCKER_IO, ALPINE, [Membership(layer, named=True)]))
        found = self.path(layer).stat()
        self.assertEqual(found.st_mtime_ns // 10**9, int(self.now))
        self.assertTrue(self.store.contents.seals.holds(found, layer))
        self.within(1500)
        self.assertEqual((self.holds(layer), self.holds(loose)), (True, False))

    def test_replaced(self) -> None:
        """Of what has another size now than when the plan was made nobody knows whose it is: it stays."""
        blob = self.blob(1, age=9 * DAY)
        used = int(self.path(blob).stat().st_mtime)
        self.walk()
        self.path(blob).unlink()
        self.path(blob).write_bytes(b"x" * 2000)
        os.utime(self.path(blob), (used, used))
        self.evictor._removal.free(lambda: 5000, self.evictor._monotonic() + 5)
        self.assertTrue(self.path(blob).exists())

    def test_another_goes_on(self) -> None:
        """What one process has begun another goes on with, from where it stopped."""
        for number in range(300):
            self.blob(number, age=number * HOUR)
        self.walk()
        self.within(200_000)
        self.evictor, self.store = self.another()
        with patch.object(os, "lstat", wraps=os.lstat) as looked:
            self.within(199_000)
        self.assertEqual(self.held(), 199_000)
        self.assertLess(looked.call_count, 100)

    def test_one_at_a_time(self) -> None:
        """While another process removes, this one does not, and waits for it as long as it was told to."""
        self.blob(1, age=HOUR)
        self.walk()
        free = self.evictor._removal.free
        with locked(self.layout.eviction / "evict.lock", 0.0):
            self.assertRaises(BlockingIOError, free, lambda: 1, self.evictor._monotonic() + 0.05)
            self.assertEqual(self.held(), 1000)
        self.assertEqual(free(lambda: 1, self.evictor._monotonic()).size, 1000)

    def test_new_plan(self) -> None:
        """When nothing is left of the plan there is a new one, of what has come since."""
        self.blob(0, age=DAY)
        self.walk()
        self.within(1)
        self.assertEqual(self.held(), 0)
        blob = self.blob(1)
        self.bounds = Bounds(1 << 40, 0)
        self.evictor.look()
        self.evictor.walk()
        self.clock.advance(1)
        self.evictor._walked = -1e9
        self.evictor.walk()
        self.assertEqual(self.plan(), [blob])


class HurryTests(EvictionCase):
    """More than there may be, and nothing that could go."""

    def test_pinned(self) -> None:
        """It is walked in a hurry once, and then as seldom as ever, until there is something that could go."""
        self.pin(self.blob(1))
        self.walk()
        self.bounds = Bounds(500, 0, 1.0, 1.0)
        walks: list[int] = []
        self.patch(self.evictor._walker, "walk", lambda pace: walks.append(1))
        for _ in range(20):
            self.evictor._walked = -1e9
            self.evictor.look()
            self.evictor.walk()
        self.assertEqual(walks, [])
        self.evictor._vain = -1e9
        self.evictor.walk()
        self.assertEqual(walks, [1])


class LyingTests(EvictionCase):
    """A plan that somebody else has written."""

    def setUp(self) -> None:
        """There is some content, and a file beside the cache that must stay."""
        super().setUp()
        self.outside = self.root.parent / "outside"
        self.outside.write_bytes(b"x" * 100)
        self.kept = self.blob(1, age=DAY)
        self.walk()
        self.logged = logged_by(self)  # type: ignore[arg-type]

    def follow(self, data: bytes) -> None:
        """Write the plan, and have everything removed that it says."""
        (self.root / "eviction" / "plan").write_bytes(data)
        self.evictor._removal.free(lambda: 1 << 40, self.evictor._monotonic() + 5)

    def test_refused(self) -> None:
        """What is no line of a plan has it refused, with one line in the log; nothing is removed."""
        used = int(self.path(self.kept).stat().st_mtime)
        for wrong in (
            b"1 100 sha256/../../../outside\n",
            b"1 100 ../outside\n",
            f"{used} 1000 sha256/{self.kept.hex}/\n".encode(),
            f"{used} 1000 sha256/{self.kept.hex.upper()}\n".encode(),
            f"{used} 1000 sha256/{self.kept.hex}".encode(),
            b"\0" * 4096,
            b"x" * 1_000_000,
            f"{used} -1 sha256/{self.kept.hex}\n".encode(),
            b"\xff\n" * 100_000,
        ):
            self.logged.clear()
            self.follow(wrong)
            self.assertEqual(len([each for each in self.logged if "none of a plan" in str(each)]), 1, wrong[:80])
            self.assertFalse((self.root / "eviction" / "plan").exists())
            self.assertTrue(self.holds(self.kept) and self.outside.exists(), wrong[:80])

    def test_wrong(self) -> None:
        """A line that is not true of its file is passed over: another time or size."""
        used = int(self.path(self.kept).stat().st_mtime)
        self.follow(line(self.kept, 1000, used + 1) + line(self.kept, 999, used) + line(Digest.of(b"-"), 1, used))
        self.assertTrue(self.holds(self.kept))

    def test_pinned(self) -> None:
        """A plan that names what is pinned, or what that names, does not have it go."""
        image = self.manifest([self.kept], age=DAY)
        self.pin(image)
        lines = [line(each, found.st_size, int(found.st_mtime)) for each, found in self.found(image, self.kept)]
        self.follow(b"".join(lines))
        self.assertTrue(self.holds(self.kept) and self.holds(image))

    def found(self, *digests: Digest) -> list[tuple[Digest, os.stat_result]]:
        """The files as they are."""
        return [(each, self.path(each).stat()) for each in digests]

    def test_huge(self) -> None:
        """A plan of gigabytes is not read."""
        path = self.root / "eviction" / "plan"
        with open(path, "wb") as plan:
            plan.truncate(8 << 30)
        self.evictor._removal.free(lambda: 1 << 40, self.evictor._monotonic() + 5)
        self.assertFalse(path.exists())
        self.assertTrue(self.holds(self.kept))

    def test_cursor(self) -> None:
        """A cursor that lies has lines looked at again or passed over, and nothing else."""
        plan = Plan(self.layout)
        made = plan.made()
        assert made is not None
        for position in (1, 7, 1 << 40):
            plan.advance(made[0], position)
            self.assertIn(len(list(plan.steps())), (0, 1))
        for wrong in (b"", b"x" * 100, f"{made[0]} -5\n".encode()):
            (self.root / "eviction" / "cursor").write_bytes(wrong)
            self.assertEqual([step.digest for step in plan.steps()], [self.kept])

    def test_odd(self) -> None:
        """Directories, pipes and links in the places of any of its files make way, and all goes on."""
        for name in ("tally", "plan", "cursor", "changes", "walk.lock", "evict.lock", "swept"):
            path = self.root / "eviction" / name
            for make in (
                path.mkdir,
                lambda path=path: os.mkfifo(path),
                lambda path=path: path.symlink_to("/etc/passwd"),
            ):
                if path.is_dir():
                    shutil.rmtree(path)
                elif os.path.lexists(path):
                    path.unlink()
                make()
                self.walk()
                self.evictor.look()
                self.assertEqual((self.content(), self.plan()), (1000, [self.kept]), (name, make))

    def test_no_directory(self) -> None:
        """A file in the place of C{eviction/} makes way; without the cache directory nothing is made."""
        shutil.rmtree(self.root / "eviction")
        (self.root / "eviction").write_bytes(b"")
        self.walk()
        self.assertEqual(self.plan(), [self.kept])
        shutil.rmtree(self.root)
        self.assertRaises(OSError, self.evictor.look)
        self.assertRaises(OSError, self.walk)
        self.assertFalse(self.root.exists())


class TouchTests(EvictionCase):
    """L{Contents.touch}: that content is needed."""

    def test_touched(self) -> None:
        """It was used now, or then if that is later than it was; its seal stays."""
        blob = self.blob(1, age=DAY)
        contents = self.store.contents
        for at, expected in ((self.now - 2 * DAY, DAY), (self.now - HOUR, HOUR), (None, 0.0), (self.now - 5, 0.0)):
            contents.touch(blob, at)
            found = self.path(blob).stat()
            self.assertEqual(found.st_mtime_ns // 10**9, int(self.now - expected))
            self.assertTrue(contents.seals.holds(found, blob))

    def test_broken(self) -> None:
        """A broken seal stays broken; where times are whole seconds nothing changes, nor where nothing is."""
        blob = self.blob(1)
        path = self.path(blob)
        path.chmod(0o640)
        path.write_bytes(b"other")
        self.store.contents.touch(blob)
        found = path.stat()
        self.assertEqual(found.st_mtime_ns // 10**9, int(self.now))
        self.assertFalse(self.store.contents.seals.holds(found, blob))
        os.utime(path, (5, 5))
        self.store.contents.touch(blob)
        self.assertEqual(path.stat().st_mtime, 5)
        path.unlink()
        self.store.contents.touch(blob)
        path.mkdir()
        self.store.contents.touch(blob)
        self.assertTrue(path.is_dir())
