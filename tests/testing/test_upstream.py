"""L{crcache.testing.upstream}: the fake does what it is told, so that tests that use it mean something."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crcache.errors import BodyCut, OriginTimeout
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Repository, Tag
from crcache.interfaces import IAnswer, IUpstream
from crcache.testing.upstream import FakeAnswer, FakeUpstream, Turn

DATA = bytes(range(256)) * 1000
DIGEST = Digest.of(DATA)


class Taking:
    """A consumer that notes everything."""

    def __init__(self) -> None:
        self.data = b""
        self.producers: list[Any] = []
        self.limit = 1 << 30

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """It begins."""
        self.producers.append(producer)

    def unregisterProducer(self) -> None:
        """It ends."""
        self.producers.append(None)

    def write(self, data: bytes) -> None:
        """Some of it."""
        self.data += data
        if len(self.data) >= self.limit:
            self.producers[0].pauseProducing()


class FakeUpstreamTests(SynchronousTestCase):
    """An origin in memory."""

    def setUp(self) -> None:
        """Have one."""
        self.upstream = FakeUpstream(DATA)

    def ask(self, *turns: Turn, **more: Any) -> FakeAnswer:
        """One question."""
        self.upstream.turns.extend(turns)
        query = Query(DOCKER_IO, Repository("a/b"), "blob", more.pop("reference", DIGEST), "id", **more)
        answer = self.successResultOf(self.upstream.ask(query))
        assert isinstance(answer, FakeAnswer)
        return answer

    def test_interfaces(self) -> None:
        """It is what it stands in for."""
        verifyObject(IUpstream, self.upstream)
        answer = self.ask()
        verifyObject(IAnswer, answer)
        verifyObject(IPushProducer, answer)

    def test_content(self) -> None:
        """It gives what it has, whole or in part, and 404 or 416 for the rest."""
        cases: list[tuple[Any, int, str | None, bytes]] = [
            (None, 200, None, DATA),
            ((5, 10), 206, f"bytes 5-9/{len(DATA)}", DATA[5:10]),
            ((5, None), 206, f"bytes 5-{len(DATA) - 1}/{len(DATA)}", DATA[5:]),
            ((len(DATA), None), 416, f"bytes */{len(DATA)}", b""),
        ]
        for span, status, part, body in cases:
            answer = self.ask(span=span)
            parts = answer.headers.getRawHeaders("Content-Range")
            self.assertEqual((answer.status, parts, answer.length), (status, part and [part], len(body)))
            taking = Taking()
            self.successResultOf(answer.deliver(taking))  # type: ignore[arg-type]
            self.assertEqual((taking.data, taking.producers), (body, [answer, None]))
        self.assertEqual(self.ask(reference=Tag("nowhere")).status, 404)
        self.assertEqual(len(self.upstream.queries), 5)

    def test_head(self) -> None:
        """A HEAD has the head of the GET, and no body."""
        answer = self.ask(method="HEAD")
        self.assertEqual(answer.length, len(DATA))
        self.assertEqual(answer.headers.getRawHeaders("Docker-Content-Digest"), [str(DIGEST)])
        taking = Taking()
        self.successResultOf(answer.deliver(taking))  # type: ignore[arg-type]
        self.assertEqual(taking.data, b"")

    def test_cut(self) -> None:
        """A body breaks off where it is told to."""
        for cut in (0, 1, 65536, len(DATA)):
            taking = Taking()
            self.failureResultOf(self.ask(Turn(cut=cut)).deliver(taking), BodyCut)  # type: ignore[arg-type]
            self.assertEqual((taking.data, taking.producers[-1]), (DATA[:cut], None))

    def test_stall(self) -> None:
        """A body waits where it is told to, until it is released."""
        for stall in (0, 1, 65536, len(DATA)):
            turn, taking = Turn(stall=stall), Taking()
            done = self.ask(turn).deliver(taking)  # type: ignore[arg-type]
            self.assertNoResult(done)
            self.assertEqual(taking.data, DATA[:stall])
            turn.release()
            self.successResultOf(done)
            self.assertEqual(taking.data, DATA)

    def test_hold(self) -> None:
        """A question is answered only once it is released."""
        turn = Turn(hold=True)
        self.upstream.turns = [turn]
        asked = self.upstream.ask(Query(DOCKER_IO, Repository("a/b"), "blob", DIGEST, "id"))
        self.assertNoResult(asked)
        turn.release()
        self.successResultOf(asked)

    def test_paused(self) -> None:
        """It obeys a consumer that has enough, and goes on when told."""
        taking = Taking()
        taking.limit = 100_000
        answer = self.ask()
        done = answer.deliver(taking)  # type: ignore[arg-type]
        self.assertTrue(answer.paused)
        self.assertEqual(len(taking.data), 131072)
        while answer.paused:
            answer.resumeProducing()
        self.successResultOf(done)
        self.assertEqual(taking.data, DATA)

    def test_aborted(self) -> None:
        """An aborted or cancelled one brings nothing more."""
        for cancel in (False, True):
            turn, taking = Turn(stall=10), Taking()
            answer = self.ask(turn)
            done = answer.deliver(taking)  # type: ignore[arg-type]
            (done.cancel if cancel else answer.abort)()
            self.failureResultOf(done, CancelledError if cancel else BodyCut)
            turn.release()
            answer.abort()
            self.assertEqual((taking.data, answer.aborted, taking.producers[-1]), (DATA[:10], True, None))

    def test_lies(self) -> None:
        """It lies as told: other bytes, other ranges, no length, another status, no answer."""
        taking = Taking()
        self.successResultOf(self.ask(Turn(wrong=True)).deliver(taking))  # type: ignore[arg-type]
        self.assertEqual(len(taking.data), len(DATA))
        self.assertNotEqual(taking.data, DATA)
        self.assertEqual(self.ask(Turn(ignore_range=True), span=(5, 10)).status, 200)
        claimed = self.ask(Turn(content_range="bytes 1-2/3"), span=(5, 10))
        self.assertEqual(claimed.headers.getRawHeaders("Content-Range"), ["bytes 1-2/3"])
        self.assertIsNone(self.ask(Turn(unsized=True)).length)
        self.assertEqual(self.ask(Turn(status=503)).status, 503)
        self.upstream.turns = [Turn(error=OriginTimeout("slow"))]
        query = Query(DOCKER_IO, Repository("a/b"), "blob", DIGEST, "id")
        self.failureResultOf(self.upstream.ask(query), OriginTimeout)

    def test_clock(self) -> None:
        """With a clock nothing comes before the caller has returned."""
        clock, taking = Clock(), Taking()
        self.upstream = FakeUpstream(DATA, clock=clock)
        done = self.ask().deliver(taking)  # type: ignore[arg-type]
        self.assertNoResult(done)
        self.assertEqual(taking.data, b"")
        clock.advance(0)
        self.successResultOf(done)
        self.assertEqual(taking.data, DATA)
