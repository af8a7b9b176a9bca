"""Private content: who is served from disk what only clients' own credentials could open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from crcache.errors import (
    AccessUnknown,
    BlobUnknown,
    CrcacheError,
    Denied,
    ManifestUnknown,
    OriginFailed,
    OriginTimeout,
    OriginUnreachable,
    Unauthorized,
)
from crcache.facts import Fetched, Membership, Privacy, Query
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import OCI_INDEX, OCI_MANIFEST
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.outcomes import Blob, CacheStatus, Outcome, Relayed
from crcache.secret import Secret
from crcache.settings import ACCESS_OPEN
from crcache.testing.upstream import Turn
from tests.story import (
    CHALLENGE,
    LAYER,
    OTHER_REGISTRY,
    OTHER_REPOSITORY,
    REGISTRY,
    REPOSITORY,
    TAG,
    TOKEN,
    StoryCase,
    image,
    index,
)

#: Of the next pull, by the same client or another one who may.
LATER = Secret("Bearer of-the-client-as-well")
WRONG = Secret("Bearer of-somebody-else")
EVIL = Registry("evil.test")
DIGEST = Digest.of(LAYER)


class PrivateCase(StoryCase):
    """One private repository, L{REPOSITORY}, whose origin takes two tokens; all others are open.

    @ivar down: how the origin answers everybody, if it is not well.
    @ivar good: the tokens that are taken.
    """

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add_image(TAG)
        self.down: Turn | None = None
        self.good = {TOKEN, LATER}
        self.heads: Turn | None = None
        self.upstream.rule = self.rule

    def rule(self, query: Query) -> Turn | None:
        """What becomes of a question."""
        if self.down is not None:
            return self.down
        if query.repository == REPOSITORY and query.registry == REGISTRY and query.authorization not in self.good:
            return Turn(status=401, headers={"WWW-Authenticate": CHALLENGE})
        return self.heads if query.method == "HEAD" else None

    def used(self) -> list[tuple[str, Secret | None]]:
        """The methods and credentials of what the origin has been asked since this was called last."""
        return [(query.method, query.authorization) for query in self.queries()]

    def assertChallenged(self, ask: Any) -> None:
        """The client gets the origin's challenge."""
        error = self.refusal(ask, Unauthorized)
        self.assertEqual(error.headers, (("WWW-Authenticate", CHALLENGE),))

    def warm(self) -> None:
        """The image is pulled by one who may."""
        self.pull(self.manifest(authorization=TOKEN))
        self.fetch(self.blob(DIGEST, authorization=TOKEN))
        self.queries()

    def asks(self, **client: Any) -> list[Any]:
        """All that a pull asks for."""
        manifests = [self.manifest(reference, **client) for reference in (TAG, self.digest)]
        return [*manifests, self.blob(DIGEST, **client)]

    def cache_status(self, ask: Any) -> CacheStatus:
        """How an ask is answered."""
        found: Outcome = self.outcome(ask)
        if isinstance(found, Relayed):
            found.answer.abort()
        assert not isinstance(found, type(None)) and hasattr(found, "cache")
        status: CacheStatus = found.cache
        return status


class ManifestTests(PrivateCase):
    """Manifests of a private repository."""

    def test_kept(self) -> None:
        """What a client's credentials fetched is kept, and served from disk to whoever brings them again."""
        found = self.pull(self.manifest(authorization=TOKEN))
        self.assertEqual((found.body, found.cache), (self.upstream.content[TAG], CacheStatus.STORED))
        self.assertEqual(self.used(), self.first_questions())
        for ask in (self.manifest(authorization=TOKEN), self.manifest(self.digest, authorization=TOKEN)):
            self.assertIs(self.pull(ask).cache, CacheStatus.HIT)
        self.assertEqual(self.used(), [])

    @staticmethod
    def first_questions() -> list[tuple[str, Secret | None]]:
        """crcache's own way, then a HEAD that tells what the tag means, then the manifest."""
        return [("GET", None), ("HEAD", TOKEN), ("GET", TOKEN)]

    def test_noted(self) -> None:
        """What is noted says that it was not for everyone: the manifest, its children, the tag and the repository."""
        self.pull(self.manifest(authorization=TOKEN))
        itself = self.store.members[REGISTRY, REPOSITORY, self.digest]
        self.assertEqual((itself.open, itself.fetched), (False, Fetched.PRIVATELY))
        layer = self.store.members[REGISTRY, REPOSITORY, DIGEST]
        self.assertEqual((layer.open, layer.fetched), (False, Fetched.NEVER))
        self.assertFalse(self.store.tags[REGISTRY, REPOSITORY, TAG].open)
        privacy = self.successResultOf(self.store.privacy(REGISTRY, REPOSITORY))
        self.assertEqual(privacy, Privacy(self.day.now, (CHALLENGE,)))

    def test_without_credentials(self) -> None:
        """The next one without gets the challenge as the origin puts it; just after, as it was put, without asking."""
        self.warm()
        self.day.now += 10
        for ask in self.asks():
            self.assertChallenged(ask)
        self.assertEqual(self.used(), [("GET", None)])

    def test_another_token(self) -> None:
        """Tokens differ for every pull: a new one is proved with one HEAD, for all that the pull asks for."""
        self.warm()
        for ask in self.asks(authorization=LATER):
            self.assertIs(self.cache_status(ask), CacheStatus.HIT)
        self.assertEqual(self.used(), [("HEAD", LATER)])

    def test_one_question_for_all(self) -> None:
        """However many wait for the same proof, one HEAD is asked; also if they want different things."""
        self.warm()
        turn = self.heads = Turn(hold=True)
        waiting = [self.cache.handle(ask) for ask in self.asks(authorization=LATER) * 5]
        self.assertEqual(self.used(), [("HEAD", LATER)])
        turn.release()
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.used(), [])

    def test_one_wait_for_all(self) -> None:
        """If the origin does not answer, none of them waits for that once more."""
        self.warm()
        turn = self.heads = Turn(hold=True, error=OriginTimeout("silence"))
        waiting = [self.cache.handle(ask) for ask in self.asks(authorization=LATER) * 2]
        self.used()
        turn.release()
        for each in waiting:
            self.failureResultOf(each, Unauthorized)
        self.assertEqual(self.used(), [])

    def test_wrong_token(self) -> None:
        """One that the origin refuses gets its refusal, each time; now and then crcache's own way is tried as well."""
        self.warm()
        self.day.now += 10
        self.assertChallenged(self.manifest(authorization=WRONG))
        self.assertEqual(self.used(), [("HEAD", WRONG), ("GET", None), ("HEAD", WRONG)])
        for ask in self.asks(authorization=WRONG):
            self.assertChallenged(ask)
            self.assertEqual(self.used(), [("HEAD", WRONG)])

    def test_expired(self) -> None:
        """After some minutes the origin is asked again; what it refuses then is refused."""
        self.warm()
        self.day.now += 301
        self.good.clear()
        for ask in self.asks(authorization=TOKEN)[1:]:
            self.assertChallenged(ask)

    def test_refreshed(self) -> None:
        """Whatever the origin answers to a client goes on with its grant."""
        self.warm()
        for _ in range(3):
            self.day.now += 200
            self.pull(self.manifest(authorization=TOKEN))
        self.queries()
        self.assertIs(self.cache_status(self.blob(DIGEST, authorization=TOKEN)), CacheStatus.HIT)
        self.assertEqual(self.used(), [])

    def test_refused_since(self) -> None:
        """Credentials that the origin has refused meanwhile are not known any more."""
        self.warm()
        self.good.remove(TOKEN)
        self.day.now += 61
        self.assertChallenged(self.manifest(authorization=TOKEN))
        for ask in self.asks(authorization=TOKEN):
            self.assertChallenged(ask)

    def test_other_repository(self) -> None:
        """Credentials that are good for one repository say nothing of another."""
        self.warm()
        self.add(image(LAYER, note="other"), Tag("2.0"), media_type=OCI_MANIFEST)
        self.close_to_strangers()
        self.pull(self.manifest(repository=OTHER_REPOSITORY, authorization=TOKEN))
        self.upstream.rule = self.rule
        closed = Turn(status=403)
        self.upstream.rule = lambda query: closed if query.repository == OTHER_REPOSITORY else None
        self.day.now += 10
        self.refusal(self.manifest(repository=OTHER_REPOSITORY, authorization=LATER), Denied)

    def test_tag_moves(self) -> None:
        """A stale tag is asked of the origin with the client's credentials, and what it means now is kept as well."""
        self.warm()
        moved = self.add_image(TAG, note="moved")
        self.day.now += 61
        found = self.pull(self.manifest(authorization=TOKEN))
        self.assertEqual((found.digest, found.cache), (moved, CacheStatus.STORED))
        self.assertEqual(self.pull(self.manifest(authorization=TOKEN)).digest, moved)

    def test_not_there(self) -> None:
        """A 404 to one client's credentials is its own business: no tag is forgotten, nothing remembered."""
        self.warm()
        self.day.now += 61
        self.down = Turn(status=404)
        self.refusal(self.manifest(authorization=TOKEN), ManifestUnknown)
        self.down = None
        self.assertIs(self.pull(self.manifest(authorization=TOKEN)).cache, CacheStatus.HIT)

    def test_hidden(self) -> None:
        """A 404 to those without credentials is how some registries hide what is private: nothing is forgotten."""
        self.warm()
        self.upstream.rule = lambda query: None if query.authorization in self.good else Turn(status=404)
        for _ in range(2):
            self.day.now += 61
            self.refusal(self.manifest(), ManifestUnknown)
            self.assertIn((REGISTRY, REPOSITORY, TAG), self.store.tags)
            self.queries()
            self.assertEqual(self.pull(self.manifest(authorization=LATER)).digest, self.digest)
            self.assertIn(("HEAD", LATER), self.used())

    def test_heads_refused(self) -> None:
        """Of an origin that takes no HEADs a GET tells who may."""
        self.warm()
        for status in (405, 404):
            self.heads = Turn(status=status)
            for ask in self.asks(authorization=LATER)[:2]:
                self.day.now += 301
                self.assertEqual(self.pull(ask).body, self.upstream.content[TAG])
            self.assertIn(("GET", LATER), self.used())
            for ask in self.asks(authorization=WRONG):
                self.assertChallenged(ask)

    def test_sent_elsewhere(self) -> None:
        """An origin that sends those elsewhere whom it lets in, lets them in; the redirect is not followed."""
        self.warm()
        self.heads = Turn(status=307, headers={"Location": "https://storage.test/"})
        self.assertIs(self.cache_status(self.blob(DIGEST, authorization=LATER)), CacheStatus.HIT)
        (asked,) = self.queries()
        self.assertFalse(asked.follows)

    def test_pages(self) -> None:
        """A page that a front sends to everybody, in place of the registry, lets nobody in to what is on disk."""
        self.warm()
        page, rule = Turn(status=200, headers={"Content-Type": "text/html"}), self.rule
        self.upstream.rule = lambda query: page if query.method == "HEAD" else rule(query)
        for ask in self.asks(authorization=WRONG):
            self.day.now += 61
            self.assertChallenged(ask)
        self.assertIn(("HEAD", WRONG), self.used())

    def test_not_cached_tags(self) -> None:
        """Tags that are never cached are asked of the origin each time, with the client's credentials."""
        latest = Tag("latest")
        self.add_image(latest, note="latest")
        for _ in range(2):
            found = self.pull(self.manifest(latest, authorization=TOKEN))
            self.assertEqual((found.body, found.cache), (self.upstream.content[latest], CacheStatus.BYPASS))
        self.assertNotIn((REGISTRY, REPOSITORY, latest), self.store.tags)

    def test_nothing_cached(self) -> None:
        """Where no manifests are cached none of these is, either."""
        self.build(cache_manifests=False)
        for reference in (TAG, self.digest):
            found = self.pull(self.manifest(reference, authorization=TOKEN))
            self.assertEqual((found.body, found.cache), (self.upstream.content[TAG], CacheStatus.BYPASS))
        self.assertEqual(self.store.contents, {})


class OpenTests(PrivateCase):
    """C{access: open}."""

    access = ACCESS_OPEN

    def test_anyone(self) -> None:
        """Once somebody has fetched it, it is served to anyone; before that the origin says who may."""
        self.assertChallenged(self.manifest())
        self.warm()
        for ask in (*self.asks(), *self.asks(authorization=WRONG)):
            self.assertIs(self.cache_status(ask), CacheStatus.HIT)
        self.assertEqual(self.used(), [])

    def test_stale(self) -> None:
        """A tag that only clients' credentials can renew is served as it was known, to those who cannot."""
        self.warm()
        self.day.now += 61
        for _ in range(2):
            for authorization in (None, WRONG):
                for body in (True, False):
                    found = self.pull(self.manifest(authorization=authorization, body=body))
                    self.assertEqual((found.digest, found.cache), (self.digest, CacheStatus.STALE_IF_ERROR))
            self.day.now += 20
        moved = self.add_image(TAG, note="moved")
        self.assertEqual(self.pull(self.manifest(authorization=TOKEN)).digest, moved)
        self.assertEqual(self.pull(self.manifest()).digest, moved)

    def test_too_old(self) -> None:
        """But not for ever."""
        self.warm()
        self.day.now += 661
        self.assertChallenged(self.manifest())

    def test_named_elsewhere(self) -> None:
        """Naming its digest through another repository opens nothing all the same."""
        self.warm()
        self.store.enrol(REGISTRY, OTHER_REPOSITORY, [Membership(DIGEST)])
        self.down = Turn(status=404)
        self.refusal(self.blob(DIGEST, repository=OTHER_REPOSITORY), BlobUnknown)


class UnreachableTests(PrivateCase):
    """The origin cannot be asked."""

    def setUp(self) -> None:
        super().setUp()
        self.warm()
        self.day.now += 10
        self.down = Turn(error=OriginUnreachable("the cable is cut"))

    def test_known(self) -> None:
        """Whom it has let in lately is served, also a stale tag."""
        for ask in self.asks(authorization=TOKEN):
            self.assertIs(self.cache_status(ask), CacheStatus.HIT)
        self.day.now += 100
        self.assertIs(self.cache_status(self.manifest(authorization=TOKEN)), CacheStatus.STALE_IF_ERROR)
        self.assertIs(self.cache_status(self.manifest(self.digest, authorization=TOKEN)), CacheStatus.HIT)

    def test_unknown(self) -> None:
        """Everybody else gets the challenge that was kept, however stale the tag is."""
        for seconds in (0, 100):
            self.day.now += seconds
            for ask in (*self.asks(), *self.asks(authorization=LATER), *self.asks(authorization=WRONG)):
                self.assertChallenged(ask)
                self.assertChallenged(replace(ask, body=False))

    def test_after_a_restart(self) -> None:
        """The challenge is on disk; who was let in is not, where no other process knows."""
        self.build()
        for ask in (*self.asks(), *self.asks(authorization=TOKEN)):
            self.assertChallenged(ask)

    def test_nothing_kept(self) -> None:
        """Without a challenge that could be told, the answer is that nobody knows: 503, and clients go elsewhere."""
        self.build()
        self.store.set_privacy(REGISTRY, REPOSITORY, Privacy(self.day.now))
        for ask in (*self.asks(), *self.asks(authorization=TOKEN)):
            self.assertEqual(self.refusal(ask, AccessUnknown).status, 503)

    def test_failing(self) -> None:
        """So is it if the origin answers that it fails."""
        self.down = Turn(status=500)
        for ask in (*self.asks(), *self.asks(authorization=LATER)):
            self.assertChallenged(ask)
        self.assertIs(self.cache_status(self.blob(DIGEST, authorization=TOKEN)), CacheStatus.HIT)

    def test_not_here(self) -> None:
        """Whom it has let in is told the truth of what is not on disk."""
        self.refusal(self.manifest(Tag("3.0"), authorization=TOKEN), OriginUnreachable)

    def test_open_repositories(self) -> None:
        """Repositories that are not private have no part in it."""
        self.refusal(self.manifest(repository=OTHER_REPOSITORY), OriginUnreachable)


class TurnedTests(PrivateCase):
    """A repository that was open turns private."""

    def setUp(self) -> None:
        super().setUp()
        self.good.add(None)  # type: ignore[arg-type]
        self.pull()
        self.fetch(self.blob(DIGEST))
        self.good.remove(None)  # type: ignore[arg-type]
        self.queries()

    def test_not_noticed_yet(self) -> None:
        """As long as its origin need not be asked nobody knows."""
        for ask in self.asks():
            self.assertIs(self.cache_status(ask), CacheStatus.HIT)
        self.assertEqual(self.used(), [])

    def test_noticed(self) -> None:
        """When one of its tags is next asked of the origin, all that it holds is for those who are let in."""
        self.day.now += 61
        self.assertChallenged(self.manifest())
        for ask in self.asks():
            self.assertChallenged(ask)
        for ask in self.asks(authorization=TOKEN):
            self.assertIn(self.cache_status(ask), (CacheStatus.HIT, CacheStatus.MISS))
        self.assertEqual({method for method, _ in self.used()}, {"HEAD"})

    def test_noticed_by_heads(self) -> None:
        """A HEAD for a stale tag does as well, and tells nothing of what the tag meant."""
        self.day.now += 61
        for authorization in (None, WRONG):
            self.assertChallenged(self.manifest(body=False, authorization=authorization))
        for ask in self.asks():
            self.assertChallenged(replace(ask, body=False))

    def test_not_opened_by_heads(self) -> None:
        """Once it is noticed, a HEAD that is answered to everybody opens nothing again."""
        rule = self.rule
        self.upstream.rule = lambda query: None if query.method == "HEAD" else rule(query)
        self.assertChallenged(self.manifest(Tag("2.0")))
        self.day.now += 11
        self.assertEqual(self.pull(self.manifest(body=False)).digest, self.digest)
        for ask in self.asks():
            self.assertChallenged(ask)

    def test_another_tag(self) -> None:
        """Any of its tags does, and a 403 as well."""
        self.upstream.rule = lambda query: Turn(status=403) if query.authorization is None else None
        self.refusal(self.manifest(Tag("2.0")), Denied)
        for ask in self.asks():
            self.refusal(ask, Denied)

    def test_one_object(self) -> None:
        """A 403 for one manifest by its digest says nothing of the others."""
        self.upstream.rule = lambda query: Turn(status=403)
        self.refusal(self.manifest(Digest.of(b"blocked")), Denied)
        for ask in self.asks():
            self.assertIs(self.cache_status(ask), CacheStatus.HIT)

    def test_for_all_processes(self) -> None:
        """It is noted on disk."""
        self.day.now += 61
        self.assertChallenged(self.manifest())
        self.build()
        self.down = Turn(error=OriginUnreachable("the cable is cut"))
        for ask in self.asks():
            self.assertChallenged(ask)

    def turn(self) -> None:
        """It is noticed."""
        self.day.now += 61
        self.assertChallenged(self.manifest())
        self.queries()

    def elsewhere(self, **client: Any) -> list[tuple[Any, type[CrcacheError]]]:
        """What somebody asks his own registry for, and how his registry refuses it."""
        where: dict[str, Any] = {"registry": EVIL, "repository": REPOSITORY, **client}
        return [
            (self.manifest(self.digest, **where), ManifestUnknown),
            (self.blob(DIGEST, **where), BlobUnknown),
            (self.blob(DIGEST, span=(0, 10), **where), BlobUnknown),
        ]

    def name(self) -> None:
        """His registry has an index that names the manifest, a manifest that names the layer, and HEADs of both."""
        rule = self.upstream.rule
        self.add(index(self.upstream.content[TAG]), Tag("index"), media_type=OCI_INDEX)
        self.add(image(LAYER, note="mine"), Tag("mine"), media_type=OCI_MANIFEST)
        for tag in Tag("index"), Tag("mine"):
            self.pull(self.manifest(tag, registry=EVIL))
        self.upstream.rule = lambda query: None if query.method == "HEAD" else Turn(status=404)
        self.pull(self.manifest(TAG, registry=EVIL, body=False))
        self.cache_status(self.blob(DIGEST, registry=EVIL, body=False))
        self.upstream.rule = rule

    def assertOpenElsewhere(self) -> None:
        """Whoever names it is served from disk."""
        for authorization in (None, WRONG, TOKEN):
            for ask, _ in self.elsewhere(authorization=authorization):
                self.assertIs(self.cache_status(ask), CacheStatus.HIT)

    def assertClosedElsewhere(self) -> None:
        """Whoever names it gets what his own registry sends, and that has none of it."""
        rule, self.upstream.rule = self.upstream.rule, lambda query: Turn(status=404)
        for authorization in (None, WRONG, TOKEN):
            for ask, error in self.elsewhere(authorization=authorization):
                self.queries()
                self.refusal(ask, error)
                self.assertLessEqual({query.registry for query in self.queries()}, {EVIL})
        self.upstream.rule = rule

    def test_named_before(self) -> None:
        """What another registry named while it was open is not open there any more."""
        self.name()
        self.assertOpenElsewhere()
        self.turn()
        self.assertClosedElsewhere()

    def test_named_afterwards(self) -> None:
        """Nor does what it names afterwards open it, in a manifest, an index or a HEAD."""
        self.turn()
        self.name()
        self.assertClosedElsewhere()

    def test_named_and_fetched_privately(self) -> None:
        """Nor when those who are let in pull it again."""
        self.turn()
        for ask in self.asks(authorization=TOKEN):
            self.cache_status(ask)
        self.name()
        self.assertClosedElsewhere()

    def test_other_repositories(self) -> None:
        """Another repository whose origin has sent the same content openly goes on giving it; what it never sent
        stays closed."""
        ask = self.blob(DIGEST, registry=OTHER_REGISTRY)
        self.name()
        self.store.drop(DIGEST)
        self.fetch(ask)
        self.turn()
        self.assertIs(self.cache_status(ask), CacheStatus.HIT)
        self.assertIs(self.cache_status(self.blob(DIGEST, registry=EVIL)), CacheStatus.HIT)
        manifest, error = self.elsewhere()[0]
        self.upstream.rule = lambda query: Turn(status=404)
        self.refusal(manifest, error)

    def test_confirmed_elsewhere(self) -> None:
        """Another repository that had but confirmed it has to send it once, to whoever asks; then it is a hit there,
        and still closed where it turned private."""
        ask = self.blob(DIGEST, repository=OTHER_REPOSITORY)
        self.fetch(ask)
        self.assertEqual(self.used(), [("HEAD", None)])
        self.assertIs(self.store.members[REGISTRY, OTHER_REPOSITORY, DIGEST].fetched, Fetched.NEVER)
        self.turn()
        found = self.outcome(ask)
        assert isinstance(found, Relayed) and found.proved is not None
        self.assertEqual((found.cache, self.used()), (CacheStatus.BYPASS, [("GET", None)]))
        found.answer.abort()
        found.proved(len(LAYER))
        self.assertIs(self.cache_status(ask), CacheStatus.HIT)
        self.assertEqual(self.used(), [])
        self.day.now += 10
        self.assertChallenged(self.blob(DIGEST))

    def test_opened_again(self) -> None:
        """When its origin lets crcache's own way in again, all is as before, for those who name it, too."""
        self.name()
        self.turn()
        self.assertClosedElsewhere()
        self.good.add(None)  # type: ignore[arg-type]
        self.day.now += 10
        self.pull()
        self.queries()
        for ask in self.asks():
            self.assertIs(self.cache_status(ask), CacheStatus.HIT)
        self.assertOpenElsewhere()
        self.assertEqual(self.used(), [])

    def test_opened_again_to_all(self) -> None:
        """Credentials of no use do not keep anybody from what crcache's own way gets again."""
        self.refusal(self.manifest(Tag("2.0")), Unauthorized)
        self.good.add(None)  # type: ignore[arg-type]
        privacy = self.successResultOf(self.store.privacy(REGISTRY, REPOSITORY))
        for ask in self.asks(authorization=WRONG):
            self.build()
            self.store.set_privacy(REGISTRY, REPOSITORY, privacy)
            self.day.now += 10
            self.assertIn(self.cache_status(ask), (CacheStatus.STORED, CacheStatus.BYPASS))

    def test_what_was_private_opens(self) -> None:
        """What was fetched with somebody's credentials opens when crcache's own way gets it, and not before."""
        self.day.now += 61
        self.add_image(TAG, note="fetched privately")
        found = self.pull(self.manifest(authorization=TOKEN))
        self.good.add(None)  # type: ignore[arg-type]
        self.day.now += 10
        self.assertEqual(self.pull().digest, found.digest)
        self.queries()
        self.assertIs(self.pull().cache, CacheStatus.HIT)
        self.assertEqual(self.used(), [])


class BlobTests(PrivateCase):
    """Blobs of a private repository."""

    def test_kept(self) -> None:
        """What a client's credentials fetched is kept, and served from disk to whoever is let in."""
        found, data = self.fetch(self.blob(DIGEST, authorization=TOKEN))
        self.assertEqual((data, found.cache), (LAYER, CacheStatus.STORED))
        self.assertEqual(self.used(), [("GET", None), ("GET", TOKEN)])
        member = self.store.members[REGISTRY, REPOSITORY, DIGEST]
        self.assertEqual((member.open, member.fetched), (False, Fetched.PRIVATELY))
        self.assertIs(self.cache_status(self.blob(DIGEST, authorization=TOKEN)), CacheStatus.HIT)
        self.assertEqual(self.used(), [])
        self.day.now += 10
        self.assertChallenged(self.blob(DIGEST))

    def test_just_refused(self) -> None:
        """For some seconds crcache's own way is not tried again, for blobs that are not here either."""
        self.assertChallenged(self.manifest())
        self.queries()
        for _ in range(3):
            self.assertChallenged(self.blob(DIGEST))
        self.assertEqual(self.used(), [])

    def test_heads(self) -> None:
        """A HEAD is answered to the same clients as a GET."""
        self.warm()
        found = self.outcome(self.blob(DIGEST, body=False, authorization=LATER))
        assert isinstance(found, Blob)
        self.assertEqual((found.size, found.cache), (len(LAYER), CacheStatus.HIT))
        self.day.now += 10
        self.assertChallenged(self.blob(DIGEST, body=False))
        self.assertChallenged(self.blob(DIGEST, body=False, authorization=WRONG))

    def test_while_it_comes(self) -> None:
        """A fetch that is under way is followed by those who are let in, and by nobody else."""
        turn = Turn(stall=100)
        rule = self.upstream.rule
        self.upstream.rule = lambda query: rule(query) or (turn if query.method == "GET" else None)
        self.outcome(self.blob(DIGEST, authorization=TOKEN))
        self.queries()
        self.assertChallenged(self.blob(DIGEST))
        self.assertChallenged(self.blob(DIGEST, authorization=WRONG))
        self.queries()
        found = self.outcome(self.blob(DIGEST, authorization=LATER))
        assert isinstance(found, Blob)
        self.assertEqual((found.cache, self.used()), (CacheStatus.COLLAPSED, [("HEAD", LATER)]))
        turn.release()
        self.assertEqual(self.read(found), LAYER)

    def test_refused_do_not_lend(self) -> None:
        """With what the origin has refused, a fetch that breaks off is not gone on with."""
        self.assertChallenged(self.manifest())
        turn = Turn(stall=100)
        self.upstream.rule = lambda query: self.rule(query) or (turn if query.method == "GET" else None)
        self.outcome(self.blob(DIGEST, authorization=TOKEN))
        for _ in range(3):
            self.assertChallenged(self.blob(DIGEST, authorization=WRONG))
        fill = self.fills.running(REGISTRY, DIGEST, REPOSITORY)
        assert fill is not None and fill.lending is not None
        self.queries()
        self.successResultOf(fill.lending.ask(fill.query)).abort()
        self.assertEqual(self.used(), [("GET", TOKEN)])
        turn.release()
        self.settle()

    def test_goes_on(self) -> None:
        """What is carried on from the origin is asked for with the same client's credentials, and no others."""
        self.warm()
        for authorization in (TOKEN, LATER):
            found = self.outcome(self.blob(DIGEST, authorization=authorization))
            assert isinstance(found, Blob) and found.rest is not None
            self.queries()
            self.successResultOf(found.rest.ask(5, None)).abort()
            self.assertEqual(self.used(), [("GET", authorization)])

    def test_open_layer(self) -> None:
        """A layer that some repository gives everyone is not fetched again for a private one that names it."""
        self.fetch(self.blob(DIGEST, repository=OTHER_REPOSITORY))
        self.pull(self.manifest(authorization=TOKEN))
        self.queries()
        self.assertIs(self.cache_status(self.blob(DIGEST, authorization=TOKEN)), CacheStatus.HIT)
        self.assertEqual(self.used(), [])
        self.day.now += 10
        self.assertChallenged(self.blob(DIGEST))

    def test_disk_fails(self) -> None:
        """A disk that cannot be read fails no pull, and opens nothing."""
        self.warm()
        for method in ("holding", "find", "privacy", "member"):
            self.store.broken = {method}
            found = self.outcome(self.blob(DIGEST, authorization=LATER))
            self.assertIn(found.__class__, (Blob, Relayed))
            if isinstance(found, Relayed):
                found.answer.abort()
            self.day.now += 10
            self.refusal(self.blob(DIGEST), Unauthorized)


class ElsewhereTests(PrivateCase):
    """Knowing a private digest opens nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.warm()
        self.ways = [
            self.blob(DIGEST, registry=EVIL, repository=Repository("any/thing")),
            self.blob(DIGEST, registry=REGISTRY, repository=OTHER_REPOSITORY),
            self.blob(DIGEST, registry=OTHER_REGISTRY),
        ]

    def assertClosed(self) -> None:
        """None of the other ways leads to the bytes on disk: each time their origins have to send them."""
        for ask in self.ways:
            for each in (ask, self.blob(DIGEST, registry=ask.registry, repository=ask.repository, authorization=WRONG)):
                self.queries()
                self.upstream.rule = lambda query: Turn(status=404) if query.method == "GET" else None
                self.refusal(each, BlobUnknown)
                self.assertEqual({query.registry for query in self.queries()}, {ask.registry})

    def test_unknown(self) -> None:
        """To somebody who just names it."""
        self.assertClosed()

    def test_confirmed_by_heads(self) -> None:
        """To somebody whose own registry answers a HEAD as if it had it."""
        for ask in self.ways:
            head = self.blob(DIGEST, registry=ask.registry, repository=ask.repository, body=False)
            found = self.outcome(head)
            assert isinstance(found, Blob)
            self.assertIsNone(found.body)
        self.assertClosed()

    def test_named_by_a_manifest(self) -> None:
        """To somebody whose own registry has a manifest that names it."""
        self.add(image(LAYER, note="mine"), Tag("mine"), media_type=OCI_MANIFEST)
        for ask in self.ways:
            self.pull(self.manifest(Tag("mine"), registry=ask.registry, repository=ask.repository))
            member = self.store.members[ask.registry, ask.repository, DIGEST]
            self.assertEqual((member.open, member.fetched), (True, Fetched.NEVER))
        self.assertClosed()

    def test_named_by_an_index(self) -> None:
        """A private manifest is not opened by an index that names it, nor by a tag's HEAD."""
        self.add(index(self.upstream.content[TAG]), Tag("mine"), media_type=OCI_INDEX)
        data = self.upstream.content.pop(self.digest)
        for ask in self.ways:
            self.pull(self.manifest(Tag("mine"), registry=ask.registry, repository=ask.repository))
            wanted = self.manifest(self.digest, registry=ask.registry, repository=ask.repository)
            self.refusal(wanted, ManifestUnknown)
        for ask in self.ways:
            tag = self.manifest(TAG, registry=ask.registry, repository=ask.repository, body=False)
            self.upstream.rule = lambda query: None if query.method == "HEAD" else Turn(status=404)
            self.assertEqual(self.pull(tag).digest, self.digest)
            self.day.now += 10
            self.refusal(self.manifest(TAG, registry=ask.registry, repository=ask.repository), ManifestUnknown)
        self.assertEqual(Digest.of(data), self.digest)

    def prove(self, ask: Any) -> None:
        """All of it comes from there."""
        found = self.outcome(ask)
        assert isinstance(found, Relayed), found
        self.assertEqual((found.digest, found.answer.status), (DIGEST, 200))
        found.answer.abort()
        self.assertNotIn((ask.registry, ask.repository, DIGEST), self.store.members)
        assert found.proved is not None
        found.proved(len(LAYER))

    def test_all_of_it(self) -> None:
        """Whoever's origin sends all of it has shown that it has it: from then on it comes from disk there, too."""
        self.prove(self.ways[0])
        self.queries()
        self.assertIs(self.cache_status(self.ways[0]), CacheStatus.HIT)
        self.assertEqual(self.used(), [])
        self.day.now += 10
        self.assertChallenged(self.blob(DIGEST))

    def test_all_of_it_privately(self) -> None:
        """If it did so for a client's credentials, it is for those whom that origin lets in, and nobody else yet."""
        closed = Turn(status=401, headers={"WWW-Authenticate": CHALLENGE})
        self.upstream.rule = lambda query: None if query.authorization == LATER else closed
        self.prove(self.blob(DIGEST, registry=EVIL, authorization=LATER))
        self.queries()
        self.assertIs(self.cache_status(self.blob(DIGEST, registry=EVIL, authorization=LATER)), CacheStatus.HIT)
        self.assertEqual(self.used(), [])
        self.day.now += 10
        self.assertChallenged(self.blob(DIGEST, registry=EVIL))
        self.assertClosed()

    def test_all_of_it_in_two_ways(self) -> None:
        """What began openly, broke off, and went on for a client's credentials alone, is for those who are let in."""
        found = self.outcome(self.blob(DIGEST, registry=EVIL, authorization=LATER))
        assert isinstance(found, Relayed) and found.rest is not None and found.proved is not None
        found.answer.abort()
        self.upstream.rule = lambda query: None if query.authorization == LATER else Turn(status=403)
        self.successResultOf(found.rest.ask(5, len(LAYER))).abort()
        found.proved(len(LAYER))
        member = self.store.members[EVIL, REPOSITORY, DIGEST]
        self.assertEqual((member.open, member.fetched), (False, Fetched.PRIVATELY))
        self.refusal(self.blob(DIGEST, registry=EVIL), Denied)
        self.assertIs(self.cache_status(self.blob(DIGEST, registry=EVIL, authorization=LATER)), CacheStatus.HIT)
        self.assertClosed()

    def test_part_of_it(self) -> None:
        """A part proves nothing."""
        for ask in self.ways:
            part = self.blob(DIGEST, registry=ask.registry, repository=ask.repository, span=(0, 10))
            found = self.outcome(part)
            assert isinstance(found, Relayed)
            self.assertIsNone(found.proved)
            found.answer.abort()

    def test_while_it_comes(self) -> None:
        """Nor does a fetch that is under way lead there."""
        other = self.add(LAYER[::-1] + LAYER)
        turn = Turn(stall=3)
        rule = self.rule
        self.upstream.rule = lambda query: rule(query) or (turn if query.authorization == TOKEN else None)
        self.outcome(self.blob(other, authorization=TOKEN))
        for ask in self.ways:
            self.upstream.rule = lambda query: Turn(status=404) if query.method == "GET" else None
            self.refusal(self.blob(other, registry=ask.registry, repository=ask.repository), BlobUnknown)
        turn.release()
        self.settle()

    def test_origin_down(self) -> None:
        """Nor does an origin that cannot be asked."""
        self.down = Turn(status=500)
        for ask in self.ways:
            self.refusal(ask, OriginFailed)
