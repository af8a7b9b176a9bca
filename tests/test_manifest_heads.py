"""Tests for L{crcache.manifests}: what an origin's HEADs are believed, and what they leave to its GETs."""

from __future__ import annotations

import json

from crcache.errors import ManifestUnknown, OriginFailed
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Tag
from crcache.outcomes import CacheStatus
from crcache.testing.upstream import Turn
from tests.story import CONFIG, REGISTRY, REPOSITORY, TAG, StoryCase, image

THING = "application/vnd.example.thing.v1+json"


class AbsentTests(StoryCase):
    """A HEAD's 404, which some origins answer whatever they have."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add_image(TAG)
        self.data = self.upstream.content[TAG]

    def heads(self, turn: Turn) -> None:
        """How HEADs are answered from now on."""
        self.upstream.rule = lambda query: turn if query.method == "HEAD" else None

    def test_for_heads(self) -> None:
        """It is remembered for HEADs, and hides nothing from a GET; what that gets answers HEADs again."""
        self.heads(Turn(status=404))
        for reference in (TAG, self.digest):
            for _ in range(2):
                self.refusal(self.manifest(reference, body=False), ManifestUnknown)
            self.assertEqual(self.asked(), [f"HEAD {reference}"])
        for reference in (TAG, self.digest):
            self.assertEqual(self.pull(self.manifest(reference)).body, self.data)
            self.assertIs(self.pull(self.manifest(reference, body=False)).cache, CacheStatus.HIT)
        self.assertEqual(self.asked(), ["GET 1.0"])

    def test_until(self) -> None:
        """It is remembered as long as any."""
        absent = Tag("2.0")
        self.refusal(self.manifest(absent, body=False), ManifestUnknown)
        self.day.now += 10
        self.refusal(self.manifest(absent, body=False), ManifestUnknown)
        self.assertEqual(self.asked(), ["HEAD 2.0"] * 2)

    def test_overtaken(self) -> None:
        """It takes nothing from what a GET has found in the meantime."""
        turn = Turn(status=404, hold=True)
        self.heads(turn)
        late = self.cache.handle(self.manifest(body=False))
        self.pull()
        turn.release()
        self.failureResultOf(late, ManifestUnknown)
        self.assertIs(self.pull(self.manifest(body=False)).cache, CacheStatus.HIT)
        self.assertEqual(self.asked(), ["HEAD 1.0", "GET 1.0"])

    def test_known_tag(self) -> None:
        """A tag that was there is not forgotten for it: a GET decides."""
        self.pull()
        self.heads(Turn(status=404))
        for body in (True, False):
            self.day.now += 60
            self.asked()
            found = self.pull(self.manifest(body=body))
            self.assertEqual((found.digest, found.body), (self.digest, self.data if body else None))
            self.assertEqual(self.asked(), ["HEAD 1.0", "GET 1.0"])
        self.assertEqual(self.store.tags[REGISTRY, REPOSITORY, TAG].checked, self.day.now)

    def test_known_tag_gone(self) -> None:
        """If that says so as well, the tag is forgotten, whoever asked."""
        self.pull()
        del self.upstream.content[TAG]
        self.day.now += 60
        self.refusal(self.manifest(body=False), ManifestUnknown)
        self.assertEqual(self.store.tags, {})
        self.asked()
        for body in (True, False):
            self.refusal(self.manifest(body=body), ManifestUnknown)
        self.assertEqual(self.asked(), [])

    def test_known_tag_in_doubt(self) -> None:
        """If the GET fails, nobody knows: the stale manifest is served as long as any."""
        self.pull()

        def answer(query: Query) -> Turn:
            return Turn(status=404 if query.method == "HEAD" else 500)

        self.upstream.rule = answer
        self.day.now += 60
        self.assertIs(self.pull().cache, CacheStatus.STALE_IF_ERROR)
        self.day.now += 600
        self.refusal(self.manifest(), OriginFailed)


class UnknownTypeTests(StoryCase):
    """Manifests of a type of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add(image(media_type=THING), TAG, media_type=THING)

    def test_hits(self) -> None:
        """They are fetched with a GET, and from then on served like others, by tag and by digest."""
        found = self.pull(self.manifest(body=False))
        self.assertEqual((found.digest, found.media_type), (self.digest, THING))
        self.assertEqual(self.asked(), ["HEAD 1.0", "GET 1.0"])
        for reference in (TAG, self.digest):
            for body in (True, False):
                found = self.pull(self.manifest(reference, body=body))
                self.assertEqual((found.cache, found.media_type), (CacheStatus.HIT, THING))
                self.assertEqual(found.body, self.upstream.content[TAG] if body else None)
        self.assertEqual(self.asked(), [])

    def test_config(self) -> None:
        """A config, noted with its own JSON type, is no manifest for being here: the origin says what it is."""
        self.pull()
        config = Digest.of(CONFIG)
        self.successResultOf(self.store.put(config, CONFIG))
        self.asked()
        self.refusal(self.manifest(config), ManifestUnknown)
        self.assertEqual(self.asked(), [f"GET {config}"])

    def test_looks_like_one(self) -> None:
        """Nor is one that has a manifest's fields, without saying that it is of that type."""
        config = json.dumps({"config": {}, "layers": []}).encode()
        document = json.loads(image(media_type=THING))
        document["config"] = {"mediaType": THING, "digest": str(Digest.of(config)), "size": len(config)}
        self.add(json.dumps(document).encode(), TAG, media_type=THING)
        self.pull()
        self.successResultOf(self.store.put(Digest.of(config), config))
        self.refusal(self.manifest(Digest.of(config)), ManifestUnknown)
