"""Manifests and blobs as clients get them."""

from __future__ import annotations

import re

from twisted.internet.defer import Deferred

from crcache.asks import Client, Ping, PullBlob, PullManifest
from crcache.errors import BlobUnknown
from crcache.facts import Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Repository, Tag
from crcache.outcomes import Blob, CacheStatus, Pong
from crcache.secret import Secret
from crcache.testing.fakes import MemoryBody
from tests.web.cases import pause
from tests.web.harness import (
    BLOB_PATH,
    DATA,
    DIGEST,
    MANIFEST_PATH,
    MEDIA_TYPE,
    WebCase,
    blob,
    manifest,
    parse_reply,
    request,
)

ALPINE = Repository("library/alpine")


class PingTests(WebCase):
    """`/v2/`."""

    async def test_ping(self) -> None:
        """`/v2/` is an empty JSON object that says which API this is, and no registry."""
        self.answer_with(Pong())
        reply = await self.ask("/v2/")
        self.assertEqual((reply.status, reply.body), (200, b"{}"))
        self.assertEqual(reply.one("Content-Type"), "application/json")
        self.assertEqual(reply.one("Content-Length"), "2")
        self.assertEqual(reply.one("Docker-Distribution-Api-Version"), "registry/2.0")
        self.assertIsNone(reply.one("OCI-Namespace"))
        self.assertEqual(self.cache.asks, [Ping()])

    async def test_server(self) -> None:
        """Answers name crcache, not what it is built with."""
        self.answer_with(Pong())
        reply = await self.ask("/v2/")
        self.assertRegex(reply.one("Server") or "", r"\Acrcache/[0-9.]+\Z")
        self.assertIsNotNone(reply.one("Date"))


class AskTests(WebCase):
    """What of a request reaches the cache."""

    async def test_manifest(self) -> None:
        """Registry, repository, tag, every Accept line as it came, and the client's own credentials."""
        self.answer_with(manifest())
        await self.ask(
            MANIFEST_PATH,
            ("Accept", "application/a, application/b;q=0.5"),
            ("Accept", "*/*"),
            ("Authorization", "Bearer abc"),
            ("User-Agent", "containerd/2.1"),
            ("X-Request-Id", "me-1"),
        )
        client = Client(
            "me-1",
            ("application/a, application/b;q=0.5", "*/*"),
            Secret("Bearer abc"),
            user_agent="containerd/2.1",
            peer="127.0.0.1",
        )
        self.assertEqual(self.cache.asks, [PullManifest(client, DOCKER_IO, ALPINE, Tag("3.20"))])

    async def test_blob_head(self) -> None:
        """A HEAD is asked without a body."""
        await self.ask(BLOB_PATH, ("X-Request-Id", "me-2"), method="HEAD")
        client = Client("me-2", peer="127.0.0.1")
        self.assertEqual(self.cache.asks, [PullBlob(client, DOCKER_IO, ALPINE, DIGEST, body=False)])

    async def test_registry_in_path(self) -> None:
        """Without ns, a host in front of the name is the registry."""
        await self.ask(f"/v2/ghcr.io/a/b/blobs/{DIGEST}")
        (ask,) = self.cache.asks
        assert isinstance(ask, PullBlob)
        self.assertEqual((ask.registry, ask.repository), (Registry("ghcr.io"), Repository("a/b")))

    async def test_docker_user_agent(self) -> None:
        """Docker, which says nothing, means the default registry."""
        await self.ask(f"/v2/library/alpine/blobs/{DIGEST}", ("User-Agent", "docker/27.0 go/1.22"))
        (ask,) = self.cache.asks
        assert isinstance(ask, PullBlob)
        self.assertEqual((ask.registry, ask.repository), (DOCKER_IO, ALPINE))

    async def test_absolute_form(self) -> None:
        """A request-target with scheme and host means what its path means."""
        reply = await self.ask(f"http://cache:3000{BLOB_PATH}")
        self.assertEqual((reply.status, reply.body), (200, DATA))

    async def test_escaped_path(self) -> None:
        """An escaped colon is a colon."""
        reply = await self.ask(BLOB_PATH.replace("sha256:", "sha256%3A"))
        self.assertEqual((reply.status, reply.body), (200, DATA))


class HeaderTests(WebCase):
    """What answers carry."""

    async def test_manifest(self) -> None:
        """A manifest has all the headers that clients rely on."""
        self.answer_with(manifest(age=12.9))
        reply = await self.ask(MANIFEST_PATH, ("X-Request-Id", "me-1"))
        self.assertEqual((reply.status, reply.body), (200, DATA))
        expected = {
            "Content-Type": MEDIA_TYPE,
            "Content-Length": "1024",
            "Docker-Content-Digest": str(DIGEST),
            "ETag": f'"{DIGEST}"',
            "Accept-Ranges": "bytes",
            "Docker-Distribution-Api-Version": "registry/2.0",
            "OCI-Namespace": "docker.io",
            "Cache-Status": "crcache; hit",
            "Age": "12",
            "X-Request-Id": "me-1",
        }
        self.assertEqual({name: reply.one(name) for name in expected}, expected)

    async def test_blob(self) -> None:
        """A blob too, as octets; without an age if none is known."""
        self.answer_with(blob(cache=CacheStatus.STORED))
        reply = await self.ask(BLOB_PATH)
        self.assertEqual((reply.status, reply.body), (200, DATA))
        expected = {
            "Content-Type": "application/octet-stream",
            "Content-Length": "1024",
            "Docker-Content-Digest": str(DIGEST),
            "ETag": f'"{DIGEST}"',
            "Accept-Ranges": "bytes",
            "OCI-Namespace": "docker.io",
            "Cache-Status": "crcache; fwd=miss; stored",
            "Age": None,
        }
        self.assertEqual({name: reply.one(name) for name in expected}, expected)
        self.assertEqual(self.sender.sends, [(0, 1024, True)])

    async def test_head(self) -> None:
        """HEAD carries what GET does, and no body."""
        for path, outcome in ((MANIFEST_PATH, manifest()), (BLOB_PATH, blob())):
            self.answer_with(outcome)
            got = await self.ask(path, ("X-Request-Id", "same"))
            headed = await self.ask(path, ("X-Request-Id", "same"), method="HEAD")
            self.assertEqual((headed.status, headed.body), (200, b""))
            without_date = [[line for line in reply.lines if line[0] != "Date"] for reply in (got, headed)]
            self.assertEqual(*map(sorted, without_date))

    async def test_head_without_body(self) -> None:
        """A HEAD needs no body from the cache, only its size."""
        self.answer_with(Blob(DIGEST, 77, None, CacheStatus.BYPASS))
        reply = await self.ask(BLOB_PATH, method="HEAD")
        self.assertEqual((reply.status, reply.one("Content-Length")), (200, "77"))
        self.assertEqual(self.sender.sends, [])

    async def test_request_id_made(self) -> None:
        """A missing, malformed or repeated request id is replaced."""
        for lines in ((), (("X-Request-Id", "no blanks please"),), (("X-Request-Id", "a"), ("X-Request-Id", "b"))):
            reply = await self.ask(BLOB_PATH, *lines)
            self.assertRegex(reply.one("X-Request-Id") or "", r"\A[0-9a-f]{32}\Z")

    async def test_keep_alive(self) -> None:
        """Requests sent together are answered on one connection, in their order, also if the first takes longer."""
        first: Deferred[object] = Deferred()
        self.answer_with(first, BlobUnknown("There is none."), blob())  # type: ignore[arg-type]
        wire = await self.connect()
        other = f"/v2/library/alpine/blobs/{Digest.of(b'other')}?ns=docker.io"
        wire.write(request(MANIFEST_PATH, close=False) + request(other, close=False) + request(BLOB_PATH, close=True))
        while not self.cache.asks:
            await pause(0.01)
        await pause(0.02)
        self.assertEqual(len(self.cache.asks), 1)
        first.callback(manifest())
        received = await wire.closed
        self.assertEqual(re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received), [b"200", b"404", b"200"])
        self.assertTrue(received.endswith(DATA))


class UnknownSizeTests(WebCase):
    """Blobs of which nobody knows the size yet."""

    async def test_chunked(self) -> None:
        """HTTP/1.1 gets it chunked, without a length."""
        body = MemoryBody(DATA[:100], verdict=Verdict.FILLING)
        self.answer_with(blob(body))
        wire = await self.connect()
        wire.write(request(BLOB_PATH))
        head = await wire.until(DATA[:90])
        self.assertIn(b"Transfer-Encoding: chunked", head)
        self.assertNotIn(b"Content-Length", head)
        body.grow(DATA[100:])
        body.judge(Verdict.VERIFIED)
        self.assertEqual(parse_reply(await wire.closed).body, DATA)
        self.assertEqual(self.sender.sends, [(0, None, True)])

    async def test_http_1_0(self) -> None:
        """HTTP/1.0 gets it up to the connection's end."""
        body = MemoryBody(DATA, verdict=Verdict.FILLING)
        self.answer_with(blob(body))
        wire = await self.connect()
        wire.write(request(BLOB_PATH, version="HTTP/1.0", close=False))
        await wire.until(DATA[:1000])
        body.judge(Verdict.VERIFIED)
        received = await wire.closed
        self.assertTrue(received.endswith(b"\r\n\r\n" + DATA))
        self.assertNotIn(b"chunked", received)

    async def test_range_waits(self) -> None:
        """A range is answered as soon as the size is known."""
        body = MemoryBody(DATA[:10], verdict=Verdict.FILLING)
        self.answer_with(blob(body))
        wire = await self.connect()
        wire.write(request(BLOB_PATH, ("Range", "bytes=2-5")))
        while not self.cache.asks:
            await pause(0.01)
        self.assertEqual(wire.received, b"")
        body.grow(b"", size=1024)
        received = await wire.closed
        self.assertIn(b"HTTP/1.1 206 ", received)
        self.assertIn(b"Content-Range: bytes 2-5/1024\r\n", received)
        self.assertTrue(received.endswith(b"\r\n\r\n" + DATA[2:6]))

    async def test_never_sized(self) -> None:
        """If the size never comes the range is refused like any failure of the origin."""
        body = MemoryBody(DATA[:10], verdict=Verdict.FILLING)
        self.answer_with(blob(body))
        wire = await self.connect()
        wire.write(request(BLOB_PATH, ("Range", "bytes=2-5")))
        while not body.watchers:
            await pause(0.01)
        body.judge(Verdict.FAILED)
        received = await wire.closed
        self.assertIn(b"HTTP/1.1 502 ", received)
        self.assertNotIn(b"octet-stream", received)
