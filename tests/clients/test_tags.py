"""What a tag means: how long that is known, what happens when its origin fails, and that nothing is ever mixed up."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall

from crcache import events
from crcache.settings import Times, UpstreamSettings
from crcache.testing.auth import Basic
from crcache.testing.content import OCI_MANIFEST, digest_of
from crcache.testing.daemon import Instance
from crcache.testing.script import Fault
from tests.clients.case import REPO, ClientCase, eventually, manifest_path
from tests.clients.http import Answer
from tests.story import MovableClock

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
TIMES = Times(tag_ttl=60.0, stale_if_error=600.0, negative_ttl=10.0)
#: An origin that does not answer is given up in time for a test.
BRISK = UpstreamSettings(connect_timeout=1.0, first_byte_timeout=0.6, stall_timeout=0.4, retries=1)
#: How an origin fails that listens, and what clients are told when there is nothing to serve.
FAILURES: tuple[tuple[Fault, tuple[int, ...]], ...] = (
    (Fault(status=500), (502, 503)),
    (Fault(status=502), (502, 503)),
    (Fault(status=503), (502, 503)),
    (Fault(status=504), (502, 503, 504)),
    (Fault(status=429, headers=(("Retry-After", "7"),)), (503,)),
    (Fault(hang_up=True), (502,)),
    (Fault(hold=True), (504,)),
)
TAG = manifest_path("1.0")


class TagCase(ClientCase):
    """A tag of an image, and the time of day.

    @ivar day: in seconds; it moves when the test says so.
    """

    def setUp(self) -> None:
        super().setUp()
        self.day = MovableClock()
        self.day.now = time.time()
        self.image = self.origin.add_image(REPO, "1.0")
        self.cache = self.daemon()

    def daemon(self, **settings: Any) -> Instance:
        """Another crcache, with an empty cache."""
        return self.instance(**{"times": TIMES, "upstream": BRISK, "day": self.day, **settings})

    def move(self, note: str = "new") -> bytes:
        """Let the tag mean another manifest, of another media type."""
        data = json.dumps({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": {}, "layers": [], "note": note})
        self.origin.content.add_manifest(REPO, data.encode(), DOCKER_MANIFEST, "1.0")
        return data.encode()

    def asked(self) -> list[str]:
        """What the origin has been asked for since this was last called."""
        found = [f"{record.method} {record.path.rpartition('/')[2]}" for record in self.origin.requests]
        self.origin.requests.clear()
        return found

    async def warm(self, to: Instance | None = None) -> Answer:
        """Have the tag on disk, confirmed just now; forget what that took."""
        answer = await self.ask(TAG, to=to)
        self.assertEqual((answer.status, answer.body), (200, self.image.manifest))
        self.asked()
        return answer

    def told(self, event: events.Event) -> int:
        """How often that has been logged."""
        return len([each for each in self.events if each.get("event") is event])

    def assertManifest(self, answer: Answer, body: bytes, kind: str, *, head: bool = False) -> None:
        """All that an answer says of a manifest is of this one."""
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.one("Docker-Content-Digest"), digest_of(body))
        self.assertEqual(answer.one("ETag"), f'"{digest_of(body)}"')
        self.assertEqual(answer.one("Content-Type"), kind)
        self.assertEqual(answer.one("Content-Length"), str(len(body)))
        self.assertEqual(answer.raw, b"" if head else body)


class FreshTests(TagCase):
    """Within the time to live, and after it."""

    async def test_within(self) -> None:
        """Within tag-ttl neither GET nor HEAD, nor the digest, cause a request to the origin; the age is told."""
        await self.warm()
        self.day.now += 59
        for method, target in itertools.product(("GET", "HEAD"), (TAG, manifest_path(self.image.digest))):
            answer = await self.ask(target, method=method)
            self.assertManifest(answer, self.image.manifest, OCI_MANIFEST, head=method == "HEAD")
            self.assertEqual((answer.one("Cache-Status"), answer.one("Age")), ("crcache; hit", "59"))
        self.assertEqual(self.asked(), [])

    async def crowd(self, *methods: str) -> list[Answer]:
        """Twenty clients ask for the tag while the origin thinks about the first question."""
        held = self.origin.fault(Fault(hold=True), "manifest", method="HEAD", times=None)
        asking = [Deferred.fromCoroutine(self.ask(TAG, method=method)) for method in methods * (20 // len(methods))]
        await eventually(lambda: self.cache.service is not None and self.origin.requests)
        await self.metric_becomes(20.0, "crcache_requests_in_flight")
        held.release()
        answers: list[Answer] = await gatherResults(asking)
        return answers

    async def test_crowd(self) -> None:
        """After it the origin gets one HEAD however many ask at once, and no GET; all are served from disk."""
        await self.warm()
        self.day.now += 60
        for answer in await self.crowd("GET"):
            self.assertManifest(answer, self.image.manifest, OCI_MANIFEST)
        self.assertEqual(self.asked(), ["HEAD 1.0"])
        self.day.now += 59
        self.assertHit(await self.ask(TAG))
        self.assertEqual(self.asked(), [])

    async def test_crowd_of_both(self) -> None:
        """So it is when some ask with HEAD, as containerd does, and some with GET."""
        await self.warm()
        self.day.now += 60
        for answer in await self.crowd("GET", "HEAD"):
            self.assertManifest(answer, self.image.manifest, OCI_MANIFEST, head=not answer.raw)
        self.assertEqual(self.asked(), ["HEAD 1.0"])

    async def test_crowd_after_a_move(self) -> None:
        """If the digest has changed, one GET by that digest follows the HEAD, and all get the new manifest."""
        await self.warm()
        self.day.now += 60
        new = self.move()
        for answer in await self.crowd("GET"):
            self.assertManifest(answer, new, DOCKER_MANIFEST)
        self.assertEqual(self.asked(), ["HEAD 1.0", f"GET {digest_of(new)}"])
        self.assertManifest(await self.ask(TAG), new, DOCKER_MANIFEST)
        self.assertEqual(self.asked(), [])


class FailingTests(TagCase):
    """The origin cannot say what the tag means. Each failure has a crcache of its own: failures are remembered."""

    async def test_stale(self) -> None:
        """Up to stale-if-error the old manifest is served, which its answer and the log say; HEAD as GET."""
        caches = [self.daemon() for _ in FAILURES]
        for cache in caches:
            await self.warm(cache)
        self.day.now += 659
        for cache, (fault, _) in zip(caches, FAILURES, strict=True):
            self.origin.fault(fault, times=None)
            for method in ("GET", "HEAD"):
                before = self.told(events.STALE_SERVED)
                answer = await self.ask(TAG, method=method, to=cache)
                self.assertManifest(answer, self.image.manifest, OCI_MANIFEST, head=method == "HEAD")
                self.assertEqual(answer.one("Cache-Status"), "crcache; hit; detail=stale-if-error", fault)
                self.assertEqual(answer.one("Age"), "659")
                self.assertEqual(self.told(events.STALE_SERVED), before + 1)
            self.origin.script.clear()

    async def test_beyond(self) -> None:
        """Beyond that clients get the error, with which they go elsewhere; never 429."""
        # The pauses between questions must not come near the time that all of them have.
        patient = replace(BRISK, first_byte_timeout=5.0)
        caches = [self.daemon(upstream=BRISK if fault.hold else patient) for fault, _ in FAILURES]
        for cache in caches:
            await self.warm(cache)
        self.day.now += 660
        for cache, (fault, statuses) in zip(caches, FAILURES, strict=True):
            self.origin.fault(fault, times=None)
            answer = await self.ask(TAG, to=cache)
            self.assertIn(answer.status, statuses, fault)
            self.assertEqual((answer.code, answer.complete), ("UNAVAILABLE", True))
            self.assertEqual(answer.one("Retry-After"), "7" if fault.status == 429 else None)
            self.assertHit(await self.ask(manifest_path(self.image.digest), to=cache))
            self.origin.script.clear()

    async def test_later(self) -> None:
        """Nobody waits for an origin that says when it will be well: the old manifest is served at once, or clients are
        told when to come back; it is asked once."""
        self.cache = self.daemon(upstream=replace(BRISK, first_byte_timeout=6.0))
        await self.warm()
        self.origin.fault(Fault(status=503, headers=(("Retry-After", "4"),)), times=None)
        self.origin.requests.clear()
        for past, statuses in ((659, (200, 200)), (660, (503, 503))):
            self.day.now += past
            for status in statuses:
                answer = await self.ask(TAG)
                self.assertEqual(answer.status, status)
                self.assertEqual(answer.one("Retry-After") in ("3", "4"), status == 503)
        self.assertEqual(len(self.origin.requests), 1)

    async def test_refused(self) -> None:
        """An origin that nobody listens at has failed as well: first the old manifest, in the end the error."""
        await self.warm()
        await self.origin.stop()
        self.day.now += 659
        answer = await self.ask(TAG)
        self.assertManifest(answer, self.image.manifest, OCI_MANIFEST)
        self.assertEqual(answer.one("Cache-Status"), "crcache; hit; detail=stale-if-error")
        self.day.now += 1
        answer = await self.ask(TAG)
        self.assertEqual((answer.status, answer.code), (502, "UNAVAILABLE"))

    async def test_body_fails(self) -> None:
        """A tag that has moved, but whose new manifest does not come, is what it was, digest and all."""
        await self.warm()
        self.day.now += 60
        self.move()
        self.origin.fault(Fault(cut=10), "manifest", method="GET", times=None)
        answer = await self.ask(TAG)
        self.assertManifest(answer, self.image.manifest, OCI_MANIFEST)
        self.assertEqual(answer.one("Cache-Status"), "crcache; hit; detail=stale-if-error")

    async def test_recovered(self) -> None:
        """After an expired tag's origin has come back, its manifest need not be fetched again."""
        await self.warm()
        self.day.now += 660
        self.assertManifest(await self.ask(TAG), self.image.manifest, OCI_MANIFEST)
        self.assertEqual(self.asked(), ["HEAD 1.0"])


class RefusedTests(TagCase):
    """The origin answers, and its answer is no."""

    def assertGone(self, answer: Answer, method: str = "GET") -> None:
        """It is a 404 with the specification's code."""
        self.assertEqual(answer.status, 404)
        if method == "GET":
            self.assertEqual(answer.code, "MANIFEST_UNKNOWN")

    async def test_unknown(self) -> None:
        """A tag that the origin lacks is 404, and not asked for again within negative-ttl; then it is."""
        target = manifest_path("2.0")
        self.assertGone(await self.ask(target))
        self.assertEqual(self.asked(), ["GET 2.0"])
        self.day.now += 9
        for method in ("GET", "HEAD", "GET"):
            self.assertGone(await self.ask(target, method=method), method)
        self.assertEqual(self.asked(), [])
        self.day.now += 1
        self.assertGone(await self.ask(target))
        self.assertEqual(self.asked(), ["GET 2.0"])
        pushed = self.origin.add_image(REPO, "2.0", seed=5)
        self.assertGone(await self.ask(target))
        self.day.now += 10
        self.assertManifest(await self.ask(target), pushed.manifest, OCI_MANIFEST)

    async def test_unknown_to_head(self) -> None:
        """containerd's HEADs are answered from memory as well."""
        target = manifest_path("2.0")
        for _ in range(5):
            self.assertGone(await self.ask(target, method="HEAD"), "HEAD")
        self.assertEqual(self.asked(), ["HEAD 2.0"])
        self.day.now += 10
        self.assertGone(await self.ask(target, method="HEAD"), "HEAD")
        self.assertEqual(self.asked(), ["HEAD 2.0"])

    async def test_removed(self) -> None:
        """A tag that was there and is removed is 404 after its time to live, and served no more if the origin fails."""
        await self.warm()
        del self.origin.content.tags[REPO]["1.0"]
        self.assertHit(await self.ask(TAG))
        self.day.now += 60
        self.assertGone(await self.ask(TAG))
        asked = self.asked()
        self.assertLessEqual(len(asked), 2, asked)
        self.assertGone(await self.ask(TAG))
        self.assertEqual(self.asked(), [])
        self.origin.fault(Fault(status=500), times=None)
        self.day.now += 10
        self.assertEqual((await self.ask(TAG)).status, 502)

    async def test_credentials(self) -> None:
        """401 is the client's, with the origin's own challenge, however fresh the grace; told again for a while."""
        await self.warm()
        self.day.now += 60
        auth, self.origin.auth = self.origin.auth, Basic({"alice": "wonderland"}, "fake")
        for target in (TAG, manifest_path("2.0")):
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.code), (401, "UNAUTHORIZED"))
            self.assertEqual(answer.one("WWW-Authenticate"), 'Basic realm="fake"')
        self.origin.auth = auth
        self.assertEqual((await self.ask(TAG)).status, 401)
        self.day.now += 10
        self.assertManifest(await self.ask(TAG), self.image.manifest, OCI_MANIFEST)

    async def test_denied(self) -> None:
        """403 is the client's, too."""
        await self.warm()
        self.day.now += 60
        rule = self.origin.fault(Fault(status=403), "manifest", times=None)
        for target in (TAG, manifest_path("2.0")):
            answer = await self.ask(target)
            self.assertEqual((answer.status, answer.code), (403, "DENIED"))
        self.origin.script.rules.remove(rule)
        self.assertManifest(await self.ask(TAG), self.image.manifest, OCI_MANIFEST)


class MovingTests(TagCase):
    """Never a mix: tag, digest, media type and body belong together, however fast the tag moves."""

    def setUp(self) -> None:
        super().setUp()
        for number in range(3):
            self.origin.add_image(REPO, layers=(50,) * (number + 1), seed=number)
            self.move(f"of Docker's kind {'!' * number}")
        self.origin.content.add_index(REPO, None, [self.image])
        self.known = {digest: found for (_, digest), found in self.origin.content.manifests.items()}
        digests = itertools.cycle(self.known)
        self.origin.content.tags[REPO]["1.0"] = next(digests)
        self.digests = digests
        self.good = 0

    def check(self, answer: Answer, *, head: bool = False) -> str:
        """All of an answer is about the same manifest; its digest."""
        digest = answer.one("Docker-Content-Digest") or ""
        kind, body = self.known[digest]
        self.assertManifest(answer, body, kind, head=head)
        self.good += 1
        return digest

    async def pull(self, to: Instance, rounds: int, failing: bool = False) -> None:
        """Pull by tag as containerd does it (HEAD of the tag, GET of the digest), and as podman does (GET)."""
        for _ in range(rounds):
            head = await self.ask(TAG, method="HEAD", to=to)
            if head.status == 200 or not failing:
                digest = self.check(head, head=True)
                answer = await self.ask(manifest_path(digest), to=to)
                if answer.status == 200 or not failing:
                    self.assertEqual(self.check(answer), digest)
            answer = await self.ask(TAG, to=to)
            if answer.status == 200 or not failing:
                self.check(answer)

    async def load(self, to: Instance, *faults: Fault) -> None:
        """Six clients pull while the tag moves every few milliseconds, and some of the origin's answers are bad."""
        bad = itertools.cycle(faults)

        def move() -> None:
            self.origin.content.tags[REPO]["1.0"] = next(self.digests)
            if faults:
                self.origin.fault(next(bad), "manifest", skip=3)

        moving = LoopingCall(move)
        moving.start(0.004, now=False)
        try:
            pulling = [Deferred.fromCoroutine(self.pull(to, 10, bool(faults))) for _ in range(6)]
            await gatherResults(pulling, consumeErrors=True)
        finally:
            moving.stop()

    async def test_asked_each_time(self) -> None:
        """With a tag-ttl of nothing, so that each request asks what the tag means."""
        await self.load(self.daemon(times=Times(tag_ttl=0.0)))
        self.assertEqual(self.good, 180)

    async def test_cached_in_between(self) -> None:
        """With one of the length of some moves, so that requests meet fresh, old and changed tags."""
        await self.load(self.daemon(times=Times(tag_ttl=0.01), day=time.time))
        self.assertEqual(self.good, 180)

    async def test_never_cached(self) -> None:
        """With tags that are not cached at all."""
        await self.load(self.daemon(cache_manifests=False))
        self.assertEqual(self.good, 180)

    async def test_failing(self) -> None:
        """While the origin errs, breaks off, lies and says no digest now and then: right, or an error, but no mix."""
        cache = self.daemon(times=Times(tag_ttl=0.0))
        await self.ask(TAG, to=cache)
        await self.load(cache, Fault(status=500), Fault(cut=20), Fault(undigested=True), Fault(wrong=True))
        self.assertGreater(self.good, 60)

    async def test_moved_between_two_questions(self) -> None:
        """A tag that moves between the origin's answer to a HEAD and the GET for it: what the HEAD said is served."""
        await self.ask(TAG)
        self.asked()
        self.day.now += 60
        second = self.origin.content.tags[REPO]["1.0"] = next(self.digests)
        held = self.origin.fault(Fault(hold=True), "manifest", method="GET", times=None)
        asking = Deferred.fromCoroutine(self.ask(TAG))
        await eventually(lambda: len(self.origin.requests) == 2)
        self.origin.content.tags[REPO]["1.0"] = next(self.digests)
        held.release()
        self.assertEqual(self.check(await asking), second)
        self.assertEqual(self.asked(), ["HEAD 1.0", f"GET {second}"])
