"""Tests for L{crcache.manifests}: tags that the administrator has pinned, and origins that nobody will ever reach."""

from __future__ import annotations

from crcache.errors import AccessUnknown, CrcacheError, ManifestUnknown, OriginFailed, OriginUnreachable, Unauthorized
from crcache.facts import TagEntry
from crcache.grammar.manifest import OCI_MANIFEST
from crcache.grammar.reference import Tag
from crcache.outcomes import CacheStatus
from crcache.testing.upstream import Turn
from tests.story import OTHER_REPOSITORY, REGISTRY, REPOSITORY, TAG, TOKEN, StoryCase

YEARS = 20 * 365 * 86400.0
LATEST = Tag("latest")
AWAY = Turn(error=OriginUnreachable("no network"))


class PinnedCase(StoryCase):
    """An image whose tags are pinned, and an origin that can be taken away."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add_image(TAG, LATEST)

    def pin(self, tag: Tag = TAG) -> None:
        """As the administrator does."""
        self.store.pins.add((REGISTRY, REPOSITORY, tag))

    def imported(self, tag: Tag) -> None:
        """There is an entry of the tag, and all that belongs to it."""
        size = len(self.upstream.content[self.digest])
        self.pull(self.manifest(self.digest))
        entry = TagEntry(self.digest, OCI_MANIFEST, size, self.day.now)
        self.successResultOf(self.store.set_tag(REGISTRY, REPOSITORY, tag, entry))
        self.pin(tag)

    def assertStale(self, tag: Tag) -> None:
        """It is served, from what is kept."""
        for body in (True, False):
            found = self.pull(self.manifest(tag, body=body))
            self.assertEqual((found.digest, found.cache), (self.digest, CacheStatus.STALE_IF_ERROR))
            self.assertEqual(found.body is not None, body)


class PinnedTests(PinnedCase):
    """A tag as most are."""

    def test_for_ever(self) -> None:
        """It is served however old it is, for as long as its origin fails; unpinned it expires."""
        self.pull()
        self.pin()
        self.day.now += YEARS
        for turn in (AWAY, Turn(status=500), Turn(status=429)):
            self.always(turn)
            self.assertStale(TAG)
        self.store.pins.clear()
        self.refusal(self.manifest(), CrcacheError)

    def test_origin_is_there(self) -> None:
        """An origin that answers is asked as for any other tag, and its word counts."""
        self.pull()
        self.pin()
        self.day.now += YEARS
        moved = self.add_image(TAG, note="moved")
        self.assertEqual(self.pull().digest, moved)
        self.day.now += YEARS
        self.always(AWAY)
        self.digest = moved
        self.assertStale(TAG)

    def test_gone(self) -> None:
        """An origin that has it no more has not failed."""
        self.pull()
        self.pin()
        self.day.now += YEARS
        del self.upstream.content[TAG]
        self.refusal(self.manifest(), ManifestUnknown)

    def test_others(self) -> None:
        """Nothing but that tag of that repository is pinned by it."""
        other = Tag("2.0")
        self.add_image(other)
        asks = (self.manifest(other), self.manifest(TAG, repository=OTHER_REPOSITORY))
        for ask in asks:
            self.pull(ask)
        self.pin()
        self.day.now += YEARS
        self.always(Turn(status=500))
        for ask in asks:
            self.refusal(ask, OriginFailed)

    def test_without_entry(self) -> None:
        """A pin whose entry has vanished is no better than none."""
        self.pull()
        self.pin()
        self.store.tags.clear()
        self.always(Turn(status=500))
        self.refusal(self.manifest(), OriginFailed)

    def test_private(self) -> None:
        """Whom the origin has not let in lately a pin does not let in, either."""
        self.close_to_strangers()
        self.pull(self.manifest(authorization=TOKEN))
        self.pin()
        self.always(AWAY)
        self.day.now += 120
        self.assertEqual(self.pull(self.manifest(authorization=TOKEN)).digest, self.digest)
        self.refusal(self.manifest(), Unauthorized)
        self.day.now += YEARS
        problem = self.failureResultOf(self.cache.handle(self.manifest(authorization=TOKEN))).value
        self.assertIsInstance(problem, (Unauthorized, AccessUnknown))


class IgnoredTests(PinnedCase):
    """A tag that is asked of its origin each time, and imported with a pin."""

    def test_away(self) -> None:
        """Its entry is served when the origin fails, however old."""
        self.imported(LATEST)
        self.always(AWAY)
        self.assertStale(LATEST)
        self.day.now += YEARS
        self.assertStale(LATEST)

    def test_asked_each_time(self) -> None:
        """Otherwise it is asked of its origin as before, and what that says is not kept under the tag."""
        self.imported(LATEST)
        before = self.digest
        moved = self.add_image(LATEST, note="moved")
        self.asked()
        for _ in range(2):
            found = self.pull(self.manifest(LATEST))
            self.assertEqual((found.digest, found.cache), (moved, CacheStatus.BYPASS))
        self.assertEqual(self.asked(), 2 * ["GET latest"])
        self.always(AWAY)
        self.digest = before
        self.assertStale(LATEST)

    def test_not_pinned(self) -> None:
        """An entry without a pin is not served."""
        self.imported(LATEST)
        self.store.pins.clear()
        self.always(Turn(status=500))
        self.refusal(self.manifest(LATEST), OriginFailed)

    def test_refused(self) -> None:
        """An origin that refuses, or has it no more, has not failed."""
        self.imported(LATEST)
        self.day.now += 60
        del self.upstream.content[LATEST]
        self.refusal(self.manifest(LATEST), ManifestUnknown)
        self.close_to_strangers()
        self.refusal(self.manifest(LATEST), Unauthorized)

    def test_nothing_kept(self) -> None:
        """Where no manifests are kept none is served."""
        self.imported(LATEST)
        self.build(cache_manifests=False)
        self.always(Turn(status=500))
        self.refusal(self.manifest(LATEST), OriginFailed)

    def test_private(self) -> None:
        """What it means is for those whom the origin has let in lately."""
        self.close_to_strangers()
        self.pull(self.manifest(self.digest, authorization=TOKEN))
        size = len(self.upstream.content[self.digest])
        entry = TagEntry(self.digest, OCI_MANIFEST, size, self.day.now, open=False)
        self.successResultOf(self.store.set_tag(REGISTRY, REPOSITORY, LATEST, entry))
        self.pin(LATEST)
        self.always(AWAY)
        self.assertEqual(self.pull(self.manifest(LATEST, authorization=TOKEN)).digest, self.digest)
        self.refusal(self.manifest(LATEST), Unauthorized)
