"""Tests for L{crcache.manifests}: what a tag means, and for how long."""

from __future__ import annotations

from crcache.errors import (
    Denied,
    ManifestUnknown,
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginTimeout,
    OriginUnreachable,
    Unauthorized,
)
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Tag
from crcache.outcomes import CacheStatus
from crcache.testing.upstream import Turn
from tests.story import CHALLENGE, OTHER_REPOSITORY, REGISTRY, REPOSITORY, TAG, StoryCase, image

#: Ways in which an origin fails, and what the client is told if there is nothing to serve.
FAILURES: tuple[tuple[Turn, type[OriginError]], ...] = (
    (Turn(status=500), OriginFailed),
    (Turn(status=503), OriginFailed),
    (Turn(status=429), OriginBusy),
    (Turn(error=OriginUnreachable("no route to the host")), OriginUnreachable),
    (Turn(error=OriginTimeout("no answer")), OriginTimeout),
    (Turn(status=200, headers={"Content-Type": "text/html"}, body=b"<html>log in first"), OriginError),
)


class TagTests(StoryCase):
    """A tag's life: fresh, asked again, changed, gone."""

    def setUp(self) -> None:
        super().setUp()
        self.digest = self.add_image(TAG)
        self.old = image(b"", note="old")

    def checked(self) -> float:
        """When the tag was last confirmed."""
        return self.store.tags[REGISTRY, REPOSITORY, TAG].checked

    def meaning(self) -> Digest:
        """What the tag is noted to mean."""
        return self.store.tags[REGISTRY, REPOSITORY, TAG].digest

    def test_cold(self) -> None:
        """A tag that is not known is fetched with one GET, and kept."""
        found = self.pull()
        self.assertEqual(found.body, self.upstream.content[TAG])
        self.assertEqual((found.digest, found.cache, found.age), (self.digest, CacheStatus.STORED, None))
        self.assertEqual(self.asked(), ["GET 1.0"])

    def test_fresh(self) -> None:
        """Within its time to live a tag is served without asking, with its age."""
        first = self.pull()
        self.day.now += 59
        self.asked()
        found = self.pull()
        self.assertEqual((found.body, found.media_type, found.size), (first.body, first.media_type, first.size))
        self.assertEqual((found.cache, found.age), (CacheStatus.HIT, 59.0))
        self.assertEqual(self.asked(), [])

    def test_unchanged(self) -> None:
        """After its time to live the origin is asked with a HEAD; an unchanged tag lives on, its body from disk."""
        first = self.pull()
        self.day.now += 60
        self.asked()
        found = self.pull()
        self.assertEqual((found.body, found.cache), (first.body, CacheStatus.STALE))
        self.assertEqual(self.asked(), ["HEAD 1.0"])
        self.day.now += 59
        self.assertIs(self.pull().cache, CacheStatus.HIT)
        self.assertEqual(self.asked(), [])

    def test_asked_once(self) -> None:
        """However many clients ask at once after the time to live, the origin gets one HEAD."""
        self.pull()
        self.day.now += 60
        self.asked()
        turn = Turn(hold=True)
        self.always(turn)
        waiting = [self.cache.handle(self.manifest()) for _ in range(20)]
        self.assertEqual(self.asked(), ["HEAD 1.0"])
        for each in waiting:
            self.assertNoResult(each)
        turn.release()
        for each in waiting:
            self.assertEqual(self.pulled(each).body, self.upstream.content[TAG])
        self.assertEqual(self.asked(), [])

    def test_cold_once(self) -> None:
        """However many clients ask for a cold tag at once, the origin gets one GET, and all get its body."""
        turn = Turn(hold=True)
        self.always(turn)
        waiting = [self.cache.handle(self.manifest()) for _ in range(5)]
        turn.release()
        found = [self.pulled(each) for each in waiting]
        self.assertEqual({each.body for each in found}, {self.upstream.content[TAG]})
        self.assertEqual([each.cache for each in found], [CacheStatus.STORED] + [CacheStatus.COLLAPSED] * 4)
        self.assertEqual(self.asked(), ["GET 1.0"])

    def test_impatient_client(self) -> None:
        """One client that stops waiting does not take the answer from the others."""
        turn = Turn(hold=True)
        self.always(turn)
        leaving, staying = self.cache.handle(self.manifest()), self.cache.handle(self.manifest())
        leaving.cancel()
        self.failureResultOf(leaving)
        turn.release()
        self.assertEqual(self.pulled(staying).digest, self.digest)

    def test_changed(self) -> None:
        """A tag that means something else is fetched by its new digest, and that is what is kept."""
        self.pull()
        self.day.now += 60
        new = self.add_image(TAG, note="new")
        self.asked()
        found = self.pull()
        self.assertEqual((found.digest, found.body), (new, self.upstream.content[TAG]))
        self.assertEqual(self.asked(), ["HEAD 1.0", f"GET {new}"])
        self.assertEqual(self.pull().digest, new)
        self.assertEqual(self.asked(), [])

    def test_noted_with_its_body(self) -> None:
        """A new meaning that only a HEAD has seen is not noted before its manifest is there; then it is."""
        self.pull()
        self.day.now += 60
        new = self.add_image(TAG, note="new")
        head = self.pull(self.manifest(body=False))
        self.assertEqual(head.digest, new)
        self.assertEqual(self.meaning(), self.digest)
        self.day.now += 1
        self.pull(self.manifest(new))
        self.assertEqual((self.meaning(), self.checked()), (new, self.day.now - 1))
        self.asked()
        self.assertEqual(self.pull(self.manifest(body=False)).digest, new)
        self.assertEqual(self.asked(), [])

    def test_old_one_until_then(self) -> None:
        """If the origin fails between a changed tag's HEAD and its GET, the old manifest is what is served."""
        first = self.pull()
        self.day.now += 60
        self.add_image(TAG, note="new")
        self.pull(self.manifest(body=False))
        self.always(Turn(status=503))
        found = self.pull()
        self.assertEqual((found.body, found.cache), (first.body, CacheStatus.STALE_IF_ERROR))

    def test_new_one_cannot_be_had(self) -> None:
        """A changed tag whose manifest fails to come leaves the old one in force."""
        first = self.pull()
        self.day.now += 60
        self.add_image(TAG, note="new")
        self.upstream.rule = lambda query: Turn(status=500) if query.method == "GET" else None
        found = self.pull()
        self.assertEqual((found.body, found.cache), (first.body, CacheStatus.STALE_IF_ERROR))
        self.assertEqual(self.meaning(), self.digest)

    def test_overtaken(self) -> None:
        """A meaning that a HEAD saw and a later look-up has replaced is not noted when its manifest comes at last."""
        self.pull()
        self.day.now += 60
        seen = self.add_image(TAG, note="seen by a HEAD")
        self.pull(self.manifest(body=False))
        newest = self.add_image(TAG, note="newest")
        self.pull()
        self.pull(self.manifest(seen))
        self.assertEqual(self.meaning(), newest)

    def test_overtaken_by_an_empty_disk(self) -> None:
        """So it is if the tag has vanished from disk in between."""
        self.pull()
        self.day.now += 60
        seen = self.add_image(TAG, note="seen by a HEAD")
        self.pull(self.manifest(body=False))
        self.store.tags.clear()
        newest = self.add_image(TAG, note="newest")
        self.pull()
        self.pull(self.manifest(seen))
        self.assertEqual(self.meaning(), newest)

    def test_stale_if_error(self) -> None:
        """If the origin fails, a tag is served for stale-if-error after its time to live, and says so."""
        first = self.pull()
        for age in (60, 659):
            self.day.now = self.checked() + age
            for turn, _ in FAILURES:
                self.always(turn)
                for body in (True, False):
                    found = self.pull(self.manifest(body=body))
                    self.assertEqual(found.body, first.body if body else None)
                    self.assertEqual((found.cache, found.age), (CacheStatus.STALE_IF_ERROR, float(age)))
                    self.assertEqual(found.cache.value, "hit; detail=stale-if-error")

    def test_expired(self) -> None:
        """After that the origin's failure is the client's."""
        self.pull()
        self.day.now += 660
        for turn, error in FAILURES:
            self.always(turn)
            self.refusal(self.manifest(), error)

    def test_recovers(self) -> None:
        """An expired tag is kept: once the origin answers again, its manifest need not be fetched anew."""
        self.pull()
        self.day.now += 660
        self.always(Turn(status=500))
        self.refusal(self.manifest(), OriginFailed)
        self.always(None)
        self.asked()
        self.assertIs(self.pull().cache, CacheStatus.STALE)
        self.assertEqual(self.asked(), ["HEAD 1.0"])

    def test_denied(self) -> None:
        """An origin that refuses has not failed: nobody gets the stale tag, but its challenge."""
        self.pull()
        self.day.now += 60
        self.close_to_strangers()
        error = self.refusal(self.manifest(), Unauthorized)
        self.assertEqual(error.headers, (("WWW-Authenticate", CHALLENGE),))
        self.day.now += 10
        self.close_to_strangers(403)
        self.refusal(self.manifest(), Denied)

    def test_gone(self) -> None:
        """A tag that the origin no longer has is forgotten at once."""
        self.pull()
        self.day.now += 60
        del self.upstream.content[TAG]
        error = self.refusal(self.manifest(), ManifestUnknown)
        self.assertEqual((error.status, error.code), (404, "MANIFEST_UNKNOWN"))
        self.assertEqual(self.store.tags, {})
        self.always(Turn(status=500))
        self.day.now += 10
        self.refusal(self.manifest(), OriginFailed)

    def test_absence_is_remembered(self) -> None:
        """A 404 is remembered for the negative ttl, for this tag or digest of this repository alone."""
        absent = Tag("2.0"), Digest.of(b"absent")
        for reference in absent:
            self.refusal(self.manifest(reference), ManifestUnknown)
            self.asked()
            self.day.now += 9.9
            for body in (True, False):
                self.refusal(self.manifest(reference, body=body), ManifestUnknown)
            self.assertEqual(self.asked(), [])
            self.refusal(self.manifest(reference, repository=OTHER_REPOSITORY), ManifestUnknown)
            self.assertEqual(self.asked(), [f"GET {reference}"])
            self.day.now += 0.1
            self.refusal(self.manifest(reference), ManifestUnknown)
            self.assertEqual(self.asked(), [f"GET {reference}"])

    def test_pushed_after_all(self) -> None:
        """A tag that is pushed after its 404 is there after the negative ttl."""
        self.refusal(self.manifest(Tag("2.0")), ManifestUnknown)
        digest = self.add_image(Tag("2.0"))
        self.day.now += 10
        self.assertEqual(self.pull(self.manifest(Tag("2.0"))).digest, digest)

    def test_moved_and_removed(self) -> None:
        """A fresh tag whose manifest is gone from disk and origin is looked up anew, not denied."""
        self.pull()
        self.store.contents.clear()
        del self.upstream.content[self.digest]
        new = self.add_image(TAG, note="new")
        self.assertEqual(self.pull().digest, new)

    def test_vanished_body(self) -> None:
        """A manifest that has vanished from disk is fetched again by the digest that its tag is known to mean."""
        self.pull()
        self.store.contents.clear()
        self.asked()
        self.assertEqual(self.pull().body, self.upstream.content[TAG])
        self.assertEqual(self.asked(), [f"GET {self.digest}"])

    def test_clock_set_back(self) -> None:
        """A tag from the future is asked again."""
        self.pull()
        self.day.now -= 3600
        self.asked()
        self.assertIs(self.pull().cache, CacheStatus.STALE)
        self.assertEqual(self.asked(), ["HEAD 1.0"])
