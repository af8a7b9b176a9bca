"""L{crcache.flow.demand}: what is waited for far ahead of the front."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import fail

from crcache.errors import StoreError
from crcache.facts import Query, Verdict
from crcache.flow.demand import LAZY, MOST, PATIENCE, REST
from crcache.flow.fill import Fill
from crcache.flow.tools import Room
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.store.memory import MemoryIngest
from crcache.testing.content import noise
from crcache.testing.upstream import FakeUpstream, Turn
from tests.flow.scene import PAUSE, RETRIES, FillCase, Watcher, bytes_of, query

MIB = 1 << 20
BIG = noise(30 * MIB + 999)
BIG_DIGEST = Digest.of(BIG)


class DemandCase(FillCase):
    """A long blob, whose origin stands still in the first segment until it is let go on."""

    def setUp(self) -> None:
        """Have it."""
        super().setUp()
        self.upstream = FakeUpstream(BIG)
        self.fills = self.make_fills()
        self.front = Turn(stall=100)
        self.others: dict[int, list[Turn]] = {}
        self.upstream.rule = self._turn

    def _turn(self, asked: Query) -> Turn:
        if asked.span is None:
            return self.front
        turns = self.others.get(asked.span[0], [])
        return turns.pop(0) if turns else Turn()

    def stalled(self) -> Fill:
        """A fill whose front stands still."""
        fill = self.begin(query(BIG_DIGEST))
        self.successResultOf(fill.opened())
        self.clock.advance(0.01)
        self.assertEqual(fill.front(), 100)
        return fill

    def want(self, fill: Fill, start: int, stop: int | None) -> Watcher:
        """Somebody waits for these bytes."""
        watcher = Watcher()
        fill.watch(watcher, (start, stop))
        self.clock.advance(0.01)
        return watcher

    def left_of_it(self, *pieces: tuple[int, int]) -> None:
        """An earlier fill has left these pieces in the store."""
        ingest: Any = self.successResultOf(self.store.ingest(DOCKER_IO, BIG_DIGEST))
        ingest.settle(len(BIG))
        for start, stop in pieces:
            self.successResultOf(ingest.write(start, [BIG[start:stop]]))
        ingest.close()

    def whole(self, fill: Fill) -> None:
        """It is over, as it should be."""
        self.assertIs(fill.verdict, Verdict.VERIFIED)
        self.assertTrue(bytes_of(fill) == BIG)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def release(self, fill: Fill) -> None:
        """The front goes on, to the end."""
        self.front.release()
        self.pass_time(1)
        self.whole(fill)


class AskingTests(DemandCase):
    """What is asked for, and when."""

    def test_far(self) -> None:
        """What is far ahead is there at once, asked for in whole segments; then the rest, each byte once."""
        fill = self.stalled()
        watcher = self.want(fill, 12 * MIB + 5, 13 * MIB + 7)
        self.assertEqual(self.spans(), [None, (12 * MIB, 14 * MIB)])
        self.assertEqual(fill.readable(12 * MIB + 5), 14 * MIB)
        self.assertEqual(fill.front(), 100)
        self.assertGreater(watcher.count, 0)
        self.release(fill)
        self.assertEqual(self.spans(), [None, (12 * MIB, 14 * MIB), (14 * MIB, None)])

    def test_all_over(self) -> None:
        """Where clients ask all over it, the front goes on in pieces: what is far is not cut out of an answer."""
        self.front = Turn(stall=100, cut=200)
        fill = self.stalled()
        starts = range(25, 25 + LAZY)
        for start in starts:
            self.want(fill, start * MIB, start * MIB + 1)
        self.release(fill)
        ends = [8 * MIB, 16 * MIB, 24 * MIB, 25 * MIB]
        pieces = list(zip([200, *ends], ends, strict=False))
        self.assertEqual(
            self.spans(), [None, *((start * MIB, (start + 1) * MIB) for start in starts), *pieces, (29 * MIB, None)]
        )

    def test_near(self) -> None:
        """For a front that is near somebody waits a moment, and no longer."""
        fill = self.stalled()
        self.want(fill, 2 * MIB + 5, 2 * MIB + 10)
        self.clock.advance(PATIENCE - 0.1)
        self.assertEqual(self.spans(), [None])
        self.clock.advance(0.1)
        self.assertEqual(self.spans(), [None, (2 * MIB, 3 * MIB)])
        self.release(fill)

    def test_at_hand(self) -> None:
        """What the stream at the front has come to, or will next, is not asked for a second time."""
        fill = self.stalled()
        for start in (0, 500, MIB - 1):
            self.want(fill, start, None)
        self.clock.advance(10 * PATIENCE)
        self.assertEqual(self.spans(), [None])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_there_already(self) -> None:
        """Nor is what is there."""
        fill = self.stalled()
        self.want(fill, 12 * MIB, 13 * MIB)
        self.want(fill, 12 * MIB + 5, 13 * MIB)
        self.assertEqual(self.spans(), [None, (12 * MIB, 13 * MIB)])

    def test_open_ended(self) -> None:
        """Without an end it is asked for to the end of the body, or to what is fetched already; others split it."""
        self.others = {12 * MIB: [Turn(stall=5)], 25 * MIB: [Turn(stall=5)]}
        first, second = self.others[12 * MIB][0], self.others[25 * MIB][0]
        fill = self.stalled()
        self.want(fill, 12 * MIB, None)
        self.want(fill, 25 * MIB, None)
        self.want(fill, 22 * MIB, None)
        self.assertEqual(self.spans(), [None, (12 * MIB, None), (25 * MIB, None), (22 * MIB, 25 * MIB)])
        for turn in (first, second):
            turn.release()
        self.release(fill)
        self.assertEqual(len(self.spans()), 4)

    def test_before_the_answer(self) -> None:
        """Nothing is asked for before the origin has agreed to send the body; what was waited for by then, after."""
        self.left_of_it((0, 10))
        self.others = {10: [Turn(hold=True, stall=100)]}
        (turn,) = self.others[10]
        fill = self.begin(query(BIG_DIGEST))
        self.want(fill, 20 * MIB, 20 * MIB + 1)
        self.clock.advance(10 * PATIENCE)
        self.assertEqual(self.spans(), [(10, None)])
        turn.release()
        self.assertEqual(self.spans()[:2], [(10, None), (20 * MIB, 21 * MIB)])

    def test_partial_segment(self) -> None:
        """A segment whose beginning is there is asked for from its mark."""
        self.left_of_it((0, 5), (20 * MIB, 20 * MIB + 7))
        self.others = {5: [Turn(stall=10)]}
        fill = self.begin(query(BIG_DIGEST))
        self.want(fill, 20 * MIB + 500, 20 * MIB + 600)
        self.assertEqual(self.spans(), [(5, 20 * MIB), (20 * MIB + 7, 21 * MIB)])
        self.assertEqual(fill.readable(20 * MIB), 21 * MIB)

    def test_front_goes_on(self) -> None:
        """While a hole is being fetched out of turn to its end the front goes on with the next, and does not wait."""
        self.left_of_it((0, 5), (13 * MIB, 14 * MIB))
        self.others = {5: [Turn(stall=100)], 12 * MIB: [Turn(stall=5000)]}
        front, slow = self.others[5][0], self.others[12 * MIB][0]
        fill = self.begin(query(BIG_DIGEST))
        self.want(fill, 12 * MIB, 13 * MIB)
        front.release()
        self.pass_time(0.1)
        self.assertEqual(self.spans(), [(5, 13 * MIB), (12 * MIB, 13 * MIB), (14 * MIB, None)])
        self.assertEqual(fill.readable(14 * MIB), min(14 * MIB + 64 * MIB, len(BIG)))
        slow.release()
        self.pass_time(0.5)
        self.whole(fill)

    def test_no_size(self) -> None:
        """Of a body whose size nobody knows nothing is asked for out of turn."""
        self.front = Turn(stall=100, unsized=True)
        fill = self.stalled()
        self.want(fill, 12 * MIB, 13 * MIB)
        self.clock.advance(PATIENCE)
        self.assertEqual(self.spans(), [None])
        self.release(fill)

    def test_overtaken(self) -> None:
        """Only its answer has it taken from the stream that would get there; if that was faster, it is not needed."""
        self.others = {12 * MIB: [Turn(hold=True)]}
        (turn,) = self.others[12 * MIB]
        fill = self.stalled()
        self.want(fill, 12 * MIB, 13 * MIB)
        self.front.release()
        self.pass_time(0.1)
        self.whole(fill)
        self.assertEqual(self.spans(), [None, (12 * MIB, 13 * MIB)])
        turn.release()
        self.assertEqual(len(self.upstream.answers), 1)

    def test_overtaken_and_answered(self) -> None:
        """The same if the answer does come, while the faster stream is still at work behind it."""
        self.others = {25 * MIB: [Turn(hold=True)]}
        (turn,) = self.others[25 * MIB]
        fill = self.stalled()
        self.want(fill, 25 * MIB, 26 * MIB)
        waiting, self.front._waiting = self.front._waiting, []
        self.front.stall = 27 * MIB
        for go_on in waiting:
            go_on()
        self.pass_time(0.1)
        self.assertEqual(fill.front(), 27 * MIB)
        turn.release()
        self.assertTrue(self.upstream.answers[1].aborted)
        self.assertEqual(self.upstream.answers[1].delivered, 0)
        self.release(fill)
        self.assertEqual(len(self.spans()), 2)


class BoundTests(DemandCase):
    """How many streams there are."""

    def test_queue(self) -> None:
        """So many at once; the others in the order of asking, but not for those who have left meanwhile."""
        starts = [(10 + 2 * number) * MIB for number in range(MOST + 3)]
        self.others = {start: [Turn(stall=5)] for start in starts}
        turns = [self.others[start][0] for start in starts]
        fill = self.stalled()
        watchers = [self.want(fill, start, start + 1) for start in starts]
        asked = [(start, start + MIB) for start in starts]
        self.assertEqual(self.spans(), [None, *asked[:MOST]])
        fill.unwatch(watchers[MOST])
        turns[0].release()
        self.clock.advance(0.01)
        self.assertEqual(self.spans()[1 + MOST :], [asked[MOST + 1]])
        fill.unwatch(watchers[2])
        turns[1].release()
        self.clock.advance(0.01)
        self.assertEqual(self.spans()[2 + MOST :], [asked[MOST + 2]])
        for turn in turns:
            turn.release()
        self.release(fill)
        self.assertEqual(sum(min(answer.delivered, MIB) for answer in self.upstream.answers[1:9]), 8 * MIB)

    def test_room(self) -> None:
        """A stream that has far to go for somebody who has left ends as soon as somebody else waits for one."""
        starts = [(10 + number) * MIB for number in range(MOST)]
        self.others = {start: [Turn(stall=5000)] for start in starts}
        fill = self.stalled()
        watchers = [self.want(fill, start, start + MIB) for start in starts[:-1]]
        watchers.append(self.want(fill, 15 * MIB, 24 * MIB))
        self.assertEqual(len(self.spans()), 1 + MOST)
        for watcher in watchers[3:]:
            fill.unwatch(watcher)
        self.pass_time(10 * PATIENCE)
        self.assertEqual([answer.aborted for answer in self.upstream.answers], [False] * 7)
        self.want(fill, 26 * MIB, 27 * MIB)
        self.pass_time(0.1)
        self.assertEqual([answer.aborted for answer in self.upstream.answers[:7]], [False] * 6 + [True])
        self.assertEqual(self.spans()[7:], [(26 * MIB, 27 * MIB)])

    def test_no_room(self) -> None:
        """Nor if somebody else has got there meanwhile: also a client that waited for something before it."""
        self.others = {start * MIB: [Turn(stall=5000)] for start in (10, 12, 14, 16, 18, 19)}
        turn = self.others[18 * MIB][0]
        fill = self.stalled()
        for start in (10, 12, 14, 16):
            self.want(fill, start * MIB, (start + 1) * MIB)
        patient = self.want(fill, 18 * MIB, 19 * MIB)
        leaving = self.want(fill, 19 * MIB, None)
        self.want(fill, 18 * MIB, 30 * MIB)
        fill.unwatch(leaving)
        fill.unwatch(patient)
        turn.release()
        self.pass_time(0.1)
        for start in (11, 13):
            self.others[start * MIB] = [Turn(stall=5000)]
            self.want(fill, start * MIB, (start + 1) * MIB)
        self.assertEqual(self.spans()[7:], [(11 * MIB, 12 * MIB)])
        self.assertFalse(self.upstream.answers[6].aborted)

    def test_first(self) -> None:
        """Until the origin has sent one part, nobody knows that it does: no more than one is asked for."""
        self.others = {12 * MIB: [Turn(hold=True)]}
        (turn,) = self.others[12 * MIB]
        fill = self.stalled()
        for start in (12, 20, 25):
            self.want(fill, start * MIB, (start + 1) * MIB)
        self.assertEqual(self.spans(), [None, (12 * MIB, 13 * MIB)])
        turn.release()
        self.clock.advance(0.01)
        asked = [(start * MIB, (start + 1) * MIB) for start in (12, 20, 25)]
        self.assertEqual(self.spans(), [None, *asked])

    def test_all_fills(self) -> None:
        """All fills share so many; what there is no room for is begun when there is."""
        self.room = Room(lambda: 1)
        self.fills = self.make_fills()
        other = noise(20 * MIB, 1)
        self.upstream.content[Digest.of(other)] = other
        self.others = {12 * MIB: [Turn(stall=5)]}
        (turn,) = self.others[12 * MIB]
        first = self.stalled()
        self.front = Turn(stall=100)
        second = self.begin(query(Digest.of(other)))
        self.want(first, 12 * MIB, 13 * MIB)
        self.want(second, 15 * MIB, 16 * MIB)
        self.pass_time(2 * PATIENCE)
        self.assertEqual(self.spans(), [None, None, (12 * MIB, 13 * MIB)])
        turn.release()
        self.pass_time(2 * PATIENCE)
        self.assertEqual(self.spans()[3:], [(15 * MIB, 16 * MIB)])
        self.assertEqual(self.room.taken, 0)

    def test_same(self) -> None:
        """What many wait for is asked for once."""
        self.others = {12 * MIB: [Turn(stall=5)]}
        fill = self.stalled()
        for _ in range(5):
            self.want(fill, 12 * MIB, 13 * MIB)
        self.clock.advance(5 * PATIENCE)
        self.assertEqual(self.spans(), [None, (12 * MIB, 13 * MIB)])


class NestedTests(DemandCase):
    """A stream that is asked for within one that has no answer yet, which is within the front."""

    def test_inner_first(self) -> None:
        """When the inner one answers first, both that are around it end there: nothing is written twice, least of all
        other bytes over those that have been hashed.
        """
        self.left_of_it((0, 10))
        wrong = BIG[10 : 22 * MIB] + bytes(len(BIG) - 22 * MIB)
        span = {"Content-Range": f"bytes 10-{len(BIG) - 1}/{len(BIG)}"}
        front, slow = Turn(stall=100, status=206, body=wrong, headers=span), Turn(hold=True)
        self.others = {10: [front], 12 * MIB: [slow]}
        fill = self.begin(query(BIG_DIGEST))
        self.clock.advance(0.01)
        self.want(fill, 12 * MIB, None)
        self.want(fill, 22 * MIB, None)
        self.assertEqual(fill.readable(22 * MIB), len(BIG))
        front.release()
        self.pass_time(1)
        slow.release()
        self.pass_time(1)
        self.whole(fill)


class FailingTests(DemandCase):
    """Streams out of turn that fail."""

    def test_range_ignored(self) -> None:
        """An origin that sends the whole instead is not read, and not asked so again; the front gets there."""
        self.others = {12 * MIB: [Turn(ignore_range=True)]}
        fill = self.stalled()
        self.want(fill, 12 * MIB, 13 * MIB)
        self.assertTrue(self.upstream.answers[1].aborted)
        self.assertEqual(self.upstream.answers[1].delivered, 0)
        self.want(fill, 20 * MIB, 21 * MIB)
        self.clock.advance(5 * PATIENCE)
        self.assertEqual(self.spans(), [None, (12 * MIB, 13 * MIB)])
        self.release(fill)

    def test_cut(self) -> None:
        """One that breaks off is resumed from its mark, after a pause, at the next URL; the front goes on meanwhile."""
        self.others = {12 * MIB: [Turn(cut=5000)], 12 * MIB + 5000: [Turn(status=500), Turn()]}
        fill = self.stalled()
        self.want(fill, 12 * MIB, 13 * MIB)
        self.assertEqual(self.spans(), [None, (12 * MIB, 13 * MIB)])
        self.pass_time(3 * PAUSE)
        again = (12 * MIB + 5000, 13 * MIB)
        self.assertEqual(self.spans(), [None, (12 * MIB, 13 * MIB), again, again])
        self.assertEqual([asked.turn for asked in self.upstream.queries], [0, 0, 1, 2])
        self.assertEqual(fill.front(), 100)
        self.assertEqual(len(self.meter.calls["resumed"]), 2)
        self.release(fill)

    def test_several_fail(self) -> None:
        """When several fail at one URL, all of them go on to the next, not past it."""
        self.others = {start * MIB: [Turn(stall=5000, cut=6000)] for start in (12, 20)}
        turns = [turn for each in self.others.values() for turn in each]
        fill = self.stalled()
        for start in (12, 20):
            self.want(fill, start * MIB, (start + 1) * MIB)
        for turn in turns:
            turn.release()
        self.pass_time(2 * PAUSE)
        again = [(start * MIB + 6000, (start + 1) * MIB) for start in (12, 20)]
        self.assertEqual(self.spans()[3:], again)
        self.assertEqual([asked.turn for asked in self.upstream.queries], [0, 0, 0, 1, 1])

    def test_front_pauses(self) -> None:
        """While the front pauses before its next try nobody asks in its stead."""
        self.front = Turn(cut=100)
        fill = self.stalled()
        self.want(fill, 0, None)
        self.want(fill, 12 * MIB, 13 * MIB)
        self.clock.advance(PAUSE * 0.9)
        self.assertEqual(self.spans(), [None, (12 * MIB, 13 * MIB)])
        self.pass_time(1)
        self.whole(fill)
        self.assertEqual(self.spans()[2], (100, 12 * MIB))

    def test_gives_up(self) -> None:
        """After too many failures it rests; the front gets there in its turn, and it is not what ends the fill."""
        self.others = {12 * MIB: [Turn(status=500) for _ in range(2 * RETRIES + 2)]}
        fill = self.stalled()
        self.want(fill, 12 * MIB, 13 * MIB)
        self.pass_time(RETRIES * PAUSE + REST - 1)
        self.assertEqual(len(self.spans()), 1 + RETRIES + 1)
        self.pass_time(2)
        self.assertEqual(len(self.spans()), 1 + RETRIES + 2)
        self.others.clear()
        self.release(fill)

    def test_other_size(self) -> None:
        """An answer out of turn that speaks of another size is not believed; the rest goes on."""
        wrong = f"bytes {12 * MIB}-{13 * MIB - 1}/{len(BIG) + 1}"
        self.others = {12 * MIB: [Turn(content_range=wrong)]}
        fill = self.stalled()
        self.want(fill, 12 * MIB, 13 * MIB)
        self.assertTrue(self.upstream.answers[1].aborted)
        self.release(fill)

    def test_wrong_bytes(self) -> None:
        """Wrong bytes that came out of turn are found out like any others."""
        self.others = {12 * MIB: [Turn(wrong=True)]}
        fill = self.stalled()
        self.want(fill, 12 * MIB, 13 * MIB)
        self.front.release()
        self.pass_time(1)
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertIsNone(self.successResultOf(self.store.find(BIG_DIGEST)))

    def test_behind_the_front(self) -> None:
        """What a stream out of turn leaves undone behind the front comes next, since clients wait for it."""
        self.others = {12 * MIB: [Turn(stall=1000, cut=2000)], 13 * MIB: [Turn(stall=3 * MIB)]}
        cut, front = self.others[12 * MIB][0], self.others[13 * MIB][0]
        fill = self.stalled()
        self.want(fill, 12 * MIB, 13 * MIB)
        self.front.release()
        self.pass_time(0.5)
        self.assertEqual(self.spans(), [None, (12 * MIB, 13 * MIB), (13 * MIB, None)])
        cut.release()
        self.pass_time(0.1)
        self.assertEqual(self.spans()[3:], [(12 * MIB + 2000, 13 * MIB), (16 * MIB, None)])
        front.release()
        self.pass_time(1)
        self.whole(fill)

    def test_disk(self) -> None:
        """A disk that fails ends the fill, whoever was writing, and whatever the front was doing."""
        write: Callable[..., Any] = MemoryIngest.write

        def full(ingest: Any, offset: int, *args: Any) -> Any:
            return fail(StoreError("no space left")) if offset >= MIB else write(ingest, offset, *args)

        self.patch(MemoryIngest, "write", full)
        for moment in (Turn(stall=100), Turn(cut=100)):
            self.front = moment
            self.upstream.answers.clear()
            fill = self.stalled()
            self.want(fill, 12 * MIB, 13 * MIB)
            self.pass_time(0.1)
            self.assertIs(fill.verdict, Verdict.FAILED)
            self.assertTrue(self.upstream.answers[0].aborted or moment.cut)
            self.assertEqual(self.store.fills, {})  # type: ignore[attr-defined]
            self.assertEqual(self.clock.getDelayedCalls(), [])


class StoppingTests(DemandCase):
    """A daemon that stops."""

    def test_stop(self) -> None:
        """All streams end, what came of each is kept, and only what is missing is asked for by the next fill."""
        self.others = {start * MIB: [Turn(stall=1000)] for start in (10, 20)}
        fill = self.stalled()
        for start in (10, 20):
            self.want(fill, start * MIB, (start + 2) * MIB)
        self.want(fill, 3 * MIB, 4 * MIB)
        self.successResultOf(self.fills.stop())
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertEqual([answer.aborted for answer in self.upstream.answers], [True] * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.upstream.queries.clear()
        self.fills = self.make_fills()
        again = self.begin(query(BIG_DIGEST))
        self.pass_time(1)
        self.whole(again)
        expected = [(100, 10 * MIB), (10 * MIB + 1000, 20 * MIB), (20 * MIB + 1000, None)]
        self.assertEqual(self.spans(), expected)

    def test_front_waits(self) -> None:
        """When streams out of turn have all that is missing, the front waits for them; that can be stopped, too."""
        self.others = {12 * MIB: [Turn(stall=1000)]}
        fill = self.stalled()
        self.want(fill, 12 * MIB, None)
        self.front.release()
        self.pass_time(1)
        self.assertEqual((fill.front(), fill.verdict), (12 * MIB + 1000, Verdict.FILLING))
        self.assertEqual(len(self.spans()), 2)
        self.successResultOf(self.fills.stop())
        self.assertIs(fill.verdict, Verdict.FAILED)
