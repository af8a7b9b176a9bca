"""Whom the administrator's credentials, and a client's, are not shown: whoever is on the path, and whoever is named."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.errors import OriginLied, OriginUnreachable
from crcache.grammar.hosts import HostPattern
from crcache.grammar.reference import Registry
from crcache.secret import Secret
from crcache.settings import Config, Credential, RegistrySettings
from crcache.testing.auth import Basic, Tokens, basic
from crcache.testing.certificates import Authority
from crcache.testing.listener import Listener
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from crcache.upstream.showing import objection
from crcache.upstream.urls import origin_of
from tests.upstream.harness import Negotiating, eventually, password
from tests.upstream.internet import Internet

OWN, ELSEWHERE = "registry.test", "realm.test"
IDENTITY = Credential("<token>", Secret("idt-secret1"), identity_token=True)


class Realms(Negotiating):
    """Realms that an attacker has named."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority()
        self.ca = self.authority.write(self.directory())
        self.internet = Internet()

    def tls(self) -> Any:
        """What every host in these tests shows."""
        return self.authority.context(("127.0.0.1", OWN, ELSEWHERE))

    def realm(self, tokens: Tokens, tls: bool = False, host: str = ELSEWHERE) -> str:
        """A realm of the attacker's."""
        listener = Listener(reactor, tokens.resource(), self.tls() if tls else None)
        self.addCleanup(listener.stop)
        return self.public(listener.url, host) + "/auth"

    def public(self, url: str, host: str) -> str:
        """The URL of what listens here, as if it were at a public host."""
        port = int(url.rpartition(":")[2])
        self.internet.put(host, port, at=port)
        return url.replace("127.0.0.1", host)

    async def shown(self, registry: FakeRegistry, tokens: Tokens, **trust: Any) -> list[tuple[str, bool]]:
        """What the realm is asked with a password, and with an identity token: the method, and whether either came."""
        tokens.identity_tokens = {"idt-secret1": "puller"}
        url = self.public(registry.url, OWN)
        for credential in (password(), IDENTITY):
            upstream = self.upstream(url, credential=credential, on_reactor=self.internet, trusted_hosts=(), **trust)
            self.assertEqual(await self.fetch(upstream), 200)
        return [(each.method, each.user is not None) for each in tokens.requests]

    async def test_plain_from_tls(self) -> None:
        """A realm without TLS gets nothing from a registry that is asked through TLS: a token is asked for anonymously,
        and one line says why, however often that happens."""
        tokens = self.tokens()
        tokens.realm = self.realm(tokens, host=OWN)
        registry = self.registry(tokens, tls=self.tls())
        self.assertEqual(await self.shown(registry, tokens, ca=self.ca), [("GET", False), ("GET", False)])
        seen = self.events()
        url = self.public(registry.url, OWN)
        trust: dict[str, Any] = {"ca": self.ca, "trusted_hosts": ()}
        upstream = self.upstream(url, credential=password(), on_reactor=self.internet, **trust)
        for _ in range(3):
            tokens.revoke()
            await self.fetch(upstream)
        (line,) = [each for each in seen if each.get("event") is events.CREDENTIALS_WITHHELD]
        self.assertIn("without TLS", line["problem"])
        self.assertEqual(line["registry"], str(self.name))
        self.assertNotIn("secret1", repr(seen))

    async def test_elsewhere_from_unverified(self) -> None:
        """Nothing goes to a realm at another host if it was not named over verified TLS, be it with TLS or without."""
        plain = self.tokens()
        for tls in (False, True):
            plain.requests.clear()
            plain.realm = self.realm(plain, tls)
            registry = self.registry(plain)
            self.assertEqual(await self.shown(registry, plain, ca=self.ca), [("GET", False), ("GET", False)])
        careless = self.tokens()
        careless.realm = self.realm(careless, True)
        registry = self.registry(careless, tls=self.tls())
        trust = {"ca": self.ca, "insecure_skip_verify": True}
        self.assertEqual(await self.shown(registry, careless, **trust), [("GET", False), ("GET", False)])

    async def test_elsewhere_from_verified(self) -> None:
        """A realm with TLS at another host is asked with credentials, if it was named over verified TLS."""
        tokens = self.tokens()
        tokens.realm = self.realm(tokens, True)
        registry = self.registry(tokens, tls=self.tls())
        self.assertEqual(await self.shown(registry, tokens, ca=self.ca), [("GET", True), ("POST", True)])

    async def test_own_host(self) -> None:
        """So is a realm on the registry's own host, at whichever port, if the administrator chose plain HTTP, or not to
        verify; in the second case with TLS only."""
        for tls, insecure, shown in ((False, False, True), (True, True, True), (False, True, False)):
            tokens = self.tokens()
            tokens.realm = self.realm(tokens, tls, host=OWN)
            registry = self.registry(tokens, tls=self.tls() if insecure else None)
            found = await self.shown(registry, tokens, ca=self.ca, insecure_skip_verify=insecure)
            self.assertEqual([each for _, each in found], [shown, shown], (tls, insecure))

    async def test_realm_redirects(self) -> None:
        """A realm that redirects, to another host, port or scheme, takes nothing along, not even a request with an
        identity token in its body."""
        for tls in (False, True):
            thief = self.registry(content=self.registry().content, tls=self.authority.context() if tls else None)
            for status in (301, 302, 303, 307, 308):
                for credential in (password(), IDENTITY):
                    registry = self.registry(self.tokens(anonymous=()))
                    registry.fault(Fault(redirect=thief.url + "/steal", status=status), "token", times=None)
                    upstream = self.upstream(registry.url, credential=credential, ca=self.ca)
                    with contextlib.suppress(OriginUnreachable):
                        await self.fetch(upstream)
                    self.assertTrue(registry.asked("token"))
            self.assertTrue(thief.requests)
            for record in thief.requests:
                self.assertEqual((record.method, record.header("Authorization")), ("GET", None))
                self.assertNotIn("secret1", record.query)

    async def test_realm_downgrades(self) -> None:
        """A realm with TLS cannot redirect to plain HTTP at all."""
        thief = self.registry()
        registry = self.registry(self.tokens(), tls=self.authority.context())
        registry.fault(Fault(redirect=thief.url + "/steal"), "token", times=None)
        with self.assertRaises(OriginLied):
            await self.fetch(self.upstream(registry.url, credential=password(), ca=self.ca))
        self.assertEqual(thief.requests, [])

    async def test_userinfo(self) -> None:
        """A realm with a user name in it, which is there to look like another host, is not asked."""
        tokens = self.tokens()
        thief = self.registry(tokens)
        registry = self.registry(tokens, tls=self.authority.context())
        own = registry.url.partition("://")[2]
        for host in (f"{own}@{thief.url[7:]}", f"user:pass@{own}", f"@{thief.url[7:]}"):
            tokens.realm = f"https://{host}/token"
            self.assertEqual(await self.fetch(self.upstream(registry.url, credential=password(), ca=self.ca)), 401)
        self.assertEqual(thief.requests + registry.asked("token"), [])

    async def test_second_url(self) -> None:
        """Each of a registry's URLs gets its credentials, and none of them a token of another's realm."""
        first, second = self.registry(self.tokens(anonymous=())), self.registry(self.tokens(anonymous=()))
        second.content = first.content
        upstream = self.upstream(first.url, second.url, credential=password())
        self.assertEqual(await self.fetch(upstream), 200)
        first.fault(Fault(hang_up=True), times=None)
        self.assertEqual(await self.fetch(upstream), 200)
        told = {record.header("Authorization") for record in first.asked("blob")} - {None}
        self.assertEqual({record.header("Authorization") for record in second.asked("blob")} & told, set())
        self.assertEqual(
            [record.header("Authorization") for record in second.asked("token")], [basic("puller", "secret1")]
        )


class Registries(Negotiating):
    """Registries that send us elsewhere, and clients' own passwords."""

    async def test_basic_stays(self) -> None:
        """Neither the administrator's password nor a client's follows a redirect to another host, port or scheme, nor
        to the registry's own second URL."""
        authority = Authority()
        ca = authority.write(self.directory())
        mine = Secret(basic("alice", "secret1"))
        for tls in (False, True):
            registry = self.registry(
                Basic({"puller": "secret1", "alice": "secret1"}), tls=authority.context() if tls else None
            )
            thief = self.registry(content=registry.content, tls=authority.context() if tls else None)
            other_scheme = self.registry(content=registry.content, tls=authority.context())
            places = [thief.url, thief.url.replace("127.0.0.1", "localhost"), other_scheme.url]
            for place in places:
                trusted = HostPattern("127.0.0.1"), HostPattern("localhost")
                upstream = self.upstream(registry.url, thief.url, credential=password(), ca=ca, trusted_hosts=trusted)
                for query in (self.blob(), self.blob(authorization=mine)):
                    rule = Fault(redirect=place + "/cdn/{digest}", status=307)
                    registry.fault(rule, "blob", skip=0 if query.authorization else 1)
                    answer, _ = await self.get(upstream, query)
                    self.assertEqual(answer.status, 200)
                    registry.script.clear()
            told = [record.header("Authorization") for record in thief.requests + other_scheme.requests]
            self.assertEqual(told, [None] * 6)
            self.assertEqual(len([1 for record in registry.requests if record.header("Authorization")]), 6)

    async def test_no_downgrade(self) -> None:
        """A registry that is asked through TLS cannot send anybody's password, or anybody, to plain HTTP."""
        authority = Authority()
        registry = self.registry(tls=authority.context())
        thief = self.registry(content=registry.content)
        registry.fault(Fault(redirect=thief.url + "/cdn/{digest}"), "blob", times=None)
        upstream = self.upstream(registry.url, ca=authority.write(self.directory()))
        with self.assertRaises(OriginLied):
            await upstream.ask(self.blob(authorization=Secret(basic("alice", "secret1"))))
        self.assertEqual(thief.requests, [])

    async def test_clients_default(self) -> None:
        """A client's password goes over TLS to a registry that nobody has configured: whoever answers without it, or
        with a certificate of his own, gets no request at all."""
        heard: list[bytes] = []

        class Ear(Protocol):
            def dataReceived(self, data: bytes) -> None:
                heard.append(data)
                assert self.transport is not None
                self.transport.loseConnection()

        net: Any = reactor
        port = net.listenTCP(0, Factory.forProtocol(Ear), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        internet = Internet()
        internet.put(str(self.name), port.getHost().port)
        upstream = self.upstream(on_reactor=internet)
        upstream._registry_settings = Config(Path("cache")).registry
        registry = self.registry(tls=Authority().context())
        mine = Secret(basic("alice", "secret1"))
        with self.assertRaises(OriginUnreachable):
            await upstream.ask(self.blob(authorization=mine))
        await eventually(lambda: heard)
        # A TLS handshake, and no HTTP.
        self.assertEqual({data[:1] for data in heard}, {b"\x16"})
        self.assertNotIn(mine.reveal().partition(" ")[2].encode(), b"".join(heard))
        internet.put(str(self.name), int(registry.url.rpartition(":")[2]))
        with self.assertRaises(OriginUnreachable):
            await upstream.ask(self.blob(authorization=mine))
        self.assertEqual(registry.requests, [])

    async def test_clients_plain(self) -> None:
        """It goes without TLS where the administrator has given the registry such a URL, and to that one alone."""
        registry, other = self.registry(Basic({"alice": "secret1"})), self.registry()
        other.content = registry.content
        query = self.blob(authorization=Secret(basic("alice", "secret1")))
        answer, _ = await self.get(self.upstream(registry.url), query)
        self.assertEqual((answer.status, other.requests), (200, []))


class Rules(SynchronousTestCase):
    """The decision itself."""

    def test_table(self) -> None:
        """Every combination of a registry's URL, its verification, and a realm."""
        tls, plain = "https://a.test:5000", "http://b.test"
        for urls, asked, insecure, realm, shown in (
            ((tls,), tls, False, "https://anywhere.test/token", True),
            ((tls,), tls, False, "http://a.test:5000/token", False),
            ((tls,), tls, False, "http://anywhere.test/token", False),
            ((tls,), tls, True, "https://a.test/token", True),
            ((tls,), tls, True, "https://anywhere.test/token", False),
            ((tls,), tls, True, "http://a.test:5000/token", False),
            ((plain,), plain, False, "http://b.test:8080/token", True),
            ((plain,), plain, False, "https://b.test/token", True),
            ((plain,), plain, False, "http://b.test.evil.test/token", False),
            ((plain,), plain, False, "https://anywhere.test/token", False),
            # Of several, plain HTTP was chosen for some hosts only.
            ((tls, plain), plain, False, "https://a.test/token", True),
            ((tls, plain), plain, False, "http://a.test/token", False),
            ((tls, plain), tls, False, "http://b.test/token", False),
            ((tls, plain), tls, False, "https://anywhere.test/token", True),
            ((tls, plain), tls, True, "https://b.test/token", True),
        ):
            settings = RegistrySettings(Registry("a.test"), urls, insecure_skip_verify=insecure)
            found = objection(settings, origin_of(asked), origin_of(realm))
            self.assertEqual(found is None, shown, (asked, insecure, realm, found))

    def test_trusted_hosts(self) -> None:
        """A host that the administrator has named is as good as the registry's own, at the port that he has named; TLS
        is not given up for it."""
        tls, plain = "https://a.test:5000", "http://b.test"
        for url, insecure, realm, shown in (
            (plain, False, "http://auth.test:8080/token", True),
            (plain, False, "http://auth.test/token", False),
            (plain, False, "http://auth.test.evil.test:8080/token", False),
            (tls, True, "https://auth.test:8080/token", True),
            (tls, True, "http://auth.test:8080/token", False),
            (tls, False, "http://auth.test:8080/token", False),
        ):
            trusted = (HostPattern("auth.test", 8080),)
            settings = RegistrySettings(
                Registry("a.test"), (url,), insecure_skip_verify=insecure, trusted_hosts=trusted
            )
            found = objection(settings, origin_of(url), origin_of(realm))
            self.assertEqual(found is None, shown, (url, insecure, realm, found))
