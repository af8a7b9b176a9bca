"""L{crcache.upstream.guard}, and that everything that is asked goes through it."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.errors import Astray, Denied, OriginError, OriginUnreachable
from crcache.facts import Query
from crcache.grammar.hosts import HostPattern
from crcache.grammar.reference import Registry
from crcache.secret import Secret
from crcache.settings import Credential, RegistrySettings, default_urls
from crcache.testing.certificates import Authority
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from crcache.upstream.client import Upstream
from crcache.upstream.guard import PublicEndpoint, _PublicPart
from tests.upstream.fakeproxy import BODY, FakeProxy
from tests.upstream.harness import Negotiating, UpstreamCase, eventually
from tests.upstream.internet import ANOTHER, PUBLIC, Internet

#: Where nothing may be dialled, as a resolver's answer: loopback, metadata, private; of IPv6, and inside of it.
PRIVATE = ("127.0.0.1", "169.254.169.254", "10.0.0.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1")


class EndpointTests(SynchronousTestCase):
    """L{PublicEndpoint}."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.internet = Internet(self.reactor)

    def connect(self) -> list[Any]:
        endpoint = PublicEndpoint(self.internet, "name.test", 443, 5.0, "not there")
        ended: list[Any] = []
        connecting: Deferred[Any] = endpoint.connect(Factory.forProtocol(Protocol))
        connecting.addBoth(ended.append)
        return ended

    def dialled(self) -> list[str]:
        self.assertEqual({port for _, port in self.internet.dialled} - {443}, set())
        return [host for host, _ in self.internet.dialled]

    def test_public(self) -> None:
        """A public address is dialled, as the address that the resolver said."""
        self.internet.names["name.test"] = [(PUBLIC,)]
        self.assertEqual(self.connect(), [])
        self.assertEqual(self.dialled(), [PUBLIC])

    def test_others(self) -> None:
        """One that has other addresses only is refused with the sentence; none is dialled."""
        self.internet.names["name.test"] = [PRIVATE]
        (failure,) = self.connect()
        self.assertEqual(failure.check(Astray) and failure.value.message, "not there")
        self.assertEqual(self.dialled(), [])
        self.reactor.advance(10)
        self.assertEqual(self.dialled(), [])

    def test_each(self) -> None:
        """Each kind of them is refused by itself."""
        for address in PRIVATE:
            self.internet.names["name.test"] = [(address,)]
            (failure,) = self.connect()
            self.assertIsNotNone(failure.check(Astray), address)
        self.assertEqual(self.dialled(), [])

    def test_mixed(self) -> None:
        """Of one that has both, the public ones alone are dialled, one after the other when one does not answer."""
        self.internet.names["name.test"] = [("10.0.0.1", PUBLIC, "::1", ANOTHER, "127.0.0.1")]
        self.assertEqual(self.connect(), [])
        self.assertEqual(self.dialled(), [PUBLIC])
        self.reactor.advance(0.3)
        self.reactor.advance(0.3)
        self.reactor.advance(0.3)
        self.assertEqual(self.dialled(), [PUBLIC, ANOTHER])
        self.assertEqual(self.internet.resolved, ["name.test"])

    def test_unknown(self) -> None:
        """A name that has no addresses is unknown, not refused."""
        self.internet.names["name.test"] = [()]
        (failure,) = self.connect()
        self.assertIsNotNone(failure.check(DNSLookupError))

    def test_rebinding(self) -> None:
        """What is dialled is what was judged: a name is resolved once for each connection, and judged each time."""
        self.internet.names["name.test"] = [(PUBLIC,), ("127.0.0.1",), (PUBLIC,)]
        self.assertEqual(self.connect(), [])
        self.assertEqual((self.internet.resolved, self.dialled()), (["name.test"], [PUBLIC]))
        (failure,) = self.connect()
        self.assertIsNotNone(failure.check(Astray))
        self.assertEqual((len(self.internet.resolved), self.dialled()), (2, [PUBLIC]))

    def test_last_moment(self) -> None:
        """Whatever a resolver hands over, a name or a private address is not passed to the socket."""
        for address in ("rebound.test", "127.0.0.1", "0x7f.1", "010.8.8.8"):
            self.internet.names["name.test"] = [(address,)]
            (failure,) = self.connect()
            self.assertIsNotNone(failure.check(Astray), address)
            self.assertRaises(ValueError, _PublicPart(self.internet).connectTCP, address, 443, Factory())
        self.assertEqual(self.dialled(), [])


class GuardCase(UpstreamCase):
    """Registries on 127.0.0.1, some of which are at public addresses as far as crcache knows.

    @ivar internet: what crcache sees of the network.
    @ivar settings: the registries that are named.
    """

    def setUp(self) -> None:
        super().setUp()
        self.internet = Internet()
        self.settings: dict[Registry, RegistrySettings] = {}
        self.authority = Authority()
        self.ca = self.authority.write(self.directory())
        # What every registry that nobody has named is verified with.
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(self.ca)
        self.addCleanup(restore, before)

    def public(self, name: str, *addresses: str, **further: Any) -> FakeRegistry:
        """A registry, with TLS, at public addresses."""
        registry = self.registry(tls=self.authority.context([name]), **further)
        assert registry.listener is not None
        self.internet.put(name, registry.listener.port, *addresses)
        return registry

    def guarded(self, **further: Any) -> Upstream:
        """An upstream for which only the registries in C{settings} are named."""
        upstream = self.upstream(on_reactor=self.internet, **further)
        upstream._registry_settings = lambda registry: self.settings.get(
            registry, RegistrySettings(registry, default_urls(registry), named=False)
        )
        return upstream

    def name_it(self, name: str, *urls: str, trusted: tuple[str, ...] = ()) -> None:
        """Name a registry, with these URLs, and what it may lead to."""
        registry = Registry.parse(name)
        patterns = tuple(HostPattern(host, int(port) if port else None) for host, _, port in map(_split, trusted))
        self.settings[registry] = RegistrySettings(
            registry, urls or default_urls(registry), self.ca, trusted_hosts=patterns
        )

    def ask_for(self, name: str, **further: Any) -> Query:
        """A question for a blob of that registry."""
        self.name = Registry.parse(name)
        return self.blob(**further)

    async def refused(self, upstream: Upstream, query: Query, *parts: str) -> str:
        """It is refused, with a sentence that has these parts, and nothing but public addresses is dialled."""
        before = len(self.internet.dialled)
        try:
            answer = await upstream.ask(query)
        except Astray as problem:
            for part in parts:
                self.assertIn(part, problem.message)
            self.assertEqual((problem.code, problem.status), ("DENIED", 403))
            dialled = self.internet.dialled[before:]
            self.assertEqual([each for each in dialled if each not in self.internet.places], [])
            return problem.message
        answer.abort()
        raise AssertionError(f"it was answered with {answer.status}")


def restore(file: str | None) -> None:
    """Trust as before."""
    del os.environ["SSL_CERT_FILE"]
    if file is not None:
        os.environ["SSL_CERT_FILE"] = file


def _split(text: str) -> tuple[str, str, str]:
    return text.partition(":")


class OriginTests(GuardCase):
    """Where registries themselves are."""

    async def test_public(self) -> None:
        """A registry that nobody has named is asked at a public address, and its other addresses are left alone."""
        registry = self.public("registry.test", "10.0.0.1", PUBLIC)
        _, body = await self.get(self.guarded(), self.ask_for("registry.test"))
        self.assertEqual(body, registry.content.blobs[self.image.layers[1]])
        self.assertEqual(self.internet.dialled, [(PUBLIC, 443)])

    async def test_private(self) -> None:
        """At any other it is not, and the key is named that would allow it, but no address."""
        registry = self.public("registry.test")
        for address in PRIVATE:
            self.internet.names["registry.test"] = [(address,)]
            told = await self.refused(self.guarded(), self.ask_for("registry.test"), "name it under registries")
            self.assertNotIn(address, told)
        self.assertEqual((registry.requests, self.internet.dialled), ([], []))

    async def test_named(self) -> None:
        """One that is named may be anywhere, with a URL of its own or without."""
        registry = self.registry()
        self.name_it("registry.test", registry.url)
        answer, _ = await self.get(self.guarded(), self.ask_for("registry.test"))
        self.assertEqual(answer.status, 200)
        secure = self.registry(tls=self.authority.context(["own.test"]))
        assert secure.listener is not None
        name = f"own.test:{secure.listener.port}"
        self.internet.names["own.test"] = [("127.0.0.1",)]
        await self.refused(self.guarded(), self.ask_for(name), "443", "under registries")
        self.name_it(name)
        answer, _ = await self.get(self.guarded(), self.ask_for(name))
        self.assertEqual(answer.status, 200)

    async def test_credentials_are_not_enough(self) -> None:
        """Nor is it enough that there are credentials for it."""
        self.internet.names["registry.test"] = [("127.0.0.1",)]
        self.name = Registry.parse("registry.test")
        upstream = self.guarded(credential=Credential("puller", Secret("secret1")))
        self.registry()
        await self.refused(upstream, self.blob(), "name it under registries")

    async def test_spelling(self) -> None:
        """What is spelled as an address that is none of the public ones is refused before anybody resolves it."""
        self.registry()
        for name in ("127.0.0.1", "169.254.169.254", "[::1]", "localhost", "a.localhost"):
            await self.refused(self.guarded(), self.ask_for(name), "name it under registries")
        self.assertEqual((self.internet.resolved, self.internet.dialled), ([], []))

    async def test_rebinding(self) -> None:
        """A name that means another address the next time is judged again: nothing of the first time helps it."""
        registry = self.public("registry.test")
        self.internet.names["registry.test"] = [(PUBLIC,), ("127.0.0.1",)]
        upstream = self.guarded()
        await self.get(upstream, self.ask_for("registry.test"))
        assert registry.listener is not None
        # On a connection of its own.
        registry.fault(Fault(hang_up=True), "blob", times=1)
        await self.refused(upstream, self.ask_for("registry.test"), "name it under registries")
        self.assertEqual(set(self.internet.dialled), {(PUBLIC, 443)})

    async def test_no_failure(self) -> None:
        """However often it is refused, the registry does not count as failing, and nobody was asked anything."""
        self.public("registry.test")
        self.internet.names["registry.test"] = [*[("10.0.0.1",)] * 8, (PUBLIC,)]
        seen, upstream = self.events(), self.guarded()
        for layer in (0, 1) * 4:
            await self.refused(upstream, self.ask_for("registry.test", layer=layer))
        self.assertEqual((self.meter.questions, self.internet.dialled), ([], []))
        answer, _ = await self.get(upstream, self.ask_for("registry.test"))
        self.assertEqual(answer.status, 200)
        told = [event["event"] for event in seen if "event" in event]
        self.assertEqual(told, [events.LED_ASTRAY] * 8)

    async def test_told(self) -> None:
        """The log says which registry it is, and on whose request."""
        self.internet.names["registry.test"] = [("10.0.0.1",)]
        self.registry()
        seen = self.events()
        told = await self.refused(self.guarded(), self.ask_for("registry.test", request_id="me-7"))
        (event,) = [event for event in seen if event.get("event") is events.LED_ASTRAY]
        self.assertEqual((event["registry"], event["request_id"], event["problem"]), ("registry.test", "me-7", told))

    def test_no_refusal_of_the_registry(self) -> None:
        """It is an origin's error, but not its own 403, which would have a client's credentials tried."""
        self.assertTrue(issubclass(Astray, OriginError))
        self.assertFalse(issubclass(Astray, Denied))


class RedirectTests(GuardCase):
    """Where they redirect."""

    def away(self, to: str, **further: Any) -> FakeRegistry:
        """A public registry whose blobs are elsewhere."""
        registry = self.public("registry.test", **further)
        registry.fault(Fault(redirect=to), "blob", times=None)
        return registry

    async def test_public(self) -> None:
        """To a public address of port 443 anybody may lead."""
        cdn = self.public("cdn.test", ANOTHER)
        self.away("https://cdn.test/cdn/{digest}", content=cdn.content)
        answer, _ = await self.get(self.guarded(), self.ask_for("registry.test"))
        self.assertEqual((answer.status, self.internet.dialled), (200, [(PUBLIC, 443), (ANOTHER, 443)]))

    async def test_private(self) -> None:
        """To another address a registry may not, whether it says so by a name or in any notation of an address; it is
        asked once."""
        self.public("inner.test", ANOTHER)
        self.internet.names["inner.test"] = [("127.0.0.1", "10.0.0.1", "fd00::1")]
        for host in (
            *("inner.test", "INNER.test.", "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost"),
            *("[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254", "0", "a.localhost.", "127%2e1"),
        ):
            registry = self.away(f"https://{host}/cdn/{{digest}}")
            told = await self.refused(self.guarded(), self.ask_for("registry.test"), "trusted-hosts")
            self.assertIn("registry.test", told)
            self.assertEqual(len(registry.asked("blob")), 1, host)

    async def test_own_but_private(self) -> None:
        """Nor to itself at another port."""
        self.away("https://registry.test:8443/cdn/{digest}")
        await self.refused(self.guarded(), self.ask_for("registry.test"), "registry.test:8443", "under registries")

    async def test_ports(self) -> None:
        """Nor to a port that is neither 443 nor 80, at a public address too; whoever is named may."""
        cdn = self.public("cdn.test", ANOTHER)
        assert cdn.listener is not None
        self.internet.places[ANOTHER, 8443] = cdn.listener.port
        self.away("https://cdn.test:8443/cdn/{digest}", content=cdn.content)
        await self.refused(self.guarded(), self.ask_for("registry.test"), "cdn.test:8443", "name it under registries")
        self.name_it("registry.test")
        answer, _ = await self.get(self.guarded(), self.ask_for("registry.test"))
        self.assertEqual(answer.status, 200)

    async def test_trusted_hosts(self) -> None:
        """A registry that is named may lead to its trusted hosts, by host and port, and to no others."""
        store = self.registry()
        assert store.listener is not None
        port = store.listener.port
        registry = self.registry(content=store.content)
        registry.fault(Fault(redirect=store.url + "/cdn/{digest}"), "blob", times=None)
        for trusted, allowed in (
            ((), False),
            (("minio.test",), False),
            ((f"127.0.0.1:{port + 1}",), False),
            (("127.0.0.1",), True),
            ((f"127.0.0.1:{port}",), True),
        ):
            self.name_it("registry.test", registry.url, trusted=trusted)
            if allowed:
                answer, _ = await self.get(self.guarded(), self.ask_for("registry.test"))
                self.assertEqual(answer.status, 200, trusted)
            else:
                store.requests.clear()
                told = "registries.registry.test.trusted-hosts"
                before = list(self.internet.dialled)
                with self.assertRaises(Astray) as caught:
                    await self.guarded().ask(self.ask_for("registry.test"))
                self.assertIn(told, caught.exception.message)
                self.assertEqual(store.requests, [])
                self.assertNotIn(("127.0.0.1", port), self.internet.dialled[len(before) :])

    async def test_others_trust(self) -> None:
        """What one registry may do another may not: not with its name, its trusted hosts, or the very same URL."""
        inner = self.registry()
        assert inner.listener is not None
        self.name_it("named.test", inner.url, trusted=(f"127.0.0.1:{inner.listener.port}",))
        self.away(inner.url.replace("http:", "https:") + "/v2/")
        await self.refused(self.guarded(), self.ask_for("registry.test"), "neither 443 nor 80")
        self.name_it("registry.test")
        await self.refused(self.guarded(), self.ask_for("registry.test"), "registries.registry.test.trusted-hosts")

    async def test_chain(self) -> None:
        """Each redirect is judged, not the first alone."""
        cdn = self.public("cdn.test", ANOTHER)
        cdn.fault(Fault(redirect="https://10.0.0.1/{digest}"), "cdn", times=None)
        self.away("https://cdn.test/cdn/{digest}")
        await self.refused(self.guarded(), self.ask_for("registry.test"), "10.0.0.1:443")
        self.assertEqual(self.internet.dialled, [(PUBLIC, 443), (ANOTHER, 443)])

    async def test_next_url(self) -> None:
        """Of a registry with several URLs the next one is asked, and none of them twice."""
        good = self.registry()
        bad = self.registry(content=good.content)
        bad.fault(Fault(redirect="http://10.0.0.1/{digest}"), "blob", times=None)
        self.name_it("registry.test", bad.url, good.url)
        answer, _ = await self.get(self.guarded(), self.ask_for("registry.test"))
        self.assertEqual((answer.status, len(bad.asked("blob")), len(good.asked("blob"))), (200, 1, 1))
        good.fault(Fault(redirect="http://10.0.0.2/{digest}"), "blob", times=None)
        with self.assertRaises(Astray):
            await self.guarded().ask(self.ask_for("registry.test"))
        self.assertEqual((len(bad.asked("blob")), len(good.asked("blob"))), (2, 2))

    async def test_pool(self) -> None:
        """A connection to a private host that one registry was allowed to open is not another's, though host, port
        and trust are the same; and theirs are kept, each for itself."""
        inner = self.public("inner.test", ANOTHER)
        assert inner.listener is not None
        self.internet.names["inner.test"] = [("127.0.0.1",)]
        self.internet.places["127.0.0.1", 443] = inner.listener.port
        self.settings[Registry("named.test")] = RegistrySettings(Registry("named.test"), ("https://inner.test",))
        upstream = self.guarded()
        for _ in range(2):
            await self.get(upstream, self.ask_for("named.test"))
        self.assertEqual(len(self.internet.dialled), 1)
        with self.assertRaises(Astray):
            await upstream.ask(self.ask_for("inner.test"))
        self.away("https://inner.test/cdn/{digest}", content=inner.content)
        with self.assertRaises(Astray):
            await upstream.ask(self.ask_for("registry.test"))
        self.assertEqual({record.path.split("/")[1] for record in inner.requests}, {"v2"})
        self.assertEqual(len(inner.requests), 2)
        await self.get(upstream, self.ask_for("named.test"))
        self.assertEqual(len([each for each in self.internet.dialled if each[0] == "127.0.0.1"]), 1)


class RealmTests(GuardCase, Negotiating):
    """Where they have their tokens."""

    async def test_private(self) -> None:
        """A registry's realm is judged as a redirect is: by its name's address, its spelling and its port; with an
        identity token, which is posted, as well."""
        inner = self.public("inner.test", ANOTHER)
        self.internet.names["inner.test"] = [("10.0.0.1",)]
        for credential in (None, Credential("puller", Secret("secret1")), Credential("", Secret("identity"), True)):
            for realm in (
                "https://inner.test/token",
                "https://127.0.0.1/token",
                "https://127.1/",
                "https://cdn.test:22/",
            ):
                self.public("registry.test", auth=self.tokens(realm=realm))
                self.name = Registry.parse("registry.test")
                await self.refused(self.guarded(credential=credential), self.blob(), "registry.test leads to")
        self.assertEqual(inner.requests, [])
        self.assertNotIn("token", [kind for kind, _ in self.meter.questions])

    async def test_trusted(self) -> None:
        """With that host among the registry's trusted ones a token is had from there."""
        tokens = self.tokens()
        realm = self.registry(auth=tokens)
        assert realm.listener is not None
        tokens.realm = realm.url + "/token"
        registry = self.registry(auth=tokens)
        self.name_it("registry.test", registry.url)
        told = "registries.registry.test.trusted-hosts"
        with self.assertRaises(Astray) as caught:
            await self.guarded().ask(self.ask_for("registry.test"))
        self.assertIn(told, caught.exception.message)
        self.assertEqual(tokens.requests, [])
        self.name_it("registry.test", registry.url, trusted=(f"127.0.0.1:{realm.listener.port}",))
        answer, _ = await self.get(self.guarded(), self.ask_for("registry.test"))
        self.assertEqual((answer.status, len(tokens.requests)), (200, 1))

    async def test_redirected(self) -> None:
        """A realm's redirects are judged too."""
        realm = self.public("realm.test", ANOTHER)
        realm.fault(Fault(redirect="https://169.254.169.254/latest"), "other", times=None)
        self.public("registry.test", auth=self.tokens(realm="https://realm.test/elsewhere"))
        await self.refused(self.guarded(), self.ask_for("registry.test"), "169.254.169.254:443")

    async def test_not_shared(self) -> None:
        """Who may not go to a realm does not wait for one who may, though both are asked at the same URL
        for the same repository at the same time."""
        tokens = self.tokens()
        tokens.realm = "https://inner.test/token"
        registry = self.public("registry.test", auth=tokens)
        realm = self.public("inner.test", ANOTHER, auth=tokens, content=registry.content)
        assert realm.listener is not None
        self.internet.names["inner.test"] = [("127.0.0.1",)]
        self.internet.places["127.0.0.1", 443] = realm.listener.port
        self.settings[Registry("named.test")] = RegistrySettings(
            Registry("named.test"), ("https://registry.test",), trusted_hosts=(HostPattern("inner.test"),)
        )
        upstream = self.guarded()
        held = realm.fault(Fault(hold=True), "token")
        named: Deferred[Any] = upstream.ask(self.ask_for("named.test"))
        await eventually(lambda: held.used)
        with self.assertRaises(Astray):
            await upstream.ask(self.ask_for("registry.test"))
        held.release()
        answer = await named
        answer.abort()
        self.assertEqual(answer.status, 200)


class ProxyTests(GuardCase):
    """Through a proxy, which resolves names itself."""

    def through(self, **environ: str) -> Upstream:
        self.proxy = FakeProxy()
        self.addCleanup(self.proxy.stop)
        address = f"http://127.0.0.1:{self.proxy.port}"
        return self.guarded(environ={"https_proxy": address, "http_proxy": address, **environ})

    async def test_proxy_is_private(self) -> None:
        """The proxy itself may be anywhere; names are its own to resolve, and nothing is resolved here."""
        self.registry()
        upstream = self.through()
        self.proxy.answer = b"HTTP/1.1 502 Bad Gateway\r\n\r\n"
        with self.assertRaises(OriginUnreachable):
            await upstream.ask(self.ask_for("registry.test"))
        self.assertIn("CONNECT registry.test:443 HTTP/1.1", [head[0] for head in self.proxy.heads])
        self.assertEqual(set(self.internet.resolved), {"127.0.0.1"})

    async def test_spelling(self) -> None:
        """What is spelled as an address that is not public, or as C{localhost}, is not asked of it: not as a registry,
        and not where a plain one redirects."""
        self.registry()
        upstream = self.through()
        for name in ("127.0.0.1", "[::1]", "169.254.169.254", "localhost", "a.localhost"):
            with self.assertRaises(Astray):
                await upstream.ask(self.ask_for(name))
        self.assertEqual(self.proxy.heads, [])
        self.name_it("registry.test", "http://registry.test")
        moved = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://%s/\r\n\r\n"
        for host in ("127.1", "0x7f.1", "10.0.0.1:80", "[fd00::1]", "127%2e0.0.1", "localhost", "0251.0376.0251.0376"):
            self.proxy.answer = moved % host.encode()
            self.proxy.heads.clear()
            with self.assertRaises(Astray) as caught:
                await upstream.ask(self.ask_for("registry.test"))
            self.assertIn("registries.registry.test.trusted-hosts", caught.exception.message)
            self.assertEqual(len(self.proxy.heads), 1, host)

    async def test_trusted(self) -> None:
        """What an administrator has named or trusts is asked of it in any spelling."""
        self.registry()
        self.name_it("registry.test", "http://10.0.0.1:5000")
        _, body = await self.get(self.through(), self.ask_for("registry.test"))
        self.assertEqual(body, BODY)

    async def test_exceptions(self) -> None:
        """What C{NO_PROXY} has asked directly is judged by its address."""
        self.registry()
        self.internet.names["registry.test"] = [("10.0.0.1",)]
        upstream = self.through(no_proxy="registry.test")
        with self.assertRaises(Astray):
            await upstream.ask(self.ask_for("registry.test"))
        self.assertEqual((self.proxy.heads, self.internet.resolved), ([], ["registry.test"]))
