"""The upstream asks a registry over real sockets."""

from __future__ import annotations

import json

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crcache.errors import OriginLied
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.interfaces import IAnswer, IUpstream
from crcache.secret import Secret
from crcache.settings import RegistrySettings, UpstreamSettings
from crcache.testing.content import OCI_INDEX
from crcache.testing.script import Fault
from crcache.upstream.client import Upstream
from crcache.upstream.keys import Fixed
from tests.upstream.harness import NAME, REPOSITORY, UpstreamCase


class Asking(UpstreamCase):
    """Plain questions, well answered."""

    async def test_blob(self) -> None:
        """A blob's bytes, status and length arrive as the registry holds them."""
        registry = self.registry()
        answer, body = await self.get(self.upstream(registry.url), self.blob())
        self.assertEqual((answer.status, answer.length), (200, 300_000))
        self.assertEqual(body, registry.content.blobs[self.image.layers[1]])
        self.assertEqual(self.meter.bytes, 300_000)
        self.assertEqual(self.meter.questions, [("blob", 200)])
        verifyObject(IAnswer, answer)

    async def test_manifest(self) -> None:
        """A manifest comes with its own media type and digest."""
        registry = self.registry()
        answer, body = await self.get(self.upstream(registry.url), self.manifest())
        self.assertEqual(body, self.image.manifest)
        self.assertEqual(answer.headers.getRawHeaders("Docker-Content-Digest"), [self.image.digest])

    async def test_head(self) -> None:
        """A HEAD gives the length that a GET would have, no body, and leaves the connection for others."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        answer, body = await self.get(upstream, self.blob(method="HEAD"))
        self.assertEqual((answer.status, answer.length, body), (200, 300_000, b""))
        answer.abort()
        await self.get(upstream, self.blob())
        assert registry.listener is not None
        self.assertEqual(registry.listener.accepted, 1)

    async def test_tags(self) -> None:
        """The query's parameters go along."""
        registry = self.registry()
        registry.content.tags[NAME]["1.1"] = self.image.digest
        query = Query(self.name, REPOSITORY, "tags", None, "rid", parameters=(("n", "1"), ("last", "1.0")))
        _, body = await self.get(self.upstream(registry.url), query)
        self.assertEqual(json.loads(body), {"name": NAME, "tags": ["1.1"]})
        self.assertEqual(registry.requests[0].query, "n=1&last=1.0")

    async def test_referrers(self) -> None:
        """Referrers are asked by digest."""
        registry = self.registry()
        query = Query(self.name, REPOSITORY, "referrers", Digest.parse(self.image.digest), "rid")
        _, body = await self.get(self.upstream(registry.url), query)
        self.assertEqual(json.loads(body)["mediaType"], OCI_INDEX)

    async def test_span(self) -> None:
        """A half-open span becomes a closed range, one without end an open one."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        whole = registry.content.blobs[self.image.layers[1]]
        answer, body = await self.get(upstream, self.blob(span=(10, 20)))
        self.assertEqual((answer.status, body), (206, whole[10:20]))
        answer, body = await self.get(upstream, self.blob(span=(299_990, None)))
        self.assertEqual((answer.status, body), (206, whole[299_990:]))
        ranges = [record.header("Range") for record in registry.requests]
        self.assertEqual(ranges, ["bytes=10-19", "bytes=299990-"])

    async def test_headers(self) -> None:
        """The origin learns who asks, which request it is, and what is accepted, line by line; nothing else."""
        registry = self.registry()
        await self.get(self.upstream(registry.url), self.manifest(accept=("a/b", "c/d;q=0.5, */*")))
        headers = {name.lower(): values for name, values in registry.requests[0].headers.getAllRawHeaders()}
        self.assertEqual(headers.pop(b"accept"), [b"a/b", b"c/d;q=0.5, */*"])
        self.assertEqual(headers.pop(b"accept-encoding"), [b"identity"])
        self.assertEqual(headers.pop(b"x-request-id"), [b"rid-1"])
        self.assertTrue(headers.pop(b"user-agent")[0].startswith(b"crcache/"))
        self.assertEqual(set(headers), {b"host"})

    async def test_accept_anything(self) -> None:
        """Without a wish everything is accepted."""
        registry = self.registry()
        await self.get(self.upstream(registry.url), self.blob())
        self.assertEqual(registry.requests[0].header("Accept"), "*/*")

    async def test_not_found(self) -> None:
        """Every final status is an answer, errors too."""
        registry = self.registry()
        registry.fault(Fault(status=503, body=b"down", headers=(("Retry-After", "7"),)), "blob", times=1)
        upstream = self.upstream(registry.url)
        answer, body = await self.get(upstream, self.blob())
        self.assertEqual((answer.status, body), (503, b"down"))
        answer, body = await self.get(upstream, self.manifest("no-such"))
        self.assertEqual((answer.status, json.loads(body)["errors"][0]["code"]), (404, "MANIFEST_UNKNOWN"))

    async def test_base_with_path(self) -> None:
        """A registry's URL may have a path, and a slash at its end."""
        registry = self.registry()
        with self.assertRaises(OriginLied):
            registry.fault(Fault(redirect="nowhere://"), path="/mirror/v2/", times=None)
            await self.get(self.upstream(registry.url + "/mirror/"), self.blob())
        self.assertEqual(registry.requests[0].path, f"/mirror/v2/{NAME}/blobs/{self.image.layers[1]}")

    async def test_kept_alive(self) -> None:
        """One connection serves one question after another."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        for _ in range(5):
            await self.get(upstream, self.blob())
        assert registry.listener is not None
        self.assertEqual(registry.listener.accepted, 1)

    async def test_rate_limit(self) -> None:
        """What the origin says of its rate limit is noted; nonsense is not."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        for value in ("100;w=21600", "none", "7"):
            registry.fault(Fault(headers=(("RateLimit-Remaining", value),)), "manifest")
            await self.get(upstream, self.manifest())
        self.assertEqual(self.meter.rates, [100, 7])

    async def test_own_authorization(self) -> None:
        """A client's own `Authorization` is sent as it is, and its 401 is final, with the origin's own challenge."""
        registry = self.registry()
        challenge = (("WWW-Authenticate", 'Bearer realm="http://127.0.0.1:1/"'), ("X", "y"))
        registry.fault(Fault(status=401, headers=challenge, body=b"no"), "blob")
        upstream = self.upstream(registry.url)
        answer, body = await self.get(upstream, self.blob(authorization=Secret("Bearer client's")))
        self.assertEqual((answer.status, body), (401, b"no"))
        self.assertEqual(answer.headers.getRawHeaders("WWW-Authenticate"), [challenge[0][1]])
        self.assertEqual(registry.requests[0].header("Authorization"), "Bearer client's")
        await self.get(upstream, self.blob())
        self.assertIsNone(registry.requests[1].header("Authorization"))


class Nothing(SynchronousTestCase):
    """What an upstream is before its first question."""

    def test_interface(self) -> None:
        """It is an L{IUpstream}, and making one opens nothing."""
        before = set(reactor.getReaders()) | set(reactor.getDelayedCalls())
        upstream = Upstream(
            reactor,
            UpstreamSettings(),
            lambda registry: RegistrySettings(registry, ()),
            Fixed(),
            None,  # type: ignore[arg-type]
            {},
        )
        verifyObject(IUpstream, upstream)
        self.assertEqual(before, set(reactor.getReaders()) | set(reactor.getDelayedCalls()))
