"""Ranges of a cold blob that are far ahead of what is there: asked of the origin out of turn, once each."""

from __future__ import annotations

import random

from twisted.internet.defer import Deferred, gatherResults

from crcache.settings import UpstreamSettings
from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, REPO, ClientCase, blob_path
from tests.clients.http import Answer
from tests.web.cases import pause

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

    async def test_while_slow(self) -> None:
        """It is answered while the origin crawls, be it far or only a few segments ahead."""
        self.origin.fault(Fault(rate=200_000.0), "blob")
        whole = await self.begin(self.target)
        await whole.until(1)
        for start in (3 * MIB, 30 * MIB + 7):
            self.assertPart(await self.part(start, start + 100), start, start + 100)
        self.assertLess(len(whole.raw), 2 * MIB)

    async def test_open_ended(self) -> None:
        """One without an end comes as well, but for the last bytes, which wait until the whole has been verified."""
        stall = self.origin.fault(Fault(stall=MIB), "blob")
        answer = await self.begin(self.target, ("Range", f"bytes={20 * MIB}-"))
        await answer.until(len(DATA) - 20 * MIB - 65_536)
        await pause(0.1)
        self.assertEqual(len(answer.raw), len(DATA) - 20 * MIB - 65_536)
        stall.release()
        self.assertPart(await answer.end(), 20 * MIB, None)
        spans = [record.header("Range") for record in self.origin.asked("blob")]
        self.assertEqual(spans, [None, f"bytes={20 * MIB}-"])

    async def test_suffix(self) -> None:
        """The last bytes, which lazy pullers ask for first, come first."""
        self.origin.fault(Fault(stall=MIB), "blob")
        answer = await self.ask(self.target, ("Range", "bytes=-51"))
        self.assertPart(answer, len(DATA) - 51, len(DATA))

    async def test_breaks_off(self) -> None:
        """Its own stream may break off, or stall: the client gets its bytes."""
        self.cache = self.instance(upstream=IMPATIENT)
        self.origin.fault(Fault(stall=MIB), "blob")
        answer = await self.begin(self.target)
        await answer.until(1)
        answer.leave()
        self.origin.fault(Fault(cut=70_000), "blob")
        self.assertPart(await self.part(20 * MIB, 22 * MIB), 20 * MIB, 22 * MIB)

    async def test_range_ignored(self) -> None:
        """An origin that knows no ranges sends the blob once; what is far ahead comes in its turn."""
        self.origin.fault(Fault(ignore_range=True), "blob", times=None)
        await self.all_right([(start * MIB, start * MIB + 500) for start in (30, 20, 10, 0)])
        await self.settled()
        self.assertLessEqual(self.sent(), 1.3)

    async def test_one_connection(self) -> None:
        """With a single connection to the origin nobody waits for ever, and no question is put in vain."""
        self.cache = self.instance(upstream=UpstreamSettings(max_connections=1))
        await self.all_right([(0, None), *((start * MIB, start * MIB + 500) for start in (30, 20, 10))])
        self.assertEqual([record.header("Range") for record in self.origin.asked("blob")], [None])

    async def test_restart(self) -> None:
        """What was fetched out of turn is not fetched again after a restart, nor what came at the front."""
        self.origin.fault(Fault(stall=4 * MIB), "blob")
        whole = await self.begin(self.target)
        await whole.until(3 * MIB)
        self.assertPart(await self.part(20 * MIB, 26 * MIB), 20 * MIB, 26 * MIB)
        await self.cache.stop()
        before = len(self.origin.requests)
        self.cache.start()
        self.assertTrue((await self.ask(self.target)).body == DATA)
        spans = [record.header("Range") for record in self.origin.requests[before:]]
        self.assertEqual(len(spans), 2)
        self.assertRegex(spans[0] or "", rf"\Abytes=\d{{7}}-{20 * MIB - 1}\Z")
        self.assertEqual(spans[1], f"bytes={26 * MIB}-")


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

    async def test_parallel_fetch(self) -> None:
        """Chunks without an end that the client closes early, four at a time, as containerd asks: each byte once."""
        chunk = 4 * MIB
        starts = list(range(0, len(DATA), chunk))

        async def fetch() -> None:
            while starts:
                start = starts.pop(0)
                answer = await self.begin(self.target, ("Range", f"bytes={start}-"))
                stop = min(start + chunk, len(DATA))
                await answer.until(stop - start)
                self.assertEqual(answer.status, 206)
                self.assertTrue(answer.raw[: stop - start] == DATA[start:stop])
                answer.leave()

        await gatherResults([Deferred.fromCoroutine(fetch()) for _ in range(4)])
        await self.settled()
        self.assertLessEqual(self.sent(), 1.3)
        self.assertHit(await self.ask(self.target))

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
