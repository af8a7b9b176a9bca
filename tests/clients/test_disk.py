"""Disks that fail in mid-body: pulls do not, and caching goes on once it can."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogEvent, LogLevel

from crcache import events
from crcache.errors import StoreError
from crcache.flow.window import HELD
from crcache.logs.repeats import Repeats
from crcache.settings import UpstreamSettings
from crcache.store import content, contents, fileingest, filesystem, ingest, repositories
from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, REPO, ClientCase, blob_path, eventually, manifest_path, remove
from tests.clients.http import Answer

MIB = 1 << 20
DATA = noise(4 * MIB + 99)
#: More than the buffers of two sockets take.
LARGE = noise(MIB) * 24


class Disk:
    """Takes so many bytes, and no more.

    @ivar room: how many are left; C{None} is any number.
    """

    def __init__(self) -> None:
        self.room: int | None = None

    def write(self, fd: int, offset: int, buffers: Sequence[bytes]) -> int:
        """As L{ingest.write_all}."""
        if self.room is not None:
            self.room -= sum(map(len, buffers))
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._write(fd, offset, buffers)

    _write = staticmethod(ingest.write_all)


class DiskCase(ClientCase):
    """A blob, and a disk that takes what the test lets it take."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = Disk()
        self.patch(ingest, "write_all", self.disk.write)
        self.digest = self.origin.content.add_blob(REPO, DATA)
        self.target = blob_path(self.digest)
        self.cache = self.instance(upstream=IMPATIENT)

    def assertRight(self, answer: Answer, data: bytes = DATA) -> None:
        """All of it, and nothing else."""
        self.assertTrue(answer.complete, (answer.status, len(answer.raw)))
        self.assertTrue(answer.body == data, len(answer.body))

    def assertCut(self, answer: Answer, *, clean: bool) -> None:
        """Only the beginning; C{clean}: what is there is right, and the end orderly."""
        self.assertEqual((answer.complete, answer.clean), (False, clean))
        self.assertLessEqual(len(answer.raw), len(DATA) - HELD)

    def told(self, event: events.Event) -> list[LogEvent]:
        """The lines about such events."""
        return [each for each in self.events if each.get("event") is event]

    def file(self, digest: str) -> Path:
        """Where content is."""
        return self.cache.config.cache_directory / "blobs" / "sha256" / digest[7:]

    async def cached_again(self, target: str | None = None) -> None:
        """What is asked for now is kept."""
        await self.metric_becomes(0.0, "crcache_fills")
        await self.ask(target or self.target)
        await self.settled()
        self.assertHit(await self.ask(target or self.target))


class FillingTests(DiskCase):
    """The disk fails while a blob is fetched."""

    async def test_full(self) -> None:
        """Every client gets what the file holds, and then the rest from the origin, on the same answer; nothing of it
        stays on the disk. When there is room again, content is kept again.
        """
        self.disk.room = 2 * MIB
        answers = await gatherResults([Deferred.fromCoroutine(self.ask(self.target)) for _ in range(8)])
        for answer in answers:
            self.assertRight(answer)
        self.assertIn("crcache; fwd=miss; stored", [answer.one("Cache-Status") for answer in answers])
        self.assertTrue(self.told(events.CARRIED_ON))
        self.assertIn("No space left on device", self.told(events.CARRIED_ON)[0]["problem"])
        await self.settled()
        self.assertFalse(self.file(self.digest).exists())
        self.disk.room = None
        await self.cached_again()

    async def test_room_is_given_back(self) -> None:
        """What a fill took of a full disk is free while its clients are still carried on, however slow they are."""
        self.disk.room = 2 * MIB
        self.origin.fault(Fault(stall=MIB), "blob", skip=1, times=None)
        answer = await self.begin(self.target)
        await answer.until(2 * MIB)
        await self.metric_becomes(0.0, "crcache_fills")
        place = str(self.cache.config.cache_directory / "ingest")

        def given_back() -> bool:
            # Errors that went through many hands keep theirs for a while.
            gc.collect()
            return not any(place in name for name in map(_target, Path("/proc/self/fd").iterdir()))

        await eventually(given_back)
        self.assertFalse(answer.complete)

    async def test_asks_for_the_rest(self) -> None:
        """What a client has already is not fetched for it again."""
        self.disk.room = 2 * MIB
        self.assertRight(await self.ask(self.target))
        first, second = self.origin.asked("blob", "GET")
        self.assertIsNone(first.header("Range"))
        span = second.header("Range") or ""
        self.assertRegex(span, r"\Abytes=[1-9]\d*-\Z")
        self.assertLessEqual(int(span[6:-1]), 2 * MIB)

    async def test_ranges(self) -> None:
        """Closed, open-ended and suffix ranges go on as well; of several clients' each its own."""
        last = len(DATA) - 1
        for asked, start, stop in (
            (f"bytes=10-{3 * MIB}", 10, 3 * MIB + 1),
            (f"bytes=0-{last}", 0, last + 1),
            ("bytes=7-", 7, last + 1),
        ):
            self.disk.room = 2 * MIB
            answer = await self.ask(self.target, ("Range", asked))
            self.assertEqual(answer.status, 206)
            self.assertRight(answer, DATA[start:stop])
            await self.settled()
        self.disk.room = 2 * MIB
        self.assertRight(await self.ask(self.target, ("Range", f"bytes=-{3 * MIB}")), DATA[-3 * MIB :])

    async def test_without_a_length(self) -> None:
        """A body that is sent in chunks goes on to its last."""
        self.disk.room = 2 * MIB
        self.origin.fault(Fault(unsized="chunked"), "blob", times=None)
        answer = await self.ask(self.target)
        self.assertEqual(answer.one("Transfer-Encoding"), "chunked")
        self.assertRight(answer)

    async def test_ignored_range(self) -> None:
        """An origin that ignores the range is read from the beginning."""
        self.disk.room = 2 * MIB
        self.origin.fault(Fault(ignore_range=True), "blob", times=None)
        self.assertRight(await self.ask(self.target))

    async def test_rest_breaks_off(self) -> None:
        """The rest may break off too: it is asked for again, from where it broke."""
        self.cache = self.instance(upstream=UpstreamSettings(stall_timeout=0.4, retries=2))
        self.disk.room = MIB + 5
        for fault in (Fault(cut=MIB, reset=True), Fault(status=503), Fault(stall=100)):
            self.origin.fault(fault, "blob", skip=1)
        self.assertRight(await self.ask(self.target))
        self.assertEqual(len(self.origin.asked("blob")), 5)

    async def test_rest_is_not_to_be_had(self) -> None:
        """If there is no way of getting the rest, the answer ends short: the client may ask for it elsewhere."""
        self.disk.room = 2 * MIB
        self.origin.fault(Fault(status=503), "blob", times=None, skip=1)
        answer = await self.ask(self.target)
        self.assertCut(answer, clean=True)
        self.assertEqual(answer.raw, DATA[: len(answer.raw)])
        self.assertGreaterEqual(len(answer.raw), MIB)

    async def test_lie(self) -> None:
        """An origin that lies, in the first part or in the rest, never makes a complete answer."""
        for skip in (0, 1):
            self.disk.room = 2 * MIB
            self.origin.fault(Fault(wrong=True), "blob", times=1, skip=skip)
            self.assertCut(await self.ask(self.target), clean=False)
            await self.settled()
        self.disk.room = 2 * MIB
        self.origin.fault(Fault(body=DATA + b"more", ignore_range=True), "blob", skip=1, times=None)
        self.assertCut(await self.ask(self.target), clean=True)

    async def test_removed(self) -> None:
        """The whole cache directory is removed in mid-body: its clients notice nothing, and it is made anew."""
        rule = self.origin.fault(Fault(stall=2 * MIB), "blob")
        answer = await self.begin(self.target)
        await answer.until(MIB)
        remove(self.cache.config.cache_directory)
        rule.release()
        self.assertRight(await answer.end())
        await self.cached_again()

    async def test_sync_fails(self) -> None:
        """If the disk cannot be made to keep it, clients have it all the same, and it is not kept."""

        def failing(fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with_disk = os.fdatasync
        self.patch(os, "fdatasync", failing)
        self.assertRight(await self.ask(self.target))
        await self.settled()
        self.assertFalse(self.file(self.digest).exists())
        self.patch(os, "fdatasync", with_disk)
        await self.cached_again()

    async def test_no_descriptor(self) -> None:
        """A client for whom there is no descriptor gets its blob from the origin."""

        def none(fd: int) -> int:
            raise StoreError("no descriptor to be had: Too many open files")

        await self.ask(self.target)
        await self.settled()
        self.patch(content, "duplicate", none)
        self.assertRight(await self.ask(self.target))
        part = await self.ask(self.target, ("Range", f"bytes=5-{MIB}"))
        self.assertEqual(part.status, 206)
        self.assertRight(part, DATA[5 : MIB + 1])
        rest = await self.ask(self.target, ("Range", f"bytes={MIB}-"))
        self.assertEqual(rest.status, 206)
        self.assertRight(rest, DATA[MIB:])
        rule = self.origin.fault(Fault(wrong=True), "blob", times=None)
        rest = await self.ask(self.target, ("Range", f"bytes={MIB}-"))
        self.assertEqual((rest.status, rest.complete), (206, False))
        self.origin.script.rules.remove(rule)
        self.origin.fault(Fault(status=503), "blob", times=None)
        self.assertEqual((await self.ask(self.target)).status, 502)

    async def test_few_lines(self) -> None:
        """However many pulls find the disk full, there are few warnings about it, and each pull's own line."""
        said: list[LogEvent] = []
        observer: Any = said.append
        self._observe(Repeats(observer, lambda: 0.0))
        failing: Callable[..., int] = _no_space
        self.patch(fileingest, "open_new", failing)
        pulls = 40
        for number in range(pulls):
            data = noise(1000, seed=number)
            self.assertRight(await self.ask(blob_path(self.origin.content.add_blob(REPO, data))), data)
        levels = [each["log_level"] for each in said if each.get("event") is not events.REQUEST]
        loud = [level for level in levels if level in (LogLevel.warn, LogLevel.error)]
        self.assertLessEqual(len(loud), 2)
        self.assertEqual(len([each for each in said if each.get("event") is events.REQUEST]), pulls)


def _no_space(path: Path, mode: int) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


class CommittedTests(DiskCase):
    """What has been kept fails while it is sent."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.origin.content.add_blob(REPO, LARGE)
        self.target = blob_path(self.digest)

    async def halfway(self, *headers: tuple[str, str]) -> Answer:
        """A client that has some of a hit, and does not take the rest yet."""
        await self.ask(self.target)
        await self.settled()
        answer = await self.begin(self.target, *headers)
        await answer.until(1)
        answer.pause()
        self.assertEqual(answer.one("Cache-Status"), "crcache; hit")
        return answer

    async def test_cut_short(self) -> None:
        """A file that is cut short under a send: the client gets the rest from the origin, and the file is dropped, so
        that the next client's is whole.
        """
        for headers in ((), (("Range", f"bytes=5-{len(LARGE) - 9}"),)):
            answer = await self.halfway(*headers)
            os.truncate(self.file(self.digest), 20 * MIB)
            answer.resume()
            self.assertRight(await answer.end(), LARGE[5 : len(LARGE) - 8] if headers else LARGE)
            await eventually(lambda: not self.file(self.digest).exists())
            self.assertTrue(self.told(events.CONTENT_DAMAGED))
            await self.cached_again()

    async def test_written_anew(self) -> None:
        """A file that is cut under a closed range and then written anew: no byte of that goes to the client, whom no
        digest would tell.
        """
        answer = await self.halfway(("Range", f"bytes=5-{len(LARGE) - 9}"))
        self.file(self.digest).chmod(0o644)
        self.file(self.digest).write_bytes(bytes(len(LARGE) - MIB))
        answer.resume()
        self.assertRight(await answer.end(), LARGE[5 : len(LARGE) - 8])
        await eventually(lambda: not self.file(self.digest).exists())
        await self.cached_again()

    async def test_unreadable(self) -> None:
        """So for one that cannot be read any more."""

        def failing(out: int, descriptor: int, offset: int, count: int) -> int:
            if offset >= 8 * MIB:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return sendfile(out, descriptor, offset, min(count, 8 * MIB - offset))

        sendfile = os.sendfile
        answer = await self.halfway()
        self.patch(os, "sendfile", failing)
        answer.resume()
        self.assertRight(await answer.end(), LARGE)
        await eventually(lambda: not self.file(self.digest).exists())
        self.patch(os, "sendfile", sendfile)
        await self.cached_again()

    async def test_wrong_before(self) -> None:
        """If what was sent before is not what it should be, the answer is never complete."""
        answer = await self.halfway()
        with self.file(self.digest).open("r+b") as file:
            file.write(b"something else")
            file.truncate(20 * MIB)
        answer.resume()
        await answer.end()
        self.assertEqual((answer.complete, answer.clean), (False, False))
        await self.cached_again()


class HungTests(ClientCase):
    """A disk that does not answer at all."""

    async def test_look_ups(self) -> None:
        """Manifests and blobs come from the registry after a while, also those that are cached; from the cache again
        as soon as the disk answers."""
        self.patch(filesystem, "LOOKING", 0.1)
        self.patch(filesystem, "WRITING", 0.1)
        image = self.origin.add_image(REPO, "1.0")
        targets = {
            manifest_path("1.0"): image.manifest,
            manifest_path(image.digest): image.manifest,
            blob_path(image.layers[0]): self.origin.content.blobs[image.layers[0]],
        }
        for target, data in targets.items():
            self.assertEqual((await self.ask(target)).body, data)
        await self.settled()
        hung = Event()
        self.addCleanup(hung.set)
        for module, name in ((repositories, "read_small"), (contents.Contents, "find"), (contents.Contents, "put")):
            self.patch(module, name, self.hanging(hung, getattr(module, name)))
        for target, data in targets.items():
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.body, answer.complete), (200, data, True))
            self.assertNotEqual(answer.one("Cache-Status"), "crcache; hit")
        hung.set()
        for target in targets:
            self.assertHit(await self.ask(target))

    @staticmethod
    def hanging(hung: Event, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same, once the disk answers."""

        def wait(*args: Any) -> Any:
            hung.wait(20)
            return work(*args)

        return wait


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""
