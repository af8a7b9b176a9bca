"""Origins that fail before the first byte: what can be saved is, and the rest is told in time to go elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from crcache.grammar.reference import Registry
from crcache.policy import breaker, tour
from crcache.settings import RegistrySettings, Times, UpstreamSettings
from crcache.testing.auth import Tokens
from crcache.testing.certificates import Authority
from crcache.testing.content import noise
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, NAME, REPO, ClientCase, blob_path, eventually, manifest_path
from tests.clients.http import Answer
from tests.web.cases import pause, reactor

MIB = 1 << 20
#: How much longer than it has to anything may take here.
SLACK = 0.7
HTML = Fault(status=200, body=b"<html>please log in", headers=(("Content-Type", "text/html"),))
#: What passes.
PASSING = (
    *(Fault(status=status, body=b"down") for status in (500, 502, 503, 504)),
    Fault(hang_up=True),
    Fault(hang_up=True, reset=True),
)


class FirstByteCase(ClientCase):
    """An image at an origin, and a crcache that is quick to give up."""

    def setUp(self) -> None:
        super().setUp()
        # How long they are is another test's, and the patience of whoever runs these is not without end.
        self.patch(tour, "PAUSES", (0.05, 0.05))
        self.image = self.origin.add_image(REPO, "1.0", [noise(10_000, number) for number in range(3)])
        self.blobs = [blob_path(each) for each in self.image.layers]
        self.cache = self.instance(upstream=IMPATIENT)

    def before(self, *origins: FakeRegistry | str, **settings: Any) -> None:
        """Use a crcache before a registry with these URLs."""
        urls = tuple(each if isinstance(each, str) else each.url for each in origins)
        registry = Registry(NAME)
        settings.setdefault("upstream", IMPATIENT)
        times = settings.pop("times", Times(negative_ttl=0.0))
        self.cache = self.instance(registries={registry: RegistrySettings(registry, urls, times=times)}, **settings)

    async def timed(self, target: str, method: str = "GET") -> tuple[Answer, float]:
        """The answer, and how many seconds it took."""
        began = reactor.seconds()
        answer = await self.ask(target, method=method)
        return answer, reactor.seconds() - began

    async def told(self, status: int, longest: float, *targets: str, code: str = "UNAVAILABLE") -> list[Answer]:
        """Each of these is answered with the status and the specification's JSON, by then."""
        answers = []
        for target in targets or (manifest_path("1.0"), manifest_path(self.image.digest), *self.blobs):
            answer, seconds = await self.timed(target)
            self.assertEqual((answer.status, answer.code, answer.complete), (status, code, True))
            self.assertLess(seconds, longest + SLACK)
            answers.append(answer)
        return answers

    def kept(self) -> list[str]:
        """The content and the tags in the cache directory."""
        return [path for path in self.trace() if path.startswith("blobs/sha256/") or "/_tags/" in path]


class NoAnswerTests(FirstByteCase):
    """Nobody answers: the client is told in time to go on to the next host."""

    async def test_refused(self) -> None:
        """Nobody listens."""
        url = self.origin.url
        await self.origin.stop()
        self.before(url)
        await self.told(502, 0.1)
        answer, _ = await self.timed(self.blobs[0], "HEAD")
        self.assertEqual(answer.status, 502)

    async def test_unresolvable(self) -> None:
        """There is no such name."""
        self.before("http://no-such-registry.invalid")
        (answer,) = await self.told(502, 1.0, manifest_path("1.0"))
        self.assertIn(b"no-such-registry.invalid", answer.body)

    async def test_tls(self) -> None:
        """Its certificate is nobody's that is trusted."""
        settings = UpstreamSettings(first_byte_timeout=5.0)
        self.before(self.registry(self.origin.content, tls=Authority().context()), upstream=settings)
        (answer,) = await self.told(502, 1.0, self.blobs[0])
        self.assertIn(b"TLS", answer.body)

    async def test_silent(self) -> None:
        """It takes the question, and says nothing."""
        self.origin.fault(Fault(hold=True), times=None)
        for target in (manifest_path("1.0"), self.blobs[0]):
            await self.told(504, 1.0, target)

    async def test_bit_by_bit(self) -> None:
        """It begins, and falls silent each time: all the tries that come before the client's first byte have one
        time, and what has come of a blob is not fetched again."""
        rule = self.origin.fault(Fault(stall=20), times=None)
        await self.told(504, IMPATIENT.first_byte_timeout + IMPATIENT.stall_timeout / 2, manifest_path("1.0"))
        await self.told(504, IMPATIENT.first_byte_timeout + IMPATIENT.stall_timeout, self.blobs[0])
        self.assertGreater(len(self.origin.asked("blob")), 1)
        self.origin.script.clear()
        self.assertEqual((await self.ask(self.blobs[0])).body, noise(10_000, 0))
        self.assertTrue(self.origin.asked("blob")[-1].headers.hasHeader("Range"))
        rule.release()

    async def test_silent_realm(self) -> None:
        """It wants a token, and its realm says nothing."""
        self.origin.auth = Tokens()
        self.origin.fault(Fault(hold=True), "token", times=None)
        await self.told(504, 1.0, self.blobs[0])

    async def test_everything_slow(self) -> None:
        """Challenge, token and answer have one time together: that each of them is in time does not help."""
        self.origin.auth = Tokens()
        for kind in ("blob", "token"):
            rule = self.origin.fault(Fault(hold=True), kind)
            reactor.callLater(0.45 if kind == "blob" else 0.9, rule.release)
        last = self.origin.fault(Fault(hold=True), "blob")
        await self.told(504, 1.0, self.blobs[0])
        self.assertEqual([record.kind for record in self.origin.requests], ["blob", "token", "blob"])
        last.release()

    async def test_no_connection_free(self) -> None:
        """All connections are taken by bodies: waiting for one counts, and harms neither those nor manifests."""
        settings = UpstreamSettings(first_byte_timeout=0.4, stall_timeout=10.0, max_connections=1)
        self.before(self.origin, upstream=settings)
        rule = self.origin.fault(Fault(stall=10), "blob")
        first = await self.begin(self.blobs[0])
        await eventually(lambda: self.origin.asked("blob"))
        (answer,) = await self.told(504, 0.4, self.blobs[1])
        self.assertIn(b"no connection", answer.body)
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 200)
        rule.release()
        self.assertEqual(len((await first.end()).body), 10_000)
        self.assertEqual((await self.ask(self.blobs[1])).status, 200)


class AgainTests(FirstByteCase):
    """What passes is asked again, before the client hears of it."""

    async def test_passing(self) -> None:
        """An error, or a connection that is closed, twice in a row: no client notices."""
        for fault in PASSING:
            self.before(self.origin)
            for target in (manifest_path("1.0"), self.blobs[0]):
                self.origin.fault(fault, times=2)
                answer, seconds = await self.timed(target)
                self.assertEqual((answer.status, answer.complete), (200, True), (fault, target))
                self.assertLess(seconds, 1.0)
            self.assertEqual(answer.body, noise(10_000, 0))
            self.origin.fault(fault, times=2)
            self.assertEqual((await self.ask(self.blobs[1], method="HEAD")).status, 200)

    async def test_not_passing(self) -> None:
        """What does not pass is told after the third time, in time."""
        self.origin.fault(Fault(status=503), times=None)
        await self.told(502, 0.7, self.blobs[0])
        self.assertEqual(len(self.origin.requests), 3)

    async def test_refused(self) -> None:
        """A plain no is told at once."""
        for status, expected in ((403, 403), (404, 404), (400, 502)):
            self.origin.fault(Fault(status=status), times=None)
            answer, _ = await self.timed(self.blobs[0])
            self.assertEqual((answer.status, len(self.origin.requests)), (expected, 1))
            self.origin.script.clear()
            self.origin.requests.clear()

    async def test_wants_to_be_left_alone(self) -> None:
        """One that says how long it will take, and that is too long, is not asked again."""
        self.origin.fault(Fault(status=503, headers=(("Retry-After", "60"),)), times=None)
        await self.told(502, 0.1, self.blobs[0])
        self.assertEqual(len(self.origin.requests), 1)


class BreakerTests(FirstByteCase):
    """An origin that fails is remembered."""

    def setUp(self) -> None:
        super().setUp()
        many = self.origin.add_image(REPO, "many", [noise(100, number) for number in range(10, 130)])
        self.many = [blob_path(each) for each in many.layers]

    def together(self, targets: Sequence[str]) -> Deferred[list[Answer]]:
        """Put these at once."""
        return gatherResults([Deferred.fromCoroutine(self.ask(target)) for target in targets])

    async def test_crowd(self) -> None:
        """Not everyone pays for its silence: once it is known whoever asks is told at once, and it is asked no more."""
        rule = self.origin.fault(Fault(hold=True), times=None)
        await self.together(self.many[:3])
        self.assertEqual(len(self.origin.requests), 3)
        for targets in (self.many[:40], self.many[40:80], self.many[80:]):
            answers = await self.together(targets)
            told = {(answer.status, answer.code, b"remembered" in answer.body) for answer in answers}
            self.assertEqual(told, {(504, "UNAVAILABLE", True)})
        self.assertEqual(len(self.origin.requests), 3)
        rule.release()

    async def test_waiting(self) -> None:
        """Those who wait for a connection do not wait for their own time to be over."""
        settings = UpstreamSettings(first_byte_timeout=2.0, max_connections=3)
        self.before(self.origin, upstream=settings)
        rule = self.origin.fault(Fault(hold=True), times=None)
        first = self.together(self.many[:3])
        await eventually(lambda: len(self.origin.requests) == 3)
        await pause(1.6)
        # More at once than the kernel lets wait for C{accept} would try again a second later.
        waiting = [Deferred.fromCoroutine(self.timed(target)) for target in self.many[3:43]]
        await first
        await pause(0.4)
        # Three of them have the connections that those before them have left.
        rule.release()
        found: Any = await gatherResults(waiting)
        failed = [seconds for answer, seconds in found if answer.status == 504]
        self.assertEqual((len(found), len(failed)), (40, 37))
        self.assertLess(max(failed), 0.4 + SLACK)

    async def test_recovers(self) -> None:
        """After a few seconds one finds out how it does, and all go on."""
        self.patch(breaker, "SILENT", 0.5)
        self.origin.fault(Fault(hold=True), times=None)
        await self.together(self.many[:3])
        self.assertEqual((await self.ask(self.blobs[0])).status, 504)
        self.origin.script.clear()
        await pause(0.6)
        answers = [await self.ask(target) for target in self.blobs]
        self.assertEqual([answer.status for answer in answers], [200] * 3)
        names = [event["event"].name for event in self.events if "event" in event]
        self.assertEqual([name for name in names if name.startswith("origin-")], ["origin-failing", "origin-answers"])

    async def test_warm(self) -> None:
        """What is cached is served all the while."""
        await self.ask(manifest_path("1.0"))
        await self.ask(self.blobs[0])
        await self.settled()
        self.origin.fault(Fault(hold=True), times=None)
        await self.together(self.many[:3])
        self.assertEqual((await self.ask(self.blobs[1])).status, 504)
        for target in (manifest_path("1.0"), manifest_path(self.image.digest), self.blobs[0]):
            self.assertHit(await self.ask(target))

    async def test_in_mid_body(self) -> None:
        """A body that has broken off is gone on with as soon as the origin answers: it waits for nobody's probe."""
        data = noise(2 * MIB)
        target = blob_path(self.origin.content.add_blob(REPO, data))
        self.before(self.origin, upstream=UpstreamSettings(first_byte_timeout=2.0, retries=8))
        self.origin.fault(Fault(cut=MIB), "blob")
        self.origin.fault(Fault(hang_up=True), times=None)
        body = await self.begin(target)
        await eventually(lambda: len(self.origin.requests) > 1)
        await self.together(self.many[:3])
        answer = await self.ask(self.many[4])
        self.assertIn(b"remembered", answer.body)
        self.origin.script.clear()
        self.assertEqual((await body.end()).body, data)
        # And its answer is good news for everyone.
        self.assertEqual((await self.ask(self.many[4])).status, 200)

    async def test_status(self) -> None:
        """Operators see which registries fail; those that nobody has named are one."""
        self.before(self.origin)
        self.assertEqual(json.loads((await self.admin("/api/status")).body)["failing"], [])
        self.origin.fault(Fault(status=500), times=None)
        await self.ask(self.blobs[0])
        for name in ("a.invalid", "b.invalid"):
            await self.ask(blob_path(self.image.layers[0], ns=name))
        other, named = json.loads((await self.admin("/api/status")).body)["failing"]
        self.assertEqual((other["registry"], named["registry"]), ("other", NAME))
        self.assertEqual((named["problem"], "problem" in other), ("it answers 500", False))
        self.origin.script.clear()
        await self.ask(self.blobs[1])
        (other,) = json.loads((await self.admin("/api/status")).body)["failing"]
        self.assertEqual(other["registry"], "other")


class LimitTests(FirstByteCase):
    """An origin that limits our rate."""

    LIMIT = Fault(status=429, headers=(("Retry-After", "30"),))

    async def test_left_alone(self) -> None:
        """Clients get 503 and how long to wait, and the origin is not asked before that is over."""
        self.origin.fault(self.LIMIT, "manifest", times=None)
        for number in range(5):
            (answer,) = await self.told(503, 0.1, manifest_path(f"{number}.0"))
            self.assertIn(answer.one("Retry-After"), ("30", "29"))
        self.assertEqual(len(self.origin.requests), 1)

    async def test_seconds_over(self) -> None:
        """Then it is."""
        self.origin.fault(Fault(status=429, headers=(("Retry-After", "1"),)), "manifest")
        await self.told(503, 0.1, manifest_path("1.0"))
        await pause(1.05)
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 200)

    async def test_heads(self) -> None:
        """A limit on GETs does not keep anyone from HEADs."""
        self.origin.fault(self.LIMIT, "manifest", method="GET")
        await self.told(503, 0.1, manifest_path("1.0"))
        self.assertEqual((await self.ask(manifest_path("1.0"), method="HEAD")).status, 200)
        await self.told(503, 0.1, manifest_path("1.0"))

    async def test_cached(self) -> None:
        """What is cached is served: content as ever, and an old tag for as long as C{stale-if-error} says."""
        self.before(self.origin, times=Times(tag_ttl=0.0))
        await self.ask(manifest_path("1.0"))
        await self.ask(self.blobs[0])
        await self.settled()
        self.origin.requests.clear()
        self.origin.fault(self.LIMIT, times=None)
        for _ in range(3):
            answer = await self.ask(manifest_path("1.0"))
            self.assertEqual((answer.status, answer.body), (200, self.image.manifest))
            self.assertEqual(answer.one("Cache-Status"), "crcache; hit; detail=stale-if-error")
        self.assertEqual(len(self.origin.requests), 1)
        self.assertHit(await self.ask(manifest_path(self.image.digest)))
        self.assertHit(await self.ask(self.blobs[0]))

    async def test_in_mid_body(self) -> None:
        """A body that breaks off just then is gone on with when the time is over, whether that was said or not."""
        data = noise(2 * MIB)
        self.before(self.origin, upstream=UpstreamSettings(first_byte_timeout=3.0))
        for headers in ((("Retry-After", "1"),), ()):
            target = blob_path(self.origin.content.add_blob(REPO, data + bytes([len(headers)])))
            self.origin.fault(Fault(cut=MIB), "blob")
            self.origin.fault(Fault(status=429, headers=headers), "blob")
            answer, seconds = await self.timed(target)
            self.assertEqual((answer.body[:-1] == data, answer.complete), (True, True))
            self.assertEqual(seconds > 1.0, bool(headers))

    async def test_realm(self) -> None:
        """A token realm that limits our rate is no different."""
        self.origin.auth = Tokens()
        self.origin.fault(self.LIMIT, "token", times=None)
        for target in self.blobs:
            (answer,) = await self.told(503, 0.1, target)
            self.assertIn(answer.one("Retry-After"), ("30", "29"))
        self.assertEqual(len(self.origin.asked("token")), 1)


class SeveralUrlsTests(FirstByteCase):
    """A registry with several URLs."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.registry(self.origin.content)

    async def test_elsewhere(self) -> None:
        """Whatever is wrong with the first one, the second serves the pull, and the client notices nothing."""
        for fault in (*PASSING, Fault(status=429), Fault(hold=True), Fault(redirect="nowhere://"), Fault(gzip=True)):
            self.before(self.origin, self.other)
            self.origin.fault(fault, times=None)
            for target in (manifest_path("1.0"), self.blobs[0]):
                answer, seconds = await self.timed(target)
                self.assertEqual((answer.status, answer.complete), (200, True), (fault, target))
                self.assertLess(seconds, 0.5 + SLACK)
            self.assertEqual(answer.body, noise(10_000, 0))
            self.origin.script.clear()

    async def test_nobody_there(self) -> None:
        """The same if nobody listens there, or the name is none."""
        url = self.origin.url
        await self.origin.stop()
        for first in (url, "http://no-such-registry.invalid"):
            self.before(first, self.other)
            self.assertEqual((await self.ask(manifest_path("1.0"))).body, self.image.manifest)

    async def test_lies(self) -> None:
        """A manifest that is not what was asked for, or breaks off, or stalls, is had from the next one."""
        for fault in (
            Fault(wrong=True),
            HTML,
            Fault(body=b"{}"),
            Fault(body=b"", headers=(("Docker-Content-Digest", None),)),
            Fault(cut=20),
            Fault(cut=20, unsized="chunked"),
            Fault(stall=20),
        ):
            self.before(self.origin, self.other)
            for target in (manifest_path("1.0"), manifest_path(self.image.digest)):
                self.origin.fault(fault, "manifest", method="GET", times=None)
                answer = await self.ask(target)
                self.assertEqual((answer.status, answer.body), (200, self.image.manifest), (fault, target))
                self.origin.script.clear()
            await self.settled()
            self.assertEqual([path for path in self.kept() if "blobs" in path], [self.content()])

    def content(self) -> str:
        """Where the manifest is kept."""
        return f"blobs/sha256/{self.image.digest[7:]}"


class OneUrlTests(FirstByteCase):
    """A registry with one URL."""

    async def test_lies(self) -> None:
        """A lie is told of as the origin's, nothing of it is kept, and the next right answer works."""
        for fault in (Fault(wrong=True), HTML, Fault(body=b"{}"), Fault(body=b"", undigested=True)):
            self.before(self.origin)
            for target in (manifest_path("1.0"), manifest_path(self.image.digest)):
                self.origin.fault(fault, "manifest", times=1)
                await self.told(502, 0.1, target)
                self.assertEqual(self.kept(), [])
            self.assertEqual((await self.ask(manifest_path("1.0"))).body, self.image.manifest)

    async def test_cut(self) -> None:
        """A manifest that breaks off, or stalls, is asked for again; after the fifth time that is told."""
        for fault in (Fault(cut=20), Fault(cut=20, reset=True), Fault(cut=20, unsized="chunked"), Fault(stall=20)):
            self.before(self.origin)
            self.origin.fault(fault, "manifest", times=2)
            self.assertEqual((await self.ask(manifest_path("1.0"))).body, self.image.manifest, fault)
        self.before(self.origin)
        self.origin.requests.clear()
        self.origin.fault(Fault(cut=20), "manifest", times=None)
        await self.told(502, 0.1, manifest_path("1.0"))
        self.assertEqual((len(self.origin.requests), self.kept()), (5, []))
