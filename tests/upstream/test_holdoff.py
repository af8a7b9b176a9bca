"""Origins that limit our rate are left alone for as long as they say."""

from __future__ import annotations

import gc
import math
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from crcache.errors import OriginBusy
from crcache.facts import Query
from crcache.grammar.reference import Registry
from crcache.secret import Secret
from crcache.settings import Credentials, UpstreamSettings
from crcache.testing.script import Fault
from crcache.upstream.holdoff import HoldOff
from crcache.upstream.keys import Fixed
from tests.upstream.harness import REPOSITORY, Taker, UpstreamCase, later, password

#: Says for how long.
LIMITED = Fault(status=429, headers=(("Retry-After", "30"),))


class Limited(UpstreamCase):
    """L{HoldOff} in an upstream."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.fake = self.registry()
        self.client = self.upstream(self.fake.url, clock=self.clock)

    async def status(self, query: Query) -> int:
        """Of an answer, read to its end."""
        return (await self.get(self.client, query))[0].status

    async def limit(self, query: Query, fault: Fault = LIMITED) -> None:
        """Have this question be one too many."""
        self.fake.fault(fault, times=1)
        self.assertEqual(await self.status(query), 429)
        self.fake.requests.clear()

    async def held(self, query: Query, seconds: int) -> None:
        """It is not put, and whoever asks is told how long that will be so."""
        with self.assertRaises(OriginBusy) as caught:
            await self.client.ask(query)
        self.assertEqual(caught.exception.status, 503)
        self.assertEqual(math.ceil(caught.exception.seconds or 0.0), seconds)
        self.assertEqual(caught.exception.headers, (("Retry-After", str(seconds)),))
        self.assertEqual(self.fake.requests, [])

    async def test_seconds(self) -> None:
        """Until the time is over it is not asked; then it is."""
        await self.limit(self.blob())
        await self.held(self.blob(0), 30)
        self.clock.advance(29.5)
        await self.held(self.blob(), 1)
        self.clock.advance(0.6)
        self.assertEqual(await self.status(self.blob()), 200)

    async def test_date(self) -> None:
        """A date is meant by the origin's own clock."""
        then, now = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:07 GMT"
        await self.limit(self.blob(), Fault(status=429, headers=(("Retry-After", then), ("Date", now))))
        await self.held(self.blob(), 30)

    async def test_unsaid(self) -> None:
        """One that does not say for how long is left alone for some seconds; an hour is the most."""
        await self.limit(self.blob(), Fault(status=429))
        await self.held(self.blob(), 5)
        await self.limit(self.manifest(), Fault(status=429, headers=(("Retry-After", "1000000"),)))
        await self.held(self.manifest(), 3600)

    async def test_other_kinds(self) -> None:
        """A limit on blobs is none on manifests."""
        await self.limit(self.blob())
        self.assertEqual(await self.status(self.manifest()), 200)

    async def test_heads(self) -> None:
        """A limit on GETs is none on HEADs, which Docker Hub does not count; one on HEADs is also one on GETs."""
        await self.limit(self.manifest())
        self.assertEqual(await self.status(self.manifest(method="HEAD")), 200)
        self.clock.advance(31)
        await self.limit(self.manifest(method="HEAD"))
        for method in ("GET", "HEAD"):
            await self.held(self.manifest(method=method), 30)

    async def test_other_ways(self) -> None:
        """A limit on one client's credentials is none on another's, nor on crcache's own; and the other way round."""
        mine, yours = Secret("Bearer mine"), Secret("Bearer yours")
        await self.limit(self.blob(authorization=mine))
        await self.held(self.blob(authorization=Secret("Bearer mine")), 30)
        self.assertEqual(await self.status(self.blob(authorization=yours)), 200)
        self.assertEqual(await self.status(self.blob()), 200)
        await self.limit(self.blob())
        self.assertEqual(await self.status(self.blob(authorization=yours)), 200)

    async def test_errors(self) -> None:
        """So is one that says with an error when it will be well, whatever the method, but for a minute at most; the
        other URLs are asked meanwhile."""
        for said, seconds in (("30", 30), ("1000000", 60)):
            self.fake.fault(Fault(status=503, headers=(("Retry-After", said),)), times=1)
            self.assertEqual(await self.status(self.manifest()), 503)
            self.fake.requests.clear()
            await self.held(self.manifest(), seconds)
            await self.held(self.manifest(method="HEAD"), seconds)
            problem = self.failureResultOf(self.client.ask(self.manifest()), OriginBusy).value
            self.assertIn("answered 503 and wants to be left alone", problem.message)
            self.assertEqual(await self.status(self.blob()), 200)
            self.clock.advance(seconds + 0.1)
            self.assertEqual(await self.status(self.manifest()), 200)
        other = self.registry(content=self.fake.content)
        self.client = self.upstream(self.fake.url, other.url, clock=self.clock)
        self.fake.fault(Fault(status=503, headers=(("Retry-After", "30"),)))
        for asked in (1, 2):
            self.assertEqual(await self.status(self.blob()), 200)
            self.assertEqual(len(other.requests), asked)

    async def test_queue(self) -> None:
        """Those who wait for a connection when the limit is hit are not sent after it."""
        settings = UpstreamSettings(max_connections=1)
        self.client = self.upstream(self.fake.url, clock=self.clock, settings=settings)
        self.fake.fault(LIMITED, "blob", times=None)

        async def ask() -> int:
            try:
                return await self.status(self.blob())
            except OriginBusy as problem:
                return problem.status

        found: Any = await gatherResults([Deferred.fromCoroutine(ask()) for _ in range(10)])
        self.assertEqual(found, [429] + [503] * 9)
        self.assertEqual(len(self.fake.requests), 1)

    async def test_under_way(self) -> None:
        """What goes on with a body that was cut waits until the limit is over, if there is time for that; it need not
        if the origin did not say how long."""
        self.client = self.upstream(self.fake.url, clock=self.clock, settings=UpstreamSettings(first_byte_timeout=20.0))
        for further in ({"span": (10, None), "resumes": True}, {"turn": 1, "resumes": True}):
            await self.limit(self.blob(), Fault(status=429, headers=(("Retry-After", "17"),)))
            asking = self.client.ask(self.blob(**further))
            self.clock.advance(16.9)
            self.assertNoResult(asking)
            self.assertEqual(self.fake.requests, [])
            self.clock.advance(0.2)
            answer = await asking
            self.assertIn(answer.status, (200, 206))
            await answer.deliver(Taker())
            await self.limit(self.blob())
            await self.held(self.blob(**further), 30)
            self.clock.advance(31)
            await self.limit(self.blob(), Fault(status=429))
            await self.held(self.blob(), 5)
            self.assertIn(await self.status(self.blob(**further)), (200, 206))
            self.clock.advance(6)

    async def test_elsewhere(self) -> None:
        """With several URLs the others are asked; when all of them are limited the first that is free again counts."""
        other = self.registry(content=self.fake.content)
        self.client = self.upstream(self.fake.url, other.url, clock=self.clock)
        self.fake.fault(LIMITED)
        self.assertEqual(await self.status(self.blob()), 200)
        self.fake.requests.clear()
        self.assertEqual(await self.status(self.blob()), 200)
        self.assertEqual((len(self.fake.requests), len(other.requests)), (0, 2))
        other.fault(Fault(status=503), times=2)
        asking = Deferred.fromCoroutine(self.status(self.blob()))
        while not asking.called:
            self.clock.advance(0.01)
            await later(0.002)
        self.assertEqual((await asking, self.fake.requests), (200, []))
        other.fault(Fault(status=429, headers=(("Retry-After", "3"),)))
        self.assertEqual(await self.status(self.blob()), 429)
        await self.held(self.blob(), 3)
        self.clock.advance(3.1)
        self.assertEqual(await self.status(self.blob()), 200)


class Remembering(UpstreamCase):
    """What L{HoldOff} keeps."""

    def query(self, name: str, text: str | None = None) -> Query:
        """A question to some registry."""
        authorization = None if text is None else Secret(text)
        return Query(Registry(name), REPOSITORY, "tags", None, "rid-1", authorization=authorization)

    def test_bounded(self) -> None:
        """However many registries clients make up, no more than some are remembered."""
        holdoff = HoldOff(Fixed(), Clock())
        for number in range(5000):
            holdoff.note("https://x", self.query(f"r{number}.test"), 30)
        self.assertEqual(holdoff.left("https://x", self.query("r0.test")), 0.0)
        self.assertEqual(holdoff.left("https://x", self.query("r4999.test")), 30.0)

    def test_no_secrets(self) -> None:
        """Of a client's credentials nothing is kept that gives them away."""
        secret = Secret("Bearer " + "s3cret" * 5)
        query = Query(self.name, REPOSITORY, "tags", None, "rid-1", authorization=secret)
        holdoff = HoldOff(Fixed(Credentials({(self.name, ()): password("hunter2")})), Clock())
        holdoff.note("https://x", query, 30)
        holdoff.note("https://x", self.query(str(self.name)), 30)
        kept = repr(list(holdoff._limits._entries))
        self.assertIn("user puller", kept)
        for each in ("s3cret", "hunter2"):
            self.assertNotIn(each, kept)
        self.assertNotIn(secret, [thing for key in holdoff._limits._entries for thing in gc.get_referents(key)])
