"""Private content, while something else is under way: fetches that are promised, that end otherwise, that go on."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred

from crcache.asks import PullBlob
from crcache.errors import BlobUnknown, BodyCut, Denied, OriginLied, Unauthorized
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Repository, Tag
from crcache.outcomes import Blob, CacheStatus, Outcome
from crcache.secret import Secret
from crcache.store.marks import Marks
from crcache.testing.upstream import Turn
from tests.story import CHALLENGE, LAYER, OTHER_REPOSITORY, TOKEN
from tests.test_private import DIGEST, EVIL, LATER, WRONG, PrivateCase

SMALL = b'{"config": {"Env": ["PASSWORD=of somebody else"]}}'


class AttackerCase(PrivateCase):
    """Somebody runs a registry of his own, which answers as he likes.

    @ivar his: how it answers.
    @ivar wants: whether it wants credentials, and then takes any.
    """

    def setUp(self) -> None:
        super().setUp()
        self.his = Turn(status=404)
        self.wants = False
        self.upstream.rule = self.two

    def two(self, query: Query) -> Turn | None:
        """Both registries' answers."""
        if query.registry != EVIL:
            return self.rule(query)
        if self.wants and query.authorization is None:
            return Turn(status=401, headers={"WWW-Authenticate": CHALLENGE})
        return Turn(body=b"abc") if self.wants and query.method == "HEAD" else self.his

    def through_his(self, digest: Digest = DIGEST, authorization: Secret | None = None, **more: Any) -> PullBlob:
        """Asks his registry for somebody else's content."""
        return self.blob(digest, registry=EVIL, repository=Repository("a/b"), authorization=authorization, **more)


class PromiseTests(AttackerCase):
    """His registry has begun to send a body that should be somebody else's, and dawdles."""

    def begun(self, authorization: Secret | None = None) -> None:
        """It has; then the content comes to be on disk, for those who may."""
        self.his = Turn(stall=3, wrong=True)
        found = self.outcome(self.through_his(authorization=authorization))
        self.assertIsInstance(found, Blob)
        self.warm()

    def assertHis(self, ask: PullBlob) -> None:
        """What he gets is what his registry sends, and nothing is noted to be his."""
        found = self.outcome(ask)
        assert isinstance(found, Blob)
        self.assertIs(found.cache, CacheStatus.COLLAPSED)
        self.his.release()
        self.settle()
        assert found.body is not None
        self.assertIsInstance(found.body.problem, OriginLied)
        self.assertNotIn((EVIL, Repository("a/b"), DIGEST), self.store.members)

    def test_open(self) -> None:
        """That he has promised it opens nothing."""
        self.begun()
        self.assertHis(self.through_his())

    def test_private(self) -> None:
        """Nor if he promised it to credentials."""
        self.wants = True
        self.begun(WRONG)
        self.assertHis(self.through_his(authorization=WRONG))

    def test_heads(self) -> None:
        """Nor does a HEAD tell the size."""
        self.begun()
        dawdling, self.his = self.his, Turn(status=404)
        self.refusal(self.through_his(body=False), BlobUnknown)
        dawdling.release()

    def test_lie_found_out(self) -> None:
        """A fetch of his that turns out to be a lie, and finds the content on disk when it begins anew, is not his."""
        digest = self.add(SMALL)
        self.his = Turn(cut=5)
        first = self.cache.handle(self.through_his(digest))
        self.clock.pump([0.1])
        self.his = Turn(status=500)
        self.clock.pump([1.0] * 60)
        self.failureResultOf(first, BodyCut)
        self.assertEqual(len(self.store.fills), 1)
        self.his = lying = Turn(stall=3, wrong=True)
        second = self.cache.handle(self.through_his(digest))
        self.fetch(self.blob(digest, authorization=TOKEN))
        self.his = Turn(status=404)
        lying.release()
        self.settle()
        self.failureResultOf(second, BlobUnknown)


class SizeTests(AttackerCase):
    """How long somebody else's content is."""

    def test_last_bytes(self) -> None:
        """Neither he nor his registry learn it from asking for the last bytes."""
        self.warm()
        for authorization in (None, WRONG):
            self.wants = authorization is not None
            self.his = Turn(body=b"abc")
            error = self.refusal(self.through_his(authorization=authorization, suffix=1), OriginLied)
            self.assertNotIn(str(len(LAYER)), error.message)
            sizes = {len(LAYER), len(LAYER) - 1}
            asked = [query.span for query in self.queries() if query.span is not None]
            self.assertEqual([span for span in asked if sizes & set(span)], [])

    def test_none_of_it(self) -> None:
        """That it has no last 0 bytes is told with its size, so to nobody whom its registry does not let in: neither of
        what is on disk, nor of what is missing there but named by a manifest, nor of what comes for others."""
        coming = Turn(stall=3)
        self.pull(self.manifest(authorization=TOKEN))
        for authorization in (None, WRONG):
            self.refusal(self.blob(DIGEST, authorization=authorization, suffix=0), Unauthorized)
        self.upstream.rule = lambda query: self.rule(query) or (coming if query.method == "GET" else None)
        self.outcome(self.blob(DIGEST, authorization=TOKEN))
        for authorization in (None, WRONG):
            self.refusal(self.blob(DIGEST, authorization=authorization, suffix=0), Unauthorized)
        coming.release()
        self.settle()
        for authorization in (None, WRONG):
            self.refusal(self.blob(DIGEST, authorization=authorization, suffix=0), Unauthorized)
        self.upstream.rule = self.two
        self.refusal(self.through_his(suffix=0), BlobUnknown)


class TurnedMeanwhileTests(PrivateCase):
    """A repository turns private while a body of it is being fetched, which was for everyone."""

    def setUp(self) -> None:
        super().setUp()
        self.good.add(None)  # type: ignore[arg-type]
        self.turn = Turn(stall=3)
        self.upstream.rule = lambda query: self.rule(query) or self.slow(query)
        found = self.outcome(self.blob(DIGEST))
        assert isinstance(found, Blob)
        self.first = found
        self.good.remove(None)  # type: ignore[arg-type]
        self.assertChallenged(self.manifest())
        self.day.now += 11

    def slow(self, query: Query) -> Turn | None:
        """Bodies take their time."""
        return self.turn if query.kind == "blob" and query.method == "GET" else None

    def test_strangers(self) -> None:
        """It is not for everyone any more; who has been let in before gets it to its end."""
        self.assertChallenged(self.blob(DIGEST))
        self.turn.release()
        self.assertEqual(self.read(self.first), LAYER)

    def test_let_in(self) -> None:
        """Whom the origin lets in gets it, wherever from."""
        found = self.outcome(self.blob(DIGEST, authorization=TOKEN))
        assert isinstance(found, Blob)
        self.turn.release()
        self.assertEqual(self.read(found), LAYER)


class UnreadableTests(PrivateCase):
    """Nobody can read whether a repository is private."""

    def test_tag(self) -> None:
        """Then the origin is asked what its tags mean, as if it were."""
        self.good.add(None)  # type: ignore[arg-type]
        self.pull()
        self.good.remove(None)  # type: ignore[arg-type]
        self.refusal(self.manifest(Tag("2.0")), Unauthorized)
        self.build()
        self.store.broken = {"privacy"}
        for body in (False, True):
            self.assertChallenged(self.manifest(body=body))
        self.good.add(None)  # type: ignore[arg-type]
        self.day.now += 10
        self.assertIs(self.pull().cache, CacheStatus.STORED)


class ProofTests(PrivateCase):
    """Several wait for the origin's word on whom it lets in."""

    def setUp(self) -> None:
        super().setUp()
        self.warm()
        self.day.now += 1

    def test_each_for_himself(self) -> None:
        """What it says to one says nothing of who asks with other credentials at the same time."""
        held = Turn(hold=True)
        self.upstream.rule = lambda query: self.rule(query) or (held if query.method == "HEAD" else None)
        let_in = self.cache.handle(self.blob(DIGEST, authorization=LATER))
        refused = self.cache.handle(self.blob(DIGEST, authorization=WRONG))
        self.assertEqual(self.used()[:2], [("HEAD", LATER), ("HEAD", WRONG)])
        held.release()
        self.assertIsInstance(self.successResultOf(let_in), Blob)
        self.failureResultOf(refused, Unauthorized)

    def test_each_object(self) -> None:
        """What it says of one object that it does not give says nothing of the others."""
        held = Turn(hold=True, status=403)
        self.heads = None
        rule = self.rule
        self.upstream.rule = lambda query: rule(query) or (held if query.reference == self.digest else None)
        blocked = self.cache.handle(self.manifest(self.digest, authorization=LATER))
        other = self.cache.handle(self.blob(DIGEST, authorization=LATER))
        held.release()
        self.failureResultOf(blocked, Denied)
        found = self.successResultOf(other)
        assert isinstance(found, Blob)
        self.assertIs(found.cache, CacheStatus.HIT)


class OtherProcessTests(PrivateCase):
    """Another process fetches a private body, or has left one that is all there."""

    def setUp(self) -> None:
        super().setUp()
        self.assertChallenged(self.manifest())
        self.slow = Turn(stall=3)
        self.upstream.rule = lambda query: self.rule(query) or (self.slow if query.method == "GET" else None)
        self.assertIsInstance(self.outcome(self.blob(DIGEST, authorization=TOKEN)), Blob)
        self.before = self.fills
        self.build()
        self.refusal(self.manifest(), Unauthorized)

    def pulling(self, authorization: Secret | None) -> Deferred[Outcome]:
        """Ask, and let the process look at what the other one does."""
        handling = self.cache.handle(self.blob(DIGEST, authorization=authorization))
        self.settle()
        return handling

    def test_strangers(self) -> None:
        """Following it is for those whom the origin lets in."""
        self.queries()
        for authorization in (None, WRONG):
            self.failureResultOf(self.pulling(authorization), Unauthorized)
        found = self.successResultOf(self.pulling(LATER))
        self.slow.release()
        assert isinstance(found, Blob)
        self.assertEqual(self.read(found), LAYER)

    def test_left(self) -> None:
        """So is what needs no further question to be complete."""
        self.settle()
        (fill,) = self.store.fills.values()
        os.pwrite(fill.data, LAYER, 0)
        marks = Marks(fill.marks, bytes(16))
        came = marks.readable(0)
        self.successResultOf(self.before.stop())
        marks.add(came, len(LAYER) - came)
        self.queries()
        self.failureResultOf(self.pulling(WRONG), Unauthorized)


class OtherRepositoryTests(PrivateCase):
    """Another repository of the registry gives everyone what a private one has as well, and is just being asked."""

    def setUp(self) -> None:
        super().setUp()
        self.warm()
        del self.store.contents[DIGEST]
        self.slow = Turn(stall=3)
        self.upstream.rule = lambda query: self.rule(query) or (self.slow if query.method == "GET" else None)
        self.assertIsInstance(self.outcome(self.blob(DIGEST, repository=OTHER_REPOSITORY)), Blob)
        self.day.now += 10

    def assertClosed(self) -> None:
        """That the private one has it is for those whom its origin lets in."""
        for authorization in (None, WRONG):
            handling = self.cache.handle(self.blob(DIGEST, authorization=authorization))
            self.settle()
            self.failureResultOf(handling, Unauthorized)

    def test_same_process(self) -> None:
        """By this process."""
        self.assertClosed()

    def test_other_process(self) -> None:
        """By another one."""
        self.build()
        self.assertClosed()
