"""Origins and disks that fail: what clients see of it, and what they never see."""

from __future__ import annotations

import shutil

from crcache.settings import Times
from crcache.testing.auth import Tokens
from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, REPO, ClientCase, blob_path, eventually, manifest_path

MIB = 1 << 20
DATA = noise(3 * MIB + 77)


class FailureCase(ClientCase):
    """A cold blob of some segments, and a crcache that is quick to give up."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.origin.content.add_blob(REPO, DATA)
        self.target = blob_path(self.digest)
        self.cache = self.instance(upstream=IMPATIENT)


class BreakingOffTests(FailureCase):
    """After the first byte."""

    async def test_for_good(self) -> None:
        """If the origin fails for good, the answer ends short of its length, without a reset: clients ask for the rest
        then. What came is kept for them.
        """
        self.origin.fault(Fault(cut=MIB), "blob")
        self.origin.fault(Fault(hang_up=True), "blob", times=None)
        answer = await (await self.begin(self.target)).end()
        self.assertEqual((answer.status, answer.clean, answer.complete), (200, True, False))
        self.assertEqual(answer.raw, DATA[:MIB])
        self.origin.script.clear()
        rest = await self.ask(self.target, ("Range", f"bytes={MIB}-"))
        self.assertEqual((rest.status, rest.complete), (206, True))
        self.assertEqual(answer.raw + rest.body, DATA)
        self.assertEqual(self.origin.asked("blob")[-1].header("Range"), f"bytes={MIB}-")

    async def test_resumed(self) -> None:
        """A broken fetch is resumed with C{Range} where it broke off; the client notices nothing."""
        for fault in (Fault(cut=MIB + 5), Fault(cut=MIB, reset=True), Fault(cut=100)):
            self.origin.fault(fault, "blob")
        answer = await self.ask(self.target)
        self.assertEqual((answer.body, answer.complete), (DATA, True))
        spans = [record.header("Range") for record in self.origin.asked("blob")]
        self.assertEqual(spans[:2], [None, f"bytes={MIB + 5}-"])
        self.assertEqual(len(spans), 4)
        self.assertEqual(await self.metric("crcache_upstream_resumes_total"), 3.0)

    async def test_range_ignored(self) -> None:
        """An origin that ignores the range is read from the beginning, and the client gets each byte once."""
        self.origin.fault(Fault(cut=MIB), "blob")
        self.origin.fault(Fault(ignore_range=True), "blob")
        answer = await self.ask(self.target)
        self.assertEqual((answer.body, answer.complete), (DATA, True))

    async def test_stalled(self) -> None:
        """An origin that falls silent is given up after the stall timeout, and the fetch resumed."""
        self.origin.fault(Fault(stall=MIB), "blob")
        answer = await self.ask(self.target)
        self.assertEqual((answer.body, answer.complete), (DATA, True))
        self.assertEqual(len(self.origin.asked("blob")), 2)

    async def test_without_a_length(self) -> None:
        """A body without a length that breaks off is not ended as if it were whole."""
        self.origin.fault(Fault(unsized="chunked", cut=MIB), "blob")
        self.origin.fault(Fault(hang_up=True), "blob", times=None)
        answer = await self.ask(self.target)
        self.assertEqual((answer.status, answer.one("Transfer-Encoding")), (200, "chunked"))
        self.assertEqual((answer.clean, answer.complete), (True, False))

    async def test_wrong_bytes(self) -> None:
        """Bytes that are not the digest's are never served whole, nor kept; the next client gets the right ones."""
        before = self.trace()
        for fault in (
            Fault(wrong=True),
            Fault(extra=b"more"),
            Fault(body=DATA[:-5]),
            Fault(wrong=True, unsized="chunked"),
        ):
            rule = self.origin.fault(fault, "blob", times=None)
            answer = await self.ask(self.target)
            self.assertFalse(answer.complete)
            self.assertIs(answer.clean, False)
            self.assertNotIn(f"blobs/sha256/{self.digest[7:]}", self.trace())
            await self.settled()
            self.origin.script.rules.remove(rule)
        self.assertEqual(self.trace(), before)
        self.assertEqual((await self.ask(self.target)).body, DATA)

    async def test_wrong_small_bytes(self) -> None:
        """If they are all there before the answer begins, or in a manifest, the client gets an error status."""
        image = self.origin.add_image(REPO, "1.0")
        for target in (manifest_path("1.0"), manifest_path(image.digest)):
            self.origin.fault(Fault(wrong=True), "manifest")
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.code), (502, "UNAVAILABLE"))
        self.origin.fault(Fault(wrong=True), "blob")
        answer = await self.ask(blob_path(image.layers[0]))
        self.assertFalse(answer.complete and answer.status == 200)

    async def test_page_of_html(self) -> None:
        """A portal's page in place of a manifest or a layer is passed on as neither."""
        image = self.origin.add_image(REPO, "1.0")
        page = Fault(status=200, body=b"<html>please log in", headers=(("Content-Type", "text/html"),))
        self.origin.fault(page, times=None)
        for target in (manifest_path("1.0"), manifest_path(image.digest)):
            self.assertEqual((await self.ask(target)).status, 502)
        answer = await self.ask(blob_path(image.layers[0]))
        self.assertFalse(answer.complete and answer.status == 200)

    async def test_private(self) -> None:
        """So it is with a private body: if it breaks off for good it ends short; if it is wrong, with a reset."""
        tokens = Tokens(users={"alice": "wonderland"}, anonymous=())
        self.origin.auth = tokens
        bearer = ("Authorization", "Bearer " + tokens.issue("alice", [f"repository:{REPO}:pull"]))
        for fault in (Fault(cut=MIB, ignore_range=True), Fault(wrong=True)):
            self.origin.fault(fault, "blob", times=None)
            answer = await self.ask(self.target, bearer)
            self.assertEqual((answer.status, answer.clean, answer.complete), (200, not fault.wrong, False))
            self.origin.script.clear()
        self.assertEqual((await self.ask(self.target, bearer)).body, DATA)

    async def test_private_resumed(self) -> None:
        """A private body that breaks off is asked for again from there; the client notices nothing."""
        tokens = Tokens(users={"alice": "wonderland"}, anonymous=())
        self.origin.auth = tokens
        bearer = ("Authorization", "Bearer " + tokens.issue("alice", [f"repository:{REPO}:pull"]))
        self.origin.fault(Fault(cut=MIB), "blob", times=None)
        answer = await self.ask(self.target, bearer)
        self.assertEqual((answer.status, answer.complete, answer.body), (200, True, DATA))
        spans = [record.header("Range") for record in self.origin.asked("blob") if record.status == 206]
        self.assertEqual(spans[:2], [f"bytes={MIB}-", f"bytes={2 * MIB}-"])
        self.assertTrue(spans)


class BeforeTests(FailureCase):
    """Before the first byte."""

    async def test_statuses(self) -> None:
        """An error status and the specification's JSON: the client goes on to the next host."""
        for fault, status in (
            (Fault(hang_up=True), 502),
            (Fault(status=500), 502),
            (Fault(hold=True), 504),
            (Fault(status=429), 503),
        ):
            # What one remembers of the last failure is not what this one makes of the next.
            self.cache = self.instance(upstream=IMPATIENT)
            self.origin.fault(fault, "blob", times=None)
            answer = await self.ask(self.target)
            self.assertEqual((answer.status, answer.code), (status, "UNAVAILABLE"))
            self.assertEqual(answer.complete, True)
            self.origin.script.clear()
        self.cache = self.instance(upstream=IMPATIENT)
        self.assertEqual((await self.ask(self.target)).body, DATA)

    async def test_warm(self) -> None:
        """What is cached is served while the origin fails: blobs and manifests as hits, an old tag as stale."""
        self.cache = self.instance(upstream=IMPATIENT, times=Times(tag_ttl=0.0))
        image = self.origin.add_image(REPO, "1.0")
        await self.ask(manifest_path("1.0"))
        await self.ask(blob_path(image.layers[0]))
        await self.settled()
        self.origin.fault(Fault(status=500), times=None)
        answer = await self.ask(manifest_path("1.0"))
        self.assertEqual((answer.status, answer.body), (200, image.manifest))
        self.assertEqual(answer.one("Cache-Status"), "crcache; hit; detail=stale-if-error")
        self.assertHit(await self.ask(manifest_path(image.digest)))
        self.assertHit(await self.ask(blob_path(image.layers[0])))


class DiskTests(FailureCase):
    """Pulls never fail because caching does."""

    async def test_no_room_to_fill(self) -> None:
        """If nothing can be written, a blob is relayed, whole and right."""
        ingest = self.cache.config.cache_directory / "ingest"
        await eventually(ingest.exists)
        shutil.rmtree(ingest)
        ingest.write_bytes(b"in the way")
        answer = await self.ask(self.target)
        self.assertEqual((answer.body, answer.complete), (DATA, True))
        self.assertEqual(answer.one("Cache-Status"), "crcache; fwd=bypass")

    async def test_vanished_directory(self) -> None:
        """If somebody empties the cache directory, everything is a miss, and then a hit again."""
        image = self.origin.add_image(REPO, "1.0")
        targets = manifest_path("1.0"), manifest_path(image.digest), blob_path(image.layers[0]), self.target
        expected = [(await self.ask(target)).body for target in targets]
        await self.settled()
        for path in self.cache.config.cache_directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        self.assertEqual([(await self.ask(target)).body for target in targets], expected)
        await self.settled()
        for target in targets:
            self.assertHit(await self.ask(target))

    async def test_damaged(self) -> None:
        """A blob's file that has been cut short is noticed and fetched again."""
        await self.ask(self.target)
        path = self.cache.config.cache_directory / "blobs" / "sha256" / self.digest[7:]
        await self.settled()
        path.chmod(0o600)
        path.write_bytes(DATA[:1000])
        answer = await self.ask(self.target)
        self.assertEqual((answer.body, answer.complete), (DATA, True))
        await eventually(lambda: path.exists() and path.stat().st_size == len(DATA))
