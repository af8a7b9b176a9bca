"""Resumed, parallel and lazy downloads."""

from __future__ import annotations

from crcache.testing.content import noise
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

    async def test_range_of_a_manifest(self) -> None:
        """Parallel fetch asks manifests with C{Range} too, and gets 206 from cold and warm ones."""
        image = self.origin.add_image(REPO, "1.0")
        for target in (manifest_path(image.digest), manifest_path("1.0")):
            for _ in range(2):
                answer = await self.ask(target, ("Range", "bytes=0-"))
                self.assertEqual((answer.status, answer.body), (206, image.manifest))
                part = await self.ask(target, ("Range", "bytes=10-19"))
                self.assertEqual((part.status, part.body), (206, image.manifest[10:20]))
