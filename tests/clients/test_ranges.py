"""Resumed, parallel and lazy downloads."""

from __future__ import annotations

from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import Answer


class RangeTests(ClientCase):
    """Resumed and parallel downloads."""

    def setUp(self) -> None:
        super().setUp()
        self.data = noise(3 << 20)
        self.digest = self.origin.content.add_blob(REPO, self.data)

    async def range(self, value: str) -> Answer:
        """The blob with a C{Range}."""
        return await self.ask(blob_path(self.digest), ("Range", value))

    async def test_resume(self) -> None:
        """C{bytes=N-}, as after a broken download, is a 206 with the rest, cold and warm."""
        for _ in range(2):
            answer = await self.range("bytes=1000000-")
            self.assertEqual(answer.status, 206)
            self.assertEqual(answer.one("Content-Range"), f"bytes 1000000-{len(self.data) - 1}/{len(self.data)}")
            self.assertEqual(answer.body, self.data[1_000_000:])

    async def test_beyond_the_end(self) -> None:
        """A range past the end is a 416 that says the size, cold and warm."""
        for _ in range(2):
            answer = await self.range(f"bytes={len(self.data)}-")
            self.assertEqual((answer.status, answer.code), (416, "RANGE_INVALID"))
            self.assertEqual(answer.one("Content-Range"), f"bytes */{len(self.data)}")

    async def test_parallel_fetch(self) -> None:
        """C{bytes=0-} and then open-ended chunks that the client closes early: always 206, and all bytes right."""
        for _ in range(2):
            probe = await self.begin(blob_path(self.digest), ("Range", "bytes=0-"))
            await probe.until(0)
            self.assertEqual(probe.status, 206)
            self.assertEqual(probe.one("Content-Range"), f"bytes 0-{len(self.data) - 1}/{len(self.data)}")
            parts = []
            chunk = 1 << 20
            for start in range(0, len(self.data), chunk):
                part = await self.begin(blob_path(self.digest), ("Range", f"bytes={start}-"))
                await part.until(chunk)
                self.assertEqual(part.status, 206)
                parts.append(part.raw[:chunk])
                part.leave()
            probe.leave()
            self.assertEqual(b"".join(parts), self.data)
        self.assertEqual(len(self.origin.asked("blob", "GET")), 1)

    async def test_every_kind(self) -> None:
        """First, middle, open-ended and last bytes, and ends past the end: the same right 206, cold and warm."""
        size = len(self.data)
        kinds = {
            "bytes=0-0": (0, 1),
            "bytes=0-99999": (0, 100_000),
            "bytes=1048570-1048580": (1_048_570, 1_048_581),
            "bytes=0-": (0, size),
            f"bytes={size - 1}-": (size - 1, size),
            "bytes=-1": (size - 1, size),
            f"bytes=-{size + 5}": (0, size),
            f"bytes=5-{size}": (5, size),
            f"bytes={size - 10}-{size + 1000}": (size - 10, size),
            f"bytes=0-{size - 1}": (0, size),
        }
        for value, (start, stop) in kinds.items():
            self.cache = self.instance()
            for _ in range(2):
                answer = await self.range(value)
                self.assertEqual((answer.status, answer.complete), (206, True), value)
                self.assertEqual(answer.one("Content-Range"), f"bytes {start}-{stop - 1}/{size}")
                self.assertTrue(answer.body == self.data[start:stop], value)
                await self.settled()
            await self.cache.stop()

    async def test_several(self) -> None:
        """Several ranges in one request get the whole, as do nonsense and other units, cold and warm."""
        for value in ("bytes=0-9,100-109", "bytes=5-,-5", "bytes=9-5", "lines=1-2"):
            self.cache = self.instance()
            for _ in range(2):
                answer = await self.range(value)
                self.assertEqual((answer.status, answer.complete), (200, True), value)
                self.assertTrue(answer.body == self.data)
                await self.settled()
            await self.cache.stop()

    async def test_conditions(self) -> None:
        """A part only of what the client has the rest of, and nothing of what it has, cold and warm."""
        tag, part = f'"{self.digest}"', ("Range", "bytes=5-9")
        cases = [
            (("If-Range", tag), 206, self.data[5:10]),
            (("If-Range", '"other"'), 200, self.data),
            (("If-Range", "W/" + tag), 200, self.data),
            (("If-None-Match", tag), 304, b""),
            (("If-None-Match", "*"), 304, b""),
            (("If-None-Match", '"other"'), 206, self.data[5:10]),
        ]
        for condition, status, body in cases:
            self.cache = self.instance()
            for _ in range(2):
                answer = await self.ask(blob_path(self.digest), part, condition)
                self.assertEqual(answer.status, status, condition)
                self.assertTrue(answer.body == body, condition)
                await self.settled()
            await self.cache.stop()

    async def test_never_the_whole(self) -> None:
        """After one 206 no range gets a 200: not while it is fetched, nor after the origin broke off, nor from disk."""
        stall = self.origin.fault(Fault(stall=1 << 20, cut=1 << 20), "blob")
        self.origin.fault(Fault(ignore_range=True), "blob", times=None)
        first = await self.begin(blob_path(self.digest), ("Range", "bytes=0-"))
        await first.until(1)
        self.assertEqual(first.status, 206)
        waiting = [await self.begin(blob_path(self.digest), ("Range", f"bytes={n * 900_000}-")) for n in range(1, 4)]
        stall.release()
        for number, answer in enumerate([first, *waiting]):
            await answer.end()
            self.assertEqual((answer.status, answer.complete), (206, True))
            self.assertTrue(answer.body == self.data[number * 900_000 :])
        await self.settled()
        self.assertEqual((await self.range("bytes=7-")).status, 206)

    async def test_range_of_a_manifest(self) -> None:
        """Parallel fetch asks manifests with C{Range} too, and gets 206 from cold and warm ones."""
        image = self.origin.add_image(REPO, "1.0")
        for target in (manifest_path(image.digest), manifest_path("1.0")):
            for _ in range(2):
                answer = await self.ask(target, ("Range", "bytes=0-"))
                self.assertEqual((answer.status, answer.body), (206, image.manifest))
                part = await self.ask(target, ("Range", "bytes=10-19"))
                self.assertEqual((part.status, part.body), (206, image.manifest[10:20]))
