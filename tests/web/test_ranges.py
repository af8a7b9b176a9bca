"""Ranges and conditions, over the wire and by themselves."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.facts import Verdict
from crcache.grammar.digest import Digest
from crcache.grammar.ranges import RangeSpec
from crcache.outcomes import Manifest
from crcache.testing.fakes import MemoryBody
from crcache.web.conditions import not_modified, range_asked
from tests.web.harness import BLOB_PATH, DATA, DIGEST, MANIFEST_PATH, MEDIA_TYPE, WebCase, blob, manifest, request

ETAG = f'"{DIGEST}"'


class RangeTests(WebCase):
    """One range of content whose size is known."""

    async def _part(self, header: str, start: int, stop: int, held: bool) -> None:
        self.sender.sends.clear()
        for path, outcome in ((BLOB_PATH, blob()), (MANIFEST_PATH, manifest())):
            self.answer_with(outcome)
            reply = await self.ask(path, ("Range", header))
            self.assertEqual((reply.status, reply.body), (206, DATA[start:stop]), header)
            self.assertEqual(reply.one("Content-Range"), f"bytes {start}-{stop - 1}/1024")
            self.assertEqual(reply.one("Content-Length"), str(stop - start))
            self.assertEqual(reply.one("Docker-Content-Digest"), str(DIGEST))
            self.assertEqual(reply.one("Accept-Ranges"), "bytes")
        self.assertEqual(self.sender.sends, [(start, stop, held)])

    async def test_first(self) -> None:
        """A closed range at the front goes out unheld."""
        await self._part("bytes=0-9", 0, 10, held=False)

    async def test_middle(self) -> None:
        """A closed range inside goes out unheld."""
        await self._part("bytes=100-199", 100, 200, held=False)

    async def test_open_ended(self) -> None:
        """An open-ended range is held back until the body is verified."""
        await self._part("bytes=1000-", 1000, 1024, held=True)

    async def test_open_ended_from_start(self) -> None:
        """`bytes=0-` is a 206 too: containerd finds out by it whether ranges are served."""
        await self._part("bytes=0-", 0, 1024, held=True)

    async def test_suffix(self) -> None:
        """A suffix range goes out unheld."""
        await self._part("bytes=-24", 1000, 1024, held=False)

    async def test_whole_as_closed_range(self) -> None:
        """A closed range over everything is still a part."""
        await self._part("bytes=0-1023", 0, 1024, held=False)

    async def test_one_too_many(self) -> None:
        """An end past the last byte is clamped: Docker's resumption asks so."""
        await self._part("bytes=1000-1024", 1000, 1024, held=False)

    async def test_past_the_end(self) -> None:
        """A range that begins past the end gets 416 with the size, as JSON."""
        for path, outcome in ((BLOB_PATH, blob()), (MANIFEST_PATH, manifest())):
            self.answer_with(outcome)
            reply = await self.ask(path, ("Range", "bytes=1024-"))
            self.assertEqual(reply.status, 416)
            self.assertEqual(reply.one("Content-Range"), "bytes */1024")
            self.assertIn(b'"RANGE_INVALID"', reply.body)
            self.assertEqual(reply.one("Content-Length"), str(len(reply.body)))

    async def test_ignored(self) -> None:
        """Several ranges, other units and nonsense are ignored: the whole is the answer."""
        for header in ("bytes=0-1,5-6", "lines=1-2", "bytes=5-1", "bytes=", "0-5"):
            reply = await self.ask(BLOB_PATH, ("Range", header))
            self.assertEqual((reply.status, reply.body), (200, DATA), header)
        reply = await self.ask(BLOB_PATH, ("Range", "bytes=0-1"), ("Range", "bytes=2-3"))
        self.assertEqual(reply.status, 200)

    async def test_head(self) -> None:
        """Range means nothing to a HEAD."""
        reply = await self.ask(BLOB_PATH, ("Range", "bytes=0-1"), method="HEAD")
        self.assertEqual((reply.status, reply.one("Content-Length")), (200, "1024"))

    async def test_empty(self) -> None:
        """Of empty content there are no parts: the whole is the answer."""
        empty = Digest.of(b"")
        self.answer_with(
            blob(MemoryBody(b"")),
            Manifest(empty, MEDIA_TYPE, 0, b"", blob().cache),
            Manifest(empty, "a/b", 0, b"", blob().cache),
        )
        for path in (BLOB_PATH, MANIFEST_PATH):
            reply = await self.ask(path, ("Range", "bytes=0-"))
            self.assertEqual((reply.status, reply.body, reply.one("Content-Length")), (200, b"", "0"))

    async def test_if_range(self) -> None:
        """A range is served only of the very content that If-Range names."""
        for value, status in (
            (ETAG, 206),
            ('"other"', 200),
            (f"W/{ETAG}", 200),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
        ):
            reply = await self.ask(BLOB_PATH, ("Range", "bytes=0-1"), ("If-Range", value))
            self.assertEqual(reply.status, status, value)

    async def test_following(self) -> None:
        """A client that joins another's fill is counted for as long as it takes."""
        body = MemoryBody(DATA, size=1024, verdict=Verdict.FILLING)
        self.answer_with(blob(body, following=True))
        wire = await self.connect()
        wire.write(request(BLOB_PATH))
        await wire.until(DATA[:1000])
        self.assertEqual(self.meter.calls["following"], [(1,)])
        body.judge(Verdict.VERIFIED)
        await wire.closed
        self.assertEqual(self.meter.calls["following"], [(1,), (-1,)])


class NotModifiedTests(WebCase):
    """If-None-Match."""

    async def test_match(self) -> None:
        """A client that has the content gets no body, whether it asks by GET or HEAD, in whatever form."""
        for path, outcome in ((BLOB_PATH, blob(age=3)), (MANIFEST_PATH, manifest(age=3))):
            for method in ("GET", "HEAD"):
                for value in (ETAG, f"W/{ETAG}", f'"a,b", {ETAG}', "*"):
                    self.answer_with(outcome)
                    reply = await self.ask(path, ("If-None-Match", value), method=method)
                    self.assertEqual((reply.status, reply.body), (304, b""), value)
                    self.assertEqual(reply.one("ETag"), ETAG)
                    self.assertEqual(reply.one("Docker-Content-Digest"), str(DIGEST))
                    self.assertEqual(reply.one("Cache-Status"), "crcache; hit")
                    self.assertEqual(reply.one("Age"), "3")
                    self.assertEqual(reply.one("OCI-Namespace"), "docker.io")
        self.assertEqual(self.sender.sends, [])

    async def test_no_match(self) -> None:
        """Any other client gets the body."""
        reply = await self.ask(BLOB_PATH, ("If-None-Match", '"other"'))
        self.assertEqual((reply.status, reply.body), (200, DATA))

    async def test_before_range(self) -> None:
        """The condition comes before the range (RFC 9110, 13.2.2)."""
        reply = await self.ask(BLOB_PATH, ("If-None-Match", ETAG), ("Range", "bytes=9999-"))
        self.assertEqual(reply.status, 304)


class ConditionTests(SynchronousTestCase):
    """The pure decisions."""

    def test_entity_tags(self) -> None:
        """Only whole entity tags match, in any line; a star only alone."""
        self.assertTrue(not_modified(['"x"', 'W/"y", "a"'], '"a"'))
        self.assertTrue(not_modified([" * "], '"a"'))
        for lines in ([], ["a"], ['"ab"'], ['"b", *'], ['"']):
            self.assertFalse(not_modified(lines, '"a"'), lines)

    def test_one_range(self) -> None:
        """A single range is the one to answer."""
        self.assertEqual(range_asked(["bytes=1-2"], [], '"a"'), RangeSpec(1, 2))
        self.assertEqual(range_asked(["bytes=1-2"], ['"a"'], '"a"'), RangeSpec(1, 2))
        self.assertIsNone(range_asked(["bytes=1-2"], ['"a"', '"a"'], '"a"'))
        self.assertIsNone(range_asked([], [], '"a"'))
