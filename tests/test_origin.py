"""Tests for L{crcache.origin}."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from crcache.asks import Client
from crcache.errors import (
    BlobUnknown,
    CrcacheError,
    Denied,
    ManifestUnknown,
    NameUnknown,
    OriginBusy,
    OriginFailed,
    OriginRefused,
    OriginTimeout,
    OriginUnreachable,
    RangeNotSatisfiable,
    Unauthorized,
)
from crcache.facts import MOST_CHALLENGES, Kind, Query
from crcache.grammar.digest import Digest
from crcache.interfaces import IAnswer
from crcache.origin import Granted, Origin
from crcache.privacies import Privacies
from crcache.store.memory import Memory
from crcache.testing.upstream import FakeUpstream, Turn
from tests.story import CHALLENGE, REGISTRY, REPOSITORY, TOKEN

DATA = b"content"
QUERY = Query(REGISTRY, REPOSITORY, "blob", Digest.of(DATA), "id-1")
OWN = Turn(status=401, headers={"WWW-Authenticate": CHALLENGE})


class OddUpstream(FakeUpstream):
    """Sends headers that are not text.

    @ivar raw: further lines.
    @ivar broken: whether there are no headers at all, which cannot be.
    """

    def __init__(self, *bodies: bytes) -> None:
        super().__init__(*bodies)
        self.raw: dict[bytes, bytes] = {}
        self.broken = False

    @classmethod
    def like(cls, other: FakeUpstream) -> OddUpstream:
        """One that has what another has."""
        made = cls()
        made.content, made.types = other.content, other.types
        return made

    def ask(self, query: Query) -> Deferred[IAnswer]:
        """As L{FakeUpstream.ask}."""
        asking = super().ask(query)
        for name, value in self.raw.items():
            self.answers[-1].headers.setRawHeaders(name, [value])
        if self.broken:
            self.answers[-1].headers = None  # type: ignore[assignment]
        return asking


class AskTests(SynchronousTestCase):
    """L{Origin.ask}."""

    def setUp(self) -> None:
        self.upstream = OddUpstream(DATA)
        self.privacies = Privacies(Memory(lambda: self.now), lambda: self.now, lambda _: 10.0)
        self.now = 1_700_000_000.0
        self.origin = Origin(self.upstream, self.privacies)

    def ask(self, query: Query = QUERY, client: Client | None = None) -> Deferred[Granted]:
        """Put a question."""
        return Deferred.fromCoroutine(self.origin.ask(query, client))

    def used(self) -> list[object]:
        """With what the origin has been asked."""
        return [query.authorization for query in self.upstream.queries]

    def test_open(self) -> None:
        """A 2xx in crcache's own way is for everyone, also if the client brought credentials."""
        for client in (None, Client("id-1"), Client("id-1", authorization=TOKEN)):
            granted = self.successResultOf(self.ask(client=client))
            self.assertEqual((granted.answer.status, granted.open), (200, True))
        self.assertEqual(self.used(), [None] * 3)

    def test_clients_own(self) -> None:
        """What only the client's credentials open is not for everyone; the first answer does not stay open."""
        for status in (401, 403):
            self.upstream.turns = [Turn(status=status)]
            granted = self.successResultOf(self.ask(client=Client("id-1", authorization=TOKEN)))
            self.assertEqual((granted.answer.status, granted.open), (200, False))
            self.assertEqual(self.used(), [None, TOKEN])
            for answer in self.upstream.answers[:-1]:
                self.successResultOf(cast("Deferred[None]", answer._done))
            self.upstream.queries.clear()
            self.upstream.answers.clear()

    def test_clients_own_at_once(self) -> None:
        """A question that has a client's credentials already is put with them alone, its answer not for everyone."""
        query = replace(QUERY, authorization=TOKEN)
        client = Client("id-1", authorization=TOKEN)
        self.assertFalse(self.successResultOf(self.ask(query, client)).open)
        self.upstream.turns = [OWN]
        self.failureResultOf(self.ask(query, client), Unauthorized)
        self.assertEqual(self.used(), [TOKEN, TOKEN])

    def test_nothing_to_offer(self) -> None:
        """Without credentials of a client's there is one question, and its 401 is the answer."""
        for client in (None, Client("id-1")):
            self.upstream.turns = [OWN]
            error = self.failureResultOf(self.ask(client=client), Unauthorized).value
            self.assertEqual(error.headers, (("WWW-Authenticate", CHALLENGE),))
        self.assertEqual(self.used(), [None, None])

    def test_refused_twice(self) -> None:
        """If the client's credentials are refused as well, the challenge is the one that they got."""
        self.upstream.turns = [OWN, Turn(status=401, headers={"WWW-Authenticate": "Basic realm=b"})]
        error = self.failureResultOf(self.ask(client=Client("id-1", authorization=TOKEN)), Unauthorized).value
        self.assertEqual(error.headers, (("WWW-Authenticate", "Basic realm=b"),))

    def test_statuses(self) -> None:
        """Whatever is not 2xx is an error that says what it means to the client."""
        cases: tuple[tuple[int, Kind, type[CrcacheError], int], ...] = (
            (400, "blob", OriginRefused, 502),
            (403, "blob", Denied, 403),
            (404, "blob", BlobUnknown, 404),
            (404, "manifest", ManifestUnknown, 404),
            (404, "tags", NameUnknown, 404),
            (408, "blob", OriginTimeout, 504),
            (410, "manifest", ManifestUnknown, 404),
            (429, "blob", OriginBusy, 503),
            (500, "blob", OriginFailed, 502),
            (503, "manifest", OriginFailed, 502),
            (304, "blob", OriginRefused, 502),
        )
        for status, kind, expected, told in cases:
            self.upstream.turns = [Turn(status=status)]
            query = Query(REGISTRY, REPOSITORY, kind, Digest.of(DATA), "id-1")
            error = self.failureResultOf(self.ask(query), expected).value
            self.assertEqual(error.status, told, (status, kind))

    def test_told_when(self) -> None:
        """Clients are told when to come back if the origin says so: a limit of its rate always has a time."""
        for status, said, told in ((503, "30", "30"), (500, None, None), (429, "7", "7"), (429, None, "5")):
            self.upstream.turns = [Turn(status=status, headers={} if said is None else {"Retry-After": said})]
            error = self.failureResultOf(self.ask(Query(REGISTRY, REPOSITORY, "blob", Digest.of(DATA), "id-1"))).value
            assert isinstance(error, CrcacheError)
            self.assertEqual(dict(error.headers).get("Retry-After"), told, (status, said))

    def test_other_successes(self) -> None:
        """A 206 is as good as a 200."""
        query = Query(REGISTRY, REPOSITORY, "blob", Digest.of(DATA), "id-1", span=(1, None))
        self.assertEqual(self.successResultOf(self.ask(query)).answer.status, 206)

    def test_past_the_end(self) -> None:
        """A 416 to a range is the client's, with the size; without one it is the origin's nonsense."""
        query = replace(QUERY, span=(len(DATA), None))
        error = self.failureResultOf(self.ask(query), RangeNotSatisfiable).value
        self.assertEqual((error.status, error.headers), (416, (("Content-Range", f"bytes */{len(DATA)}"),)))
        self.upstream.turns = [Turn(status=416)]
        self.failureResultOf(self.ask(), OriginRefused)

    def test_no_answer(self) -> None:
        """What the upstream fails with comes through, and the client's credentials are not tried on it."""
        self.upstream.turns = [Turn(error=OriginUnreachable("nobody there"))]
        self.failureResultOf(self.ask(client=Client("id-1", authorization=TOKEN)), OriginUnreachable)
        self.assertEqual(self.used(), [None])

    def test_any_bytes(self) -> None:
        """A refusal whose headers are no text is a refusal like any other."""
        self.upstream.turns = [Turn(status=416)]
        self.upstream.raw = {b"Content-Range": b"bytes */\xff"}
        query = replace(QUERY, span=(len(DATA), None))
        error = self.failureResultOf(self.ask(query), RangeNotSatisfiable).value
        self.assertEqual(error.headers, (("Content-Range", "bytes */\xff"),))
        self.upstream.turns = [Turn(status=401)]
        self.upstream.raw = {b"WWW-Authenticate": b'Basic realm="f\xfcr"'}
        error = self.failureResultOf(self.ask(), Unauthorized).value
        self.assertEqual(error.headers, (("WWW-Authenticate", 'Basic realm="f\xfcr"'),))

    def test_defect(self) -> None:
        """Should an answer not be understood at all, its connection is not lost for it."""
        self.upstream.turns = [Turn(status=401)]
        self.upstream.broken = True
        self.failureResultOf(self.ask(), AttributeError)
        self.assertTrue(self.upstream.answers[0].aborted)

    def test_large_refusal(self) -> None:
        """A long error page is not read."""
        self.upstream.turns = [Turn(status=500, body=b"x" * (1 << 20))]
        self.failureResultOf(self.ask(), OriginFailed)
        (answer,) = self.upstream.answers
        self.assertTrue(answer.aborted)
        self.assertEqual(answer.delivered, 0)

    def test_huge_challenges(self) -> None:
        """Of what registries of strangers ask with, a few KiB are remembered, and none of it that nobody could use."""
        self.privacies.refused(QUERY, ("x" * (1 << 20), CHALLENGE, *("Basic realm=a",) * 1000))
        found = self.successResultOf(Deferred.fromCoroutine(self.privacies.find(REGISTRY, REPOSITORY)))
        assert found is not None
        self.assertEqual(found.challenges, (CHALLENGE, *("Basic realm=a",) * (MOST_CHALLENGES - 1)))
