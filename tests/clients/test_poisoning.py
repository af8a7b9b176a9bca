"""Poisoning: no origin, no client and no spelling changes what anybody else is served. Fake attackers try."""

from __future__ import annotations

import json
from collections.abc import Sequence

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol

from crcache.testing.content import OCI_INDEX, OCI_MANIFEST, Image, digest_of, noise
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, MANIFEST_TYPES, NAME, REPO, ClientCase, blob_path, manifest_path
from tests.web.cases import reactor

#: Who attacks.
EVIL = "evil.test"
#: What clients send that take no matter which manifest.
TAKING = ("Accept", ", ".join(MANIFEST_TYPES))


class PoisonCase(ClientCase):
    """A good registry, an evil one, and one crcache before both.

    @ivar image: the good one's C{1.0}.
    """

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.evil = self.registry()
        self.image = self.origin.add_image(REPO, "1.0", seed=1)
        self.other = self.evil.add_image(REPO, "1.0", seed=2)
        self.cache = self.instance(origins={NAME: self.origin.url, EVIL: self.evil.url}, upstream=IMPATIENT)

    async def assertGood(self, why: str = "") -> None:
        """The good registry's tag, manifest and layers are what they should be, by GET and HEAD."""
        for reference in ("1.0", self.image.digest):
            for method in ("HEAD", "GET"):
                answer = await self.ask(manifest_path(reference), TAKING, method=method)
                self.assertEqual((answer.status, answer.one("Docker-Content-Digest")), (200, self.image.digest), why)
                self.assertEqual(answer.one("Content-Type"), OCI_MANIFEST, why)
                self.assertEqual(answer.one("OCI-Namespace"), NAME, why)
                self.assertEqual(answer.body, self.image.manifest if method == "GET" else b"", why)
        for digest in self.image.layers:
            answer = await self.ask(blob_path(digest))
            self.assertEqual((answer.status, digest_of(answer.body)), (200, digest), why)


class OriginTests(PoisonCase):
    """An origin that would like others' clients to get what it says."""

    async def test_same_names(self) -> None:
        """Two registries with equal repositories and tags keep theirs, whichever is asked first and how."""
        for name, image in ((EVIL, self.other), (NAME, self.image), (EVIL, self.other)):
            for path in (manifest_path("1.0", ns=name), manifest_path("1.0", f"{name}/{REPO}", ns=None)):
                answer = await self.ask(path, TAKING)
                self.assertEqual((answer.status, answer.body), (200, image.manifest), path)
        self.assertEqual(len(self.origin.asked("manifest")), 1)
        await self.assertGood()

    async def test_claims_anothers_digest(self) -> None:
        """A tag whose HEAD says another registry's digest leads to what that registry's own clients get, or to nothing;
        there it changes nothing, and here nothing of it is kept."""
        claim = (("Docker-Content-Digest", self.image.digest), ("Content-Type", OCI_INDEX))
        self.evil.fault(Fault(headers=claim), "manifest", times=None)
        await self.ask(manifest_path("1.0", ns=EVIL), method="HEAD")
        answer = await self.ask(manifest_path("1.0", ns=EVIL))
        self.assertEqual((answer.status, answer.code), (502, "UNAVAILABLE"))
        await self.assertGood()
        self.evil.script.clear()
        # Once the good one is on disk, too.
        self.evil.fault(Fault(headers=claim), "manifest", times=None)
        for method in ("HEAD", "GET"):
            await self.ask(manifest_path("1.0", ns=EVIL), method=method)
        await self.assertGood()

    async def test_each_others_digests(self) -> None:
        """Two origins whose tags point to each other's manifests, and serve other bytes for them, are both refused."""
        ours, theirs = self.image, self.other
        self.origin.fault(
            Fault(body=theirs.manifest, headers=(("Docker-Content-Digest", ours.digest),)), "manifest", times=None
        )
        self.evil.fault(
            Fault(body=ours.manifest, headers=(("Docker-Content-Digest", theirs.digest),)), "manifest", times=None
        )
        for name in (NAME, EVIL):
            for reference in ("1.0", ours.digest, theirs.digest):
                for method in ("GET", "HEAD", "GET"):
                    answer = await self.ask(manifest_path(reference, ns=name), method=method)
                    if method == "GET":
                        self.assertNotEqual(answer.status, 200, f"{name} {reference}")
        self.assertEqual([path for path in self.trace() if path.startswith("blobs/")], [])
        self.origin.script.clear()
        self.evil.script.clear()
        await self.assertGood()

    async def test_media_type(self) -> None:
        """The same bytes under another media type have it at that registry alone, said in a header or a manifest."""
        self.evil.content.add_manifest(REPO, self.image.manifest, OCI_INDEX)
        naming = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{"mediaType": OCI_INDEX, "digest": self.image.digest, "size": len(self.image.manifest)}],
        }
        index = json.dumps(naming).encode()
        self.evil.content.add_manifest(REPO, index, OCI_INDEX)
        for reference in (digest_of(index), self.image.digest):
            self.assertEqual((await self.ask(manifest_path(reference, ns=EVIL))).status, 200)
        await self.assertGood()
        self.assertEqual(
            (await self.ask(manifest_path(self.image.digest, ns=EVIL))).one("Content-Type"), OCI_INDEX, "its own affair"
        )

    async def test_named_otherwise(self) -> None:
        """A manifest that names another one of its own repository under another type does not change what the origin
        has said of that, whichever was pulled first."""
        naming = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [{"mediaType": OCI_INDEX, "digest": self.image.digest, "size": 5}],
        }
        self.origin.content.add_manifest(REPO, json.dumps(naming).encode(), OCI_INDEX, "naming")
        for order in (("1.0", "naming"), ("naming", "1.0"), ("naming", self.image.digest)):
            self.cache = self.instance(upstream=IMPATIENT)
            for reference in order:
                self.assertEqual((await self.ask(manifest_path(reference), TAKING)).status, 200)
            await self.assertGood(str(order))
        # Also where its bytes are here already, through another repository.
        self.origin.content.add_manifest("other", self.image.manifest)
        self.cache = self.instance(upstream=IMPATIENT)
        for target in (manifest_path(self.image.digest, "other"), manifest_path("naming")):
            self.assertEqual((await self.ask(target, TAKING)).status, 200)
        await self.assertGood("through another")

    async def test_membership(self) -> None:
        """A good registry's repository does not hold what only another one, or another repository, has."""
        secret = noise(5000)
        digest = self.evil.content.add_blob("some/where", secret)
        self.assertEqual((await self.ask(blob_path(digest, "some/where", EVIL))).body, secret)
        await self.settled()
        for repository, name in ((REPO, NAME), ("some/where", NAME), (REPO, EVIL), ("some/where/else", EVIL)):
            for method in ("GET", "HEAD"):
                self.assertEqual((await self.ask(blob_path(digest, repository, name), method=method)).status, 404)

    async def test_wrong_while_another_is_right(self) -> None:
        """A lie about a digest that is being fetched from both touches only those who asked the liar."""
        data = noise(200_000)
        digest = self.origin.content.add_blob(REPO, data)
        self.evil.content.add_blob(REPO, data)
        stalled = self.origin.fault(Fault(stall=1000), "blob")
        self.evil.fault(Fault(wrong=True), "blob", times=None)
        answer = await self.begin(blob_path(digest))
        lied = await self.ask(blob_path(digest, ns=EVIL))
        self.assertFalse(lied.status == 200 and lied.complete)
        stalled.release()
        await answer.end()
        self.assertEqual((answer.status, answer.complete, answer.body == data), (200, True, True))

    async def test_lengths(self) -> None:
        """No length that an origin claims makes crcache write so much, wait for ever, or fall over."""
        data = noise(3000)
        for claim in (0, 1, 2999, 3001, 2**44 + 1, 2**63 - 1, 2**63, 10**30):
            digest = self.evil.content.add_blob(REPO, data)
            rule = self.evil.fault(Fault(claim=claim), times=None)
            for target in (blob_path(digest, ns=EVIL), manifest_path("1.0", ns=EVIL)):
                for headers in ((), (("Range", "bytes=10-"),)):
                    for method in ("HEAD", "GET"):
                        answer = await self.ask(target, *headers, method=method)
                        told = f"{claim} {target} {headers} {method}"
                        self.assertNotEqual(answer.status, 500, told)
                        if method == "GET":
                            self.assertFalse(answer.status in (200, 206) and answer.complete, told)
            self.evil.script.rules.remove(rule)
            self.assertLess(
                sum(path.stat().st_blocks * 512 for path in self.cache.config.cache_directory.rglob("*")), 10**6
            )
        self.assertEqual(self.flushLoggedErrors(), [])
        await self.assertGood()

    async def test_ranges(self) -> None:
        """Nor does any C{Content-Range} that it makes up."""
        data = noise(3000)
        digest = self.evil.content.add_blob(REPO, data)
        largest = 2**63 - 1
        for said in (
            *("bytes 10-2999/3001", "bytes 10-2998/3000", "bytes 9-2999/3000", "bytes 10-2999/2000", "bytes 10-9/3000"),
            *(f"bytes 10-{largest}/*", f"bytes 10-{largest - 1}/{largest}", f"bytes 10-2999/{10**30}", "bytes */3000"),
            *("bytes 10-2999/\xb2", "items 10-2999/3000", "", "bytes 10-2999", "bytes 10-2999/3000, bytes 0-9/3000"),
        ):
            fault = Fault(status=206, body=data[10:], headers=(("Content-Range", said),))
            rule = self.evil.fault(fault, "blob", method="GET", times=None)
            answer = await self.ask(blob_path(digest, ns=EVIL), ("Range", "bytes=10-2990"))
            self.assertNotEqual(answer.status, 500, said)
            if answer.status == 206 and answer.complete:
                # It cannot be told from a part before all of it has come; but it is what it says that it is.
                self.assertEqual((answer.one("Content-Range") or "").rpartition("/")[0], "bytes 10-2990", said)
                self.assertEqual(answer.body, data[10:2991], said)
            else:
                self.assertFalse(answer.status == 200 and answer.complete, said)
            self.evil.script.rules.remove(rule)
        self.assertEqual(self.flushLoggedErrors(), [])
        answer = await self.ask(blob_path(digest, ns=EVIL))
        self.assertEqual(answer.body, data)

    async def test_pages(self) -> None:
        """What an origin says in HTML is nothing that a browser would run in crcache's name, whatever was asked for."""
        page = b"<script>fetch('/v2/secret/manifests/1.0')</script>"
        html = (("Content-Type", "text/html; charset=utf-8"),)
        self.evil.fault(Fault(status=200, body=page, headers=html), times=None)
        targets = [
            f"/v2/{REPO}/tags/list?ns={EVIL}",
            f"/v2/{REPO}/referrers/{digest_of(page)}?ns={EVIL}",
            manifest_path("1.0", ns=EVIL),
            manifest_path(digest_of(page), ns=EVIL),
            blob_path(digest_of(page), ns=EVIL),
        ]
        for target in (*targets, *targets):
            for headers in ((), (("Accept", "text/html"),), (("Range", "bytes=0-9"),)):
                answer = await self.ask(target, *headers)
                self.assertIn(answer.one("Content-Type"), ("application/json", "application/octet-stream"), target)
                self.assertEqual(answer.one("X-Content-Type-Options"), "nosniff", target)


#: Ways to write a name, by what is the same registry for all of them.
SPELLINGS = {
    "registry.test": (
        "registry.test",
        "REGISTRY.test",
        "registry.test.",
        "registry.test:443",
        "Registry.Test.:443",
        "registry%2Etest",
    ),
    "registry.test:80": ("registry.test:80", "REGISTRY.TEST.:80"),
    "registry.test:5000": ("registry.test:5000", "registry.test.:5000"),
    "registry.tes": ("registry.tes",),
    "registry.test.example": ("registry.test.example",),
    "docker.io": (
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "Docker.IO.",
        "docker.io:443",
        "index.docker.io.:443",
    ),
    "docker.io:80": ("docker.io:80",),
    "hub.docker.io": ("hub.docker.io",),
    "127.0.0.1:5000": ("127.0.0.1:5000",),
    "localhost:5000": ("localhost:5000", "LOCALHOST:5000"),
    "[::1]:5000": ("[::1]:5000", "[0:0:0:0:0:0:0:1]:5000", "[::0001]:5000", "[0::1]:5000"),
    "[::1]": ("[::1]", "[::1]:443"),
    "[2001:db8::ab]": ("[2001:db8::ab]", "[2001:DB8::AB]", "[2001:0db8:0:0::ab]"),
}
#: Those that mean no registry: each would be a second name for one.
NO_REGISTRY = (
    *(
        "registry.test:0443",
        "registry.test:",
        "registry.test..",
        ".registry.test",
        "registry.test:443:443",
        "registry.test:0",
    ),
    *(
        "127.1:5000",
        "0x7f000001:5000",
        "2130706433:5000",
        "0177.0.0.1:5000",
        "127.0.0.1.:5000x",
        "[::ffff:127.0.0.1]:5000",
    ),
    *(
        "[::1%25lo]:5000",
        "::1",
        "registry.test%00",
        "registry.test%20",
        "%20registry.test",
        "registry.test%2f",
        "a@registry.test",
    ),
    *(
        "registry.test%3f",
        "registry.test%23",
        "https://registry.test",
        "re%EF%BC%8Egistry.test",
        "%E2%84%AAocker.io",
        "registry_test",
    ),
)


class SpellingTests(ClientCase):
    """Registries whose names are alike."""

    timeout = 60

    async def test_never_mix(self) -> None:
        """Equal repositories and tags at registries of other names, ports or addresses are other ones; all spellings of
        one name are the same, and asked of its origin once."""
        origins: dict[str, FakeRegistry] = {}
        images: dict[str, Image] = {}
        for number, name in enumerate(SPELLINGS):
            origins[name] = self.registry()
            images[name] = origins[name].add_image(REPO, "1.0", seed=number)
        cache = self.cache = self.instance(origins={name: origin.url for name, origin in origins.items()})
        for round_ in range(2):
            for name, spellings in SPELLINGS.items():
                for spelling in spellings:
                    answer = await self.ask(manifest_path("1.0", ns=spelling), TAKING)
                    self.assertEqual((answer.status, answer.body), (200, images[name].manifest), spelling)
                    self.assertEqual(answer.one("OCI-Namespace"), name)
                    layer = images[name].layers[0]
                    answer = await self.ask(blob_path(layer, ns=spelling))
                    self.assertEqual((answer.status, digest_of(answer.body)), (200, layer), spelling)
                    await self.settled()
                    # And none of the others has it.
                    wrong = next(each for each in SPELLINGS if each != name)
                    self.assertEqual((await self.ask(blob_path(layer, ns=wrong))).status, 404, f"{spelling} {wrong}")
                asked = [(record.kind, record.method) for record in origins[name].asked() if record.status == 200]
                self.assertEqual(asked, [("manifest", "GET"), ("blob", "GET")], f"{name}, round {round_}")
        kept = {
            path.split("/")[1] for path in self.trace(cache) if path.count("/") == 1 and path.startswith("registries/")
        }
        self.assertEqual(kept, set(SPELLINGS))

    async def test_in_the_path(self) -> None:
        """Without C{ns} the same holds of the path's first component; with it the path names nobody."""
        other = self.registry()
        other.add_image(REPO, "1.0", seed=9)
        image = self.origin.add_image(REPO, "1.0")
        nested = self.origin.add_image(f"{EVIL}/{REPO}", "1.0", seed=5)
        self.cache = self.instance(origins={NAME: self.origin.url, EVIL: other.url})
        for spelling in ("registry.test", "Registry.Test.", "registry.test:443", "registry%2etest"):
            answer = await self.ask(manifest_path("1.0", f"{spelling}/{REPO}", ns=None), TAKING)
            self.assertEqual((answer.status, answer.body), (200, image.manifest), spelling)
        answer = await self.ask(manifest_path("1.0", f"{EVIL}/{REPO}"), TAKING)
        self.assertEqual((answer.status, answer.body), (200, nested.manifest))
        self.assertEqual(other.requests, [])
        # Docker's own user agent chooses only where nothing else does.
        answer = await self.ask(manifest_path("1.0", f"{EVIL}/{REPO}"), TAKING, ("User-Agent", "docker/24.0"))
        self.assertEqual(answer.body, nested.manifest)
        self.assertEqual(other.requests, [])

    async def test_no_registry(self) -> None:
        """What is no canonical registry's name in any usual spelling is refused, and nobody is asked."""
        for name in NO_REGISTRY:
            answer = await self.ask(manifest_path("1.0", ns=name))
            self.assertEqual(answer.status, 400, name)
            self.assertIn(answer.code, ("NAME_INVALID", "UNSUPPORTED"), name)
        for query in (
            "ns=registry.test&ns=evil.test",
            "ns=registry.test;ns=evil.test",
            "ns=registry.test&n%73=evil.test",
        ):
            answer = await self.ask(f"/v2/{REPO}/manifests/1.0?{query}")
            self.assertEqual((answer.status, answer.code), (400, "NAME_INVALID"), query)
        self.assertEqual(self.origin.requests, [])


class Raw(Protocol):
    """Answers each request with bytes, whatever they are."""

    factory: RawOrigin

    def __init__(self) -> None:
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            target = head.split(b" ")[1].decode()
            self.factory.asked.append(target)
            pieces, close = self.factory.answer(target, head.startswith(b"HEAD"))
            for piece in pieces:
                self.transport.write(piece)  # type: ignore[union-attr]
            if close:
                self.transport.loseConnection()  # type: ignore[union-attr]


class RawOrigin(Factory):
    """An origin without any manners."""

    protocol = Raw  # type: ignore[assignment]
    noisy = False

    def __init__(self, wire: bytes | None, bodies: dict[str, bytes], close: bool = True) -> None:
        """
        @param wire: what it says to everything; C{None}: what it should.
        @param bodies: what is right, by the end of the path.
        @param close: whether it closes the connection behind C{wire}.
        """
        self.asked: list[str] = []
        self.wire = wire
        self._bodies = bodies
        self._close = close

    def answer(self, target: str, head: bool) -> tuple[Sequence[bytes], bool]:
        """What goes out, and whether the connection ends then."""
        if self.wire is not None:
            return [self.wire], self._close
        body = self._bodies.get(target.rpartition("/")[2])
        if body is None:
            return [b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], False
        start = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
        return [start, b"" if head else body], False


DATA = noise(3000)
CHUNKS = b"BB8\r\n" + DATA + b"\r\n0\r\n"
START = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
#: Answers whose end can be understood in more than one way, or in none.
FRAMING: dict[str, bytes] = {
    "length and chunks": START + b"Content-Length: 3000\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"\r\n",
    "a shorter length and chunks": START
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKS
    + b"\r\n",
    "two lengths": START + b"Content-Length: 3000\r\nContent-Length: 5\r\n\r\n" + DATA,
    "a list of lengths": START + b"Content-Length: 3000, 5\r\n\r\n" + DATA,
    "a negative length": START + b"Content-Length: -3000\r\n\r\n" + DATA,
    "a length with a sign": START + b"Content-Length: +3000\r\n\r\n" + DATA,
    "a length in hexadecimal": START + b"Content-Length: 0xBB8\r\n\r\n" + DATA,
    "a length with thousands of digits": START + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + DATA,
    "chunked twice": START + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS + b"\r\n",
    "chunked and unknown": START + b"Transfer-Encoding: chunked, x\r\n\r\n" + CHUNKS + b"\r\n",
    "gzip, chunked": START + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS + b"\r\n",
    "chunks that overflow": START
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"F" * 17
    + b"\r\n"
    + DATA
    + b"\r\n0\r\n\r\n",
    "negative chunks": START + b"Transfer-Encoding: chunked\r\n\r\n-BB8\r\n" + DATA + b"\r\n0\r\n\r\n",
    "chunks that are not numbers": START + b"Transfer-Encoding: chunked\r\n\r\n0xBB8\r\n" + DATA + b"\r\n0\r\n\r\n",
    "a chunk without an end": START + b"Transfer-Encoding: chunked\r\n\r\nBB8\r\n" + DATA + b"0\r\n\r\n",
    "a chunk's line without an end": START + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 100_000,
    "an extension without an end": START + b"Transfer-Encoding: chunked\r\n\r\nBB8;" + b"x" * 100_000,
    "trailers without an end": START + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"X: y\r\n" * 20_000,
    "trailers that say another digest": START
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + CHUNKS
    + b"Docker-Content-Digest: sha256:"
    + b"0" * 64
    + b"\r\n\r\n",
    "a head without an end": START + b"X: y\r\n" * 20_000,
    "a line without an end": START + b"X: " + b"y" * 200_000,
    "a folded line": START + b"Content-Length:\r\n 3000\r\n\r\n" + DATA,
    "bare line feeds": (START + b"Content-Length: 3000\r\n\r\n").replace(b"\r\n", b"\n") + DATA,
    "a space before the colon": START + b"Content-Length : 3000\r\n\r\n" + DATA,
    "another protocol": b"ICY 200 OK\r\n\r\n" + DATA,
    "another version": b"HTTP/9.9 200 OK\r\nContent-Length: 3000\r\n\r\n" + DATA,
    "a status of letters": b"HTTP/1.1 OK OK\r\nContent-Length: 3000\r\n\r\n" + DATA,
    "a status of many digits": b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\nContent-Length: 3000\r\n\r\n" + DATA,
    "nothing but informal answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    "an informal answer first": b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
    + START
    + b"Content-Length: 3000\r\n\r\n"
    + DATA,
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + DATA,
    "204 with a body": b"HTTP/1.1 204 No Content\r\nContent-Length: 3000\r\n\r\n" + DATA,
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3000\r\n\r\n",
    "no bytes at all": b"",
    "zeros": bytes(100_000),
}


class WireTests(ClientCase):
    """An origin whose answers are no clean HTTP."""

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.digest = digest_of(DATA)

    def before(self, *raws: RawOrigin) -> None:
        """Have crcache before these, as C{evil-0.test} and so on, and before the good one."""
        origins = {NAME: self.origin.url}
        for number, raw in enumerate(raws):
            port = reactor.listenTCP(0, raw, interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            origins[f"evil-{number}.test"] = f"http://127.0.0.1:{port.getHost().port}"
        self.cache = self.instance(origins=origins, upstream=IMPATIENT)

    async def test_framing(self) -> None:
        """However an answer is framed, the client gets exactly the content, or something that cannot be taken for it;
        other registries are served meanwhile, and this one as soon as it makes sense."""
        raws = {name: RawOrigin(wire, {self.digest: DATA}) for name, wire in FRAMING.items()}
        self.before(*raws.values())
        good = self.origin.content.add_blob(REPO, DATA[:100])

        async def check(number: int, name: str, raw: RawOrigin) -> None:
            target = blob_path(self.digest, ns=f"evil-{number}.test")
            answer = await self.ask(target)
            self.assertNotIn(answer.status, (500, 429), name)
            if answer.status == 200 and answer.complete:
                self.assertTrue(answer.body == DATA, name)
            raw.wire = None
            self.assertEqual((await self.ask(blob_path(good))).body, DATA[:100], name)
            again = await self.ask(target)
            self.assertEqual((again.status, again.body == DATA), (200, True), name)

        checks = [Deferred.fromCoroutine(check(number, *item)) for number, item in enumerate(raws.items())]
        await gatherResults(checks, consumeErrors=True)
        self.assertEqual([name for name, raw in raws.items() if not raw.asked], [])
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_unasked_answers(self) -> None:
        """An answer that nobody asked for, behind another on a connection that is kept, is not taken for the next
        question's: neither its bytes, nor that there is nothing."""
        first, second = noise(500, 1), noise(500, 2)
        for unasked in (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + noise(500, 3),
        ):
            wire = START + b"Content-Length: 500\r\n\r\n" + first + unasked
            raw = RawOrigin(wire, {digest_of(first): first, digest_of(second): second}, close=False)
            self.before(raw)
            answer = await self.ask(blob_path(digest_of(first), ns="evil-0.test"))
            self.assertEqual(answer.body, first)
            raw.wire = None
            answer = await self.ask(blob_path(digest_of(second), ns="evil-0.test"))
            self.assertEqual((answer.status, answer.body == second), (200, True))
