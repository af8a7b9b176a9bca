"""What is concluded from origins' answers, and what is not."""

from __future__ import annotations

from typing import Literal, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.facts import Kind, Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.grants.grants import Grants
from crcache.grants.moments import Moment
from crcache.privacies import Privacies
from crcache.secret import Secret
from crcache.store.memory import Memory
from crcache.testing.upstream import FakeUpstream, Turn
from crcache.witness import Witness
from crcache.workers import Inline

REGISTRY, REPOSITORY = Registry("registry.test"), Repository("team/app")
TOKEN = Secret("Bearer of-the-client")
DIGEST = Digest.of(b"a layer")


class WitnessTests(SynchronousTestCase):
    """Statuses and kinds of questions."""

    def setUp(self) -> None:
        self.upstream = FakeUpstream()
        self.grants = Grants(None, Inline(), Clock(), lambda: Moment(1000.0, 1000.0))
        self.privacies = Privacies(Memory(lambda: 1000.0), lambda: 1000.0, lambda _: 10.0)
        self.witness = Witness(self.upstream, self.grants, self.privacies)

    def answers(
        self,
        status: int,
        kind: str,
        authorization: Secret | None = None,
        tag: bool = False,
        method: Literal["GET", "HEAD"] = "GET",
        **headers: str,
    ) -> None:
        """The origin answers so to a question of this kind."""
        self.upstream.turns = [Turn(status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})]
        reference = None if kind == "tags" else Tag("1.0") if tag else DIGEST
        query = Query(REGISTRY, REPOSITORY, cast(Kind, kind), reference, "id-1", method, authorization=authorization)
        self.successResultOf(self.witness.ask(query)).abort()

    def let_in(self) -> bool:
        """Whether the client is known to be."""
        return self.successResultOf(self.grants.known(TOKEN, REGISTRY, REPOSITORY))

    def private(self) -> bool:
        """Whether the repository is known to be."""
        return self.successResultOf(Deferred.fromCoroutine(self.privacies.find(REGISTRY, REPOSITORY))) is not None

    def test_grants(self) -> None:
        """Manifests and blobs that a client gets let it in; refusals end that; all else changes nothing."""
        for kind in ("manifest", "blob"):
            for status, expected in ((404, False), (200, True), (404, True), (500, True), (401, False), (307, True)):
                self.answers(status, kind, TOKEN)
                self.assertEqual(self.let_in(), expected, (kind, status))
            self.answers(403, kind, TOKEN)
            self.assertFalse(self.let_in())

    def test_lists(self) -> None:
        """Lists may be for everybody where the content is not, and the other way round: they say nothing."""
        for kind in ("tags", "referrers"):
            self.answers(200, kind, TOKEN)
            self.assertFalse(self.let_in())
            self.answers(401, kind)
            self.assertFalse(self.private())
        self.answers(401, "manifest")
        self.answers(200, "manifest", TOKEN)
        for kind in ("tags", "referrers"):
            self.answers(401, kind, TOKEN)
            self.assertTrue(self.let_in())
            self.answers(200, kind)
            self.assertTrue(self.private())

    def test_private(self) -> None:
        """A refusal of crcache's own way makes a repository private, a manifest opens it; a HEAD does not, nor a
        blob, since it may come from a host that asks nobody."""
        for kind in ("manifest", "blob"):
            self.answers(401, kind)
            self.assertTrue(self.private())
            self.answers(200, "blob")
            self.assertTrue(self.private())
            self.answers(200, "manifest", method="HEAD")
            self.assertTrue(self.private())
            self.answers(200, "manifest")
            self.assertFalse(self.private())
        self.answers(403, "manifest")
        self.answers(403, "blob")
        self.answers(404, "manifest", tag=True)
        self.assertFalse(self.private())
        self.answers(403, "manifest", tag=True)
        self.assertTrue(self.private())

    def test_pages(self) -> None:
        """A page for people, which a front sends to everybody, lets nobody in, and opens nothing."""
        page = "text/HTML; charset=utf-8"
        for kind in ("manifest", "blob"):
            self.answers(200, kind, TOKEN, Content_Type=page)
            self.assertFalse(self.let_in())
        self.answers(401, "manifest")
        self.answers(200, "manifest", Content_Type=page)
        self.assertTrue(self.private())
        self.answers(200, "manifest", TOKEN)
        self.answers(200, "manifest", TOKEN, Content_Type=page)
        self.assertTrue(self.let_in())

    def test_clients_refusal(self) -> None:
        """What a client's own credentials are told says nothing of crcache's own way."""
        for status in (401, 403):
            self.answers(status, "manifest", TOKEN, tag=True)
            self.assertFalse(self.private())
        self.answers(401, "manifest")
        self.answers(200, "manifest", TOKEN)
        self.assertTrue(self.private())
