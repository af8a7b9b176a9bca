"""Nonsense: each gets its 4xx and its JSON within a second, and leaves no trace on disk."""

from __future__ import annotations

import time

from crcache.testing.content import digest_of
from tests.clients.case import NAME, REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import request, send

DIGEST = digest_of(b"x")
HEX = DIGEST.removeprefix("sha256:")

#: Targets of a GET: (target, status, code).
TARGETS = (
    ("/", 404, "UNSUPPORTED"),
    ("/v1/", 404, "UNSUPPORTED"),
    ("/v2/_catalog", 404, "UNSUPPORTED"),
    ("/v2/a/b/c", 404, "UNSUPPORTED"),
    (f"/v2/{REPO}/manifests/", 400, "TAG_INVALID"),
    (f"/v2/{REPO}/blobs/", 400, "DIGEST_INVALID"),
    (f"/v2/{REPO}/blobs/uploads/", 404, "UNSUPPORTED"),
    (manifest_path(".hidden"), 400, "TAG_INVALID"),
    (manifest_path("-x"), 400, "TAG_INVALID"),
    (manifest_path("a" * 129), 400, "TAG_INVALID"),
    (manifest_path("1.0%00"), 400, "TAG_INVALID"),
    (manifest_path("%2e%2e"), 400, "TAG_INVALID"),
    (manifest_path("sha256:abc"), 400, "DIGEST_INVALID"),
    (manifest_path("md5:d41d8cd98f00b204e9800998ecf8427e"), 400, "DIGEST_INVALID"),
    (blob_path("latest"), 400, "DIGEST_INVALID"),
    (blob_path(f"sha256:{HEX.upper()}"), 400, "DIGEST_INVALID"),
    (blob_path(f"sha256:{HEX}0"), 400, "DIGEST_INVALID"),
    (blob_path(f"sha256:{HEX}%0a"), 400, "DIGEST_INVALID"),
    (blob_path(f"..%2f..%2f{DIGEST}"), 400, "DIGEST_INVALID"),
    (f"/v2/{REPO}/referrers/latest?ns={NAME}", 400, "DIGEST_INVALID"),
    (blob_path(DIGEST, "UPPER/case"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, "a//b"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, "../../etc"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, "a/%2e%2e/b"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, "a%2fb/c%2f"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, "_tags/x"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, "a" * 300), 400, "NAME_INVALID"),
    (blob_path(DIGEST, "%ff%fe"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, ns=None), 400, "NAME_INVALID"),
    (blob_path(DIGEST, ns=""), 400, "NAME_INVALID"),
    (blob_path(DIGEST, ns="../../etc"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, ns="registry.test/path"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, ns="registry.test:99999"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, ns="user:pass@registry.test"), 400, "NAME_INVALID"),
    (blob_path(DIGEST, ns="http://registry.test"), 400, "NAME_INVALID"),
    (blob_path(DIGEST) + "&ns=other.test", 400, "NAME_INVALID"),
    (blob_path(DIGEST, ns="%0d%0aX-Evil:1"), 400, None),
    (f"/v2/{REPO}/tags/list?ns={NAME}&n=many", 400, "UNSUPPORTED"),
    (f"/v2/{REPO}/tags/list?ns={NAME}&last=%00", 400, "UNSUPPORTED"),
)

#: What is not even HTTP, or not what a cache is asked.
RAW = (
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (b"GET\r\n\r\n", 400),
    (b"GET /v2/ HTTP/3.0\r\n\r\n", 400),
    (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
    (b"GET /v2/" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n", 400),
    (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400),
    (request(manifest_path("1.0"), ("Authorization", "Basic YQ=="), ("Authorization", "Basic Yg==")), 400),
    (request(manifest_path("1.0"), ("Accept", "a\x01b")), 400),
    (request(manifest_path("1.0"), ("Accept", "a\0b")), 400),
    (request(manifest_path("1.0"), ("Accept", "a\rb")), 400),
    (request(manifest_path("1.0"), ("Host", "other")), 400),
    (b"GET /v2/ HTTP/1.1\r\n\r\n", 400),
    (b"GET /v2/ HTTP/1.1\nHost: x\n\n", 400),
)


class MalformedTests(ClientCase):
    """Whatever it is."""

    def setUp(self) -> None:
        super().setUp()
        self.before = self.trace(self.cache)

    async def after(self) -> None:
        """Nothing has been written, and no origin asked."""
        self.assertEqual(self.trace(), self.before)
        self.assertEqual(self.origin.requests, [])
        self.assertEqual((await self.ask("/v2/")).status, 200)

    async def test_targets(self) -> None:
        """Paths and queries that are not of the grammar, with GET and with HEAD."""
        for target, status, code in TARGETS:
            for method in ("GET", "HEAD"):
                began = time.monotonic()
                answer = await self.ask(target, method=method)
                self.assertLess(time.monotonic() - began, 1.0, target)
                self.assertEqual(answer.status, status, target)
                self.assertEqual(answer.one("Docker-Distribution-Api-Version"), "registry/2.0")
                if method == "HEAD":
                    self.assertEqual(answer.body, b"")
                elif code is not None:
                    self.assertEqual(answer.code, code, target)
        await self.after()

    async def test_methods(self) -> None:
        """Whoever wants to write is told 405, and where to push; a body is neither read nor waited for."""
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"):
            for headers in ((), (("Content-Length", "1000000"),)):
                began = time.monotonic()
                answer = await self.ask(f"/v2/{REPO}/blobs/uploads/?ns={NAME}", *headers, method=method)
                self.assertLess(time.monotonic() - began, 1.0)
                self.assertEqual((answer.status, answer.code), (405, "UNSUPPORTED"))
                self.assertEqual(answer.one("Allow"), "GET, HEAD")
        await self.after()

    async def test_no_http(self) -> None:
        """What is not HTTP, or has headers that cannot be meant."""
        for data, status in RAW:
            began = time.monotonic()
            answer = await send(self.cache.port, data)
            await answer.until(1)
            self.assertLess(time.monotonic() - began, 1.0, data[:60])
            answer.leave()
            self.assertEqual((answer.status, answer.code), (status, "UNSUPPORTED"), data[:60])
        await self.after()

    async def test_ranges(self) -> None:
        """A C{Range} that is not of the grammar is ignored, as RFC 9110 wants it, not refused."""
        digest = self.origin.content.add_blob(REPO, b"0123456789")
        for value in ("bytes=5-2", "bytes=a-b", "lines=1-2", "bytes", "bytes=" + ",".join(["0-1"] * 1000)):
            answer = await self.ask(blob_path(digest), ("Range", value))
            self.assertEqual((answer.status, answer.body), (200, b"0123456789"))

    async def test_unheard_of(self) -> None:
        """A well-formed digest or name that nobody has leaves no trace either, for all that its origin is asked."""
        for target in (blob_path(DIGEST), manifest_path(DIGEST), manifest_path("9.9"), blob_path(DIGEST, "no/such")):
            for method in ("GET", "HEAD"):
                self.assertEqual((await self.ask(target, method=method)).status, 404)
        self.assertEqual(self.trace(), self.before)
