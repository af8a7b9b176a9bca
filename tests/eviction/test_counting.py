"""L{Tally} and L{Walker}: how much content there is, whoever changes it, and while it is counted."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from threading import Event, Thread
from typing import cast

from twisted.trial.unittest import TestCase

from crcache.eviction import pace as pacing
from crcache.eviction import plan, walk
from crcache.eviction.pace import REST, STEPS, Pace, Stopped
from crcache.eviction.pinned import closure, repositories
from crcache.eviction.tally import Book
from crcache.eviction.view import View
from crcache.eviction.walk import DRAFT
from crcache.evictor import GLANCE, LATEST, SOONEST
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry
from crcache.host.memory import give_back
from crcache.store.fileingest import FileIngest
from tests.eviction.case import HOUR, EvictionCase
from tests.store.case import logged_by
from tests.store.other import now


class CountingTests(EvictionCase):
    """What is there, and what the tally says."""

    def test_unknown(self) -> None:
        """Before anything has been counted nothing is claimed, whatever is committed."""
        self.evictor.tally.changed(Digest.of(b""), 0, 5)
        self.assertEqual((self.evictor.content, self.evictor.bound), (None, None))

    def test_counted(self) -> None:
        """Content of every algorithm is counted from the start; what is on its way there, or no file, is not."""
        self.put(b"x" * 1000)
        longer = "ab" * 64
        (self.root / "blobs" / "sha512").mkdir()
        (self.root / "blobs" / "sha512" / longer).write_bytes(b"y" * 50)
        (self.root / "blobs" / "sha512" / f".{longer}.new").write_bytes(b"z" * 7)
        (self.root / "blobs" / "sha512" / ("cd" * 64)).mkdir()
        (self.root / "blobs" / "sha256" / "README").write_bytes(b"z" * 7)
        self.evictor.start()
        self.assertEqual(self.evictor.content, 1050)
        assert self.evictor.bound is not None
        self.assertGreater(self.evictor.bound, 1050)

    def test_empty(self) -> None:
        """A directory in which nothing has been committed holds nothing."""
        self.evictor.start()
        self.assertEqual(self.evictor.content, 0)

    def test_adjusted(self) -> None:
        """What any process puts, fetches and drops is seen at once, and none of it twice."""
        self.evictor.start()
        other, store = self.another()
        data = b"m" * 77
        digest = Digest.of(data)
        for _ in range(2):
            now(store.put(digest, data))
            self.assertEqual(self.content(), 77)
        blob = b"b" * 1000
        ingest = now(self.store.ingest(DOCKER_IO, Digest.of(blob)))
        assert isinstance(ingest, FileIngest)
        ingest.settle(len(blob))
        now(ingest.write(0, [blob]))
        now(ingest.commit(len(blob), []))
        self.assertEqual((self.content(), self.evictor.content), (1077, 1077))
        for _ in range(2):
            now(store.drop(digest))
            self.assertEqual(other.content, 1000)

    def test_restarted(self) -> None:
        """A process that starts knows at once what there is."""
        self.blob(1)
        self.evictor.start()
        self.evictor.stop()
        self.evictor, self.store = self.another()
        self.evictor.look()
        self.assertEqual(self.evictor.content, 1000)

    def test_damaged(self) -> None:
        """A tally that is none says that nobody knows, and all is counted anew."""
        self.blob(1)
        self.walk()
        path = self.root / "eviction" / "tally"
        for wrong in (b"", b"x" * 44, path.read_bytes()[:-1], path.read_bytes()[:8] + b"\xff" * 36):
            path.write_bytes(wrong)
            self.assertIsNone(self.content())
            self.evictor.look()
            self.evictor._walked = -1e9
            self.evictor.walk()
            self.assertEqual(self.content(), 1000)

    def test_others(self) -> None:
        """What others put there, or remove, is seen when it is counted again, which is rarely."""
        self.evictor.start()
        blob = self.blob(1)
        (self.root / "eviction" / "tally").unlink()
        self.evictor._walked = -1e9
        self.clock.advance(GLANCE)
        self.assertEqual(self.evictor.content, 1000)
        self.path(blob).unlink()
        self.now += SOONEST - 1
        self.clock.advance(GLANCE)
        self.assertEqual(self.evictor.content, 1000)
        self.now += 2
        self.clock.advance(GLANCE)
        self.assertEqual(self.evictor.content, 0)

    def test_seldom(self) -> None:
        """Much content is walked over seldom, but every six hours all the same."""
        self.blob(1)
        self.evictor.walk()
        with self.evictor.tally.open() as book:
            book.files = 10_000_000
        made = self.evictor._plan.made()
        self.now += LATEST - 10
        self.evictor.walk()
        self.assertEqual(self.evictor._plan.made(), made)
        self.now += 20
        self.evictor.walk()
        self.assertNotEqual(self.evictor._plan.made(), made)

    def test_gone(self) -> None:
        """A directory that is away is a line in the log, and is counted when it is back."""
        self.evictor.start()
        away = self.root.with_name("away")
        self.root.rename(away)
        logged = logged_by(cast(TestCase, self))
        self.clock.pump([GLANCE] * 2)
        self.assertTrue(any("within its bounds" in str(each) for each in logged))
        self.assertFalse(self.root.exists())
        away.rename(self.root)
        self.blob(1)
        (self.root / "eviction" / "tally").unlink()
        self.evictor._walked = -1e9
        self.clock.pump([GLANCE] * 2)
        self.assertEqual(self.evictor.content, 1000)

    def meanwhile(self, work: Callable[[], object]) -> None:
        """Walk, and have something done at each of its rests."""

        class Pausing(Event):
            def wait(pausing, timeout: float | None = None) -> bool:
                work()
                return False

        self.evictor._walked_over(Pace(Pausing(), lambda: 0.0))

    def test_changed_meanwhile(self) -> None:
        """What is put, put again or dropped by anybody while files are counted is counted once, with what it has at
        the end, whether or not the count has come by it."""
        self.patch(pacing, "STEPS", 1)
        _, other = self.another()
        steps = 0
        names = [self.blob(number) for number in range(4)]

        def change() -> None:
            nonlocal steps
            steps += 1
            if steps == 2:
                now(other.drop(names[0]))
            elif steps == 3:
                now(other.put(Digest.of(b"n" * 50), b"n" * 50))
                now(other.put(names[1], (1).to_bytes(8, "big").ljust(1000, b".")))
            elif steps == 9:
                now(self.store.drop(names[2]))

        self.meanwhile(change)
        self.assertGreater(steps, 9)
        self.assertEqual((self.content(), self.held()), (2050, 2050))
        self.assertFalse((self.root / "eviction" / "changes").exists())

    def test_killed_walk(self) -> None:
        """Of a walk that was killed nothing is left that counts; what is noted for it is bounded."""
        self.blob(1)
        self.evictor.tally.begin()
        with open(self.root / "eviction" / "changes", "ab") as changes:
            changes.truncate(1 << 20)
        self.evictor.tally.changed(Digest.of(b"x"), 0, 5)
        self.assertEqual((self.root / "eviction" / "changes").stat().st_size, 1 << 20)
        self.walk()
        self.assertEqual(self.content(), 1000)

    def test_filled_twice(self) -> None:
        """Content that two registries' fills bring is counted once."""
        self.evictor.start()
        blob = b"b" * 1000
        fills = []
        for registry in (DOCKER_IO, Registry("ghcr.io")):
            ingest = now(self.store.ingest(registry, Digest.of(blob)))
            assert isinstance(ingest, FileIngest)
            ingest.settle(len(blob))
            now(ingest.write(0, [blob]))
            fills.append(ingest)
        for ingest in fills:
            now(ingest.commit(len(blob), []))
            self.assertEqual(self.content(), 1000)

    def test_one_at_a_time(self) -> None:
        """While one walks no other does."""
        self.blob(1)
        found: list[object] = []
        other, _ = self.another()
        self.patch(pacing, "STEPS", 1)
        self.meanwhile(lambda: found.append(other._walker.walk(self.pace())))
        self.assertEqual(set(found), {None})

    def test_memory_given_back(self) -> None:
        """After each walk, and only then, somebody is told that memory can be given back."""
        told: list[int] = []
        self.evictor._over = lambda: told.append(1)
        for expected in (1, 1):
            self.evictor.walk()
            self.assertEqual(len(told), expected)
        self.assertIsInstance(give_back(), bool)

    def test_drafts(self) -> None:
        """What a killed process had begun to write goes after a day, wherever that is; what is being written stays, and
        what is called otherwise."""
        self.blob(1)
        self.walk()
        directories = (self.root, self.root / "blobs" / "sha256", self.root / "ingest", self.root / "eviction")
        drafts = [directory / ".0123456789abcdef" for directory in directories]
        others = [directory / name for directory in directories for name in (".keep", ".0123456789abcdeg")]
        for path in (*drafts, *others):
            path.write_bytes(b"x")
        self.now = drafts[0].stat().st_ctime + DRAFT - 100
        self.walk()
        self.assertTrue(all(path.exists() for path in (*drafts, *others)))
        self.now += 200
        self.walk()
        self.assertEqual([path.exists() for path in (*drafts, *others)], [False] * 4 + [True] * 8)

    def test_bounded_plan(self) -> None:
        """A plan has a bounded number of lines: those that go first."""
        self.patch(plan, "MOST", 3)
        self.patch(walk, "MOST", 3)
        blobs = [self.blob(number, age=number * HOUR) for number in range(10)]
        self.walk()
        self.assertEqual(self.plan(), blobs[:6:-1])


class PaceTests(EvictionCase):
    """How it leaves others alone."""

    def test_paced(self) -> None:
        """It rests several times as long as it works."""
        rests: list[float] = []

        class Resting(Event):
            def wait(resting, timeout: float | None = None) -> bool:
                rests.append(timeout or 0)
                return False

        ticks = iter(range(1000))
        pace = Pace(Resting(), monotonic=lambda: float(next(ticks)))
        for _ in range(3 * STEPS):
            pace.step()
        self.assertEqual(rests, [REST] * 3)

    def test_stopped(self) -> None:
        """A walk that rests ends at once when it is told to, and claims nothing."""
        for number in range(2 * STEPS):
            self.blob(number, 10)
        pace = Pace(self.evictor._stopped, lambda: 1e9)
        problems: list[BaseException] = []

        def walk() -> None:
            try:
                self.evictor._walker.walk(pace)
            except Stopped as problem:
                problems.append(problem)

        thread = Thread(target=walk)
        thread.start()
        self.evictor.stop()
        thread.join(5)
        self.assertFalse(thread.is_alive())
        self.assertEqual((len(problems), self.content()), (1, None))


class ViewTests(EvictionCase):
    """Many names in little memory."""

    def test_view(self) -> None:
        """Every digest is found under its number, of both algorithms, and once; others are not."""
        view = View()
        digests = [Digest.of(b"%d" % number, algorithm) for number in range(500) for algorithm in ("sha256", "sha512")]
        for number, digest in enumerate(digests):
            view.add(digest.algorithm, digest.hex, number, -number)
        view.add(digests[0].algorithm, digests[0].hex, 0, 0)
        view.settle(self.pace())
        self.assertEqual(len(view), 1000)
        for number, digest in enumerate(digests):
            index = view.index(digest)
            assert index is not None
            self.assertEqual(view.at(index), (digest, number, -number))
            self.assertEqual(list(view.times(self.pace()))[index], -number)
        self.assertIsNone(view.index(Digest.of(b"other")))
        self.assertIsNone(view.index(Digest.of(b"other", "sha512")))

    def test_memory(self) -> None:
        """100,000 files take a few MiB."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        view = View()
        for number in range(100_000):
            view.add("sha256", Digest.of(b"%d" % number).hex, number, number)
        view.settle(self.pace())
        self.assertLess(tracemalloc.get_traced_memory()[1], 12 << 20)
        self.assertEqual(len(view), 100_000)

    def test_repositories(self) -> None:
        """Repositories are found below each other; what has no name of one is passed over, links are not followed."""
        for name in ("docker.io/library/alpine/_tags", "docker.io/a/b/_digests", "docker.io/a/_tags", "UPPER/a/_tags",
                     "docker.io/UPPER/_tags", "docker.io/empty", "docker.io/_tags"):  # fmt: skip
            (self.root / "registries" / name).mkdir(parents=True)
        (self.root / "registries" / "ghcr.io").symlink_to(self.root / "registries" / "docker.io")
        found = {(str(registry), str(repository)) for registry, repository, _ in repositories(self.layout)}
        expected = {("docker.io", "library/alpine"), ("docker.io", "a/b"), ("docker.io", "a")}
        expected |= {("docker.io", "library"), ("docker.io", "empty")}
        self.assertEqual(found, expected)

    def test_circle(self) -> None:
        """Manifests that name each other, as only damage brings about, do no harm."""
        one, two = Digest.of(b"1"), Digest.of(b"2")
        for each, other in ((one, two), (two, one)):
            path = self.path(each)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b'{"layers":[{"digest":"%s"}]}' % str(other).encode())
        self.assertEqual(closure(self.layout, [one]), {one, two})
        self.walk()
        self.assertEqual(set(self.plan()), {one, two})

    def test_book(self) -> None:
        """What is written is what is read."""
        book = Book(1 << 50, 7, 8, 9)
        with self.evictor.tally.open() as found:
            found.__dict__.update(vars(book))
        with self.another()[0].tally.open() as found:
            self.assertEqual(found, book)
