"""Origins that lie: nobody gets all of a wrong body, nothing of it is kept, and the next right answer works."""

from __future__ import annotations

import gzip
from pathlib import Path

from crcache.flow.window import HELD
from crcache.grammar.reference import Registry
from crcache.settings import RegistrySettings
from crcache.testing.auth import Basic, basic
from crcache.testing.content import OCI_MANIFEST, digest_of, noise
from crcache.testing.daemon import Instance
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, NAME, REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import Answer

#: More than is withheld until the verdict, and less.
LARGE = noise(16 * HELD + 77)
SMALL = noise(1000)
PAGE = b"<html><body>Welcome to the guests' network. Please log in.</body></html>"
HTML: tuple[tuple[str, str | None], ...] = (("Content-Type", "text/html; charset=utf-8"),)
CREDENTIALS = ("Authorization", basic("alice", "wonderland"))


def wrong(data: bytes) -> bytes:
    """What L{Fault.wrong} makes of these bytes."""
    return bytes(byte ^ 0x55 for byte in data[:64]) + data[64:]


def lies(data: bytes) -> dict[str, Fault]:
    """All ways to lie about these bytes, by what they are called."""
    claimed = digest_of(wrong(data))
    return {
        "wrong bytes, the digest that was asked for": Fault(wrong=True),
        "wrong bytes, no digest": Fault(wrong=True, undigested=True),
        "wrong bytes, their own digest": Fault(wrong=True, headers=(("Docker-Content-Digest", claimed),)),
        "too long": Fault(extra=b"more"),
        "much too long": Fault(extra=noise(100_000)),
        "too short": Fault(body=data[:-5]),
        "empty": Fault(body=b""),
        "longer than its length says": Fault(claim=len(data) - 5),
        "shorter than its length says": Fault(claim=len(data) + 100),
        "a page": Fault(status=200, body=PAGE, headers=HTML),
        "a page, without a length": Fault(status=200, body=PAGE, headers=HTML, unsized="chunked"),
        "compressed": Fault(gzip=True),
        "compressed, without a length": Fault(gzip=True, unsized="chunked"),
        "compressed, not saying so": Fault(body=gzip.compress(data)),
        "wrong bytes in chunks": Fault(wrong=True, unsized="chunked"),
        "chunks that are too many": Fault(extra=b"more", unsized="chunked"),
        "chunks that are too few": Fault(body=data[:-5], unsized="chunked"),
        "wrong bytes up to the connection's end": Fault(wrong=True, unsized="close"),
        "too few bytes up to the connection's end": Fault(body=data[:-5], unsized="close"),
    }


#: The bytes of these are right as far as they go, so that they may be kept for the next request to go on from.
TRUE_AS_FAR = ("shorter than its length says",)


class LieCase(ClientCase):
    """An origin with an image and two blobs, and a crcache that is quick to give up."""

    def setUp(self) -> None:
        super().setUp()
        self.cache = self.instance(upstream=IMPATIENT)

    def files(self) -> dict[str, bytes]:
        """All files below the cache directory, and what is in them; but for the note that a repository is private, and
        those that say how much there is."""
        root = self.cache.config.cache_directory
        others = (root / "registries" / NAME / REPO, root / "eviction")
        files = [path for path in root.rglob("*") if path.parent not in others and path.is_file()]
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    def assertNotWhole(self, answer: Answer, lie: str) -> None:
        """It is an error, or ends so that nobody takes it for all of the body."""
        if answer.status in (0, 200):
            # Without even a head if that would be all of an empty body.
            self.assertFalse(answer.complete, lie)
        else:
            self.assertIn(answer.status, (502, 504), lie)
            self.assertEqual((answer.code, answer.complete), ("UNAVAILABLE", True), lie)

    def assertRight(self, answer: Answer, data: bytes, lie: str) -> None:
        """It is all of the body, and nothing else."""
        self.assertEqual((answer.status, answer.complete, len(answer.body)), (200, True, len(data)), lie)
        self.assertTrue(answer.body == data, lie)

    async def check(self, target: str, kind: str, data: bytes, *headers: tuple[str, str], kept: bool = True) -> None:
        """Every lie about what is at this target: a client sees that it is none, the disk never has it, and the next
        client gets what is right (from the disk, then, if it is to be kept)."""
        for lie, fault in lies(data).items():
            before = self.files()
            rule = self.origin.fault(fault, kind, times=None)
            self.assertNotWhole(await self.ask(target, *headers), lie)
            if lie not in TRUE_AS_FAR:
                await self.settled()
                self.assertEqual(self.files(), before, lie)
            self.origin.script.rules.remove(rule)
            self.assertRight(await self.ask(target, *headers), data, lie)
            if kept:
                await self.settled()
                self.assertHit(await self.ask(target, *headers))
            else:
                self.assertFalse([path for path in self.files() if path.startswith("blobs/")], lie)
            self.forget()
            self.assertEqual(self.files(), before, lie)

    def forget(self) -> None:
        """Empty the cache by hand, as anybody may."""
        root = self.cache.config.cache_directory
        for part in ("blobs", "openly", "registries"):
            for path in (root / part).rglob("*"):
                if path.is_file():
                    path.unlink()


class BlobTests(LieCase):
    """Content."""

    timeout = 60

    async def test_large(self) -> None:
        """A blob of which the first bytes leave before the last ones have come."""
        await self.check(blob_path(self.origin.content.add_blob(REPO, LARGE)), "blob", LARGE)

    async def test_small(self) -> None:
        """One of which nothing leaves before the verdict."""
        await self.check(blob_path(self.origin.content.add_blob(REPO, SMALL)), "blob", SMALL)

    async def test_small_is_an_error(self) -> None:
        """Of one whose length is told, and of which nothing leaves, clients get an error: they go elsewhere with it,
        where a connection that is reset would fail their pull."""
        digest = self.origin.content.add_blob(REPO, SMALL)
        for lie, fault in lies(SMALL).items():
            if fault.unsized is None and len(fault.extra) < HELD:
                rule = self.origin.fault(fault, "blob", times=None)
                answer = await self.ask(blob_path(digest))
                self.assertIn(answer.status, (502, 504), lie)
                self.assertEqual((answer.code, answer.complete), ("UNAVAILABLE", True), lie)
                self.origin.script.rules.remove(rule)
        self.assertRight(await self.ask(blob_path(digest)), SMALL, "none")

    async def test_named(self) -> None:
        """One whose size a manifest has told: what is beyond that is not even read, and the rest may be right."""
        image = self.origin.add_image(REPO, "1.0", layers=[LARGE])
        target = blob_path(image.layers[0])
        for lie, fault in lies(LARGE).items():
            self.assertEqual((await self.ask(manifest_path("1.0"))).status, 200)
            rule = self.origin.fault(fault, "blob", times=None)
            answer = await self.ask(target)
            if fault.extra and fault.unsized:
                self.assertRight(answer, LARGE, lie)
            else:
                self.assertNotWhole(answer, lie)
            self.origin.script.rules.remove(rule)
            self.assertRight(await self.ask(target), LARGE, lie)
            await self.settled()
            self.forget()

    async def test_somewhere_else(self) -> None:
        """It makes no difference that it is another host that lies, to which the registry has sent us."""
        elsewhere = self.registry(self.origin.content)
        digest = self.origin.content.add_blob(REPO, LARGE)
        self.origin.fault(Fault(redirect=elsewhere.url + "/cdn/{digest}"), "blob", times=None)
        before = self.files()
        for lie, fault in lies(LARGE).items():
            if lie in TRUE_AS_FAR:
                continue
            rule = elsewhere.fault(fault, times=None)
            self.assertNotWhole(await self.ask(blob_path(digest)), lie)
            await self.settled()
            self.assertEqual(set(self.files()), set(before), lie)
            elsewhere.script.rules.remove(rule)
        self.assertRight(await self.ask(blob_path(digest)), LARGE, "none")

    async def test_private(self) -> None:
        """So it is with what only a client's own credentials open."""
        self.origin.auth = Basic({"alice": "wonderland"})
        for data in (LARGE, SMALL):
            digest = self.origin.content.add_blob(REPO, data)
            await self.check(blob_path(digest), "blob", data, CREDENTIALS)

    async def test_head(self) -> None:
        """What a lying HEAD says of a blob binds nobody: the GET is right."""
        digest = self.origin.content.add_blob(REPO, SMALL)
        for fault in (Fault(claim=5), Fault(headers=(("Docker-Content-Digest", digest_of(b"other")),))):
            rule = self.origin.fault(fault, "blob", method="HEAD", times=None)
            await self.ask(blob_path(digest), method="HEAD")
            self.origin.script.rules.remove(rule)
            self.assertRight(await self.ask(blob_path(digest)), SMALL, "HEAD")
            await self.settled()
            self.forget()

    async def test_range(self) -> None:
        """An open-ended range, with which clients resume, is not ended with wrong bytes either."""
        digest = self.origin.content.add_blob(REPO, LARGE)
        for lie, fault in lies(LARGE).items():
            rule = self.origin.fault(fault, "blob", times=None)
            answer = await self.ask(blob_path(digest), ("Range", "bytes=1000-"))
            self.assertTrue(answer.status >= 400 or not answer.complete, lie)
            self.origin.script.rules.remove(rule)
            answer = await self.ask(blob_path(digest), ("Range", "bytes=1000-"))
            self.assertEqual((answer.status, answer.complete), (206, True), lie)
            self.assertTrue(answer.body == LARGE[1000:], lie)
            await self.settled()
            self.forget()


class PrivateRangeTests(LieCase):
    """Parts of what only a client's own credentials open, which go through if they cannot be kept."""

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.origin.auth = Basic({"alice": "wonderland"})
        self.digest = self.origin.content.add_blob(REPO, LARGE)
        self.target = blob_path(self.digest)

    async def begin_badly(self) -> None:
        """Have the disk fail, and the repository known as private."""
        ingest = self.cache.config.cache_directory / "ingest"
        ingest.rmdir()
        ingest.write_bytes(b"")
        self.assertPart(await self.part("0-9"), 0, 10)

    async def part(self, span: str) -> Answer:
        """A range of it."""
        return await self.ask(self.target, CREDENTIALS, ("Range", f"bytes={span}"))

    def assertPart(self, answer: Answer, start: int, stop: int, lie: str = "none") -> None:
        """It is these bytes of it, and says so."""
        self.assertEqual((answer.status, answer.complete), (206, True), lie)
        self.assertEqual(answer.one("Content-Range"), f"bytes {start}-{stop - 1}/{len(LARGE)}", lie)
        self.assertTrue(answer.body == LARGE[start:stop], lie)

    async def test_open_ended(self) -> None:
        """An open-ended range, with which clients resume, is not ended with wrong bytes."""
        await self.begin_badly()
        for start in (0, 1000):
            for lie, fault in lies(LARGE).items():
                rule = self.origin.fault(fault, "blob", times=None)
                answer = await self.part(f"{start}-")
                self.assertTrue(answer.status >= 400 or not answer.complete, lie)
                self.origin.script.rules.remove(rule)
                self.assertPart(await self.part(f"{start}-"), start, len(LARGE), lie)

    async def test_resumed(self) -> None:
        """One that breaks off goes on where it was, in whatever way the origin then answers."""
        await self.begin_badly()
        for more in (Fault(), Fault(ignore_range=True), Fault(unsized="chunked")):
            self.origin.fault(Fault(cut=2 * HELD), "blob")
            self.origin.fault(more, "blob")
            self.assertPart(await self.part("77-"), 77, len(LARGE), str(more))
            self.origin.script.clear()

    async def test_too_short(self) -> None:
        """A part that ends sooner than it says, in chunks or in an orderly way, is not complete, or is gone on with."""
        await self.begin_badly()
        line = (("Content-Range", f"bytes 5-{10 * HELD}/{len(LARGE)}"),)
        short = Fault(status=206, body=LARGE[5:HELD], unsized="chunked", headers=line)
        for times in (1, None):
            self.origin.fault(short, "blob", times=times)
            answer = await self.part(f"5-{10 * HELD}")
            self.origin.script.clear()
            if times:
                self.assertPart(answer, 5, 10 * HELD + 1)
            else:
                self.assertFalse(answer.complete)

    async def test_page_in_place_of_the_rest(self) -> None:
        """A page is not taken for the rest of a part that has broken off."""
        await self.begin_badly()
        self.origin.fault(Fault(unsized="chunked", cut=HELD), "blob")
        self.origin.fault(Fault(status=200, body=PAGE, headers=HTML, unsized="chunked"), "blob", times=None)
        answer = await self.part(f"5-{10 * HELD}")
        self.assertEqual((answer.status, answer.complete), (206, False))
        self.assertTrue(answer.body == LARGE[5 : 5 + HELD])

    async def test_never_the_whole(self) -> None:
        """After one 206 no range gets a 200, neither the last bytes nor what an origin answers that ignores ranges."""
        await self.begin_badly()
        self.assertPart(await self.part("0-99"), 0, 100)
        self.assertPart(await self.part("-100"), len(LARGE) - 100, len(LARGE))
        self.assertPart(await self.part(f"-{len(LARGE) + 1}"), 0, len(LARGE))
        self.origin.fault(Fault(ignore_range=True), "blob", times=None)
        self.assertPart(await self.part("0-99"), 0, 100)
        self.assertPart(await self.part("7-"), 7, len(LARGE))
        for span in ("-100", "7-99"):
            self.assertEqual((await self.part(span)).status, 502)
        self.origin.script.clear()
        self.origin.fault(Fault(status=405), "blob", method="HEAD", times=None)
        self.assertEqual((await self.part("-100")).status, 502)


class ManifestTests(LieCase):
    """Manifests, by digest and by tag."""

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.image = self.origin.add_image(REPO, "1.0")
        self.origin.content.tags[REPO]["latest"] = self.image.digest

    async def test_by_digest(self) -> None:
        """One that is not what its digest says."""
        await self.check(manifest_path(self.image.digest), "manifest", self.image.manifest)

    async def test_by_tag(self) -> None:
        """A tag's, which the origin's own digest vouches for, or nobody."""
        await self.check(manifest_path("1.0"), "manifest", self.image.manifest)

    async def test_never_cached(self) -> None:
        """A tag's that is never cached."""
        for path in ("1.0", self.image.digest):
            self.cache = self.instance(upstream=IMPATIENT, cache_manifests=False)
            await self.check(manifest_path(path), "manifest", self.image.manifest, kept=False)

    async def test_private(self) -> None:
        """What only a client's own credentials open."""
        self.origin.auth = Basic({"alice": "wonderland"})
        await self.check(manifest_path(self.image.digest), "manifest", self.image.manifest, CREDENTIALS)
        for lie, fault in lies(self.image.manifest).items():
            self.origin.fault(fault, "manifest", method="GET", times=None)
            self.assertNotWhole(await self.ask(manifest_path("1.0"), CREDENTIALS), lie)
            self.assertFalse([path for path in self.files() if path.startswith("blobs/")], lie)
            self.origin.script.clear()

    async def test_ignored(self) -> None:
        """A tag that matches C{ignore} is passed through, but looked at; its manifest is kept by digest alone."""
        target = manifest_path("latest")
        for lie, fault in lies(self.image.manifest).items():
            before = self.files()
            rule = self.origin.fault(fault, "manifest", times=None)
            self.assertNotWhole(await self.ask(target), lie)
            self.assertEqual(self.files(), before, lie)
            self.origin.script.rules.remove(rule)
            self.assertRight(await self.ask(target), self.image.manifest, lie)
            self.assertFalse([path for path in self.files() if "_tags" in Path(path).parts])
            self.forget()


class ElsewhereTests(LieCase):
    """A registry with several URLs, of which one lies."""

    def setUp(self) -> None:
        super().setUp()
        self.image = self.origin.add_image(REPO, "1.0", [SMALL])
        self.origins = [self.origin, self.registry(self.origin.content), self.registry(self.origin.content)]

    def before(self) -> Instance:
        """A crcache with an empty cache that asks these URLs in turn."""
        name = Registry.parse(NAME)
        settings = RegistrySettings(name, tuple(each.url for each in self.origins))
        return self.instance(registries={name: settings}, upstream=IMPATIENT)

    def wanted(self) -> tuple[tuple[str, str, bytes], ...]:
        """What of it is asked for: kind, target, bytes."""
        manifest = self.image.manifest
        return (
            ("manifest", manifest_path("1.0"), manifest),
            ("manifest", manifest_path(self.image.digest), manifest),
            ("blob", blob_path(self.image.layers[0]), SMALL),
        )

    async def test_at_once(self) -> None:
        """What is wrong, and of which nothing has left yet, is had from the next URL; the client does not notice."""
        for kind, target, data in self.wanted():
            for lie, fault in lies(data).items():
                if fault.unsized or len(fault.extra) >= HELD:
                    continue
                self.cache = self.before()
                rule = self.origin.fault(fault, kind, times=None)
                self.assertRight(await self.ask(target), data, f"{kind}: {lie}")
                await self.settled()
                self.assertHit(await self.ask(target))
                self.origin.script.rules.remove(rule)

    async def test_after_others_fail(self) -> None:
        """So it is if it is the last of them that lies, while the others break off at first."""
        for kind, target, data in self.wanted():
            self.cache = self.before()
            for origin, fault in zip(self.origins, (Fault(cut=10), Fault(cut=20), Fault(wrong=True)), strict=True):
                origin.fault(fault, kind)
            self.assertRight(await self.ask(target), data, kind)


class UnsizedTests(LieCase):
    """Bodies without a length are none the worse for it."""

    async def test_served(self) -> None:
        """In chunks, or up to the connection's end: checked, served whole, and kept."""
        image = self.origin.add_image(REPO, "1.0")
        large, small = (self.origin.content.add_blob(REPO, data) for data in (LARGE, SMALL))
        wanted = (
            ("blob", blob_path(large), LARGE),
            ("blob", blob_path(small), SMALL),
            ("manifest", manifest_path(image.digest), image.manifest),
            ("manifest", manifest_path("1.0"), image.manifest),
        )
        for kind, target, data in wanted:
            for fault in (Fault(unsized="chunked"), Fault(unsized="close")):
                rule = self.origin.fault(fault, kind, times=None)
                self.assertRight(await self.ask(target), data, target)
                await self.settled()
                self.origin.script.rules.remove(rule)
                self.assertHit(await self.ask(target))
                self.forget()

    async def test_private(self) -> None:
        """Those that a client's own credentials open as well."""
        self.origin.auth = Basic({"alice": "wonderland"})
        digest = self.origin.content.add_blob(REPO, LARGE)
        for fault in (Fault(unsized="chunked"), Fault(unsized="close")):
            rule = self.origin.fault(fault, "blob", times=None)
            answer = await self.ask(blob_path(digest), CREDENTIALS)
            self.assertRight(answer, LARGE, "none")
            self.origin.script.rules.remove(rule)


class EncodingTests(LieCase):
    """C{Content-Encoding} that nobody asked for."""

    async def test_not_asked_for(self) -> None:
        """Origins are asked for the identity, whatever the client takes; clients never see an encoding."""
        image = self.origin.add_image(REPO, "1.0")
        for target, data in (
            (manifest_path("1.0"), image.manifest),
            (blob_path(image.layers[0]), self.origin.content.blobs[image.layers[0]]),
        ):
            answer = await self.ask(target, ("Accept-Encoding", "zstd, gzip, deflate"))
            self.assertRight(answer, data, target)
            self.assertEqual(answer.all("Content-Encoding"), [])
        self.assertEqual({record.header("Accept-Encoding") for record in self.origin.requests}, {"identity"})

    async def test_lists(self) -> None:
        """A compressed list is refused, not passed on as if it were none."""
        self.origin.add_image(REPO, "1.0")
        for kind, path in (("tags", "tags/list"), ("referrers", f"referrers/{digest_of(SMALL)}")):
            self.origin.fault(Fault(gzip=True), kind, times=None)
            answer = await self.ask(f"/v2/{REPO}/{path}?ns=registry.test")
            self.assertEqual((answer.status, answer.code), (502, "UNAVAILABLE"))

    async def test_identity(self) -> None:
        """An origin that calls the identity an encoding has not encoded anything."""
        image = self.origin.add_image(REPO, "1.0")
        self.origin.fault(Fault(headers=(("Content-Encoding", "identity"),)), times=None)
        for target, data in (
            (manifest_path("1.0"), image.manifest),
            (blob_path(image.layers[0]), self.origin.content.blobs[image.layers[0]]),
        ):
            self.assertRight(await self.ask(target), data, target)


class MediaTypeTests(LieCase):
    """A manifest under another name."""

    async def test_octets(self) -> None:
        """A manifest whose origin calls it something else has the media type that it says of itself."""
        image = self.origin.add_image(REPO, "1.0")
        for name in ("application/octet-stream", "text/plain", None):
            self.origin.fault(Fault(headers=(("Content-Type", name),)), "manifest")
            answer = await self.ask(manifest_path("1.0"))
            self.assertEqual(answer.one("Content-Type"), OCI_MANIFEST)
            self.assertRight(answer, image.manifest, str(name))
            self.forget()
