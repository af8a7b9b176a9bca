"""Caches before caches, over real sockets: what they ask each other, and what becomes of it when one of them fails."""

from __future__ import annotations

import json
import time

from crcache import events
from crcache.grammar.digest import Digest
from crcache.grammar.hosts import HostPattern
from crcache.policy.nearness import ranked
from crcache.settings import ParentSettings, Reach, Times
from crcache.testing.auth import Tokens
from crcache.testing.certificates import Authority
from crcache.testing.content import noise
from crcache.testing.daemon import Instance
from crcache.testing.script import Fault
from tests.clients.case import NAME, REPO, blob_path, eventually, manifest_path
from tests.clients.parents_case import BRISK, PATIENT, HierarchyCase
from tests.story import MovableClock
from tests.web.cases import pause, reactor

LARGE = noise(3 << 20, 7)
#: Seconds for what has waited for no parent, and for what has waited for one as long as it is waited for.
AT_ONCE, ONCE = 0.7, 1.9


class LevelTests(HierarchyCase):
    """Nothing fails."""

    async def test_two(self) -> None:
        """A cold pull through two caches asks the origin once for each thing, and is kept by both; who comes later, to
        either, costs nobody anything. Metrics say whom it came from."""
        parent = self.top()
        child = self.below(parent)
        answers = await self.pull(child)
        self.assertPulled(answers)
        self.assertEqual(answers[-1].all("Cache-Status"), ["crcache; fwd=miss; stored"])
        self.assertEqual(answers[-1].all("Via"), [])
        asked = [(record.method, record.path) for record in self.origin.requests]
        self.assertEqual(len(asked), len(set(asked)))
        self.assertEqual(self.direct.requests, [])
        for each in (child, parent):
            self.cache = each
            self.assertHit((await self.pull(each))[-1])
        self.assertEqual(len(self.origin.requests), len(asked))
        self.cache = child
        name = f"127.0.0.1:{parent.port}"
        self.assertEqual(await self.metric("crcache_parent_requests_total", parent=name, kind="blob", status="200"), 3)
        self.assertGreater(await self.metric("crcache_parent_bytes_total", parent=name), 500_000)
        self.assertEqual(await self.metric("crcache_upstream_requests_total"), 0)

    async def test_three(self) -> None:
        """So it does through three."""
        node = self.below(self.below(self.top()))
        self.assertPulled(await self.pull(node))
        self.assertEqual(len(self.origin.asked("blob", "GET")), 3)
        self.assertEqual(self.direct.requests, [])

    async def test_what_is_asked(self) -> None:
        """A parent is asked as a client would: the same path, registry, parameters, range, request id; no credentials
        but the client's own; and through whom it has come."""
        mirror = self.registry(self.origin.content)
        child = self.below(mirror)
        headers = ("X-Request-Id", "abc-123"), ("Via", "1.0 fred, 1.1 crcache-0123456789abcdef (gone)")
        await self.ask(f"/v2/{REPO}/tags/list?ns={NAME}&n=1", *headers, to=child)
        await self.ask(f"/v2/{REPO}/referrers/{self.image.digest}?ns={NAME}&artifactType=a/b", *headers, to=child)
        ping, tags, referrers = mirror.requests
        self.assertEqual(ping.path, "/v2/")
        self.assertEqual((tags.path, tags.query), (f"/v2/{REPO}/tags/list", f"n=1&ns={NAME}".replace(":", "%3A")))
        self.assertEqual(referrers.query, f"artifactType=a%2Fb&ns={NAME}")
        self.assertEqual(tags.header("X-Request-Id"), "abc-123")
        self.assertRegex(
            tags.header("Via") or "", r"\A1\.0 fred, 1\.1 crcache-0123456789abcdef, 1\.1 crcache-[0-9a-f]{16}\Z"
        )
        self.assertIsNone(tags.header("Authorization"))
        self.assertEqual(self.direct.requests, [])

    async def test_https(self) -> None:
        """A parent at https is believed if its certificate is by the authority that is named with it."""
        authority, place = Authority(), self.directory()
        mirror = self.registry(self.origin.content, tls=authority.context())
        ca = authority.write(place)
        for settings, asked in ((ParentSettings(mirror.url, ca), True), (ParentSettings(mirror.url), False)):
            mirror.requests.clear()
            child = self.instance(origins={NAME: self.direct.url}, parents=(settings,), upstream=PATIENT)
            self.assertPulled(await self.pull(child))
            self.assertEqual(bool(mirror.requests), asked)

    async def test_reach(self) -> None:
        """What may not be asked here is refused here, whatever parents may do."""
        mirror = self.registry(self.origin.content)
        child = self.below(mirror, reach=Reach(deny=(HostPattern("denied.test"),)))
        self.assertEqual((await self.ask(manifest_path("1.0", ns="denied.test"), to=child)).status, 403)
        self.assertEqual(mirror.requests, [])

    async def test_not_reachable(self) -> None:
        """What a parent has of a registry that cannot be reached from here is had all the same."""
        await self.direct.stop()
        self.assertPulled(await self.pull(self.below(self.top())))

    async def test_ranges(self) -> None:
        """The end of a large cold blob is had through parents, and is what it should be."""
        digest = self.origin.content.add_blob(REPO, LARGE)
        child = self.below(self.top())
        for header, part in (("bytes=2000000-2000099", LARGE[2000000:2000100]), ("bytes=-5", LARGE[-5:])):
            answer = await self.ask(blob_path(digest), ("Range", header), to=child)
            self.assertEqual((answer.status, answer.body), (206, part))
        self.assertEqual(self.direct.requests, [])

    async def test_spread(self) -> None:
        """Of several parents each is asked for its own share, which all caches below agree upon; of a dead one's share
        the next one is asked."""
        content = self.origin.content
        digests = [content.add_blob(REPO, noise(100, seed)) for seed in range(24)]
        mirrors = {each.url: each for each in (self.registry(content) for _ in range(3))}
        for order in (list(mirrors), list(reversed(mirrors))):
            child = self.below(*order)
            for digest in digests:
                self.assertEqual((await self.ask(blob_path(digest), to=child)).status, 200)
        for url, mirror in mirrors.items():
            mine = [digest for digest in digests if ranked(list(mirrors), digest)[0] == url]
            paths = [record.path for record in mirror.asked("blob")]
            self.assertEqual(sorted(paths), sorted(2 * [f"/v2/{REPO}/blobs/{each}" for each in mine]))
        gone = next(iter(mirrors.values()))
        await gone.stop()
        child = self.below(*mirrors)
        for digest in digests:
            self.assertEqual((await self.ask(blob_path(digest), to=child)).status, 200)
        self.assertEqual(self.direct.requests, [])


class FailingTests(HierarchyCase):
    """A parent fails: the origin is asked, and clients notice nothing."""

    upstream = BRISK

    async def timed(self, target: str, to: Instance, data: bytes, most: float) -> None:
        """Ask for something, which has to come within some seconds."""
        began = time.monotonic()
        answer = await self.ask(target, to=to)
        self.assertEqual((answer.status, answer.body == data), (200, True))
        self.assertLess(time.monotonic() - began, most)

    async def status(self, of: Instance) -> dict[str, object]:
        """What is said of the one parent."""
        self.cache = of
        (told,) = json.loads((await self.admin("/api/status")).body)["parents"]
        return dict(told)

    def told(self, event: events.Event) -> int:
        """How often that was logged."""
        return len([each for each in self.events if each.get("event") is event])

    async def test_refused(self) -> None:
        """One that does not listen costs nothing, and is told of once; so it says in the status."""
        child = self.below(f"http://127.0.0.1:{self.port()}")
        for target, data in self.targets.items():
            await self.timed(target, child, data, AT_ONCE)
        self.assertEqual(self.told(events.PARENT_FAILING), 1)
        told = await self.status(child)
        self.assertEqual(told["up"], False)
        self.assertIn("cannot be connected to", str(told["problem"]))

    async def test_silent(self) -> None:
        """One that accepts and never answers costs a bounded time once, and nothing then."""
        mirror = self.registry(self.origin.content)
        mirror.fault(Fault(hold=True), times=None)
        child = self.below(mirror)
        first, *rest = self.targets.items()
        await self.timed(*_ask(first, child), ONCE)
        for each in rest:
            await self.timed(*_ask(each, child), AT_ONCE)
        self.assertEqual(len(mirror.requests), 1)

    async def test_falls_silent(self) -> None:
        """So does one that stops answering later."""
        mirror = self.registry(self.origin.content)
        child = self.below(mirror)
        first, *rest = self.targets.items()
        await self.timed(*_ask(first, child), AT_ONCE)
        mirror.fault(Fault(hold=True), times=None)
        await self.timed(*_ask(rest.pop(), child), ONCE)
        for each in rest:
            await self.timed(*_ask(each, child), AT_ONCE)

    async def test_slow_for_one(self) -> None:
        """One that is slow with a registry, for which it may have to wait itself, is asked about others."""
        mirror = self.registry(self.origin.content)
        mirror.fault(Fault(hold=True), "blob", times=None)
        other = "other.test"
        origins = {NAME: self.direct.url, other: self.direct.url}
        child = self.instance(origins=origins, parents=(ParentSettings(mirror.url),), upstream=BRISK)
        digest = self.image.layers[0]
        await self.timed(blob_path(digest), child, self.origin.content.blobs[digest], ONCE)
        asked = len(mirror.requests)
        manifest = await self.ask(manifest_path("1.0", ns=other), to=child)
        self.assertEqual(manifest.status, 200)
        self.assertGreater(len(mirror.requests), asked)
        asked = len(mirror.requests)
        self.assertEqual((await self.ask(manifest_path("1.0"), to=child)).status, 200)
        self.assertEqual(len(mirror.requests), asked)
        self.assertEqual((await self.status(child))["not_asked_about"], [NAME])

    async def test_no(self) -> None:
        """What a parent answers but the content makes the origin be asked; an error of its own again and again makes
        it be left alone for that registry, a no does not."""
        for status, left in ((404, False), (401, False), (403, False), (307, False), (500, True), (503, True)):
            mirror = self.registry(self.origin.content)
            for kind in ("manifest", "blob"):
                headers = (("Location", "http://127.0.0.1:1/"),) if status == 307 else ()
                mirror.fault(Fault(status=status, headers=headers), kind, times=None)
            child = self.below(mirror)
            for target, data in self.targets.items():
                await self.timed(target, child, data, AT_ONCE)
            self.assertEqual(len([each for each in mirror.requests if each.kind != "ping"]) == 3, left, status)

    async def test_cut(self) -> None:
        """A body that breaks off at a parent is gone on with at the origin, from where it stopped."""
        digest = self.origin.content.add_blob(REPO, LARGE)
        mirror = self.registry(self.origin.content)
        mirror.fault(Fault(cut=1 << 20), "blob")
        child = self.below(mirror)
        await self.timed(blob_path(digest), child, LARGE, 5)
        (record,) = self.direct.asked("blob")
        self.assertRegex(record.header("Range") or "", r"\Abytes=[1-9]\d*-\Z")

    async def test_cut_without_origin(self) -> None:
        """If the origin cannot be asked, a body that breaks off at a parent is gone on with at the parent."""
        digest = self.origin.content.add_blob(REPO, LARGE)
        mirror = self.registry(self.origin.content)
        self.direct.fault(Fault(hang_up=True), times=None)
        mirror.fault(Fault(cut=1 << 20, reset=True), "blob")
        child = self.below(mirror)
        await self.timed(blob_path(digest), child, LARGE, 5)
        self.assertRegex(mirror.asked("blob")[-1].header("Range") or "", r"\Abytes=[1-9]\d*-\Z")

    async def test_lies(self) -> None:
        """Wrong bytes of a parent's never make a whole wrong body; whoever asks then gets it from the origin."""
        digest = self.origin.content.add_blob(REPO, LARGE)
        mirror = self.registry(self.origin.content)
        mirror.fault(Fault(wrong=True), times=None)
        child = self.below(mirror)
        answer = await self.ask(blob_path(digest), to=child)
        self.assertFalse(answer.complete and answer.body != LARGE)
        await self.timed(blob_path(digest), child, LARGE, 5)
        self.assertTrue(self.direct.asked("blob"))
        manifest = await self.ask(manifest_path(self.image.digest), to=child)
        self.assertEqual((manifest.status, manifest.body), (200, self.image.manifest))

    async def test_lies_of_a_tag(self) -> None:
        """A manifest that is not what its parent says it is is taken from the origin."""
        mirror = self.registry(self.origin.content)
        mirror.fault(Fault(wrong=True), "manifest", method="GET", times=None)
        manifest = await self.ask(manifest_path("1.0"), to=self.below(mirror))
        self.assertEqual((manifest.status, manifest.body), (200, self.image.manifest))

    async def test_client_leaves(self) -> None:
        """A client that goes while a parent is waited for cancels nothing: the fill goes on, and so it is for who comes
        next."""
        mirror = self.registry(self.origin.content)
        rule = mirror.fault(Fault(hold=True), "blob")
        child = self.below(mirror)
        digest = self.image.layers[0]
        answer = await self.begin(blob_path(digest), to=child)
        await eventually(lambda: mirror.asked("blob"))
        answer.leave()
        rule.release()
        await self.timed(blob_path(digest), child, self.origin.content.blobs[digest], ONCE)
        self.assertEqual(len(mirror.asked("blob")), 1)


def _ask(each: tuple[str, bytes], to: Instance) -> tuple[str, Instance, bytes]:
    return each[0], to, each[1]


class PrivateTests(HierarchyCase):
    """What only clients' own credentials open."""

    async def test_private(self) -> None:
        """Whom the origin lets in gets it through the parent; who brings nothing, or what the origin refuses, gets its
        challenge, though child and parent have it all. The origin itself says so to the child: no parent does."""
        tokens = Tokens(users={"alice": "wonderland", "bob": "builder"}, anonymous=())
        self.origin.auth = self.direct.auth = tokens
        child = self.below(self.top())

        def bearer(user: str, repository: str = REPO) -> tuple[str, str]:
            return "Authorization", "Bearer " + tokens.issue(user, [f"repository:{repository}:pull"])

        alice = bearer("alice")
        self.assertPulled(await self.pull(child, alice))
        self.assertEqual(self.direct.asked("blob", "GET"), [])
        self.assertTrue(self.origin.asked("blob", "GET"))
        self.assertTrue([each for each in self.direct.requests if each.header("Authorization") == alice[1]])
        for headers in ((), (bearer("bob", "other/thing"),)):
            for answer in await self.pull(child, *headers):
                self.assertEqual(answer.status, 401)
                self.assertTrue((answer.one("WWW-Authenticate") or "").startswith("Bearer realm="))
        self.assertPulled(await self.pull(child, bearer("bob")))


class TagTests(HierarchyCase):
    """What tags mean, and since when that is known."""

    def setUp(self) -> None:
        super().setUp()
        self.day = MovableClock()
        self.day.now = time.time()
        self.timed = {"times": Times(tag_ttl=60.0, stale_if_error=600.0, negative_ttl=0.0), "day": self.day}

    def move(self) -> bytes:
        """The tag means another image from now on."""
        other = self.origin.add_image(REPO, "1.0", [11], seed=5)
        return other.manifest

    async def meaning(self, to: Instance) -> bytes:
        """What the tag is said to mean."""
        answer = await self.ask(manifest_path("1.0"), to=to)
        self.assertEqual(answer.status, 200)
        return answer.body

    async def test_age(self) -> None:
        """However many levels there are, what a tag meant is told for one tag-ttl, not for one at each."""
        site = self.top(**self.timed)
        rack = self.below(site, **self.timed)
        node = self.below(rack, **self.timed)
        self.assertEqual(await self.meaning(site), self.image.manifest)
        for cache in (rack, node):
            self.day.now += 25
            self.assertEqual(await self.meaning(cache), self.image.manifest)
        moved = self.move()
        self.day.now += 5
        self.assertEqual(await self.meaning(node), self.image.manifest)
        answer = await self.ask(manifest_path("1.0"), method="HEAD", to=node)
        self.assertEqual(answer.one("Age"), "55")
        self.day.now += 6
        self.assertEqual(await self.meaning(node), moved)

    async def test_shorter_ttl(self) -> None:
        """Nor is it told for the parent's own tag-ttl, if that is longer, unless the origin cannot be asked."""
        site = self.top(**self.timed)
        await self.pull(site)
        moved = self.move()
        self.day.now += 30
        node = self.below(site, times=Times(tag_ttl=20.0, stale_if_error=600.0, negative_ttl=0.0), day=self.day)
        head = await self.ask(manifest_path("1.0"), method="HEAD", to=node)
        self.assertEqual(head.one("Docker-Content-Digest"), str(Digest.of(moved)))
        self.assertEqual(await self.meaning(node), moved)
        await self.direct.stop()
        another = self.below(site, times=Times(tag_ttl=20.0, stale_if_error=600.0, negative_ttl=0.0), day=self.day)
        self.assertEqual(await self.meaning(another), self.image.manifest)

    async def test_age_of_heads(self) -> None:
        """That holds for HEADs, with which containerd begins, and for tags that are renewed."""
        site, ttl = self.top(**self.timed), 60
        node = self.below(self.below(site, **self.timed), **self.timed)
        await self.ask(manifest_path("1.0"), method="HEAD", to=node)
        self.day.now += ttl + 1
        await self.meaning(site)
        self.day.now += 40
        await self.ask(manifest_path("1.0"), method="HEAD", to=node)
        moved = self.move()
        self.day.now += 21
        self.assertEqual(await self.meaning(node), moved)

    async def test_stale(self) -> None:
        """What a parent knows from before its origin failed does not count as long as there is an origin to ask."""
        site = self.top(**self.timed)
        await self.meaning(site)
        moved = self.move()
        self.day.now += 100
        await self.origin.stop()
        self.assertEqual(await self.meaning(self.below(site, **self.timed)), moved)

    async def test_last_resort(self) -> None:
        """When no origin can be asked it is better than nothing: a new node gets its pull, and goes on asking."""
        site = self.top(**self.timed)
        await self.pull(site)
        self.day.now += 100
        await self.origin.stop()
        await self.direct.stop()
        node = self.below(site, **self.timed)
        self.assertPulled(await self.pull(node))
        self.origin.start(reactor, port=int(self.origin.url.rpartition(":")[2]))
        moved = self.move()
        for _ in range(40):
            if await self.meaning(node) == moved:
                break
            await pause(0.2)
        self.assertEqual(await self.meaning(node), moved)

    async def test_older(self) -> None:
        """What a node has heard later than its parent is not forgotten for what that says: the origin decides."""
        site = self.top(**self.timed)
        await self.meaning(site)
        self.day.now += 30
        moved = self.move()
        node = self.below(f"http://127.0.0.1:{self.port()}", **self.timed)
        self.assertEqual(await self.meaning(node), moved)
        directory = node.config.cache_directory
        await node.stop()
        times = Times(tag_ttl=5.0, stale_if_error=600.0, negative_ttl=0.0)
        node = self.below(site, directory=directory, times=times, day=self.day)
        self.day.now += 20
        self.assertEqual(await self.meaning(node), moved)
        self.assertEqual(len(self.direct.asked("manifest", "HEAD")), 1)
        await self.direct.stop()
        self.day.now += 6
        self.assertEqual(await self.meaning(node), moved)
