"""L{crcache.store.filesystem}: which threads do what, and what it does when it is out of luck."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from crcache.errors import StoreError
from crcache.facts import Membership, Privacy, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.store.filesystem import LOOKING, WRITING, Filesystem
from crcache.store.seal import Seals
from crcache.workers import Inline
from tests.store.case import DirectoryCase
from tests.store.stores import ALPINE, DATA, DIGEST, LATEST, SEGMENT, descriptors

P = ParamSpec("P")
T = TypeVar("T")


class Busy(Inline):
    """Workers that wait for a slow disk until they are told."""

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Later."""
        done: Deferred[T] = Deferred()
        self._waiting.append(lambda: Inline.run(self, work, *args, **kwargs).chainDeferred(done))
        return done

    def go_on(self) -> int:
        """Do it all; how much it was."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each()
        return len(waiting)


class HungTests(DirectoryCase):
    """A disk that does not answer."""

    def another(self) -> Filesystem:
        """With a disk that answers when the test lets it."""
        self.timer = Clock()
        self.busy = Busy()
        return Filesystem(self.root, self.busy, self.clock, timer=self.timer)

    async def test_given_up(self) -> None:
        """All that a pull waits for fails after a while, as with a disk that fails; what comes late is let go."""
        await self.done(self.store.put(DIGEST, DATA))
        gc.collect()
        before = descriptors()
        entry = TagEntry(DIGEST, "a/b", 5, 7.5)
        for seconds, ask in (
            (LOOKING, lambda: self.store.find(DIGEST)),
            (LOOKING, lambda: self.store.read(DIGEST, len(DATA))),
            (LOOKING, lambda: self.store.member(DOCKER_IO, ALPINE, DIGEST)),
            (LOOKING, lambda: self.store.tag(DOCKER_IO, ALPINE, LATEST)),
            (LOOKING, self.store.ready),
            (WRITING, lambda: self.store.put(DIGEST, DATA)),
            (WRITING, lambda: self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])),
            (WRITING, lambda: self.store.set_tag(DOCKER_IO, ALPINE, LATEST, entry)),
            (WRITING, lambda: self.store.forget_tag(DOCKER_IO, ALPINE, LATEST)),
        ):
            asked = ask()
            self.timer.advance(seconds - 0.1)
            self.assertNoResult(asked)
            self.timer.advance(0.1)
            self.assertIn(str(self.root), self.failureResultOf(asked, StoreError).getErrorMessage())
            self.assertEqual(self.busy.go_on(), 1)
        gc.collect()
        await self.back_to(before)

    async def test_answers(self) -> None:
        """Nothing is left of the waiting once it has answered."""
        await self.done(self.store.put(DIGEST, DATA))
        asked = self.store.find(DIGEST)
        self.busy.go_on()
        self.assertIsNotNone(await asked)
        self.assertEqual(self.timer.getDelayedCalls(), [])

    def done(self, asked: Deferred[T]) -> Deferred[T]:
        """With the disk's answer."""
        self.busy.go_on()
        return asked

    async def test_hashed(self) -> None:
        """Content that has to be hashed may take as long as that does."""
        await self.done(self.store.put(DIGEST, DATA))
        os.utime(self.root / "blobs" / DIGEST.algorithm / DIGEST.hex, (0, 0))
        asked = self.store.find(DIGEST)
        self.busy.go_on()
        self.timer.advance(600)
        self.assertNoResult(asked)
        self.busy.go_on()
        self.busy.go_on()
        self.assertIsNotNone(await asked)


class PoolTests(DirectoryCase):
    """What waits for the disk is done by threads of its own."""

    def another(self) -> Filesystem:
        """With a slow disk."""
        self.busy, self.noting = Busy(), Busy()
        return Filesystem(self.root, Inline(), self.clock, self.busy, noting=self.noting)

    async def test_private(self) -> None:
        """While it is noted that a repository is private, which takes long if it has named much, all else goes on."""
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        waiting = self.store.set_privacy(DOCKER_IO, ALPINE, Privacy(7.5, ("Basic realm=a",)))
        self.assertIsNone(await self.store.find(DIGEST))
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        self.assertIsNone((await self.store.holding(DOCKER_IO, ALPINE, DIGEST)).privacy)
        self.assertFalse(waiting.called)
        self.noting.go_on()
        self.assertIsNotNone((await self.store.holding(DOCKER_IO, ALPINE, DIGEST)).privacy)

    async def test_apart(self) -> None:
        """While content is put, synced and committed, all else goes on."""
        small = Digest.of(b"small")
        fill = await self.filled()
        waiting = [self.store.put(small, b"small"), fill.synced(SEGMENT)]
        self.assertIsNone(await self.store.find(DIGEST))
        self.assertIsNone(await self.store.read(small, 10))
        await self.store.enrol(DOCKER_IO, ALPINE, [Membership(DIGEST)])
        self.assertIsNotNone(await self.store.member(DOCKER_IO, ALPINE, DIGEST))
        self.assertIsNone(await self.store.tag(DOCKER_IO, ALPINE, LATEST))
        self.assertFalse((await self.ingest()).owner)
        await self.store.ready()
        await fill.write(0, [DATA])
        self.assertFalse(any(each.called for each in waiting))
        self.assertEqual(self.busy.go_on(), 2)
        committed = fill.commit(len(DATA), [])
        self.assertFalse(committed.called)
        self.assertEqual(self.busy.go_on(), 1)
        await committed
        self.assertEqual(await self.store.read(small, 10), b"small")
        self.assertIsNotNone(await self.store.find(DIGEST))


class ProbeTests(DirectoryCase):
    """Each directory may be of another user's making."""

    def _unwritable(self, path: Path) -> None:
        """Root may write everywhere but there."""
        if path.is_dir():
            for each in path.iterdir():
                each.rmdir()
            path.rmdir()
        os.symlink("/proc/self/fd", path)

    async def test_each(self) -> None:
        """One that cannot be written is named, at the start and by readiness; then nothing is left behind in others."""
        for name in ("blobs", "registries", "ingest", "blobs/sha256", "blobs/sha512"):
            path = self.root / name
            self._unwritable(path)
            for error in (
                self.assertRaises(StoreError, self.another().start),
                await self.fails(self.store.ready(), StoreError),
            ):
                self.assertIn(f"cache directory {self.root}: cannot be written: ", str(error))
                self.assertTrue(str(error).endswith(f"({path})"), error)
            path.unlink()
            self.store.start()
            await self.store.ready()
        self.assertEqual(self.files(), {"VERSION"})


class DescriptorTests(DirectoryCase):
    """Descriptors are closed, whatever happens."""

    async def test_find(self) -> None:
        """Content whose file fails on being looked at is an error, and is not kept open."""
        await self.store.put(DIGEST, DATA)

        def fail(found: os.stat_result, digest: Digest) -> bool:
            raise OSError(5, "Input/output error")

        gc.collect()
        before = descriptors()
        failing = self.patch(Seals, "holds", staticmethod(fail))
        error = await self.fails(self.store.find(DIGEST), StoreError)
        self.assertIn("Input/output error", str(error))
        self.assertEqual(descriptors(), before)
        failing.restore()
        self.assertIsNotNone(await self.store.find(DIGEST))
