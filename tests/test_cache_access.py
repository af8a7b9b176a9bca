"""Tests for L{crcache.cache}: knowing a digest opens nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crcache.errors import BlobUnknown, OriginFailed, OriginLied, RangeNotSatisfiable, Unauthorized
from crcache.facts import Fetched, Membership, Query
from crcache.grammar.digest import Digest
from crcache.grammar.ranges import ContentRange
from crcache.outcomes import Blob, CacheStatus, Relayed
from crcache.testing.upstream import Turn
from tests.story import (
    CHALLENGE,
    LAYER,
    OTHER_REGISTRY,
    OTHER_REPOSITORY,
    REGISTRY,
    REPOSITORY,
    TOKEN,
    StoryCase,
)

DIGEST = Digest.of(LAYER)


def only(refusal: Turn, wanted: Callable[[Query], bool]) -> Callable[[Query], Turn | None]:
    """A rule: what is not wanted is refused."""
    return lambda query: None if wanted(query) else refusal


class ElsewhereTests(StoryCase):
    """Content that is on disk through one repository, asked for through another."""

    def setUp(self) -> None:
        super().setUp()
        self.add(LAYER)
        self.fetch(self.blob(DIGEST))
        self.asked()
        self.others = [
            self.blob(DIGEST, repository=OTHER_REPOSITORY),
            self.blob(DIGEST, registry=OTHER_REGISTRY),
        ]

    def test_confirmed(self) -> None:
        """The origin's HEAD is asked whether it has it, once; the body is not fetched again."""
        for ask in self.others:
            for question in ([f"HEAD {DIGEST}"], []):
                found, data = self.fetch(ask)
                self.assertEqual((data, found.cache), (LAYER, CacheStatus.HIT))
                self.assertEqual(self.asked(), question)

    def test_head(self) -> None:
        """So is it for a HEAD."""
        for ask in (self.blob(DIGEST, repository=OTHER_REPOSITORY, body=False),) * 2:
            self.assertEqual(self.outcome(ask), Blob(DIGEST, len(LAYER), None, CacheStatus.HIT, 0.0))
        self.assertEqual(self.asked(), [f"HEAD {DIGEST}"])

    def test_not_there(self) -> None:
        """An origin that does not have it has the last word, each time."""
        self.always(Turn(status=404))
        for ask in self.others * 2:
            self.refusal(ask, BlobUnknown)
        self.assertEqual(len(self.asked()), 4)

    def test_without_a_word(self) -> None:
        """An origin that cannot be asked opens nothing."""
        self.always(Turn(status=500))
        for ask in self.others:
            self.refusal(ask, OriginFailed)

    def test_refused(self) -> None:
        """An origin that wants credentials gets them from the client, or its challenge goes there."""
        self.close_to_strangers()
        for ask in self.others:
            error = self.refusal(ask, Unauthorized)
            self.assertEqual(error.headers, (("WWW-Authenticate", CHALLENGE),))

    def test_clients_own(self) -> None:
        """Credentials of the client's open it for those whom they let in: the bytes may come from disk."""
        self.close_to_strangers()
        before = dict(self.store.members)
        own = self.blob(DIGEST, repository=OTHER_REPOSITORY, authorization=TOKEN)
        found, data = self.fetch(own)
        self.assertEqual((data, found.cache), (LAYER, CacheStatus.HIT))
        self.assertEqual([query.method for query in self.queries()], ["HEAD", "HEAD"])
        added = [member for key, member in self.store.members.items() if key not in before]
        self.assertEqual([(member.open, member.fetched) for member in added], [(False, Fetched.NEVER)])
        self.refusal(self.others[0], Unauthorized)

    def test_no_heads(self) -> None:
        """An origin that answers no HEADs gives its own body: relayed, and checked against the digest."""
        self.upstream.rule = only(Turn(status=405), lambda query: query.method == "GET")
        for ask in self.others:
            found = self.outcome(ask)
            assert isinstance(found, Relayed)
            self.assertEqual((found.answer.status, found.digest), (200, DIGEST))
            found.answer.abort()
            self.assertEqual(self.asked(), [f"HEAD {DIGEST}", f"GET {DIGEST}"])


class MeanwhileTests(StoryCase):
    """A blob that is being fetched through one repository, asked for through another of the same registry."""

    def setUp(self) -> None:
        super().setUp()
        self.add(LAYER)
        self.turn = Turn(stall=100)
        self.upstream.turns = [self.turn]
        found = self.outcome(self.blob(DIGEST))
        assert isinstance(found, Blob)
        self.first = found
        self.asked()

    def test_confirmed(self) -> None:
        """Its origin confirms it with a HEAD, and it follows the same fetch; then it is a member, too."""
        found = self.outcome(self.blob(DIGEST, repository=OTHER_REPOSITORY))
        assert isinstance(found, Blob)
        self.assertEqual(self.asked(), [f"HEAD {DIGEST}"])
        self.assertEqual((found.cache, found.following), (CacheStatus.COLLAPSED, True))
        self.turn.release()
        self.assertEqual(self.read(found), LAYER)
        self.assertIn((REGISTRY, OTHER_REPOSITORY, DIGEST), self.store.members)

    def test_not_there(self) -> None:
        """If it is not there, the fetch is none of its business, and goes on for the other."""
        self.always(Turn(status=404))
        self.refusal(self.blob(DIGEST, repository=OTHER_REPOSITORY), BlobUnknown)
        self.turn.release()
        self.assertEqual(self.read(self.first), LAYER)

    def test_no_heads(self) -> None:
        """If HEADs are refused, it gets a body of its own."""
        self.upstream.rule = only(Turn(status=405), lambda query: query.method == "GET")
        found = self.outcome(self.blob(DIGEST, repository=OTHER_REPOSITORY))
        assert isinstance(found, Relayed)
        self.assertEqual(found.digest, DIGEST)
        found.answer.abort()
        self.turn.release()
        self.assertEqual(self.read(self.first), LAYER)

    def test_own_word(self) -> None:
        """Bytes that are in their place before it is noted whose they are need no second word from the origin."""
        fill = self.fills.running(REGISTRY, DIGEST)
        assert fill is not None
        fill.verified(len(LAYER))
        self.store.put(DIGEST, LAYER)
        self.always(Turn(status=500))
        found, data = self.fetch(self.blob(DIGEST))
        self.assertEqual((data, found.cache), (LAYER, CacheStatus.HIT))
        self.refusal(self.blob(DIGEST, repository=OTHER_REPOSITORY), OriginFailed)

    def test_other_registry(self) -> None:
        """Through another registry it is fetched from there: unverified bytes are nobody else's."""
        self.upstream.turns = []
        found, data = self.fetch(self.blob(DIGEST, registry=OTHER_REGISTRY))
        self.assertEqual((data, found.cache), (LAYER, CacheStatus.STORED))
        self.assertEqual(self.asked(), [f"GET {DIGEST}"])


class RefusedMeanwhileTests(StoryCase):
    """A fetch that waits for its origin's word."""

    def test_anothers_refusal(self) -> None:
        """What one repository's origin refuses says nothing of another, which is asked itself."""
        self.add(LAYER)
        for status in (401, 403, 404, 500):
            held = Turn(hold=True, status=status)
            self.upstream.rule = only(held, lambda query: query.repository == OTHER_REPOSITORY)
            refused = self.cache.handle(self.blob(DIGEST))
            waiting = self.cache.handle(self.blob(DIGEST, repository=OTHER_REPOSITORY))
            held.release()
            self.failureResultOf(refused)
            found = self.successResultOf(waiting)
            assert isinstance(found, Relayed), status
            self.assertEqual((found.answer.status, found.digest), (200, DIGEST))
            found.answer.abort()


class PrivateTests(StoryCase):
    """What only a client's own credentials open."""

    def setUp(self) -> None:
        super().setUp()
        self.add(LAYER)
        self.close_to_strangers()

    def test_challenge(self) -> None:
        """Without credentials the client gets the origin's challenge, and nothing is left on disk."""
        for body in (True, False):
            error = self.refusal(self.blob(DIGEST, body=body), Unauthorized)
            self.assertEqual(error.headers, (("WWW-Authenticate", CHALLENGE),))
        self.assertEqual(self.written(), 0)

    def test_relayed(self) -> None:
        """If it cannot be kept it is relayed, checked against its digest; the next client gets the challenge."""
        self.store.broken = {"ingest"}
        found = self.outcome(self.blob(DIGEST, authorization=TOKEN))
        assert isinstance(found, Relayed)
        self.assertEqual((found.answer.status, found.digest, found.cache), (200, DIGEST, CacheStatus.BYPASS))
        self.assertEqual([query.authorization for query in self.queries()], [None, TOKEN])
        found.answer.abort()
        self.assertEqual(self.written(), 0)
        self.refusal(self.blob(DIGEST), Unauthorized)

    def relayed(self, **asked: Any) -> Relayed:
        """What becomes of an ask with a client's own credentials, if it cannot be kept; its answer is given up."""
        self.store.broken = {"ingest"}
        found = self.outcome(self.blob(DIGEST, authorization=TOKEN, **asked))
        assert isinstance(found, Relayed)
        found.answer.abort()
        return found

    def private(self, turn: Turn | None = None, head: Turn | None = None) -> None:
        """An origin that answers so, whoever has the credentials; everybody else it refuses."""

        def rule(query: Query) -> Turn | None:
            if query.authorization != TOKEN:
                return Turn(status=401)
            return head if query.method == "HEAD" else turn

        self.upstream.rule = rule

    def test_range(self) -> None:
        """A range of it is asked for as such, and has no digest to be checked against."""
        found = self.relayed(span=(10, 20))
        self.assertEqual((found.answer.status, found.answer.length, found.digest), (206, 10, None))
        self.assertEqual((found.start, found.part), (10, ContentRange(10, 20, len(LAYER))))
        self.assertEqual(self.queries()[-1].span, (10, 20))

    def test_open_ended(self) -> None:
        """An open-ended range is cut out of the whole, which has one; of an unknown length that cannot be said."""
        for start in (0, 100):
            found = self.relayed(span=(start, None))
            self.assertEqual((found.answer.status, found.start, found.digest), (200, 0, DIGEST))
            self.assertEqual(found.part, ContentRange(start, len(LAYER), len(LAYER)))
            self.assertIsNone(self.queries()[-1].span)
        error = self.refusal(self.blob(DIGEST, authorization=TOKEN, span=(len(LAYER), None)), RangeNotSatisfiable)
        self.assertEqual(error.headers, (("Content-Range", f"bytes */{len(LAYER)}"),))
        self.assertTrue(self.upstream.answers[-1].aborted)
        self.private(Turn(unsized=True))
        self.refusal(self.blob(DIGEST, authorization=TOKEN, span=(0, None)), OriginLied)
        self.assertTrue(self.upstream.answers[-1].aborted)

    def test_range_of_nothing(self) -> None:
        """An empty body is no part: the whole is the only answer."""
        self.private(Turn(body=b""))
        for span in ((0, None), (0, 5), (3, None)):
            found = self.relayed(span=span)
            self.assertEqual((found.answer.status, found.digest, found.part), (200, DIGEST, None))

    def test_range_ignored(self) -> None:
        """What an origin that ignores the range sends is cut to its first bytes; nothing stands for later ones."""
        self.private(Turn(ignore_range=True))
        found = self.relayed(span=(0, 20))
        self.assertEqual((found.digest, found.part), (None, ContentRange(0, 20, len(LAYER))))
        self.refusal(self.blob(DIGEST, authorization=TOKEN, span=(10, 20)), OriginLied)
        self.assertTrue(self.upstream.answers[-1].aborted)
        self.private(Turn(ignore_range=True, unsized=True))
        self.refusal(self.blob(DIGEST, authorization=TOKEN, span=(0, 20)), OriginLied)

    def test_whole_as_a_range(self) -> None:
        """A range that is all of it is checked as the whole is; a part cannot be."""
        self.private()
        size = len(LAYER)
        for span, digest in (((0, None), DIGEST), ((0, size), DIGEST), ((0, size + 9), DIGEST), ((0, 9), None)):
            self.assertEqual(self.relayed(span=span).digest, digest)

    def test_part_of_another_length(self) -> None:
        """Where an origin's part ends matters only if nobody knows the size: the range is what was asked for."""
        size = len(LAYER)
        for line, stop, total in (
            (f"bytes 10-14/{size}", 20, size),
            (f"bytes 10-{size - 1}/{size}", 20, size),
            ("bytes 10-14/*", 15, None),
            ("bytes 10-29/*", 20, None),
        ):
            self.private(Turn(content_range=line, unsized=True))
            self.assertEqual(self.relayed(span=(10, 20)).part, ContentRange(10, stop, total))

    def test_last_bytes(self) -> None:
        """The last bytes are asked for as a range, once a HEAD has told the size: never as the whole."""
        self.private()
        size = len(LAYER)
        found = self.relayed(suffix=5)
        self.assertEqual((found.answer.status, found.digest), (206, None))
        self.assertEqual(found.part, ContentRange(size - 5, size, size))
        own = [(each.method, each.span) for each in self.queries() if each.authorization == TOKEN]
        self.assertEqual(own, [("HEAD", None), ("GET", (size - 5, size))])
        self.assertEqual(self.relayed(suffix=size + 5).digest, DIGEST)
        self.refusal(self.blob(DIGEST, authorization=TOKEN, suffix=0), RangeNotSatisfiable)

    def test_last_bytes_of_nobody_knows_what(self) -> None:
        """If no HEAD tells it, or the answer is of another size, the client is sent elsewhere."""
        self.store.broken = {"ingest"}
        for head in (Turn(status=405), Turn(status=403), Turn(status=204), Turn(unsized=True), Turn(body=bytes(99))):
            self.private(head=head)
            self.refusal(self.blob(DIGEST, authorization=TOKEN, suffix=5), OriginLied)

    def test_last_bytes_of_a_known_size(self) -> None:
        """If a manifest has told the size, no HEAD is asked."""
        self.store.enrol(REGISTRY, REPOSITORY, [Membership(DIGEST, None, len(LAYER))])
        self.private()
        self.assertEqual(self.relayed(suffix=5).start, len(LAYER) - 5)
        self.assertEqual({each.method for each in self.queries()}, {"GET"})

    def test_not_content(self) -> None:
        """Any other 2xx than 200 and the part that was asked for is no blob, and is given up."""
        self.store.broken = {"ingest"}
        for turn in (Turn(status=202), Turn(status=206), Turn(content_range="bytes 5-9/100")):
            answers = {TOKEN: turn}
            self.upstream.rule = lambda query, answers=answers: answers.get(query.authorization, Turn(status=401))  # type: ignore[misc]
            span = None if turn.status in (202, 206) else (1, 3)
            self.refusal(self.blob(DIGEST, authorization=TOKEN, span=span), OriginLied)
            self.assertTrue(self.upstream.answers[-1].aborted)

    def test_noted_as_private(self) -> None:
        """What is noted as obtained with somebody's credentials only is opened by the origin's word alone."""
        self.store.put(DIGEST, LAYER)
        self.store.enrol(REGISTRY, REPOSITORY, [Membership(DIGEST, None, None, open=False)])
        self.refusal(self.blob(DIGEST), Unauthorized)
        found = self.outcome(self.blob(DIGEST, authorization=TOKEN))
        assert isinstance(found, Relayed)
        found.answer.abort()
        self.store.enrol(REGISTRY, REPOSITORY, [Membership(DIGEST, open=False, fetched=Fetched.PRIVATELY)])
        self.refusal(self.blob(DIGEST), Unauthorized)
        self.assertEqual(self.fetch(self.blob(DIGEST, authorization=TOKEN))[1], LAYER)

    def test_head_of_something_else(self) -> None:
        """A HEAD's answer that is of another digest, or no 200, opens nothing: the body must prove it."""
        self.store.put(DIGEST, LAYER)
        other = Digest.of(b"another")
        for turn in (Turn(status=204), Turn(headers={"Docker-Content-Digest": str(other)})):
            self.upstream.rule = lambda query, turn=turn: turn if query.method == "HEAD" else None  # type: ignore[misc]
            found = self.outcome(self.blob(DIGEST))
            assert isinstance(found, Relayed)
            self.assertEqual(found.digest, DIGEST)
            found.answer.abort()
        self.assertEqual(self.store.members, {})

    def test_head_refused(self) -> None:
        """Where only GET is allowed, as with signed links, the blob is relayed."""
        self.store.put(DIGEST, LAYER)
        for status in (400, 403, 405):
            self.upstream.rule = lambda query, status=status: (  # type: ignore[misc]
                Turn(status=status) if query.method == "HEAD" else None
            )
            found = self.outcome(self.blob(DIGEST))
            assert isinstance(found, Relayed)
            self.assertEqual((found.answer.status, found.digest), (200, DIGEST))
            found.answer.abort()

    def test_another_size(self) -> None:
        """An origin that says another size than the right file has speaks of something else: its body must prove it."""
        self.store.put(DIGEST, LAYER)
        closed = Turn(status=401)
        self.upstream.rule = lambda query: Turn(body=b"short") if query.authorization == TOKEN else closed
        found = self.outcome(self.blob(DIGEST, authorization=TOKEN))
        assert isinstance(found, Relayed)
        self.assertEqual(found.digest, DIGEST)
        found.answer.abort()
        self.assertEqual(self.store.members, {})

    def test_head(self) -> None:
        """A HEAD of it is answered, and noted as what it is."""
        found = self.outcome(self.blob(DIGEST, authorization=TOKEN, body=False))
        self.assertEqual(found, Blob(DIGEST, len(LAYER), None, CacheStatus.MISS))
        (member,) = self.store.members.values()
        self.assertEqual((member.open, member.fetched), (False, Fetched.NEVER))

    def test_opened_already(self) -> None:
        """What crcache's own way has got through this repository is everyone's, also when the origin closes."""
        self.always(None)
        self.fetch(self.blob(DIGEST))
        self.close_to_strangers()
        self.asked()
        self.assertEqual(self.fetch(self.blob(DIGEST))[1], LAYER)
        self.assertEqual(self.asked(), [])
        self.assertTrue(self.store.members[REGISTRY, REPOSITORY, DIGEST].open)
