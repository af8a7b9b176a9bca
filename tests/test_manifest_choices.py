"""Tests for L{crcache.manifests}: HEADs, media types, and what is never kept."""

from __future__ import annotations

from crcache.errors import ManifestUnknown, OriginFailed, OriginLied, OriginRefused
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import ACCEPT, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from crcache.grammar.reference import Tag
from crcache.outcomes import CacheStatus
from crcache.testing.upstream import Turn
from tests.story import CONFIG, LAYER, OTHER_REPOSITORY, REGISTRY, REPOSITORY, TAG, StoryCase, image, index

LATEST = Tag("latest")


class HeadTests(StoryCase):
    """A HEAD is answered from disk, or with the origin's HEAD."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add_image(TAG)
        self.size = len(self.upstream.content[TAG])

    def test_costs_no_get(self) -> None:
        """A HEAD of a tag or digest that is not known costs the origin one HEAD, and tells the same as a GET."""
        for reference in (TAG, self.digest):
            found = self.pull(self.manifest(reference, body=False, repository=OTHER_REPOSITORY))
            self.assertEqual((found.digest, found.media_type, found.size), (self.digest, OCI_MANIFEST, self.size))
            self.assertEqual((found.body, found.cache), (None, CacheStatus.MISS))
            self.assertEqual(self.asked(), [f"HEAD {reference}"])
            self.build()
            self.store.tags.clear()

    def test_notes_the_tag(self) -> None:
        """What a HEAD found is fresh for the next one, and a GET by tag then asks for the digest."""
        self.pull(self.manifest(body=False))
        self.asked()
        self.assertIs(self.pull(self.manifest(body=False)).cache, CacheStatus.HIT)
        self.assertEqual(self.asked(), [])
        self.pull()
        self.assertEqual(self.asked(), [f"GET {self.digest}"])

    def test_from_disk(self) -> None:
        """A HEAD of what is on disk is a hit without a body, by tag and by digest."""
        self.pull()
        self.asked()
        for reference in (TAG, self.digest):
            found = self.pull(self.manifest(reference, body=False))
            self.assertEqual((found.digest, found.media_type, found.size), (self.digest, OCI_MANIFEST, self.size))
            self.assertEqual((found.body, found.cache), (None, CacheStatus.HIT))
        self.assertEqual(self.asked(), [])

    def test_becomes_a_get(self) -> None:
        """A HEAD that the origin refuses, or answers without digest, length or a manifest's type, becomes a GET."""
        for turn in (
            Turn(status=405),
            Turn(headers={"Docker-Content-Digest": None}),
            Turn(headers={"Docker-Content-Digest": "md5:abc"}),
            Turn(headers={"Content-Type": None}),
            Turn(headers={"Content-Type": "application/octet-stream"}),
            Turn(unsized=True),
        ):
            self.upstream.turns = [turn]
            found = self.pull(self.manifest(body=False))
            self.assertEqual((found.digest, found.media_type, found.size), (self.digest, OCI_MANIFEST, self.size))
            self.assertIsNone(found.body)
            self.assertEqual(self.asked(), ["HEAD 1.0", "GET 1.0"])
            self.store.tags.clear()

    def test_becomes_a_get_later(self) -> None:
        """So it is when a tag is asked again after its time to live."""
        self.pull()
        for body in (True, False):
            self.day.now += 60
            new = self.add_image(TAG, note=str(body))
            self.asked()
            self.upstream.turns = [Turn(status=405)]
            found = self.pull(self.manifest(body=body))
            self.assertEqual((found.digest, found.body is not None), (new, body))
            self.assertEqual(self.asked(), ["HEAD 1.0", "GET 1.0"])
            self.assertIs(self.pull().cache, CacheStatus.HIT)

    def test_digest_needs_none(self) -> None:
        """A HEAD by digest whose answer lacks the digest costs no GET: the client named it."""
        self.upstream.turns = [Turn(headers={"Docker-Content-Digest": None})]
        self.assertEqual(self.pull(self.manifest(self.digest, body=False)).digest, self.digest)
        self.assertEqual(self.asked(), [f"HEAD {self.digest}"])

    def test_another_digest(self) -> None:
        """An origin that answers a HEAD by digest with another digest is not believed."""
        self.upstream.turns = [Turn(headers={"Docker-Content-Digest": str(Digest.of(b"other"))})]
        self.refusal(self.manifest(self.digest, body=False), OriginLied)
        self.assertEqual(self.written(), 0)

    def test_parameters(self) -> None:
        """A media type with parameters, in any case, is that media type."""
        self.upstream.turns = [Turn(headers={"Content-Type": OCI_MANIFEST.upper() + "; charset=utf-8"})]
        self.assertEqual(self.pull(self.manifest(body=False)).media_type, OCI_MANIFEST)
        self.assertEqual(self.asked(), ["HEAD 1.0"])

    def test_at_once(self) -> None:
        """Many HEADs at once cost the origin one."""
        turn = Turn(hold=True)
        self.always(turn)
        waiting = [self.cache.handle(self.manifest(body=False)) for _ in range(5)]
        turn.release()
        self.assertEqual({self.pulled(each).digest for each in waiting}, {self.digest})
        self.assertEqual(self.asked(), ["HEAD 1.0"])


class AcceptTests(StoryCase):
    """No client's C{Accept} changes what others get."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add_image(TAG)
        self.docker = image(LAYER, media_type=DOCKER_MANIFEST)
        self.upstream.rule = self.negotiate

    def negotiate(self, query: object) -> Turn | None:
        """An origin that has the tag in Docker's form too, for those who take nothing else."""
        if getattr(query, "accept", ()) == (DOCKER_MANIFEST, DOCKER_LIST):
            headers = {"Content-Type": DOCKER_MANIFEST, "Docker-Content-Digest": str(Digest.of(self.docker))}
            return Turn(body=self.docker, headers=headers)
        return None

    def test_own(self) -> None:
        """Origins are asked with crcache's own C{Accept}, a line each, whatever the client's is."""
        self.pull(self.manifest(TAG, "*/*"))
        self.pull(self.manifest(self.digest, "application/json", OCI_MANIFEST, repository=OTHER_REPOSITORY))
        self.assertEqual({query.accept for query in self.queries()}, {ACCEPT})

    def test_taken(self) -> None:
        """A cached tag is served to whoever takes its type: in one line, in several, by wildcard, or saying nothing."""
        self.pull()
        self.asked()
        for accept in (
            (),
            ("*/*",),
            ("application/*",),
            (f"{DOCKER_MANIFEST}, {OCI_MANIFEST}",),
            (DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST),
            (f"{DOCKER_MANIFEST};q=0.5,{OCI_MANIFEST};q=0.1",),
        ):
            self.assertIs(self.pull(self.manifest(TAG, *accept)).cache, CacheStatus.HIT)
        self.assertEqual(self.asked(), [])

    def test_not_taken(self) -> None:
        """A client that does not take the type has its own C{Accept} asked; the tag keeps its meaning for others."""
        picky = DOCKER_MANIFEST, DOCKER_LIST
        for body in (True, False):
            self.pull()
            before = dict(self.store.tags)
            self.queries()
            found = self.pull(self.manifest(TAG, *picky, body=body))
            self.assertEqual((found.digest, found.media_type), (Digest.of(self.docker), DOCKER_MANIFEST))
            self.assertEqual((found.body, found.cache), (self.docker if body else None, CacheStatus.BYPASS))
            (query,) = self.queries()
            self.assertEqual((query.reference, query.accept), (TAG, picky))
            self.assertEqual(self.store.tags, before)
            self.assertEqual(self.pull().digest, self.digest)

    def test_not_taken_cold(self) -> None:
        """So it is with a tag that is not known yet, or has to be asked again, even by an origin without HEAD."""
        picky = self.manifest(TAG, DOCKER_MANIFEST, DOCKER_LIST)
        self.assertEqual(self.pull(picky).digest, Digest.of(self.docker))
        self.assertEqual(self.store.tags[REGISTRY, REPOSITORY, TAG].digest, self.digest)
        self.day.now += 60
        self.assertEqual(self.pull(picky).digest, Digest.of(self.docker))
        self.day.now += 60
        self.upstream.rule = lambda query: Turn(status=405) if query.method == "HEAD" else self.negotiate(query)
        self.assertEqual(self.pull(picky).digest, Digest.of(self.docker))
        self.assertEqual(self.store.tags[REGISTRY, REPOSITORY, TAG].digest, self.digest)

    def test_kept_by_digest(self) -> None:
        """What a client's own C{Accept} got is a hit by its digest."""
        found = self.pull(self.manifest(TAG, DOCKER_MANIFEST, DOCKER_LIST))
        self.asked()
        self.assertIs(self.pull(self.manifest(found.digest)).cache, CacheStatus.HIT)
        self.assertEqual(self.asked(), [])

    def test_absent_for_one(self) -> None:
        """A 404 to one client's C{Accept} is its own: others still get the tag, without asking."""
        self.pull()
        self.always(Turn(status=404))
        self.refusal(self.manifest(TAG, DOCKER_LIST), ManifestUnknown)
        self.asked()
        self.assertIs(self.pull().cache, CacheStatus.HIT)
        self.assertEqual(self.asked(), [])

    def test_digest_is_what_it_is(self) -> None:
        """What is asked for by digest has one type only, and is served whatever the client takes."""
        self.pull()
        self.assertIs(self.pull(self.manifest(self.digest, DOCKER_LIST)).cache, CacheStatus.HIT)

    def test_refused(self) -> None:
        """An origin that refuses crcache's own C{Accept} is asked with the client's."""
        self.upstream.rule = lambda query: Turn(status=406) if query.accept == ACCEPT else self.negotiate(query)
        found = self.pull(self.manifest(TAG, DOCKER_MANIFEST, DOCKER_LIST))
        self.assertEqual(found.body, self.docker)
        self.assertEqual(self.store.tags, {})
        self.refusal(self.manifest(), OriginRefused)


class NeverKeptTests(StoryCase):
    """Ignored tags, and C{manifests: no}."""

    def test_ignored(self) -> None:
        """A tag that matches is asked of its origin every time, and never noted; its manifest is kept by digest."""
        digest = self.add_image(LATEST)
        for _ in range(2):
            found = self.pull(self.manifest(LATEST))
            self.assertEqual((found.body, found.cache), (self.upstream.content[LATEST], CacheStatus.BYPASS))
        self.assertEqual(self.asked(), ["GET latest"] * 2)
        self.assertEqual(self.pull(self.manifest(LATEST, body=False)).cache, CacheStatus.BYPASS)
        self.assertEqual(self.asked(), ["HEAD latest"])
        self.assertEqual(self.store.tags, {})
        self.assertIs(self.pull(self.manifest(digest)).cache, CacheStatus.HIT)

    def test_search(self) -> None:
        """The expression is searched for, not matched from the beginning."""
        self.build(ignore="nightly|^v0")
        for name, ignored in (("app-nightly-3", True), ("v0.1", True), ("1-v0", False), ("latest", False)):
            self.add_image(Tag(name))
            self.pull(self.manifest(Tag(name)))
            self.assertEqual((REGISTRY, REPOSITORY, Tag(name)) not in self.store.tags, ignored, name)

    def test_ignored_fails_with_its_origin(self) -> None:
        """There is nothing to serve an ignored tag from when its origin fails."""
        self.add_image(LATEST)
        self.pull(self.manifest(LATEST))
        self.always(Turn(status=500))
        self.refusal(self.manifest(LATEST), OriginFailed)

    def test_ignored_absence(self) -> None:
        """That an ignored tag is not there is not remembered either."""
        self.refusal(self.manifest(LATEST), ManifestUnknown)
        self.add_image(LATEST)
        self.pull(self.manifest(LATEST))

    def test_ignored_type(self) -> None:
        """A client that does not take an ignored tag's type has its own C{Accept} asked."""
        self.add_image(LATEST)
        self.pull(self.manifest(LATEST, DOCKER_LIST))
        self.assertEqual([query.accept for query in self.queries()], [ACCEPT, (DOCKER_LIST,)])

    def test_no_manifests(self) -> None:
        """With C{manifests: no} every manifest is asked of its origin, by tag and digest; none is kept."""
        self.build(cache_manifests=False)
        digest = self.add_image(TAG)
        for reference in (TAG, digest):
            for body in (True, False):
                for _ in range(2):
                    found = self.pull(self.manifest(reference, body=body))
                    self.assertIs(found.body is not None, body)
                self.assertEqual(self.asked(), [f"{'GET' if body else 'HEAD'} {reference}"] * 2)
        self.assertEqual((self.store.tags, self.store.contents), ({}, {}))

    def test_no_manifests_but_blobs(self) -> None:
        """What such a manifest names is known to its repository all the same."""
        self.build(cache_manifests=False)
        self.add_image(TAG)
        self.pull()
        members = {digest for _, _, digest in self.store.members}
        self.assertEqual(members, {Digest.of(LAYER), Digest.of(CONFIG)})

    def test_switched_off(self) -> None:
        """What was kept before C{manifests: no} is not served any more."""
        digest = self.add_image(TAG)
        self.pull()
        self.build(cache_manifests=False)
        self.asked()
        self.pull()
        self.pull(self.manifest(digest))
        self.assertEqual(self.asked(), ["GET 1.0", f"GET {digest}"])


class IndexTests(StoryCase):
    """Children of what has been fetched."""

    def test_children(self) -> None:
        """The manifests, layers and configuration that a manifest names belong to its repository, with their sizes."""
        data = image(LAYER)
        self.add(index(data), TAG, media_type=OCI_INDEX)
        self.add(data, media_type=OCI_MANIFEST)
        self.pull()
        member = self.store.members[REGISTRY, REPOSITORY, Digest.of(data)]
        self.assertEqual((member.media_type, member.size, member.open), (OCI_MANIFEST, len(data), True))
        self.pull(self.manifest(Digest.of(data)))
        member = self.store.members[REGISTRY, REPOSITORY, Digest.of(LAYER)]
        self.assertEqual((member.size, member.open), (len(LAYER), True))
