"""Tests for L{crcache.policy.runs}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.policy.runs import AHEAD, SEGMENT, Claim, Decision, Run, in_pieces, in_turn, out_of_turn
from crcache.store import marks

S = SEGMENT
#: Segments of the body that the stories below play in.
MANY = 60
SIZE = MANY * S - 4321


class InTurnTests(SynchronousTestCase):
    """L{in_turn}."""

    def test_nobody(self) -> None:
        """Of a run that nobody fetches it is all."""
        for hole in ((0, 5 * S), (7, 2 * S), (3 * S, None)):
            self.assertEqual(in_turn(hole, []), hole)

    def test_around_claims(self) -> None:
        """It begins behind what is being fetched there already, and ends where the next of that begins."""
        claims = [Claim(20 * S, 21 * S, 30 * S), Claim(0, 4 * S, 10 * S), Claim(10 * S, 10 * S, 12 * S)]
        self.assertEqual(in_turn((4 * S, SIZE), claims), (12 * S, 20 * S))
        self.assertEqual(in_turn((13 * S, SIZE), claims), (13 * S, 20 * S))
        self.assertEqual(in_turn((25 * S, SIZE), claims), (30 * S, SIZE))
        self.assertEqual(in_turn((25 * S, None), claims), (30 * S, None))

    def test_nothing_left(self) -> None:
        """There is none if all of it is being fetched, to its end or to one that nobody knows."""
        self.assertIsNone(in_turn((5, 10 * S), [Claim(0, 0, 10 * S)]))
        self.assertIsNone(in_turn((5, None), [Claim(0, 0, None)]))
        self.assertIsNone(in_turn((5, 10 * S), [Claim(0, 0, None)]))


class InPiecesTests(SynchronousTestCase):
    """L{in_pieces}."""

    def test_bounded(self) -> None:
        """A piece is of some 8 MiB at most, ends with a segment or its run, and never goes beyond that."""
        self.assertEqual(in_pieces((0, None), SIZE), (0, AHEAD))
        self.assertEqual(in_pieces((100, 50 * S), SIZE), (100, AHEAD))
        self.assertEqual(in_pieces((S, 3 * S), SIZE), (S, 3 * S))
        self.assertEqual(in_pieces((55 * S, None), SIZE), (55 * S, SIZE))


class OutOfTurnTests(SynchronousTestCase):
    """L{out_of_turn}, with a stream from front to back that has come as far as the fourth segment."""

    front = Claim(0, 3 * S + 99, SIZE)

    def decide(self, start: int, wanted: int, *others: Claim, waited: bool = False) -> Decision:
        """What is to be done for that segment and what follows it."""
        return out_of_turn((start * S, SIZE), wanted, [self.front, *others], waited)

    def test_far(self) -> None:
        """What is far ahead is asked for in whole segments, and the stream ends before it."""
        self.assertEqual(self.decide(20, 22 * S - 5), Decision((20 * S, 22 * S), 0))

    def test_to_the_end(self) -> None:
        """The last segment is as long as the body."""
        self.assertEqual(self.decide(50, SIZE), Decision((50 * S, SIZE), 0))
        self.assertEqual(self.decide(MANY - 1, SIZE - 1), Decision(((MANY - 1) * S, SIZE), 0))

    def test_near(self) -> None:
        """A stream that is near is waited for, but not for ever."""
        self.assertEqual(self.decide(5, 6 * S), Decision(later=True))
        self.assertEqual(self.decide(5, 6 * S, waited=True), Decision((5 * S, 6 * S), 0))
        self.assertEqual(self.decide(11, 12 * S), Decision(later=True))
        self.assertEqual(self.decide(12, 13 * S), Decision((12 * S, 13 * S), 0))

    def test_at_hand(self) -> None:
        """What comes next in a stream can come no sooner."""
        for start in (3, 4):
            self.assertEqual(self.decide(start, SIZE, waited=True), Decision())
        self.assertEqual(out_of_turn((7, SIZE), SIZE, [self.front], True), Decision())

    def test_between_streams(self) -> None:
        """It ends where another stream's run begins, even if more is waited for; that stream is left alone."""
        other = Claim(22 * S, 23 * S, 30 * S)
        front = Claim(0, S, 10 * S)
        self.assertEqual(
            out_of_turn((15 * S, SIZE), SIZE, [front, other], waited=False), Decision((15 * S, 22 * S), None)
        )

    def test_another_stream(self) -> None:
        """A stream out of turn is no other than the one at the front: waited for, or split."""
        other = Claim(22 * S, 23 * S, 50 * S)
        front = Claim(0, S, 22 * S)
        self.assertEqual(out_of_turn((24 * S, SIZE), SIZE, [front, other], waited=False), Decision(later=True))
        self.assertEqual(out_of_turn((40 * S, SIZE), SIZE, [front, other], waited=False), Decision((40 * S, 50 * S), 1))

    def test_asked_for(self) -> None:
        """What is being asked for out of turn, within a stream that would get there, is not asked for again."""
        asking = Claim(20 * S, 20 * S, 22 * S)
        self.assertEqual(self.decide(20, 21 * S, asking, waited=True), Decision())
        self.assertEqual(self.decide(18, 25 * S, asking), Decision((18 * S, 20 * S), 0))
        self.assertEqual(self.decide(22, 25 * S, asking), Decision((22 * S, 25 * S), 0))

    def test_partial_segment(self) -> None:
        """A segment whose beginning is there is gone on with from its mark."""
        hole = (20 * S + 100, SIZE)
        front = Claim(0, S, 20 * S)
        self.assertEqual(out_of_turn(hole, 20 * S + 200, [front], waited=False), Decision((20 * S + 100, 21 * S), None))

    def test_lengths(self) -> None:
        """Segments are those of the marks."""
        self.assertEqual(SEGMENT, marks.SEGMENT)
        self.assertEqual(AHEAD % SEGMENT, 0)


class _Body:
    """A body that streams fill, with what marks would say of it: a count of bytes for each segment."""

    def __init__(self) -> None:
        self.counts = [0] * MANY
        self.claims: list[Claim] = []

    def full(self, index: int) -> int:
        return min(S, SIZE - index * S)

    def hole(self, offset: int) -> tuple[int, int] | None:
        """As L{IIngest.hole<crcache.interfaces.IIngest>}, for the beginning of a segment."""
        for index in range(offset // S, MANY if offset < SIZE else 0):
            if self.counts[index] < self.full(index):
                later = (other for other in range(index + 1, MANY) if self.counts[other])
                return index * S + self.counts[index], next((other * S for other in later), SIZE)
        return None

    def free(self) -> Run | None:
        offset = 0
        while (hole := self.hole(offset)) is not None:
            run = in_turn(hole, self.claims)
            if run is not None:
                return run
            offset = hole[1]
        return None

    def advance(self, index: int, count: int) -> None:
        """A stream brings bytes."""
        claim = self.claims[index]
        assert claim.stop is not None
        end = min(claim.position + count, claim.stop)
        for segment in range(claim.position // S, -(-end // S)):
            self.counts[segment] = max(self.counts[segment], min(end - segment * S, S))
        if end == claim.stop:
            del self.claims[index]
        else:
            self.claims[index] = Claim(claim.start, end, claim.stop)


#: Who does what next: a stream brings bytes or breaks off, somebody wants a range, the front goes on.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("bytes"), st.integers(0, 6), st.sampled_from([1, S - 1, S, 3 * S + 7, 10 * S])),
        st.tuples(st.just("break"), st.integers(0, 6), st.just(0)),
        st.tuples(st.sampled_from(["want", "wait"]), st.integers(0, SIZE - 1), st.integers(1, 12 * S)),
        st.tuples(st.just("front"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class StoryTests(SynchronousTestCase):
    """Both, in any order of events."""

    def check(self, body: _Body) -> None:
        """No two streams write to one segment, and none fetches what is there."""
        writing: set[int] = set()
        for claim in body.claims:
            assert claim.stop is not None
            self.assertLess(claim.position, claim.stop)
            mine = set(range(claim.position // S, -(-claim.stop // S)))
            self.assertFalse(mine & writing)
            writing |= mine
            self.assertEqual(body.counts[claim.position // S], claim.position % S)
            for segment in range(claim.position // S + 1, -(-claim.stop // S)):
                self.assertEqual(body.counts[segment], 0)

    @given(STEPS)
    def test_any(self, steps: list[tuple[str, int, int]]) -> None:
        """Streams never meet in a segment nor fetch what is there, and in the end all of it is there."""
        body = _Body()
        for kind, number, length in steps:
            if kind in ("want", "wait"):
                wanted = min(number + length, SIZE)
                hole = body.hole(number // S * S)
                if hole is not None and hole[0] < wanted:
                    decision = out_of_turn(hole, wanted, body.claims, kind == "wait")
                    if decision.run is not None:
                        if decision.split is not None:
                            old = body.claims[decision.split]
                            body.claims[decision.split] = Claim(old.start, old.position, decision.run[0])
                        self.assertEqual(decision.run[0], hole[0])
                        body.claims.append(Claim(decision.run[0], decision.run[0], decision.run[1]))
            elif kind == "front":
                run = body.free()
                if run is not None:
                    body.claims.append(Claim(run[0], run[0], run[1]))
            elif number < len(body.claims):
                if kind == "bytes":
                    body.advance(number, length)
                else:
                    del body.claims[number]
            self.check(body)
        while body.hole(0) is not None:
            run = body.free()
            if run is not None:
                body.claims.append(Claim(run[0], run[0], run[1]))
            self.check(body)
            body.advance(0, SIZE)
