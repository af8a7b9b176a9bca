"""Ranges of a cold blob that are far ahead of what is there: asked of the origin out of turn, once each."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred, gatherResults

from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import REPO, ClientCase, blob_path
from tests.clients.http import Answer

MIB = 1 << 20
DATA = noise(32 * MIB + 12_345)


class OutOfTurnCase(ClientCase):
    """A cold blob of many segments."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.origin.content.add_blob(REPO, DATA)
        self.target = blob_path(self.digest)

    async def part(self, start: int, stop: int | None) -> Answer:
        """A range of the blob, to its end; C{stop} is exclusive."""
        last = "" if stop is None else stop - 1
        return await self.ask(self.target, ("Range", f"bytes={start}-{last}"))

    def assertPart(self, answer: Answer, start: int, stop: int | None) -> None:
        """That range and no other, whole."""
        stop = len(DATA) if stop is None else min(stop, len(DATA))
        self.assertEqual(answer.status, 206)
        self.assertEqual(answer.one("Content-Range"), f"bytes {start}-{stop - 1}/{len(DATA)}")
        self.assertTrue(answer.complete)
        self.assertTrue(answer.body == DATA[start:stop])

    async def all_right(self, spans: list[tuple[int, int | None]]) -> None:
        """Asked for at once, each is right."""
        asking = [Deferred.fromCoroutine(self.part(*span)) for span in spans]
        for span, answer in zip(spans, await gatherResults(asking), strict=True):
            self.assertPart(answer, *span)

    def sent(self) -> float:
        """What the origin has sent of the blob, in blobs."""
        return sum(record.sent for record in self.origin.asked("blob")) / len(DATA)


class FarAheadTests(OutOfTurnCase):
    """One range, far ahead."""

    async def test_while_stalled(self) -> None:
        """It is answered while the origin stands still at the front, and what it fetched is not fetched again."""
        stall = self.origin.fault(Fault(stall=MIB), "blob")
        whole = await self.begin(self.target)
        await whole.until(MIB // 2)
        self.assertPart(await self.part(20 * MIB + 5, 21 * MIB), 20 * MIB + 5, 21 * MIB)
        self.assertLess(len(whole.raw), 2 * MIB)
        stall.release()
        self.assertEqual((await whole.end()).complete, True)
        self.assertTrue(whole.body == DATA)
        first, second, third = self.origin.asked("blob")
        self.assertEqual(first.header("Range"), None)
        self.assertEqual(second.header("Range"), f"bytes={20 * MIB}-{21 * MIB - 1}")
        self.assertEqual(third.header("Range"), f"bytes={21 * MIB}-")
        await self.settled()
        self.assertHit(await self.ask(self.target))


class ManyTests(OutOfTurnCase):
    """Many ranges at once."""

    async def test_random_overlapping(self) -> None:
        """Thirty overlapping ones of any length and kind are right, and the origin sends little more than the blob."""
        chance = random.Random(5)
        spans: list[tuple[int, int | None]] = []
        for number in range(30):
            start = chance.randrange(len(DATA))
            length = chance.choice([100, 70_000, MIB, 5 * MIB])
            spans.append((start, None if number % 7 == 0 else min(start + length, len(DATA))))
        await self.all_right(spans)
        await self.settled()
        self.assertLessEqual(self.sent(), 1.3)

    async def test_lazy(self) -> None:
        """Two hundred small ones all over it, as a lazy puller asks, are right, and cost little more than the blob."""
        chance = random.Random(7)
        spans: list[tuple[int, int | None]] = []
        for _ in range(200):
            start = chance.randrange(len(DATA) - 50_000)
            spans.append((start, start + chance.randrange(1, 50_000)))
        await self.all_right(spans)
        await self.settled()
        self.assertLessEqual(self.sent(), 1.3)
