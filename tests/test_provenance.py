"""Tests for L{crcache.provenance}: what an origin sends for a manifest is believed only as far as it can be checked."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher

from crcache import events
from crcache.errors import BodyCut, ManifestUnknown, OriginLied, OriginRefused, OriginTimeout
from crcache.facts import Fetched, Query
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import DOCKER_MANIFEST, LIMIT, OCI_INDEX, OCI_MANIFEST
from crcache.grammar.reference import Tag
from crcache.origin import FAILING
from crcache.outcomes import CacheStatus, Manifest
from crcache.provenance import PATIENCE, Provenance
from crcache.testing.upstream import Turn
from crcache.workers import Inline
from tests.story import CONFIG, LAYER, REGISTRY, REPOSITORY, TAG, TOKEN, StoryCase, image
from tests.test_origin import OddUpstream


class FetchTests(StoryCase):
    """L{Provenance.fetch<crcache.provenance.Provenance.fetch>}."""

    def setUp(self) -> None:
        super().setUp()
        self.urls = 1
        self.digest = self.add_image(TAG)
        self.data = self.upstream.content[TAG]

    def several(self, urls: int) -> None:
        """The registry has so many URLs from now on."""
        self.urls = urls
        parts = self.store, self.origin, self.privacies, Inline(), self.day
        self.provenance = Provenance(*parts, keep=True, urls=lambda _: urls)

    def get(self, reference: Tag | Digest = TAG) -> Deferred[Manifest]:
        """Fetch it, noting the tag."""
        query = Query(REGISTRY, REPOSITORY, "manifest", reference, "id-1")
        tag = reference if isinstance(reference, Tag) else None
        return Deferred.fromCoroutine(self.provenance.fetch(query, tag, self.client(authorization=TOKEN)))

    def assertLied(self, turn: Turn, *references: Tag | Digest) -> None:
        """Such an answer is the origin's fault, and nothing of it is kept."""
        for reference in references or (TAG, self.digest):
            self.upstream.turns = [turn] * self.urls
            error = self.failureResultOf(self.get(reference), OriginLied).value
            self.assertEqual(error.status, 502)
            self.assertEqual(self.written(), 0)

    def test_kept(self) -> None:
        """The manifest, what it names, and its tag are written down; membership is open."""
        found = self.successResultOf(self.get())
        self.assertEqual((found.body, found.digest, found.media_type), (self.data, self.digest, OCI_MANIFEST))
        self.assertIs(found.cache, CacheStatus.STORED)
        entry = self.store.tags[REGISTRY, REPOSITORY, TAG]
        self.assertEqual((entry.digest, entry.media_type, entry.size), (self.digest, OCI_MANIFEST, len(self.data)))
        self.assertEqual(entry.checked, self.day.now)
        members = {digest: member for (_, _, digest), member in self.store.members.items()}
        self.assertEqual(set(members), {self.digest, Digest.of(LAYER), Digest.of(CONFIG)})
        self.assertEqual({member.open for member in members.values()}, {True})
        self.assertEqual(members[Digest.of(LAYER)].size, len(LAYER))
        self.assertEqual(list(self.store.contents), [self.digest])

    def test_private(self) -> None:
        """What only the client's credentials opened is written down as such, with the tag and all that it names."""
        self.close_to_strangers()
        found = self.successResultOf(self.get())
        self.assertEqual((found.body, found.cache), (self.data, CacheStatus.STORED))
        self.assertEqual({member.open for member in self.store.members.values()}, {False})
        fetched = {digest: member.fetched for (_, _, digest), member in self.store.members.items()}
        never = dict.fromkeys((Digest.of(LAYER), Digest.of(CONFIG)), Fetched.NEVER)
        self.assertEqual(fetched, {self.digest: Fetched.PRIVATELY, **never})
        self.assertFalse(self.store.tags[REGISTRY, REPOSITORY, TAG].open)
        self.assertFalse(self.successResultOf(self.store.holding(REGISTRY, REPOSITORY, self.digest)).given)

    def test_wrong_bytes(self) -> None:
        """Other bytes than were asked for by digest, or than the origin's own header says, are not passed on."""
        self.assertLied(Turn(wrong=True))
        self.assertLied(Turn(body=image(b"other"), headers={"Docker-Content-Digest": str(self.digest)}))

    def test_wrong_header(self) -> None:
        """Right bytes under a wrong digest in the header are not believed for a tag."""
        self.assertLied(Turn(headers={"Docker-Content-Digest": str(Digest.of(b"other"))}), TAG)

    def test_header_of_no_use(self) -> None:
        """Without a digest in the header, or with one that is none, the bytes' own sha256 is the digest."""
        for value in (None, "sha256:short", "md5:d41d8cd98f00b204e9800998ecf8427e", ""):
            self.upstream.turns = [Turn(headers={"Docker-Content-Digest": value})]
            self.assertEqual(self.successResultOf(self.get()).digest, self.digest)

    def test_sha512_header(self) -> None:
        """An origin may name a tag's manifest by its sha512: it is kept under that."""
        digest = Digest.of(self.data, "sha512")
        self.upstream.turns = [Turn(headers={"Docker-Content-Digest": str(digest)})]
        self.assertEqual(self.successResultOf(self.get()).digest, digest)
        self.assertEqual(list(self.store.contents), [digest])

    def test_no_manifest(self) -> None:
        """A page of HTML with status 200, JSON that is no manifest, and nothing at all are refused."""
        for body in (b"<html>please log in</html>", b'{"token": "x"}', b"[]", b"\xff\xfe", b""):
            self.assertLied(Turn(body=body), TAG)

    def test_too_large(self) -> None:
        """A manifest beyond eight MiB is refused: unread if its length is told, unfinished if not."""
        huge = b" " * (LIMIT + 1)
        self.assertLied(Turn(body=huge), TAG)
        self.assertEqual(self.upstream.answers[-1].delivered, 0)
        self.assertLied(Turn(body=huge + b" " * LIMIT, unsized=True), TAG)
        self.assertLess(self.upstream.answers[-1].delivered, 2 * LIMIT)
        self.assertTrue(self.upstream.answers[-1].aborted)

    def test_just_large_enough(self) -> None:
        """One of exactly eight MiB is taken."""
        data = image(LAYER)
        data += b" " * (LIMIT - len(data))
        digest = self.add(data, media_type=OCI_MANIFEST)
        self.assertEqual(self.successResultOf(self.get(digest)).size, LIMIT)

    def test_cut(self) -> None:
        """A body that breaks off time and again is the origin's failure, and leaves nothing."""
        for turn in (Turn(cut=50), Turn(cut=50, unsized=True)):
            self.upstream.turns = [turn] * 5
            error = self.failureResultOf(self.get(), BodyCut).value
            self.assertEqual(error.status, 502)
            self.assertEqual(self.written(), 0)
            self.assertEqual(self.upstream.turns, [])

    def test_cut_once(self) -> None:
        """One that breaks off is asked for again, at the next URL if there is one, before anyone hears of it."""
        for reference in (TAG, self.digest):
            self.upstream.turns = [Turn(cut=50), Turn(cut=0, unsized=True)]
            self.assertEqual(self.successResultOf(self.get(reference)).body, self.data)
            self.assertEqual([query.turn for query in self.queries()], [0, 1, 2])

    def test_cut_for_too_long(self) -> None:
        """It is not asked for again when those who wait have waited for too long."""
        self.provenance = Provenance(
            self.store, self.origin, self.privacies, Inline(), self.day, True, self.clock, lambda _: 3
        )
        self.upstream.turns = [Turn(stall=50)]
        waiting = self.get()
        self.clock.advance(PATIENCE)
        self.failureResultOf(waiting, OriginTimeout)
        self.assertEqual(len(self.queries()), 1)

    def test_lies_elsewhere(self) -> None:
        """A lie is asked of the registry's next URL; nothing of it is kept."""
        self.several(2)
        for turn in (
            Turn(wrong=True),
            Turn(body=image(b"other"), headers={"Docker-Content-Digest": str(self.digest)}),
            Turn(body=b"<html>please log in</html>", headers={"Docker-Content-Digest": None}),
            Turn(body=b" " * (LIMIT + 1)),
        ):
            for reference in (TAG, self.digest):
                self.upstream.turns = [turn]
                self.assertEqual(self.successResultOf(self.get(reference)).body, self.data)
                self.assertEqual([query.turn for query in self.queries()], [0, 1])
                self.assertEqual(list(self.store.contents), [self.digest])

    def test_lies_everywhere(self) -> None:
        """If all of them lie that is told, after each has been asked once; with one URL, after one question."""
        for urls in (1, 3):
            self.several(urls)
            self.assertLied(Turn(wrong=True), TAG)
            self.upstream.turns = [Turn(wrong=True)] * urls
            self.queries()
            self.failureResultOf(self.get(), OriginLied)
            self.assertEqual([query.turn for query in self.queries()], list(range(urls)))

    def test_told_of_lies(self) -> None:
        """A lie that harmed nobody is told of as a warning all the same, with whose it was."""
        self.several(2)
        seen: list[Any] = []
        observer = cast(ILogObserver, seen.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.upstream.turns = [Turn(wrong=True)]
        self.successResultOf(self.get(self.digest))
        (told,) = (event for event in seen if event.get("event") is events.CONTENT_WRONG)
        self.assertIs(told["log_level"], LogLevel.warn)
        self.assertEqual((told["registry"], told["digest"]), (str(REGISTRY), str(self.digest)))

    def test_refused_is_not_lied(self) -> None:
        """A plain no is not asked of anyone else."""
        self.several(2)
        self.upstream.turns = [Turn(status=404)]
        self.failureResultOf(self.get(), ManifestUnknown)
        self.assertEqual(len(self.queries()), 1)

    def test_too_slow(self) -> None:
        """A body that drips holds those who wait for it for a while, not for ever; its origin has failed then."""
        self.provenance = Provenance(self.store, self.origin, self.privacies, Inline(), self.day, True, self.clock)
        self.upstream.turns = [Turn(stall=50)]
        waiting = self.get()
        self.clock.advance(PATIENCE - 1)
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.assertIsInstance(self.failureResultOf(waiting, OriginTimeout).value, FAILING)
        self.assertTrue(self.upstream.answers[-1].aborted)
        self.assertEqual(self.written(), 0)

    def test_one_time(self) -> None:
        """However often it is asked for, all questions and bodies have one time together; no timer is left."""
        for last in (Turn(stall=50), Turn(hold=True)):
            self.provenance = Provenance(
                self.store, self.origin, self.privacies, Inline(), self.day, True, self.clock, lambda _: 3
            )
            cut = Turn(cut=50, hold=True)
            self.upstream.turns = [cut, last]
            waiting = self.get()
            self.clock.advance(PATIENCE - 5)
            cut.release()
            self.clock.advance(4.9)
            self.assertEqual(len(self.queries()), 2)
            self.assertNoResult(waiting)
            self.clock.advance(0.2)
            self.failureResultOf(waiting, OriginTimeout)
            self.assertEqual((self.queries(), self.clock.getDelayedCalls()), ([], []))

    def test_any_bytes(self) -> None:
        """A header that is no text is none: the bytes' own digest and type count."""
        self.upstream = odd = OddUpstream.like(self.upstream)
        self.build()
        odd.raw = {b"Docker-Content-Digest": b"\xfc", b"Content-Type": b"application/\xfc"}
        found = self.successResultOf(self.get())
        self.assertEqual((found.digest, found.media_type), (self.digest, OCI_MANIFEST))

    def test_type_of_the_header(self) -> None:
        """The media type is the header's if that is a manifest's, else the body's own."""
        for header, expected in (
            (OCI_INDEX, OCI_INDEX),
            (f"{DOCKER_MANIFEST}; charset=utf-8", DOCKER_MANIFEST),
            ("text/plain", OCI_MANIFEST),
            (None, OCI_MANIFEST),
        ):
            self.upstream.turns = [Turn(headers={"Content-Type": header})]
            self.assertEqual(self.successResultOf(self.get()).media_type, expected)

    def test_without_keeping(self) -> None:
        """If manifests are not to be kept, neither is the tag; what it names is noted."""
        self.build(cache_manifests=False)
        found = self.successResultOf(self.get())
        self.assertEqual((found.body, found.cache), (self.data, CacheStatus.BYPASS))
        self.assertEqual((self.store.tags, self.store.contents), ({}, {}))
        self.assertIn((REGISTRY, REPOSITORY, Digest.of(LAYER)), self.store.members)


class HeadTests(StoryCase):
    """L{Provenance.head<crcache.provenance.Provenance.head>}."""

    def head(self, reference: Tag | Digest) -> Deferred[Manifest | None]:
        """Ask with HEAD."""
        query = Query(REGISTRY, REPOSITORY, "manifest", reference, "id-1", "HEAD")
        tag = reference if isinstance(reference, Tag) else None
        return Deferred.fromCoroutine(self.provenance.head(query, tag, self.client(authorization=TOKEN)))

    def test_noted(self) -> None:
        """What the origin says of a tag is noted: membership and tag."""
        digest = self.add_image(TAG)
        found = self.successResultOf(self.head(TAG))
        assert found is not None
        self.assertEqual((found.digest, found.size), (digest, len(self.upstream.content[TAG])))
        self.assertEqual(self.store.tags[REGISTRY, REPOSITORY, TAG].digest, digest)
        self.assertEqual(list(self.store.members), [(REGISTRY, REPOSITORY, digest)])

    def test_private(self) -> None:
        """What it says to a client's own credentials is noted as such."""
        self.add_image(TAG)
        self.close_to_strangers()
        self.assertIsNotNone(self.successResultOf(self.head(TAG)))
        self.assertFalse(self.store.tags[REGISTRY, REPOSITORY, TAG].open)
        self.assertEqual({member.open for member in self.store.members.values()}, {False})

    def test_lies(self) -> None:
        """A HEAD that speaks of another digest is put to the registry's next URL, if there is one."""
        digest = self.add_image(TAG)
        lie = Turn(headers={"Docker-Content-Digest": str(Digest.of(b"other"))})
        self.upstream.turns = [lie]
        self.failureResultOf(self.head(digest), OriginLied)
        self.provenance = Provenance(
            self.store, self.origin, self.privacies, Inline(), self.day, True, urls=lambda _: 2
        )
        self.queries()
        self.upstream.turns = [lie]
        found = self.successResultOf(self.head(digest))
        assert found is not None
        self.assertEqual((found.digest, [query.turn for query in self.queries()]), (digest, [0, 1]))
        self.upstream.turns = [lie, lie]
        self.failureResultOf(self.head(digest), OriginLied)

    def test_without_keeping(self) -> None:
        """If manifests are not to be kept, a HEAD leaves nothing."""
        self.build(cache_manifests=False)
        self.add_image(TAG)
        self.assertIsNotNone(self.successResultOf(self.head(TAG)))
        self.assertEqual(self.written(), 0)

    def test_not_said(self) -> None:
        """Refusing HEADs, or saying too little, is no error; refusing with another status is."""
        digest = self.add_image(TAG)
        for turn in (Turn(status=405), Turn(unsized=True), Turn(headers={"Content-Type": "text/html"})):
            for reference in (TAG, digest):
                self.upstream.turns = [turn]
                self.assertIsNone(self.successResultOf(self.head(reference)))
        self.upstream.turns = [Turn(status=418)]
        self.failureResultOf(self.head(TAG), OriginRefused)
        self.assertEqual(self.written(), 0)

    def test_any_bytes(self) -> None:
        """Headers that are no text, and lengths that are no number or one that no manifest has, say nothing."""
        digest = self.add_image(TAG)
        self.upstream = odd = OddUpstream.like(self.upstream)
        self.build()
        for name, value in (
            (b"Content-Type", b"\xfc"),
            (b"Content-Length", b"\xfc"),
            (b"Content-Length", "\u0663".encode()),
            (b"Content-Length", b"1" * 5000),
        ):
            odd.raw = {name: value}
            self.assertIsNone(self.successResultOf(self.head(digest)))
        odd.raw = {b"Docker-Content-Digest": b"\xfc"}
        self.assertIsNone(self.successResultOf(self.head(TAG)))
