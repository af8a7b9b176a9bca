"""L{crcache.flow.fetch}: going on from what is there already."""

from __future__ import annotations

from crcache.errors import OriginBusy, OriginLied, OriginUnreachable
from crcache.facts import Verdict
from crcache.grammar.reference import DOCKER_IO
from crcache.testing.upstream import Turn
from tests.flow.scene import ALPINE, DATA, DIGEST, PAUSE, RETRIES, SEGMENT, FillCase, bytes_of


class ResumedTests(FillCase):
    """Upstreams that break off, and what earlier fills have left."""

    def test_broken_off(self) -> None:
        """A stream that breaks off is resumed from its mark, at the registry's own URL, and that is counted."""
        cuts = (700_000, 1, 2 * SEGMENT)
        self.script(*[Turn(cut=cut) for cut in cuts])
        fill = self.begin()
        self.pass_time()
        self.settled(fill)
        asked = [None, *[(sum(cuts[:n]), None) for n in range(1, 4)]]
        self.assertEqual(self.spans(), asked)
        self.assertEqual(
            {(q.registry, q.repository, q.reference) for q in self.upstream.queries}, {(DOCKER_IO, ALPINE, DIGEST)}
        )
        self.assertEqual(len(self.meter.calls["resumed"]), 3)

    def test_kept_bytes(self) -> None:
        """What came before the break can be read all the while, and is not asked for again."""
        self.script(Turn(cut=700_000), Turn(hold=True))
        turn = self.upstream.turns[1]
        fill = self.begin()
        self.pass_time(5)
        self.assertEqual(bytes_of(fill), DATA[:700_000])
        self.assertIs(fill.verdict, Verdict.FILLING)
        turn.release()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(sum(answer.delivered for answer in self.upstream.answers), len(DATA))

    def test_errors_in_between(self) -> None:
        """Once clients are being served, any failure of the origin is worth another try."""
        self.script(Turn(cut=10), Turn(status=500), Turn(error=OriginUnreachable("down")))
        self.script(Turn(cut=10), Turn(status=404))
        fill = self.begin()
        self.pass_time()
        self.settled(fill)

    def test_gives_up(self) -> None:
        """Without progress it gives up after so many tries, and keeps what has come."""
        self.script(Turn(cut=SEGMENT + 9), *[Turn(cut=0) for _ in range(RETRIES)], Turn(cut=0))
        fill = self.begin()
        self.pass_time()
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertEqual(len(self.upstream.queries), 1 + RETRIES)
        self.assertEqual(self.kept().hole(0), (SEGMENT + 9, len(DATA)))
        self.upstream.turns.clear()
        again = self.begin()
        self.pass_time(1)
        self.settled(again)
        self.assertEqual(self.spans()[-1], (SEGMENT + 9, None))

    def test_progress_counts(self) -> None:
        """With progress, however little, it never gives up."""
        self.script(*[Turn(cut=1000) for _ in range(5 * RETRIES)])
        fill = self.begin()
        self.pass_time(10 * RETRIES)
        self.settled(fill)

    def test_pauses(self) -> None:
        """Between tries it waits."""
        self.script(Turn(cut=5))
        self.begin()
        self.clock.advance(PAUSE * 0.9)
        self.assertEqual(len(self.upstream.queries), 1)
        self.clock.advance(PAUSE * 0.2)
        self.assertEqual(len(self.upstream.queries), 2)

    def test_left_alone(self) -> None:
        """An origin that limits our rate in mid-body, and says for how long, is left alone until then, whatever that
        takes: no try is lost to it."""
        limited = Turn(status=429, headers={"Retry-After": "60"})
        self.script(Turn(cut=5), *[Turn(cut=0)] * (RETRIES - 1), limited, Turn(error=OriginBusy("busy", seconds=7.0)))
        fill = self.begin()
        self.clock.pump([PAUSE] * RETRIES)
        self.assertEqual(len(self.upstream.queries), RETRIES + 1)
        for seconds, asked in ((59.9, 0), (0.2, 1), (6.9, 1), (0.2, 2)):
            self.clock.advance(seconds)
            self.assertEqual(len(self.upstream.queries), RETRIES + 1 + asked)
        self.pass_time(1)
        self.settled(fill)

    def test_limited_for_ever(self) -> None:
        """It is given up in the end."""
        self.script(Turn(cut=5), *[Turn(error=OriginBusy("busy", seconds=3600.0)) for _ in range(20)])
        fill = self.begin()
        self.clock.pump([PAUSE] + [120.0] * 10)
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertEqual(len(self.upstream.queries), 1 + 3 + RETRIES)

    def test_earlier_fill(self) -> None:
        """What an earlier fill has left is not fetched again, but hashed like the rest."""
        self.left((0, SEGMENT + 77))
        fill = self.begin()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(self.spans(), [(SEGMENT + 77, None)])

    def test_complete_earlier_fill(self) -> None:
        """What lacks nothing but the verdict is not asked for at all; nobody is enrolled for it."""
        self.left((0, len(DATA)))
        fill = self.begin()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(self.upstream.queries, [])
        self.assertEqual(fill.confirmed, set())
        self.assertIsNone(self.successResultOf(self.store.member(DOCKER_IO, ALPINE, DIGEST)))

    def test_holes(self) -> None:
        """Every hole in the marks is fetched, each by its own range, and nothing else is."""
        self.left((0, 10), (SEGMENT, SEGMENT + 5), (2 * SEGMENT, 3 * SEGMENT))
        fill = self.begin()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(self.spans(), [(10, SEGMENT), (SEGMENT + 5, 2 * SEGMENT), (3 * SEGMENT, None)])

    def test_first_hole_first(self) -> None:
        """A hole at the beginning is a range, not the whole."""
        self.left((SEGMENT, len(DATA)))
        fill = self.begin()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(self.spans(), [(0, SEGMENT)])

    def test_hole_without_size(self) -> None:
        """What was left without a size is gone on with to the end."""
        self.left((0, 5000), size=None)
        fill = self.begin()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(self.spans(), [(5000, None)])

    def test_range_ignored(self) -> None:
        """An origin that ignores the range is read and dropped up to the mark; for a hole in the middle, given up."""
        self.left((0, 10), (SEGMENT, SEGMENT + 5))
        self.script(Turn(ignore_range=True, stall=2 * SEGMENT), Turn(ignore_range=True))
        fill = self.begin()
        self.pass_time(1)
        self.settled(fill)
        self.assertTrue(self.upstream.answers[0].aborted)
        self.assertFalse(self.upstream.answers[1].aborted)

    def test_range_ignored_and_cut(self) -> None:
        """An origin that ignores the range and breaks off again before the mark has made no progress."""
        self.left((0, 2 * SEGMENT))
        self.script(*[Turn(ignore_range=True, cut=SEGMENT) for _ in range(RETRIES + 1)])
        fill = self.begin()
        self.pass_time()
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertEqual(self.kept().hole(0), (2 * SEGMENT, len(DATA)))

    def test_short_range(self) -> None:
        """A range that the origin answers with less than asked for is asked on from there."""
        self.left((0, 10))
        part = Turn(status=206, headers={"Content-Range": f"bytes 10-99/{len(DATA)}"}, body=DATA[10:100])
        self.script(part)
        fill = self.begin()
        self.pass_time()
        self.settled(fill)
        self.assertEqual(self.spans(), [(10, None), (100, None)])

    def test_unusable_leftovers(self) -> None:
        """What an earlier fill left and the origin contradicts is dropped; the same client gets the true bytes."""
        wrong = [
            Turn(status=416),
            Turn(content_range=f"bytes 77-{len(DATA) - 1}/{len(DATA)}"),
            Turn(content_range=f"bytes {SEGMENT}-{len(DATA)}/{len(DATA) + 1}"),
            Turn(content_range="nonsense"),
            Turn(headers={"Content-Range": None}),
        ]
        for turn in wrong:
            self.left((0, SEGMENT))
            self.upstream.queries.clear()
            self.script(turn)
            fill = self.begin()
            opened = fill.opened()
            self.pass_time(1)
            self.successResultOf(opened)
            self.settled(fill)
            self.assertEqual(self.spans(), [(SEGMENT, None), None])
            self.successResultOf(self.store.drop(DIGEST))

    def test_lying_first_length(self) -> None:
        """A length that some earlier answer lied about does not stand in the way for ever."""
        self.left((0, 100), size=1000)
        fill = self.begin()
        self.pass_time(1)
        self.settled(fill)
        self.assertEqual(self.spans(), [(100, None), None])

    def test_wrong_leftovers(self) -> None:
        """Wrong bytes that an earlier fill left are found out at the end; the next begins anew."""
        self.left((0, SEGMENT), data=bytes(len(DATA)))
        fill = self.begin()
        self.pass_time(1)
        self.assertIs(fill.verdict, Verdict.FAILED)
        again = self.begin()
        self.pass_time(1)
        self.settled(again)
        self.assertEqual(self.spans(), [(SEGMENT, None), None])

    def test_changed_while_served(self) -> None:
        """An origin that says another size in the middle is not believed; those served so far have failed."""
        other = len(DATA) + 7
        self.script(
            Turn(cut=SEGMENT),
            *[Turn(content_range=f"bytes {SEGMENT}-{other - 1}/{other}") for _ in range(RETRIES + 1)],
        )
        fill = self.begin()
        self.pass_time()
        self.assertIs(fill.verdict, Verdict.FAILED)
        self.assertEqual(self.kept().size, None)


class TurnTests(FillCase):
    """Registries with several URLs."""

    def turns(self) -> list[int]:
        """At which URLs the questions began."""
        return [asked.turn for asked in self.upstream.queries]

    def test_mid_body(self) -> None:
        """Each resumption after a failure begins at the next URL."""
        self.script(Turn(cut=SEGMENT), Turn(status=500), Turn(cut=10))
        fill = self.begin()
        self.pass_time()
        self.settled(fill)
        self.assertEqual(self.turns(), [0, 1, 2, 3])

    def test_next_hole(self) -> None:
        """What goes well goes on where it was."""
        self.left((0, 10), (SEGMENT, SEGMENT + 5))
        self.script(Turn(cut=5))
        fill = self.begin()
        self.pass_time()
        self.settled(fill)
        self.assertEqual(self.turns(), [0, 1, 1])

    def test_after_a_lie(self) -> None:
        """If wrong bytes came, whoever asks next is sent to another URL first; once it went well, none is shunned."""
        self.script(Turn(wrong=True), Turn(wrong=True), Turn(), Turn())
        for verdict in (Verdict.FAILED, Verdict.FAILED, Verdict.VERIFIED):
            fill = self.begin()
            self.pass_time(1)
            self.assertIs(fill.verdict, verdict)
        self.successResultOf(self.store.drop(DIGEST))
        self.begin()
        self.assertEqual(self.turns(), [0, 1, 2, 0])

    def test_before_the_answer(self) -> None:
        """While no client has its answer's head, a lie has the other URLs asked, each once, within the same ask."""
        for urls, asked in ((1, [0]), (2, [0, 1]), (3, [0, 1, 2])):
            self.upstream.queries.clear()
            self.fills = self.make_fills(urls=urls)
            self.upstream.rule = lambda _: Turn(status=204)
            opened = self.begin().opened()
            self.failureResultOf(opened, OriginLied)
            self.assertEqual(self.turns(), asked)
            self.upstream.rule = lambda _: None
        self.fills = self.make_fills(urls=2)
        self.script(Turn(body=b""))
        fill = self.begin()
        opened = fill.opened()
        self.pass_time(1)
        self.successResultOf(opened)
        self.settled(fill)
