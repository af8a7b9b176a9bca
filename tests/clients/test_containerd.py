"""containerd: a HEAD for the tag, then GETs by digest, all with C{ns}."""

from __future__ import annotations

from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers

from crcache.settings import UpstreamSettings
from crcache.testing.content import OCI_INDEX, OCI_MANIFEST, digest_of
from crcache.testing.script import Fault
from tests.clients.case import MANIFEST_TYPES, NAME, REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import Answer
from tests.web.cases import reactor

RESOLVE = ("Accept", ", ".join((*MANIFEST_TYPES, "*/*")))
ENCODINGS = ("Accept-Encoding", "zstd, gzip, deflate")


class PullTests(ClientCase):
    """A whole image."""

    async def resolve(self, tag: str) -> Answer:
        """What containerd asks first."""
        return await self.ask(manifest_path(tag), RESOLVE, method="HEAD")

    async def fetch(self, digest: str, media_type: str) -> Answer:
        """A manifest by its digest, as containerd 2 asks."""
        return await self.ask(manifest_path(digest), ("Accept", f"{media_type}, */*"), ENCODINGS)

    async def layer(self, digest: str) -> Answer:
        """A layer or config, as containerd 2 asks."""
        return await self.ask(
            blob_path(digest), ("Accept", "application/vnd.oci.image.layer.v1.tar+gzip, */*"), ENCODINGS
        )

    async def pull(self, tag: str) -> list[Answer]:
        """HEAD of the tag, the index and its first manifest, and what that names."""
        head = await self.resolve(tag)
        digest = head.one("Docker-Content-Digest") or ""
        answers = [head, await self.fetch(digest, head.one("Content-Type") or "")]
        answers.append(await self.fetch(self.image.digest, OCI_MANIFEST))
        answers += [await self.layer(digest) for digest in (self.image.config, *self.image.layers)]
        return answers

    async def test_cold_and_warm(self) -> None:
        """An index of two platforms is pulled byte for byte, and a second time without the origin."""
        self.image = self.origin.add_image(REPO, None, [200_000, 3000])
        other = self.origin.add_image(REPO, None, [10], seed=5)
        index = self.origin.content.add_index(REPO, "1.0", [self.image, other])
        cold = await self.pull("1.0")
        asked = len(self.origin.requests)
        self.assertEqual(asked, 1 + 2 + 3)
        await self.settled()
        await self.origin.stop()
        warm = await self.pull("1.0")
        expected = [b"", self.origin.content.manifests[REPO, index][1], self.image.manifest]
        expected += [self.origin.content.blobs[each] for each in (self.image.config, *self.image.layers)]
        for answers in (cold, warm):
            self.assertEqual([answer.status for answer in answers], [200] * 6)
            self.assertEqual([answer.body for answer in answers], expected)
        for answer in warm:
            self.assertHit(answer)
            self.assertIsNotNone(answer.one("Age"))
        self.assertEqual(len(self.origin.requests), asked)

    async def test_head_of_a_tag(self) -> None:
        """The answer to a HEAD has the digest, the length and the media type of the GET, cold and warm."""
        image = self.origin.add_image(REPO, "1.0")
        for _ in range(2):
            head = await self.resolve("1.0")
            self.assertEqual(head.status, 200)
            self.assertEqual(head.one("Docker-Content-Digest"), image.digest)
            self.assertEqual(head.one("Content-Length"), str(len(image.manifest)))
            self.assertEqual(head.one("Content-Type"), OCI_MANIFEST)
            self.assertEqual(head.body, b"")
        self.assertEqual([each.method for each in self.origin.requests], ["HEAD"])

    async def test_head_that_is_refused(self) -> None:
        """An origin without HEAD, or one that leaves out the digest, is asked with GET: the client gets its headers."""
        image = self.origin.add_image(REPO, "1.0")
        for fault in (Fault(status=405), Fault(undigested=True)):
            self.cache = self.instance()
            self.origin.fault(fault, "manifest", method="HEAD")
            head = await self.resolve("1.0")
            self.assertEqual(head.status, 200)
            self.assertEqual(head.one("Docker-Content-Digest"), image.digest)
            self.assertEqual(head.one("Content-Length"), str(len(image.manifest)))
            self.assertEqual(head.one("Content-Type"), OCI_MANIFEST)

    async def test_manifest_then_blob(self) -> None:
        """A digest that is no manifest but a blob gets 404 as the one, and its bytes as the other."""
        digest = self.origin.content.add_blob(REPO, b"not a manifest")
        head = await self.ask(manifest_path(digest), RESOLVE, method="HEAD")
        self.assertEqual(head.status, 404)
        self.assertEqual((await self.ask(blob_path(digest))).body, b"not a manifest")

    async def test_identity(self) -> None:
        """What it says of encodings neither reaches the origin nor changes the bytes: the answer is identity."""
        image = self.origin.add_image(REPO, "1.0")
        for _ in range(2):
            for answer in (await self.fetch(image.digest, OCI_MANIFEST), await self.layer(image.layers[0])):
                self.assertIsNone(answer.one("Content-Encoding"))
                self.assertEqual(answer.one("Docker-Content-Digest"), digest_of(answer.body))
        self.assertEqual({each.header("Accept-Encoding") for each in self.origin.requests}, {"identity"})

    async def test_encoded_all_the_same(self) -> None:
        """A body that the origin compressed unasked is not passed on as if it were the layer."""
        image = self.origin.add_image(REPO, "1.0")
        self.origin.fault(Fault(gzip=True), "blob")
        answer = await self.layer(image.layers[0])
        self.assertEqual(answer.status, 502)

    async def test_answers_headers(self) -> None:
        """Manifests and blobs carry all the headers of a registry, the proxied namespace, and the request's id."""
        image = self.origin.add_image(REPO, "1.0")
        for target, digest in (
            (manifest_path("1.0"), image.digest),
            (manifest_path(image.digest), image.digest),
            (blob_path(image.layers[0]), image.layers[0]),
        ):
            for _ in range(2):
                answer = await self.ask(target, ("X-Request-Id", "pull-17"))
                self.assertEqual(answer.one("Docker-Content-Digest"), digest)
                self.assertEqual(answer.one("ETag"), f'"{digest}"')
                self.assertEqual(answer.one("Accept-Ranges"), "bytes")
                self.assertEqual(answer.one("Docker-Distribution-Api-Version"), "registry/2.0")
                self.assertEqual(answer.one("OCI-Namespace"), NAME)
                self.assertEqual(answer.one("X-Request-Id"), "pull-17")
                self.assertEqual(answer.one("Content-Length"), str(len(answer.body)))
        self.assertEqual({each.header("X-Request-Id") for each in self.origin.requests}, {"pull-17"})

    async def test_namespace_with_port(self) -> None:
        """C{ns} may carry a port: that is another registry."""
        image = self.origin.add_image(REPO, "1.0")
        other = self.registry()
        theirs = other.add_image(REPO, "1.0", [77], seed=3)
        self.cache = self.instance(origins={NAME: self.origin.url, f"{NAME}:5000": other.url})
        for ns, digest in ((NAME, image.digest), (f"{NAME}:5000", theirs.digest)):
            head = await self.ask(manifest_path("1.0", ns=ns), RESOLVE, method="HEAD")
            self.assertEqual(head.one("Docker-Content-Digest"), digest)
            self.assertEqual(head.one("OCI-Namespace"), ns)

    async def test_one_connection(self) -> None:
        """Everything may be asked over one connection: nothing that was sent disturbs what comes next."""
        image = self.origin.add_image(REPO, "1.0", [3 << 20, 10])
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = 1
        self.addCleanup(pool.closeCachedConnections)
        agent = Agent(reactor, pool=pool)
        layer = self.origin.content.blobs[image.layers[0]]
        expected: tuple[tuple[str, dict[str, list[str]], int, bytes | None], ...] = (
            (manifest_path("1.0"), {}, 200, image.manifest),
            (blob_path(image.layers[0]), {}, 200, layer),
            (blob_path(digest_of(b"absent")), {}, 404, None),
            (blob_path(image.layers[0]), {"Range": ["bytes=1000000-"]}, 206, layer[1_000_000:]),
            (blob_path(image.layers[1]), {}, 200, self.origin.content.blobs[image.layers[1]]),
            (manifest_path(image.digest), {"Range": ["bytes=9999999-"]}, 416, None),
            (blob_path(image.layers[0]), {}, 200, layer),
        )
        for target, headers, status, body in expected:
            url = f"http://127.0.0.1:{self.cache.port}{target}".encode()
            response = await agent.request(b"GET", url, Headers(headers))
            data = await readBody(response)
            self.assertEqual(response.code, status)
            self.assertTrue(body is None or data == body, target)
        (connections,) = pool._connections.values()
        self.assertEqual(len(connections), 1)

    async def test_large_manifest(self) -> None:
        """A manifest of four megabytes passes; one beyond eight is refused before it is taken in."""
        four = b'{"schemaVersion": 2, "config": {}, "layers": [], "annotations": {"x": "' + b"x" * (4 << 20) + b'"}}'
        digest = self.origin.content.add_manifest(REPO, four, OCI_MANIFEST)
        nine = digest_of(b"nine")
        self.origin.content.manifests[REPO, nine] = (OCI_INDEX, b" " * (9 << 20))
        self.assertEqual((await self.fetch(digest, OCI_MANIFEST)).body, four)
        before = self.trace()
        answer = await self.fetch(nine, OCI_INDEX)
        self.assertEqual(answer.status, 502)
        self.assertEqual(self.trace(), before)


class StatusTests(ClientCase):
    """What makes containerd go on to the next host, and what would make it stay."""

    async def test_never_429_nor_408(self) -> None:
        """Whatever an origin answers, containerd gets no status that it would retry here: never 429 or 408."""
        image = self.origin.add_image(REPO, "1.0")
        targets = (
            manifest_path("1.0"),
            manifest_path(image.digest),
            blob_path(image.layers[0]),
            f"/v2/{REPO}/tags/list?ns={NAME}",
        )
        for status, expected in ((429, 503), (408, 504), (500, 502), (503, 502), (400, 502), (418, 502)):
            # What one remembers of the last status is not what this one makes of the next.
            self.cache = self.instance()
            for target in targets:
                for method in ("HEAD", "GET"):
                    if "tags" in target and method == "HEAD":
                        continue
                    self.origin.fault(Fault(status=status), times=None)
                    answer = await self.ask(target, method=method)
                    self.assertEqual(answer.status, expected, (status, target, method))
                    self.origin.script.clear()

    async def test_retry_after(self) -> None:
        """An origin that limits our rate says for how long; the client learns of it with the 503."""
        self.origin.fault(Fault(status=429, headers=(("Retry-After", "17"),)))
        answer = await self.ask(manifest_path("1.0"))
        self.assertEqual((answer.status, answer.one("Retry-After")), (503, "17"))

    async def test_not_there(self) -> None:
        """What the origin does not have is a 404 with the specification's code."""
        self.origin.add_image(REPO, "1.0")
        absent = digest_of(b"absent")
        for target, code in (
            (manifest_path("2.0"), "MANIFEST_UNKNOWN"),
            (manifest_path(absent), "MANIFEST_UNKNOWN"),
            (blob_path(absent), "BLOB_UNKNOWN"),
            (f"/v2/library/none/tags/list?ns={NAME}", "NAME_UNKNOWN"),
        ):
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.code), (404, code))

    async def test_silent_origin(self) -> None:
        """An origin that does not answer in time is a 504, and one that is not there a 502, before any byte."""
        image = self.origin.add_image(REPO, "1.0")
        targets = manifest_path("1.0"), blob_path(image.layers[0])
        hasty = self.instance(upstream=UpstreamSettings(first_byte_timeout=0.2))
        hold = self.origin.fault(Fault(hold=True), times=None)
        for target in targets:
            self.assertEqual((await self.ask(target, to=hasty)).status, 504)
        hold.release()
        await self.origin.stop()
        for target in targets:
            self.assertEqual((await self.ask(target)).status, 502)
