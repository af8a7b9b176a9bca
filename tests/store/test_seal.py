"""L{crcache.store.seal}: whoever writes to content is found out before it is served, and right content is served."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.logger import LogEvent

from crcache import events
from crcache.errors import GivenUp, StoreError
from crcache.facts import Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.interfaces import IBody, IIngest
from crcache.store import contents, seal
from crcache.store.filesystem import Filesystem
from crcache.store.seal import seal_of
from tests.store.case import DirectoryCase, ThreadedCase, logged_by
from tests.store.stores import DATA, DIGEST, content_of

CONTENT = f"blobs/sha256/{DIGEST.hex}"
OTHER = bytes(len(DATA))


def zero(path: Path) -> None:
    """Write zeros over a file, in place."""
    with path.open("r+b") as file:
        file.write(OTHER)


def zero_mapped(path: Path) -> None:
    """The same through a mapping."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:] = OTHER


def one_bit(path: Path) -> None:
    """Turn one bit over."""
    with path.open("r+b") as file:
        file.seek(len(DATA) // 2)
        file.write(bytes([DATA[len(DATA) // 2] ^ 1]))


def shorten(path: Path) -> None:
    """Cut the file."""
    os.truncate(path, len(DATA) // 3)


def lengthen(path: Path) -> None:
    """Put something behind it."""
    with path.open("ab") as file:
        file.write(b"x")


def empty_and_restore_size(path: Path) -> None:
    """What is left is a hole."""
    os.truncate(path, 0)
    os.truncate(path, len(DATA))


def replace(path: Path) -> None:
    """Put another file of the same size in its place."""
    path.with_name("other").write_bytes(OTHER)
    path.with_name("other").rename(path)


def replace_with_times(path: Path) -> None:
    """The same, with the times of the right one."""
    path.with_name("other").write_bytes(OTHER)
    shutil.copystat(path, path.with_name("other"))
    path.with_name("other").rename(path)


def whole_seconds(fd: int, ns: tuple[int, int]) -> None:
    """C{os.utime} of a file system that keeps no fractions."""
    os.utime(fd, ns=(ns[0], ns[1] // 10**9 * 10**9))


DAMAGES: tuple[Callable[[Path], None], ...] = (
    zero, zero_mapped, one_bit, shorten, lengthen, empty_and_restore_size, replace, replace_with_times,
)  # fmt: skip


class Hashed(DirectoryCase):
    """Counts how often content is hashed.

    @ivar hashed: once for each time.
    """

    def setUp(self) -> None:
        """Count."""
        super().setUp()
        self.path = self.root / CONTENT
        self.hashed: list[Digest] = []
        before = contents._sum

        def counted(fd: int, digest: Digest) -> str:
            self.hashed.append(digest)
            return before(fd, digest)

        self.patch(contents, "_sum", counted)

    async def commit(self) -> None:
        """Have the data as content, by a fill."""
        fill = await self.filled()
        await fill.commit(len(DATA), [])


class DamageTests(Hashed):
    """Content that somebody has written to."""

    def told(self, logged: list[LogEvent]) -> int:
        """How many lines say that this content was damaged."""
        return sum(each["event"] is events.CONTENT_DAMAGED and each["digest"] == str(DIGEST) for each in logged)

    async def test_damaged(self) -> None:
        """However it was damaged, it isn't found, but dropped, which the log says once; it can be filled again."""
        for make in (self.commit, lambda: self.store.put(DIGEST, DATA)):
            for damage in DAMAGES:
                await make()
                self.path.chmod(0o600)
                damage(self.path)
                logged = logged_by(self)
                self.assertIsNone(await self.store.find(DIGEST), damage.__name__)
                self.assertFalse(self.path.exists(), damage.__name__)
                self.assertIsNone(await self.store.find(DIGEST))
                self.assertEqual(self.told(logged), 1, damage.__name__)

    async def test_damaged_before_a_fill(self) -> None:
        """Content that proves damaged when a fill begins is no reason to have no fill."""
        for damage in DAMAGES:
            await self.store.put(DIGEST, DATA)
            self.path.chmod(0o600)
            damage(self.path)
            fill = await self.ingest()
            self.assertTrue(fill.owner)
            await fill.discard()

    async def test_damaged_and_read(self) -> None:
        """Reading it whole drops it as well, and says so."""
        await self.store.put(DIGEST, DATA)
        self.damage(DIGEST)
        logged = logged_by(self)
        self.assertIsNone(await self.store.read(DIGEST, len(DATA)))
        self.assertEqual(self.told(logged), 1)

    async def test_damaged_while_sent(self) -> None:
        """Who is being sent content over which somebody writes is told; who is sent content that is used, is not."""
        await self.store.put(DIGEST, DATA)
        body = await self.body()
        self.now += 7200
        self.assertIsNotNone(await self.another().find(DIGEST))
        self.assertIs(body.verdict, Verdict.VERIFIED)
        self.assertIsNone(body.problem)
        self.path.chmod(0o600)
        one_bit(self.path)
        self.assertIs(body.verdict, Verdict.FAILED)

    async def test_changed_while_sent(self) -> None:
        """Of what has another time alone the digest will tell; what has grown is wrong; what was cut, its reader
        sees."""
        await self.store.put(DIGEST, DATA)
        body = await self.body()
        self.path.chmod(0o600)
        os.utime(self.path)
        self.assertIs(body.verdict, Verdict.FAILED)
        self.assertIsInstance(body.problem, GivenUp)
        lengthen(self.path)
        self.assertIs(body.verdict, Verdict.FAILED)
        self.assertIsNone(body.problem)
        shorten(self.path)
        self.assertIs(body.verdict, Verdict.VERIFIED)
        self.assertIsNone(body.problem)

    async def test_dropped_while_sent(self) -> None:
        """Content that is removed or committed anew is still right for those who have it."""
        await self.commit()
        body = await self.body()
        await self.store.drop(DIGEST)
        await self.commit()
        self.assertIs(body.verdict, Verdict.VERIFIED)
        self.assertEqual(content_of(body), DATA)

    async def test_never_settles(self) -> None:
        """Content whose time changes all the while is an error, so that the pull goes past the cache."""
        await self.commit()
        times = iter(range(1, 1000))
        before = contents._sum

        def busy(fd: int, digest: Digest) -> str:
            os.utime(self.path, (next(times), next(times)))
            return before(fd, digest)

        self.patch(contents, "_sum", busy)
        os.utime(self.path, (0, 0))
        await self.fails(self.store.find(DIGEST), StoreError)
        await self.fails(self.store.ingest(DOCKER_IO, DIGEST), StoreError)

    async def test_unreadable(self) -> None:
        """Content that cannot be hashed because the disk fails is an error, and is not dropped."""
        await self.commit()
        os.utime(self.path, (0, 0))

        def fail(fd: int, digest: Digest) -> str:
            raise OSError(5, "Input/output error")

        self.patch(contents, "_sum", fail)
        error = await self.fails(self.store.find(DIGEST), StoreError)
        self.assertIn("Input/output error", str(error))
        self.assertTrue(self.path.exists())


class RightTests(Hashed):
    """Content that is right, whatever happened to its times."""

    async def test_not_hashed(self) -> None:
        """What this or another process has committed is never hashed again."""
        for make in (self.commit, lambda: self.store.put(DIGEST, DATA)):
            await make()
            for store in (self.store, self.another()):
                for _ in range(3):
                    self.assertIsNotNone(await store.find(DIGEST))
                    self.now += 4000
            await self.store.drop(DIGEST)
        self.assertEqual(self.hashed, [])

    async def test_touched_by_others(self) -> None:
        """What somebody has touched, or copied, is hashed once, and served."""
        await self.commit()
        for change in (os.utime, self._copied):
            change(self.path)
            self.hashed.clear()
            for store in (self.store, self.store, self.another()):
                found = await store.find(DIGEST)
                assert found is not None
                self.assertEqual(content_of(found), DATA)
            self.assertEqual(self.hashed, [DIGEST])

    @staticmethod
    def _copied(path: Path) -> None:
        shutil.copy2(path, path.with_name("copy"))
        path.unlink()
        path.with_name("copy").rename(path)

    async def test_read_seals(self) -> None:
        """What was read whole, and so hashed, is not hashed again."""
        await self.commit()
        os.utime(self.path, (0, 0))
        self.assertEqual(await self.store.read(DIGEST, len(DATA)), DATA)
        self.assertIsNotNone(await self.store.find(DIGEST))
        self.assertEqual(self.hashed, [])
        self.assertEqual(int(self.path.stat().st_mtime), self.now)

    async def test_unsealed_for_a_fill(self) -> None:
        """Content that only has to be checked is served when a fill would begin, and nothing is fetched."""
        await self.commit()
        os.utime(self.path, (0, 0))
        found = await self.store.ingest(DOCKER_IO, DIGEST)
        self.assertTrue(IBody.providedBy(found) and not IIngest.providedBy(found))
        self.assertEqual(content_of(found), DATA)

    def _with_utime(self, utime: Callable[..., None]) -> None:
        class Coarse:
            """The C{os} module on such a file system."""

            def __getattr__(self, name: str) -> Any:
                return utime if name == "utime" else getattr(os, name)

        self.patch(seal, "os", Coarse())

    async def _without_seals(self, utime: Callable[..., None]) -> None:
        self._with_utime(utime)
        await self.commit()
        for _ in range(3):
            self.assertIsNotNone(await self.store.find(DIGEST))
            self.now += 4000
        self.assertEqual(self.hashed, [])
        other = self.another()
        for _ in range(3):
            self.assertIsNotNone(await other.find(DIGEST))
        self.assertEqual(self.hashed, [DIGEST])
        body = await other.find(DIGEST)
        assert body is not None
        self.assertIs(body.verdict, Verdict.VERIFIED)
        self.path.chmod(0o600)
        zero(self.path)
        self.assertIs(body.verdict, Verdict.FAILED)
        self.assertIsNone(await other.find(DIGEST))

    async def test_whole_seconds(self) -> None:
        """Where times have no fractions, content is hashed once a process; damage is noticed all the same."""
        await self._without_seals(whole_seconds)

    async def test_whole_seconds_and_processes(self) -> None:
        """There, what one process finds and checks breaks no seal that another one remembers, at no moment."""
        times = []

        def utime(fd: int, ns: tuple[int, int]) -> None:
            whole_seconds(fd, ns)
            times.append(os.fstat(fd).st_mtime)

        self._with_utime(utime)
        await self.commit()
        stores = [self.store, self.another(), self.another()]
        bodies = []
        for _ in range(5):
            for store in stores:
                found = await store.find(DIGEST)
                assert found is not None
                bodies.append(found)
                self.assertEqual({each.verdict for each in bodies}, {Verdict.VERIFIED})
                self.now += 4000
        self.assertEqual(self.hashed, [DIGEST] * 2)
        self.assertEqual(len(set(times)), 1)

    async def test_refused(self) -> None:
        """So it is where nobody may set times."""

        def utime(fd: int, ns: tuple[int, int]) -> None:
            raise OSError(1, "Operation not permitted")

        await self._without_seals(utime)

    async def test_seal(self) -> None:
        """It is of one digest, size and inode; never 0, nor finer than a file system may be that keeps fractions."""
        await self.commit()
        found = self.path.stat()
        sealed = seal_of(DIGEST, found)
        self.assertEqual(found.st_mtime_ns % 10**9, sealed)
        self.assertEqual(sealed % 100, 0)
        self.assertTrue(0 < sealed < 10**9)
        inode, size = 1, 6
        others = [os.stat_result([*found[:at], found[at] + 1, *found[at + 1 :]]) for at in (inode, size)]
        seals = {sealed, seal_of(Digest.of(b""), found), *(seal_of(DIGEST, other) for other in others)}
        self.assertEqual(len(seals), 4)


class OnceTests(ThreadedCase, Hashed):
    """With threads."""

    async def test_together(self) -> None:
        """Many who ask at once for content with a broken seal have it hashed once, and all get it."""
        await self.commit()
        os.utime(self.path, (0, 0))
        found = await gatherResults([self.store.find(DIGEST) for _ in range(20)])
        self.assertEqual({content_of(body) for body in found if body is not None}, {DATA})
        self.assertEqual(self.hashed, [DIGEST])

    async def test_together_damaged(self) -> None:
        """Many who ask at once for damaged content get none of it."""
        await self.commit()
        self.damage(DIGEST)
        found = await gatherResults([self.store.find(DIGEST) for _ in range(20)])
        self.assertEqual(found, [None] * 20)

    async def test_failing(self) -> None:
        """All who wait hear of it when the check fails, and the next one is tried anew."""
        await self.commit()
        os.utime(self.path, (0, 0))

        def fail(fd: int, digest: Digest) -> str:
            raise OSError(5, "Input/output error")

        failing = self.patch(contents, "_sum", fail)
        results = [self.store.find(DIGEST) for _ in range(5)]
        for result in results:
            await self.fails(result, StoreError)
        failing.restore()
        self.assertIsNotNone(await self.store.find(DIGEST))

    async def test_threads(self) -> None:
        """It is hashed by threads of their own, not by those that everybody's disk access waits for."""
        used: list[str] = []
        hashing = self.workers()
        run = hashing.run

        def noted(work: Callable[..., Any], *args: Any) -> Any:
            used.append(work.__name__)
            return run(work, *args)

        self.patch(hashing, "run", noted)
        store = Filesystem(self.root, self.workers(), self.clock, hashing=hashing)
        await self.commit()
        os.utime(self.path, (0, 0))
        self.assertIsNotNone(await store.find(DIGEST))
        self.assertEqual(used, ["check"])
