"""Tests for L{crcache.rest}: how an origin is asked for what a file does not give."""

from __future__ import annotations

from crcache.asks import PullBlob
from crcache.errors import CrcacheError, OriginFailed, OriginLied
from crcache.grammar.digest import Digest
from crcache.interfaces import IBody
from crcache.outcomes import Blob, Relayed
from crcache.sending import IRest
from crcache.testing.upstream import Turn
from tests.story import LAYER, TOKEN, StoryCase

DIGEST = Digest.of(LAYER)


class RestTests(StoryCase):
    """What a blob's outcome brings along."""

    def setUp(self) -> None:
        super().setUp()
        self.add(LAYER)

    def rest(self, ask: PullBlob | None = None) -> IRest:
        """Of a blob, which has been served; its questions are forgotten."""
        found = self.outcome(ask or self.blob(DIGEST))
        assert isinstance(found, Blob | Relayed) and found.rest is not None
        self.settle()
        self.queries()
        return found.rest

    def asked_for(self, rest: IRest, start: int, stop: int | None) -> tuple[int, int | None] | None:
        """The range that the origin is asked for then."""
        self.successResultOf(rest.ask(start, stop)).abort()
        (query,) = self.queries()
        self.assertEqual((query.method, query.reference, query.kind), ("GET", DIGEST, "blob"))
        return query.span

    def test_spans(self) -> None:
        """What goes to the end is asked for as open-ended, and the whole without a range; of cold and warm blobs."""
        for _ in range(2):
            rest = self.rest()
            self.assertEqual(rest.digest, DIGEST)
            self.assertEqual(self.asked_for(rest, 5, 10), (5, 10))
            self.assertEqual(self.asked_for(rest, 5, len(LAYER)), (5, None))
            self.assertEqual(self.asked_for(rest, 5, None), (5, None))
            self.assertIsNone(self.asked_for(rest, 0, len(LAYER)))
            self.assertEqual(self.asked_for(rest, 0, 10), (0, 10))

    def test_turns(self) -> None:
        """Each time another of the registry's URLs is the first."""
        rest = self.rest()
        for _ in range(3):
            self.successResultOf(rest.ask(5, None)).abort()
        self.assertEqual([query.turn for query in self.queries()], [0, 1, 2])

    def test_answers(self) -> None:
        """A part that begins where it should and a whole are taken; all else is the origin's fault."""
        rest = self.rest()
        for turn, expected in (
            (Turn(), 206),
            (Turn(ignore_range=True), 200),
            (Turn(status=503), OriginFailed),
            (Turn(status=416), OriginLied),
            (Turn(content_range="bytes 6-9/14999"), OriginLied),
            (Turn(content_range=f"bytes 5-9/{len(LAYER) + 1}"), OriginLied),
            (Turn(ignore_range=True, body=b"another"), OriginLied),
        ):
            self.upstream.turns = [turn]
            asking = rest.ask(5, 10)
            if isinstance(expected, int):
                answer = self.successResultOf(asking)
                self.assertEqual(answer.status, expected)
                answer.abort()
            else:
                problem: CrcacheError = self.failureResultOf(asking, expected).value
                self.assertTrue(problem.message)

    def test_private(self) -> None:
        """What only the client's own credentials open is asked for with them."""
        self.close_to_strangers()
        rest = self.rest(self.blob(DIGEST, authorization=TOKEN))
        self.successResultOf(rest.ask(5, None)).abort()
        self.assertEqual(self.queries()[-1].authorization, TOKEN)

    def test_damaged(self) -> None:
        """Damaged content is dropped, once; that it cannot be is no more than a line in the log."""
        rest = self.rest()
        body = self.body()
        self.store.broken.add("drop")
        rest.damaged(body)
        self.body()
        self.store.broken.clear()
        rest.damaged(body)
        self.assertIsNone(self.successResultOf(self.store.find(DIGEST)))
        self.rest()
        rest.damaged(body)
        self.body()

    def body(self) -> IBody:
        """What is there."""
        body = self.successResultOf(self.store.find(DIGEST))
        assert body is not None
        return body
