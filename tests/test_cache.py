"""Tests for L{crcache.cache}: blobs are content of all registries, but each repository's own to give."""

from __future__ import annotations

import os

from crcache import confirming
from crcache.asks import Client, ListReferrers, ListTags, Ping
from crcache.errors import (
    BlobUnknown,
    NameUnknown,
    OriginFailed,
    OriginRefused,
    OriginUnreachable,
    ShuttingDown,
    Unauthorized,
)
from crcache.facts import Membership, Verdict
from crcache.flow.verify import verify
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import OCI_MANIFEST
from crcache.interfaces import IBody
from crcache.outcomes import Blob, CacheStatus, Pong, Relayed
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
)

DIGEST = Digest.of(LAYER)


class OtherAskTests(StoryCase):
    """What is not cached."""

    def test_ping(self) -> None:
        """The base asks no origin."""
        self.assertEqual(self.outcome(Ping()), Pong())
        self.assertEqual(self.asked(), [])

    def test_lists(self) -> None:
        """Tags and referrers are asked of the origin, with the client's parameters and C{Accept}, every time."""
        self.always(Turn(body=b"{}"))
        client = Client("id-1", ("application/json",))
        tags = ListTags(client, REGISTRY, REPOSITORY, (("n", "2"), ("last", "a")))
        referrers = ListReferrers(client, REGISTRY, REPOSITORY, DIGEST, (("artifactType", "x/y"),))
        for ask, kind, reference in ((tags, "tags", None), (referrers, "referrers", DIGEST)):
            for _ in range(2):
                found = self.outcome(ask)
                assert isinstance(found, Relayed)
                self.assertEqual((found.answer.status, found.digest, found.cache), (200, None, CacheStatus.BYPASS))
                (query,) = self.queries()
                self.assertEqual((query.kind, query.reference, query.method), (kind, reference, "GET"))
                self.assertEqual((query.accept, query.parameters), (client.accept, ask.parameters))
        self.assertEqual(self.written(), 0)

    def test_lists_refused(self) -> None:
        """What the origin refuses is its error; a client's own credentials are passed on."""
        self.refusal(ListTags(self.client(), REGISTRY, REPOSITORY), NameUnknown)
        self.upstream.content[DIGEST] = b"{}"
        self.close_to_strangers()
        ask = ListReferrers(self.client(), REGISTRY, REPOSITORY, DIGEST)
        self.assertEqual(self.refusal(ask, Unauthorized).headers, (("WWW-Authenticate", CHALLENGE),))
        own = ListReferrers(self.client(authorization=TOKEN), REGISTRY, REPOSITORY, DIGEST)
        found = self.outcome(own)
        assert isinstance(found, Relayed)
        self.assertEqual(found.answer.status, 200)


class BlobTests(StoryCase):
    """One repository's blobs."""

    def setUp(self) -> None:
        super().setUp()
        self.add(LAYER)

    def test_cold_and_warm(self) -> None:
        """A blob is fetched once, and then served from disk, with its age."""
        found, data = self.fetch(self.blob(DIGEST))
        self.assertEqual((data, found.digest, found.size), (LAYER, DIGEST, len(LAYER)))
        self.assertEqual((found.cache, found.following), (CacheStatus.STORED, False))
        self.day.now += 5
        found, data = self.fetch(self.blob(DIGEST))
        self.assertEqual((data, found.cache, found.age, found.following), (LAYER, CacheStatus.HIT, 5.0, False))
        self.assertEqual(self.asked(), [f"GET {DIGEST}"])

    def test_at_once(self) -> None:
        """Clients that ask while it is being fetched follow the one fetch."""
        turn = Turn(hold=True)
        self.always(turn)
        waiting = [self.cache.handle(self.blob(DIGEST)) for _ in range(5)]
        turn.release()
        found = [self.successResultOf(each) for each in waiting]
        statuses = []
        for each in found:
            assert isinstance(each, Blob)
            statuses.append((each.cache, each.following))
            self.assertEqual(self.read(each), LAYER)
        self.assertEqual(statuses, [(CacheStatus.STORED, False)] + [(CacheStatus.COLLAPSED, True)] * 4)
        self.assertEqual(self.asked(), [f"GET {DIGEST}"])

    def test_leaving(self) -> None:
        """A client that stops waiting cancels nothing."""
        turn = Turn(hold=True)
        self.always(turn)
        leaving, staying = self.cache.handle(self.blob(DIGEST)), self.cache.handle(self.blob(DIGEST))
        leaving.cancel()
        self.failureResultOf(leaving)
        turn.release()
        found = self.successResultOf(staying)
        assert isinstance(found, Blob)
        self.assertEqual(self.read(found), LAYER)

    def test_head(self) -> None:
        """A HEAD costs the origin a HEAD, never a body; of what is on disk it costs nothing."""
        found = self.outcome(self.blob(DIGEST, body=False))
        self.assertEqual(found, Blob(DIGEST, len(LAYER), None, CacheStatus.MISS))
        self.assertEqual(self.asked(), [f"HEAD {DIGEST}"])
        self.fetch(self.blob(DIGEST))
        self.asked()
        found = self.outcome(self.blob(DIGEST, body=False))
        self.assertEqual(found, Blob(DIGEST, len(LAYER), None, CacheStatus.HIT, 0.0))
        self.assertEqual(self.asked(), [])

    def test_head_without_length(self) -> None:
        """An origin that tells no length leaves it out of the answer, too."""
        for turn in (Turn(unsized=True), Turn(unsized=True, headers={"Content-Length": "many"})):
            self.always(turn)
            found = self.outcome(self.blob(DIGEST, body=False))
            self.assertEqual(found, Blob(DIGEST, None, None, CacheStatus.MISS))

    def test_not_there(self) -> None:
        """A blob that the origin does not have leaves nothing behind, and is asked for anew the next time."""
        absent = Digest.of(b"absent")
        for body in (True, False, True):
            error = self.refusal(self.blob(absent, body=body), BlobUnknown)
            self.assertEqual((error.status, error.code), (404, "BLOB_UNKNOWN"))
        self.assertEqual(self.written(), 0)
        self.assertEqual(len(self.asked()), 3)

    def test_refusals(self) -> None:
        """What the origin fails with before a byte has come is the client's error."""
        for turn, expected in (
            (Turn(status=500), OriginFailed),
            (Turn(status=400), OriginRefused),
            (Turn(error=OriginUnreachable("nobody there")), OriginUnreachable),
        ):
            for body in (True, False):
                self.upstream.turns = [turn]
                self.refusal(self.blob(DIGEST, body=body), expected)
        self.assertEqual(self.written(), 0)

    def test_wrong_bytes(self) -> None:
        """A body that is not what was asked for is never verified, nor kept; the next client's may be right."""
        turn = Turn(wrong=True, stall=100)
        self.upstream.turns = [turn]
        found = self.outcome(self.blob(DIGEST))
        assert isinstance(found, Blob) and found.body is not None
        turn.release()
        self.settle()
        self.assertIs(found.body.verdict, Verdict.FAILED)
        self.assertEqual(self.written(), 0)
        self.assertEqual(self.fetch(self.blob(DIGEST))[1], LAYER)

    def test_stopping(self) -> None:
        """A cache that is being stopped fetches nothing new; containerd goes to the origin."""
        self.fetch(self.blob(DIGEST))
        self.successResultOf(self.fills.stop())
        self.assertEqual(self.refusal(self.blob(Digest.of(b"new")), ShuttingDown).status, 503)
        self.assertEqual(self.fetch(self.blob(DIGEST))[1], LAYER)


class DamageTests(StoryCase):
    """Files that are not what they were."""

    def setUp(self) -> None:
        super().setUp()
        self.add(LAYER)

    def truncate(self) -> None:
        """Damage the file."""
        content = self.store.contents[DIGEST]
        fd = content.open()
        os.ftruncate(fd, 100)
        os.close(fd)
        content.size = 100

    def test_vanished(self) -> None:
        """A file that has vanished is fetched again."""
        self.fetch(self.blob(DIGEST))
        self.store.contents.clear()
        self.asked()
        found, data = self.fetch(self.blob(DIGEST))
        self.assertEqual((data, found.cache), (LAYER, CacheStatus.STORED))
        self.assertEqual(self.asked(), [f"GET {DIGEST}"])

    def test_wrong_size(self) -> None:
        """A file that has another size than its repository knows is noticed, dropped and fetched again."""
        self.fetch(self.blob(DIGEST))
        self.truncate()
        self.asked()
        found, data = self.fetch(self.blob(DIGEST))
        self.assertEqual((data, found.cache), (LAYER, CacheStatus.STORED))
        self.assertEqual(self.asked(), [f"GET {DIGEST}"])
        self.assertIs(self.fetch(self.blob(DIGEST))[0].cache, CacheStatus.HIT)

    def test_replaced_while_hashed(self) -> None:
        """What has been put in a damaged file's place while that was hashed is not dropped with it."""
        self.fetch(self.blob(DIGEST))
        self.truncate()
        self.asked()

        def late(body: IBody, digest: Digest) -> bool:
            right = verify(body, digest)
            self.successResultOf(self.store.put(digest, LAYER))
            return right

        self.patch(confirming, "verify", late)
        self.assertEqual(self.fetch(self.blob(DIGEST))[1], LAYER)
        self.assertEqual(self.asked(), [])

    def test_wrong_size_elsewhere(self) -> None:
        """So is one that has another size than another repository's origin says when it confirms it."""
        self.fetch(self.blob(DIGEST))
        self.truncate()
        self.asked()
        found, data = self.fetch(self.blob(DIGEST, repository=OTHER_REPOSITORY))
        self.assertEqual((data, found.cache), (LAYER, CacheStatus.STORED))
        self.assertEqual(self.asked(), [f"HEAD {DIGEST}", f"GET {DIGEST}"])

    def test_wrong_size_of_a_head(self) -> None:
        """A HEAD does not tell the size of a damaged file."""
        self.fetch(self.blob(DIGEST))
        self.truncate()
        found = self.outcome(self.blob(DIGEST, body=False))
        self.assertEqual(found, Blob(DIGEST, len(LAYER), None, CacheStatus.MISS))

    def test_size_unknown(self) -> None:
        """A file whose size nobody has said is hashed once, and its size noted; one that is cut short is noticed so."""
        self.fetch(self.blob(DIGEST))
        key = REGISTRY, REPOSITORY, DIGEST
        self.store.members[key] = Membership(DIGEST)
        self.assertIs(self.fetch(self.blob(DIGEST))[0].cache, CacheStatus.HIT)
        self.assertEqual(self.store.members[key].size, len(LAYER))
        self.store.members[key] = Membership(DIGEST)
        self.truncate()
        found, data = self.fetch(self.blob(DIGEST))
        self.assertEqual((data, found.cache), (LAYER, CacheStatus.STORED))

    def test_doubts(self) -> None:
        """Whoever keeps naming wrong sizes has a file hashed once in a while, not every time."""
        self.fetch(self.blob(DIGEST))
        hashed: list[object] = []

        def noted(body: IBody, digest: Digest) -> bool:
            hashed.append(body)
            return verify(body, digest)

        self.patch(confirming, "verify", noted)
        for size in (1, 2, 3):
            self.store.enrol(REGISTRY, REPOSITORY, [Membership(DIGEST, None, size)])
            self.assertIs(self.fetch(self.blob(DIGEST))[0].cache, CacheStatus.HIT)
        self.assertEqual(len(hashed), 1)

    def test_wrong_record(self) -> None:
        """If it was the record that is wrong, the file is served, and the record put right."""
        self.fetch(self.blob(DIGEST))
        self.store.enrol(REGISTRY, REPOSITORY, [Membership(DIGEST, None, 7)])
        self.asked()
        for _ in range(2):
            found, data = self.fetch(self.blob(DIGEST))
            self.assertEqual((data, found.cache), (LAYER, CacheStatus.HIT))
        self.assertEqual(self.asked(), [])
        self.assertEqual(self.store.members[REGISTRY, REPOSITORY, DIGEST].size, len(LAYER))

    def test_disk_fails(self) -> None:
        """If the disk fails, in reading or in writing, the blob is relayed, to be checked on its way."""
        for method in ("holding", "find", "ingest"):
            self.store.broken = {method}
            found = self.outcome(self.blob(DIGEST))
            assert isinstance(found, Relayed), method
            self.assertEqual((found.answer.status, found.digest, found.cache), (200, DIGEST, CacheStatus.BYPASS))
            found.answer.abort()
        self.store.broken = {"holding"}
        found = self.outcome(self.blob(DIGEST, body=False))
        assert isinstance(found, Relayed)
        self.assertEqual(self.queries()[-1].method, "HEAD")

    def test_noting_fails(self) -> None:
        """If only the noting of a membership fails, the blob is served all the same."""
        self.fetch(self.blob(DIGEST))
        self.store.broken = {"enrol"}
        for ask in (self.blob(DIGEST, repository=OTHER_REPOSITORY), self.blob(DIGEST, registry=OTHER_REGISTRY)):
            self.assertEqual(self.fetch(ask)[1], LAYER)


class ManifestsChildrenTests(StoryCase):
    """What a manifest has named."""

    def test_from_elsewhere(self) -> None:
        """A layer that another registry gave openly is a hit, unasked, where a fetched manifest names it."""
        self.add(LAYER)
        self.fetch(self.blob(DIGEST, registry=OTHER_REGISTRY))
        self.add(image(LAYER), TAG, media_type=OCI_MANIFEST)
        self.pull()
        self.asked()
        found, data = self.fetch(self.blob(DIGEST))
        self.assertEqual((data, found.cache), (LAYER, CacheStatus.HIT))
        self.assertEqual(self.asked(), [])

    def test_size_from_the_descriptor(self) -> None:
        """An origin that tells no length needs none: the descriptor had it."""
        self.add(LAYER)
        self.add(image(LAYER), TAG, media_type=OCI_MANIFEST)
        self.pull()
        turn = Turn(unsized=True, stall=100)
        self.always(turn)
        found = self.outcome(self.blob(DIGEST))
        assert isinstance(found, Blob)
        self.assertEqual(found.size, len(LAYER))
        turn.release()
        self.assertEqual(self.read(found), LAYER)
