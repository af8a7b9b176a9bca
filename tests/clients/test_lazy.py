"""stargz-snapshotter, and others who pull lazily: ranges all over a blob that is not there yet."""

from __future__ import annotations

from twisted.internet.defer import Deferred, gatherResults

from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import REPO, ClientCase, blob_path
from tests.clients.http import Answer

MIB = 1 << 20
DATA = noise(3 * MIB + 12_345)


class LazyTests(ClientCase):
    """A cold blob."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.origin.content.add_blob(REPO, DATA)

    async def part(self, value: str) -> Answer:
        """A range of the blob."""
        return await self.ask(blob_path(self.digest), ("Range", value))

    async def test_many_ranges(self) -> None:
        """Many ranges at once, all over a cold blob, are each a right 206, and the origin sends the blob once."""
        spans = [(start, min(start + 70_000, len(DATA))) for start in range(0, len(DATA), 70_000)]
        spans.reverse()
        asking = [Deferred.fromCoroutine(self.part(f"bytes={start}-{stop - 1}")) for start, stop in spans]
        for (start, stop), answer in zip(spans, await gatherResults(asking), strict=True):
            self.assertEqual(answer.status, 206)
            self.assertEqual(answer.one("Content-Range"), f"bytes {start}-{stop - 1}/{len(DATA)}")
            self.assertEqual(answer.body, DATA[start:stop])
            self.assertTrue(answer.complete)
        self.assertEqual(len(self.origin.asked("blob", "GET")), 1)

    async def test_as_bytes_arrive(self) -> None:
        """A closed range is complete as soon as its bytes are there; an open-ended one ends only when all are right."""
        stall = self.origin.fault(Fault(stall=2 * MIB), "blob")
        closed = await self.part("bytes=100-99999")
        self.assertEqual((closed.body, closed.complete), (DATA[100:100_000], True))
        open_ended = await self.begin(blob_path(self.digest), ("Range", "bytes=100-"))
        await open_ended.until(MIB)
        self.assertIsNone(open_ended.clean)
        stall.release()
        self.assertEqual((await open_ended.end()).body, DATA[100:])

    async def test_at_once(self) -> None:
        """A range far ahead of what is there is a 206 at once, and its bytes follow when the front gets there."""
        stall = self.origin.fault(Fault(stall=MIB), "blob")
        far = await self.begin(blob_path(self.digest), ("Range", f"bytes={3 * MIB}-{3 * MIB + 99}"))
        await far.until(0)
        self.assertEqual((far.status, far.raw), (206, b""))
        stall.release()
        self.assertEqual((await far.end()).body, DATA[3 * MIB : 3 * MIB + 100])

    async def test_suffix(self) -> None:
        """The footer is asked for first: the last bytes of a blob, cold and warm."""
        for _ in range(2):
            answer = await self.part("bytes=-51")
            self.assertEqual((answer.status, answer.body), (206, DATA[-51:]))
            self.assertEqual(answer.one("Content-Range"), f"bytes {len(DATA) - 51}-{len(DATA) - 1}/{len(DATA)}")

    async def test_several_in_one(self) -> None:
        """Several ranges in one request are answered with the whole blob, which makes stargz ask for single ones."""
        for _ in range(2):
            answer = await self.part("bytes=0-9,100-109")
            self.assertEqual((answer.status, answer.body), (200, DATA))

    async def test_if_range(self) -> None:
        """C{If-Range} with the blob's own entity tag is honoured; with another the whole blob comes."""
        for tag, status in ((f'"{self.digest}"', 206), ('"other"', 200)):
            answer = await self.ask(blob_path(self.digest), ("Range", "bytes=5-9"), ("If-Range", tag))
            self.assertEqual(answer.status, status)

    async def test_without_a_length(self) -> None:
        """If the origin tells no length, a range waits until it is known, and the whole comes in chunks."""
        self.origin.fault(Fault(unsized="chunked"), "blob")
        part = Deferred.fromCoroutine(self.part("bytes=10-19"))
        whole = await self.ask(blob_path(self.digest))
        self.assertEqual((whole.status, whole.body, whole.complete), (200, DATA, True))
        self.assertEqual((await part).body, DATA[10:20])
        self.assertEqual((await part).one("Content-Range"), f"bytes 10-19/{len(DATA)}")
