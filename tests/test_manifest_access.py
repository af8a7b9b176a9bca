"""Tests for L{crcache.manifests}: whose manifests are whose."""

from __future__ import annotations

from crcache.errors import Denied, ManifestUnknown, OriginFailed, Unauthorized
from crcache.facts import Membership
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import ACCEPT, DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from crcache.outcomes import CacheStatus
from crcache.secret import Secret
from crcache.testing.upstream import Turn
from tests.story import (
    CHALLENGE,
    CONFIG,
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


class DigestTests(StoryCase):
    """By digest a manifest never changes; but only its own repositories may give it."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add_image(TAG)

    def test_after_its_tag(self) -> None:
        """A manifest that was fetched by its tag is a hit by its digest."""
        body = self.pull().body
        self.asked()
        found = self.pull(self.manifest(self.digest))
        self.assertEqual((found.body, found.media_type, found.cache), (body, OCI_MANIFEST, CacheStatus.HIT))
        self.assertEqual(self.asked(), [])

    def test_before_its_tag(self) -> None:
        """A manifest that was fetched by its digest is a hit by its tag once a HEAD has said what that means."""
        self.pull(self.manifest(self.digest))
        self.pull(self.manifest(body=False))
        self.assertEqual(self.asked(), [f"GET {self.digest}", "HEAD 1.0"])
        self.assertIs(self.pull().cache, CacheStatus.HIT)
        self.assertEqual(self.asked(), [])

    def test_for_ever(self) -> None:
        """By digest it is served without asking however old it is, with its age; also when the origin has lost it."""
        self.pull()
        self.day.now += 1e6
        self.upstream.content.clear()
        self.asked()
        found = self.pull(self.manifest(self.digest))
        self.assertEqual((found.cache, found.age), (CacheStatus.HIT, 1e6))
        self.assertEqual(self.asked(), [])

    def test_sha512(self) -> None:
        """It may be named by its sha512."""
        data = image(LAYER)
        digest = Digest.of(data, "sha512")
        self.upstream.content[digest] = data
        self.upstream.types[digest] = OCI_MANIFEST
        self.assertEqual(self.pull(self.manifest(digest)).body, data)
        self.asked()
        self.assertIs(self.pull(self.manifest(digest)).cache, CacheStatus.HIT)
        self.assertEqual(self.asked(), [])

    def test_other_repository(self) -> None:
        """Through another repository or registry its digest opens nothing: their origins are asked."""
        self.pull()
        for registry, repository in ((None, OTHER_REPOSITORY), (OTHER_REGISTRY, None)):
            ask = self.manifest(self.digest)
            ask = self.manifest(self.digest, registry=registry or ask.registry, repository=repository or ask.repository)
            self.always(Turn(status=404))
            self.refusal(ask, ManifestUnknown)
            self.always(Turn(status=401))
            self.day.now += 10
            self.refusal(ask, Unauthorized)
            self.always(None)
            self.asked()
            self.assertEqual(self.pull(ask).body, self.upstream.content[TAG])
            self.assertEqual(self.asked(), [f"GET {self.digest}"])

    def test_child_known_elsewhere(self) -> None:
        """A manifest that another repository gave openly is a hit where a fetched index names it."""
        data = image(LAYER, note="child")
        self.add(data, media_type=OCI_MANIFEST)
        self.pull(self.manifest(Digest.of(data), repository=OTHER_REPOSITORY))
        self.add(index(data), TAG, media_type=OCI_INDEX)
        self.pull()
        self.asked()
        found = self.pull(self.manifest(Digest.of(data)))
        self.assertEqual((found.body, found.media_type, found.cache), (data, OCI_MANIFEST, CacheStatus.HIT))
        self.assertEqual(self.asked(), [])

    def test_no_manifest(self) -> None:
        """A blob is no manifest, for all that its bytes are on disk: the origin says what it is."""
        self.pull()
        self.fetch(self.blob(Digest.of(CONFIG)))
        self.upstream.content.clear()
        self.asked()
        self.refusal(self.manifest(Digest.of(CONFIG)), ManifestUnknown)
        self.assertEqual(self.asked(), [f"GET {Digest.of(CONFIG)}"])

    def test_damaged(self) -> None:
        """A manifest whose file has been damaged is fetched again."""
        body = self.pull().body
        self.store.put(self.digest, b"damaged")
        found = self.pull(self.manifest(self.digest))
        self.assertEqual((found.body, found.cache), (body, CacheStatus.STORED))


class PrivateTests(StoryCase):
    """What only a client's own credentials open."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add_image(TAG)
        self.close_to_strangers()

    def test_challenge(self) -> None:
        """Without credentials, or with others, the client gets the origin's 401 with its challenge unchanged."""
        for reference in (TAG, self.digest):
            for body in (True, False):
                for authorization in (None, Secret("Bearer wrong")):
                    ask = self.manifest(reference, body=body, authorization=authorization)
                    error = self.refusal(ask, Unauthorized)
                    self.assertEqual((error.status, error.code), (401, "UNAUTHORIZED"))
                    self.assertEqual(error.headers, (("WWW-Authenticate", CHALLENGE),))

    def test_passed_on(self) -> None:
        """The client's own C{Authorization} goes to the origin when crcache's own way is refused, and only then."""
        for reference in (TAG, self.digest):
            self.day.now += 10
            self.queries()
            ask = self.manifest(reference, authorization=TOKEN, body=False)
            self.assertEqual(self.pull(ask).digest, self.digest)
            self.assertEqual([query.authorization for query in self.queries()], [None, TOKEN])
        self.build()
        self.always(None)
        self.day.now += 100
        self.pull(self.manifest(authorization=TOKEN))
        self.assertEqual([query.authorization for query in self.queries()], [None])

    def test_not_everyones(self) -> None:
        """What it got is not for the next client, who gets the challenge."""
        for reference in (TAG, self.digest):
            for body in (True, False):
                self.pull(self.manifest(reference, authorization=TOKEN, body=body))
            self.refusal(self.manifest(reference), Unauthorized)

    def test_not_shared(self) -> None:
        """A client that waits for the same thing at the same time gets nothing of it."""
        turn = Turn(hold=True, status=401, headers={"WWW-Authenticate": CHALLENGE})
        self.upstream.rule = lambda query: None if query.authorization == TOKEN else turn
        own = self.cache.handle(self.manifest(authorization=TOKEN))
        stranger = self.cache.handle(self.manifest())
        turn.release()
        self.assertEqual(self.pulled(own).body, self.upstream.content[TAG])
        self.failureResultOf(stranger, Unauthorized)

    def test_forbidden(self) -> None:
        """A 403 is dealt with in the same way."""
        self.close_to_strangers(403)
        self.refusal(self.manifest(), Denied)
        self.assertEqual(self.pull(self.manifest(authorization=TOKEN)).body, self.upstream.content[TAG])
        self.refusal(self.manifest(), Denied)

    def test_its_own_accept(self) -> None:
        """A client that does not take what its credentials open has its own C{Accept} asked, with them."""
        self.pull(self.manifest(TAG, DOCKER_LIST, authorization=TOKEN))
        self.assertEqual(
            [(query.accept, query.authorization) for query in self.queries()],
            [(ACCEPT, None), (ACCEPT, TOKEN), (ACCEPT, TOKEN), ((DOCKER_LIST,), TOKEN)],
        )

    def test_noted_as_private(self) -> None:
        """What is noted as obtained with somebody's credentials only is not a hit: the origin is asked."""
        self.store.put(self.digest, self.upstream.content[TAG])
        self.store.enrol(REGISTRY, REPOSITORY, [Membership(self.digest, OCI_MANIFEST, None, open=False)])
        self.refusal(self.manifest(self.digest), Unauthorized)

    def test_absent_for_one(self) -> None:
        """A 404 that one client's credentials led to is not remembered for others, and forgets no tag."""
        self.always(None)
        self.pull()
        self.day.now += 60
        closed = Turn(status=401, headers={"WWW-Authenticate": CHALLENGE})
        self.upstream.rule = lambda query: Turn(status=404) if query.authorization == TOKEN else closed
        self.refusal(self.manifest(authorization=TOKEN), ManifestUnknown)
        self.always(None)
        self.day.now += 10
        self.assertEqual(self.pull().digest, self.digest)
        self.assertIn((REGISTRY, REPOSITORY, TAG), self.store.tags)

    def test_opened_meanwhile(self) -> None:
        """What crcache's own way opened before is served to everyone without asking, credentials or not."""
        self.always(None)
        self.pull()
        self.close_to_strangers()
        for authorization in (None, TOKEN):
            self.assertIs(self.pull(self.manifest(authorization=authorization)).cache, CacheStatus.HIT)


class DiskTests(StoryCase):
    """Pulls never fail because caching does."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add_image(TAG)

    def test_reading_fails(self) -> None:
        """A disk that cannot be read means asking the origin."""
        self.pull()
        for method in ("tag", "holding", "privacy", "read"):
            self.store.broken = {method}
            for reference in (TAG, self.digest):
                self.assertEqual(self.pull(self.manifest(reference)).body, self.upstream.content[TAG])

    def test_writing_fails(self) -> None:
        """A disk that takes nothing means that nothing is kept; all the same the client has its manifest."""
        for method in ("put", "enrol", "set_tag"):
            self.store.broken = {method}
            for reference in (TAG, self.digest):
                for body in (True, False):
                    ask = self.manifest(reference, body=body)
                    self.assertEqual(self.pull(ask).digest, self.digest)

    def test_not_stored(self) -> None:
        """What could not be kept does not claim that it was, and its tag is not noted."""
        self.store.broken = {"put"}
        self.assertIs(self.pull().cache, CacheStatus.BYPASS)
        self.assertEqual(self.store.tags, {})

    def test_waited_for_once(self) -> None:
        """Where the one note could not be made the next is not tried: on a disk that hangs each takes its time."""
        self.store.broken = {"enrol"}
        for body in (False, True):
            self.assertEqual(self.pull(self.manifest(body=body)).digest, self.digest)
        self.assertEqual(self.store.tags, {})

    def test_forgetting_fails(self) -> None:
        """A tag that is gone is a 404 even if the disk will not let go of it."""
        self.store.broken = {"forget_tag"}
        del self.upstream.content[TAG]
        self.refusal(self.manifest(), ManifestUnknown)

    def test_both_fail(self) -> None:
        """If the origin fails as well, that is what the client is told."""
        self.pull()
        self.store.broken = {"tag", "holding", "read", "find"}
        self.always(Turn(status=500))
        self.refusal(self.manifest(), OriginFailed)
