"""A whole crcache within bounds: no pull fails because of them."""

from __future__ import annotations

import json
from pathlib import Path

from crcache import events
from crcache.eviction import bounded
from crcache.settings import Bounds
from crcache.testing.content import noise
from crcache.testing.daemon import Instance
from crcache.testing.script import Fault
from tests.clients.case import MANIFEST_TYPES, REPO, ClientCase, blob_path, eventually, manifest_path

MIB = 1 << 20
ACCEPT = ("Accept", ", ".join(MANIFEST_TYPES))


class BoundsTests(ClientCase):
    """A cache of four MiB."""

    def setUp(self) -> None:
        """Make no more room than is needed."""
        super().setUp()
        self.patch(bounded, "AHEAD", 0)
        self.cache = self.bounded()

    def bounded(self, directory: Path | None = None) -> Instance:
        """A crcache."""
        return self.instance(directory, bounds=Bounds(4 * MIB, 0, 1.0, 1.0))

    def held(self) -> int:
        """The bytes of its content."""
        blobs = (self.cache.config.cache_directory / "blobs").glob("*/*")
        return sum(path.stat().st_size for path in blobs if not path.name.startswith("."))

    def path(self, digest: str) -> Path:
        """Where content is kept."""
        return self.cache.config.cache_directory / "blobs" / digest.replace(":", "/")

    async def pull(self, digest: str, data: bytes, to: Instance | None = None) -> None:
        """Get a blob, which must be whole."""
        answer = await self.ask(blob_path(digest), to=to)
        self.assertEqual((answer.status, answer.body == data), (200, True))

    async def counted(self) -> None:
        """Wait until it knows what there is."""
        await self.metric_becomes(0.0, "crcache_cache_bytes")

    async def test_too_large(self) -> None:
        """A blob larger than the bound is passed on whole, and not kept; what is there stays, and one line says why."""
        await self.counted()
        small, large = noise(MIB), noise(5 * MIB)
        image = self.origin.add_image(REPO, "1.0", [small, large])
        await self.pull(image.layers[0], small)
        await eventually(self.path(image.layers[0]).exists)
        for _ in range(2):
            await self.pull(image.layers[1], large)
        self.assertTrue(self.path(image.layers[0]).exists())
        self.assertFalse(self.path(image.layers[1]).exists())
        self.assertEqual([name for name in self.trace() if name.startswith("ingest/")], [])
        told = [event for event in self.events if "no room for" in str(event.get("problem"))]
        self.assertTrue(told and all("cache.max-size" in str(event["problem"]) for event in told))

    async def test_unsized(self) -> None:
        """So is one of which nobody says how large it is, when it has become too large: its client gets all of it."""
        await self.counted()
        large = noise(6 * MIB)
        digest = self.origin.content.add_blob(REPO, large)
        self.origin.fault(Fault(unsized="chunked"), "blob", times=None)
        await self.pull(digest, large)
        self.assertTrue(any(event.get("event") == events.CARRIED_ON for event in self.events))
        self.assertFalse(self.path(digest).exists())

    async def test_least_recently_used(self) -> None:
        """Pull after pull what was used least recently makes room; there is never more than the bound."""
        await self.counted()
        layers = [noise(MIB - 10_000 - number) for number in range(10)]
        image = self.origin.add_image(REPO, "1.0", layers)
        for digest, data in zip(image.layers, layers, strict=True):
            await self.pull(digest, data)
            await eventually(self.path(digest).exists)
            self.assertLessEqual(self.held(), 4 * MIB)
        self.assertEqual(sum(self.path(digest).exists() for digest in image.layers), 4)
        self.assertGreater(await self.metric("crcache_evicted_bytes_total"), 5 * MIB)
        self.assertEqual(await self.metric("crcache_cache_bytes"), self.held())
        self.assertEqual(await self.metric("crcache_cache_max_bytes"), 4 * MIB)
        status = json.loads((await self.admin("/api/status")).body)
        self.assertEqual((status["cache_bytes"], status["cache_max_bytes"]), (self.held(), 4 * MIB))

    async def test_manifest(self) -> None:
        """A manifest for which there is no room is served all the same."""
        await self.counted()
        self.cache = self.instance(bounds=Bounds(100, 0, 1.0, 1.0))
        image = self.origin.add_image(REPO, "1.0", [noise(100)])
        for _ in range(2):
            answer = await self.ask(manifest_path("1.0"), ACCEPT)
            self.assertEqual((answer.status, answer.body), (200, image.manifest))
        self.assertEqual(self.held(), 0)

    async def test_two(self) -> None:
        """Two on one directory keep the bound together."""
        await self.counted()
        other = self.bounded(self.cache.config.cache_directory)
        layers = [noise(MIB - 10_000 - number) for number in range(8)]
        image = self.origin.add_image(REPO, "1.0", layers)
        for number, (digest, data) in enumerate(zip(image.layers, layers, strict=True)):
            await self.pull(digest, data, (self.cache, other)[number % 2])
            await eventually(self.path(digest).exists)
            self.assertLessEqual(self.held(), 4 * MIB)

    async def test_sent(self) -> None:
        """What is being sent may go: its client gets all of it."""
        await self.counted()
        data = noise(4 * MIB - 10_000)
        digest = self.origin.content.add_blob(REPO, data)
        await self.pull(digest, data)
        await eventually(self.path(digest).exists)
        sending = await self.begin(blob_path(digest))
        other = noise(2 * MIB)
        await self.pull(self.origin.content.add_blob(REPO, other), other)
        await eventually(lambda: not self.path(digest).exists())
        self.assertEqual((await sending.end()).body, data)
