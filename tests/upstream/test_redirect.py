"""Redirects: blobs live elsewhere."""

from __future__ import annotations

from crcache.errors import OriginLied, OriginUnreachable
from crcache.facts import Query
from crcache.secret import Secret
from crcache.testing.certificates import Authority
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from tests.upstream.harness import UpstreamCase


class Redirects(UpstreamCase):
    """Where a registry sends us."""

    def cdn(self, registry: FakeRegistry) -> FakeRegistry:
        return self.registry(content=registry.content)

    async def test_followed(self) -> None:
        """Every kind of redirect is followed, for GET and HEAD, with the range, without `Authorization`."""
        registry = self.registry()
        cdn = self.cdn(registry)
        upstream = self.upstream(registry.url)
        whole = registry.content.blobs[self.image.layers[1]]
        for status in (301, 302, 303, 307, 308):
            registry.fault(Fault(redirect=cdn.url + "/cdn/{digest}?sig=x%2Fy", status=status), "blob")
            answer, body = await self.get(
                upstream, self.blob(span=(5, None), authorization=Secret("Bearer mine"), accept=("a/b",))
            )
            self.assertEqual((answer.status, body), (206, whole[5:]))
            self.assertEqual(registry.requests[-1].header("Authorization"), "Bearer mine")
            self.assertIsNone(cdn.requests[-1].header("Authorization"))
            self.assertEqual(cdn.requests[-1].header("Accept"), "a/b")
            self.assertEqual(cdn.requests[-1].query, "sig=x%2Fy")
        registry.fault(Fault(redirect=cdn.url + "/cdn/{digest}"), "blob")
        answer = await upstream.ask(self.blob(method="HEAD"))
        self.assertEqual((answer.status, answer.length), (200, 300_000))
        self.assertEqual(cdn.requests[-1].method, "HEAD")

    async def test_not_followed(self) -> None:
        """If only the registry's own word is wanted, its redirect is the answer, and nobody else is asked."""
        registry = self.registry()
        cdn = self.cdn(registry)
        for status in (301, 302, 303, 307, 308):
            registry.fault(Fault(redirect=cdn.url + "/cdn/{digest}", status=status), "blob")
            query = self.blob(method="HEAD", authorization=Secret("Bearer mine"), follows=False)
            answer = await self.upstream(registry.url).ask(query)
            self.assertEqual(answer.status, status)
            answer.abort()
        self.assertEqual(cdn.requests, [])

    async def test_followed_within(self) -> None:
        """A redirect within the registry is not its word on who is let in: that is asked for where it leads."""
        registry = self.registry()
        for location in ("/cdn/{digest}", registry.url + "/cdn/{digest}"):
            for status in (200, 401, 403):
                registry.fault(Fault(redirect=location, status=308), "blob")
                registry.fault(Fault(status=status), "cdn")
                query = self.blob(method="HEAD", authorization=Secret("Bearer mine"), follows=False)
                answer = await self.upstream(registry.url).ask(query)
                self.assertEqual(answer.status, status)
                self.assertEqual(registry.requests[-1].header("Authorization"), "Bearer mine")
                answer.abort()

    async def test_relative(self) -> None:
        """A relative location is of the same host, which keeps the `Authorization`."""
        registry = self.registry()
        for location in ("/cdn/{digest}", "../../../../cdn/{digest}", "/cdn/{digest}#there"):
            registry.fault(Fault(redirect=location), "blob")
            await self.get(self.upstream(registry.url), self.blob(authorization=Secret("Bearer mine")))
            self.assertEqual(registry.requests[-1].kind, "cdn")
            self.assertEqual(registry.requests[-1].header("Authorization"), "Bearer mine")

    async def test_never_again(self) -> None:
        """Once left out, the `Authorization` stays out, even back at the registry."""
        registry = self.registry()
        cdn = self.cdn(registry)
        registry.fault(Fault(redirect=cdn.url + "/cdn/{digest}"), "blob")
        cdn.fault(Fault(redirect=registry.url + "/cdn/{digest}"), "cdn")
        await self.get(self.upstream(registry.url), self.blob(authorization=Secret("Bearer mine")))
        self.assertIsNone(registry.asked("cdn")[0].header("Authorization"))

    async def test_other_scheme(self) -> None:
        """The same host with another scheme is another host."""
        authority = Authority()
        registry = self.registry()
        secure = self.registry(tls=authority.context(), content=registry.content)
        registry.fault(Fault(redirect=secure.url + "/cdn/{digest}"), "blob")
        upstream = self.upstream(registry.url, ca=authority.write(self.directory()))
        await self.get(upstream, self.blob(authorization=Secret("Bearer mine")))
        self.assertIsNone(secure.requests[0].header("Authorization"))

    async def test_downgrade(self) -> None:
        """From https nothing leads to http, unless the registry's own URL is http."""
        authority = Authority()
        plain = self.registry()
        secure = self.registry(tls=authority.context(), content=plain.content)
        ca = authority.write(self.directory())
        secure.fault(Fault(redirect=plain.url + "/cdn/{digest}"), times=None)
        with self.assertRaises(OriginLied):
            await self.upstream(secure.url, ca=ca).ask(self.blob())
        self.assertEqual(plain.requests, [])
        plain.fault(Fault(redirect=secure.url + "/cdn/{digest}"), "blob")
        _, body = await self.get(self.upstream(plain.url, ca=ca), self.blob())
        self.assertEqual(len(body), 300_000)

    async def test_limit(self) -> None:
        """Ten redirects are followed, the eleventh is not."""
        registry = self.registry()
        registry.fault(Fault(redirect="{path}"), "blob", times=10)
        upstream = self.upstream(registry.url)
        await self.get(upstream, self.blob())
        registry.fault(Fault(redirect="{path}"), "blob", times=11)
        with self.assertRaises(OriginLied):
            await upstream.ask(self.blob())

    async def test_nowhere(self) -> None:
        """A redirect to what is no URL of a host, or without one, is a lie."""
        registry = self.registry()
        upstream = self.upstream(registry.url)
        for location in (
            "ftp://a/b",
            "https://",
            "http://a:port/",
            "http://u:p@a/",
            "file:///etc/passwd",
            "http://a/\xff",
        ):
            registry.fault(Fault(redirect=location), "blob")
            with self.assertRaises(OriginLied):
                await upstream.ask(self.blob())
        registry.fault(Fault(status=302), "blob")
        with self.assertRaises(OriginLied):
            await upstream.ask(self.blob())

    async def test_not_redirects(self) -> None:
        """Other 3xx are answers."""
        registry = self.registry()
        for status in (300, 304, 305):
            registry.fault(Fault(status=status, headers=(("Location", "/elsewhere"),)), "blob")
            answer = await self.upstream(registry.url).ask(self.blob())
            self.assertEqual(answer.status, status)
            answer.abort()

    async def test_long_body(self) -> None:
        """A redirect's own endless body is not read to its end."""
        registry = self.registry()
        registry.fault(Fault(redirect="/cdn/{digest}", body=b"x" * 10_000_000), "blob")
        await self.get(self.upstream(registry.url), self.blob())
        self.assertLess(registry.requests[0].sent, 10_000_000)

    async def test_unreachable(self) -> None:
        """A host that cannot be reached is named without the link's query."""
        registry = self.registry()
        cdn = self.cdn(registry)
        registry.fault(Fault(redirect=cdn.url + "/cdn/x?sig=secret"), "blob")
        await cdn.stop()
        with self.assertRaises(OriginUnreachable) as caught:
            await self.upstream(registry.url).ask(self.blob())
        self.assertNotIn("secret", caught.exception.message)
        self.assertEqual(self.meter.questions, [("blob", 307), ("blob", None)])

    async def test_unauthorized_elsewhere(self) -> None:
        """A 401 from where the registry sent us is final: nothing is negotiated with strangers, nor are clients told
        to, who would take it for the registry that asks for their credentials."""
        registry = self.registry()
        cdn = self.cdn(registry)
        challenge = (("WWW-Authenticate", f'Bearer realm="{cdn.url}/token"'),)
        registry.fault(Fault(redirect=cdn.url + "/cdn/{digest}"), "blob")
        cdn.fault(Fault(status=401, headers=challenge), "cdn")
        answer: object = await self.upstream(registry.url).ask(self.blob())
        self.assertEqual(answer.status, 401)  # type: ignore[attr-defined]
        self.assertFalse(answer.headers.hasHeader("WWW-Authenticate"))  # type: ignore[attr-defined]
        answer.abort()  # type: ignore[attr-defined]
        self.assertEqual(len(cdn.requests), 1)

    async def test_no_query_in_logs(self) -> None:
        """A signed link's query is in no log line."""
        events = self.events()
        registry = self.registry()
        registry.fault(Fault(redirect="/cdn/{digest}?sig=secret"), "blob")
        query: Query = self.blob()
        await self.get(self.upstream(registry.url), query)
        self.assertIn("/cdn/", repr(events))
        self.assertNotIn("secret", repr(events))
