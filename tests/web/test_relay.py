"""What goes through from an origin: lists, and content that is not stored."""

from __future__ import annotations

from crcache.asks import ListReferrers, ListTags, PullBlob
from crcache.grammar.ranges import ContentRange
from crcache.outcomes import Relayed
from crcache.testing.fakes import FakeAnswer
from tests.web.harness import BLOB_PATH, DATA, DIGEST, WebCase

TAGS = b'{"name":"library/alpine","tags":["3.20"]}'


class RelayTests(WebCase):
    """Relayed outcomes."""

    async def test_tags(self) -> None:
        """A list goes through with its type and the parameters that the client gave."""
        answer = FakeAnswer(200, {"Content-Type": ["application/json"]}, TAGS, len(TAGS))
        self.answer_with(Relayed(answer, None))
        reply = await self.ask("/v2/library/alpine/tags/list?ns=docker.io&n=10&last=3.19&x=y")
        self.assertEqual((reply.status, reply.body), (200, TAGS))
        self.assertEqual(reply.one("Content-Type"), "application/json")
        self.assertEqual(reply.one("Content-Length"), str(len(TAGS)))
        self.assertEqual(reply.one("Cache-Status"), "crcache; fwd=bypass")
        self.assertEqual(reply.one("OCI-Namespace"), "docker.io")
        (ask,) = self.cache.asks
        assert isinstance(ask, ListTags)
        self.assertEqual(ask.parameters, (("n", "10"), ("last", "3.19")))
        self.assertEqual(self.sender.relays, [None])

    async def test_referrers(self) -> None:
        """Referrers keep what says that filters were applied."""
        answer = FakeAnswer(200, {"OCI-Filters-Applied": ["artifactType"]}, b"{}")
        self.answer_with(Relayed(answer, None))
        reply = await self.ask(f"/v2/a/referrers/{DIGEST}?ns=x.io&artifactType=application/a%2Bjson")
        self.assertEqual((reply.status, reply.body), (200, b"{}"))
        self.assertEqual(reply.one("OCI-Filters-Applied"), "artifactType")
        (ask,) = self.cache.asks
        assert isinstance(ask, ListReferrers)
        self.assertEqual(ask.parameters, (("artifactType", "application/a+json"),))

    async def test_unlisted_headers(self) -> None:
        """Nothing else of the origin's head goes through."""
        headers = {"Set-Cookie": ["a=b"], "Server": ["nginx"], "Location": ["/"], "X-Request-Id": ["theirs"]}
        self.answer_with(Relayed(FakeAnswer(200, headers, TAGS), None))
        reply = await self.ask("/v2/library/alpine/tags/list?ns=docker.io", ("X-Request-Id", "mine"))
        self.assertEqual([reply.all(name) for name in ("Set-Cookie", "Location")], [[], []])
        self.assertEqual(reply.one("X-Request-Id"), "mine")
        self.assertRegex(reply.one("Server") or "", "^crcache/")

    async def test_blob(self) -> None:
        """Content that is not stored is checked on its way, and named by its digest."""
        headers = {"Content-Type": ["application/octet-stream"], "Docker-Content-Digest": ["sha256:other"]}
        answer = FakeAnswer(200, headers, DATA, len(DATA))
        self.answer_with(Relayed(answer, DIGEST))
        reply = await self.ask(BLOB_PATH)
        self.assertEqual((reply.status, reply.body), (200, DATA))
        self.assertEqual(reply.one("Docker-Content-Digest"), str(DIGEST))
        self.assertEqual(self.sender.relays, [DIGEST])
        self.assertFalse(answer.aborted)

    async def test_proved(self) -> None:
        """Whoever sends it is told whom to tell that all of it has come."""
        told: list[int] = []
        self.answer_with(Relayed(FakeAnswer(200, {}, DATA, len(DATA)), DIGEST, proved=told.append))
        await self.ask(BLOB_PATH)
        self.assertEqual(self.sender.proved, told.append)

    async def test_head(self) -> None:
        """A HEAD has the origin's head with its length, and lets go of the answer."""
        headers = {"Content-Length": ["1024"], "Docker-Content-Digest": [str(DIGEST)], "ETag": ['"e"']}
        answer = FakeAnswer(200, headers, b"", 0)
        self.answer_with(Relayed(answer, DIGEST))
        reply = await self.ask(BLOB_PATH, method="HEAD")
        self.assertEqual((reply.status, reply.body), (200, b""))
        self.assertEqual(reply.one("Content-Length"), "1024")
        self.assertEqual(reply.one("Docker-Content-Digest"), str(DIGEST))
        self.assertEqual(reply.one("ETag"), '"e"')
        self.assertTrue(answer.aborted)

    async def test_odd_length(self) -> None:
        """A HEAD's length that is no number, or a monstrous one, is left out."""
        for value in (b"\xb2", b"1" * 5000):
            answer = FakeAnswer(200)
            answer.headers.setRawHeaders(b"Content-Length", [value])
            self.answer_with(Relayed(answer, DIGEST))
            reply = await self.ask(BLOB_PATH, method="HEAD")
            self.assertEqual((reply.status, reply.one("Content-Length")), (200, None))

    async def test_any_bytes(self) -> None:
        """What goes through does so byte for byte."""
        answer = FakeAnswer(200, {}, TAGS)
        answer.headers.setRawHeaders(b"ETag", [b'"\xfc"'])
        self.answer_with(Relayed(answer, None))
        reply = await self.ask("/v2/library/alpine/tags/list?ns=docker.io")
        self.assertEqual((reply.status, reply.one("ETag")), (200, '"\xfc"'))

    async def test_unknown_length(self) -> None:
        """A body of unknown length is chunked."""
        self.answer_with(Relayed(FakeAnswer(200, {}, TAGS), None))
        reply = await self.ask("/v2/library/alpine/tags/list?ns=docker.io")
        self.assertEqual(reply.one("Transfer-Encoding"), "chunked")
        self.assertEqual(reply.body, TAGS)

    async def test_part(self) -> None:
        """What the client gets of it says the head, with a 206; not what the origin's own head says."""
        size = len(DATA)
        for status, start, length, part in (
            (206, 2, None, ContentRange(2, 5, size)),
            (206, 2, size - 2, ContentRange(2, 5, None)),
            (200, 0, size, ContentRange(2, size, size)),
        ):
            answer = FakeAnswer(status, {"Content-Range": ["bytes 2-99/100"]}, DATA[start:], length)
            self.answer_with(Relayed(answer, None, start=start, part=part))
            reply = await self.ask(BLOB_PATH, ("Range", "bytes=2-4"))
            self.assertEqual((reply.status, reply.body), (206, DATA[2 : part.stop]))
            self.assertEqual(reply.all("Content-Length"), [str(part.stop - 2)])
            total = "*" if part.total is None else size
            self.assertEqual(reply.all("Content-Range"), [f"bytes 2-{part.stop - 1}/{total}"])

    async def test_last_bytes(self) -> None:
        """A number of last bytes is passed on as what was asked for; with an end or a beginning it is a span."""
        for value, span, suffix in (("bytes=-5", None, 5), ("bytes=0-5", (0, 6), None), ("bytes=7-", (7, None), None)):
            self.answer_with(Relayed(FakeAnswer(200, {}, DATA), DIGEST))
            self.cache.asks.clear()
            await self.ask(BLOB_PATH, ("Range", value))
            (ask,) = self.cache.asks
            assert isinstance(ask, PullBlob)
            self.assertEqual((ask.span, ask.suffix), (span, suffix))

    async def test_cut(self) -> None:
        """A body that is cut short is never ended properly, and the log says so."""
        self.answer_with(Relayed(FakeAnswer(200, {}, DATA[:5], len(DATA), cut=True), DIGEST))
        await self.raw(f"GET {BLOB_PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        event = await self.logged()
        self.assertEqual((event["status"], event["aborted"]), (200, " aborted"))

    async def test_not_content(self) -> None:
        """Anything but a 2xx is no content: the origin is at fault, and its answer is let go of."""
        answer = FakeAnswer(302, {"Location": ["https://elsewhere.example.com"]})
        self.answer_with(Relayed(answer, None))
        reply = await self.ask(BLOB_PATH)
        self.assertEqual(reply.status, 502)
        self.assertTrue(answer.aborted)

    async def test_link(self) -> None:
        """The next page is found through us, whichever way the client names the registry."""
        link = '<https://origin.example.com/v2/library/alpine/tags/list?last=3.20&n=1>; rel="next"'
        for target, expected in (
            (
                "/v2/library/alpine/tags/list?n=1&ns=docker.io",
                '</v2/library/alpine/tags/list?last=3.20&n=1&ns=docker.io>; rel="next"',
            ),
            (
                "/v2/docker.io/library/alpine/tags/list?n=1",
                '</v2/docker.io/library/alpine/tags/list?last=3.20&n=1>; rel="next"',
            ),
        ):
            self.answer_with(Relayed(FakeAnswer(200, {"Link": [link]}, TAGS), None))
            reply = await self.ask(target)
            self.assertEqual(reply.one("Link"), expected)
            again = FakeAnswer(200, {}, TAGS)
            self.answer_with(Relayed(again, None))
            self.cache.asks.clear()
            await self.ask(expected[1:].partition(">")[0])
            (ask,) = self.cache.asks
            assert isinstance(ask, ListTags)
            self.assertEqual((str(ask.registry), str(ask.repository)), ("docker.io", "library/alpine"))
            self.assertEqual(dict(ask.parameters), {"last": "3.20", "n": "1"})
