"""TLS: whom the upstream trusts, and whom it shows its own certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import BodyCut, OriginUnreachable
from crcache.grammar.reference import Registry
from crcache.settings import RegistrySettings, UpstreamSettings
from crcache.testing.certificates import Authority, listening
from crcache.testing.script import Fault
from crcache.upstream.trust import Creators, Trust, trust_for
from crcache.upstream.urls import origin_of
from tests.upstream.harness import UpstreamCase, eventually


class Verifying(UpstreamCase):
    """Certificates of origins."""

    async def test_ca(self) -> None:
        """A registry's own authority is trusted, for an address as for a name."""
        authority = Authority()
        registry = self.registry(tls=authority.context())
        ca = authority.write(self.directory())
        for url in (registry.url, registry.url.replace("127.0.0.1", "localhost")):
            _, body = await self.get(self.upstream(url, ca=ca), self.blob())
            self.assertEqual(len(body), 300_000)

    async def test_several_authorities(self) -> None:
        """The file may hold several."""
        first, second = Authority("one"), Authority("two")
        path = self.directory() / "both.pem"
        path.write_bytes(first.certificate + b"\n# and\n" + second.certificate)
        for authority in (first, second):
            registry = self.registry(tls=authority.context())
            await self.get(self.upstream(registry.url, ca=path), self.blob())

    async def test_unknown(self) -> None:
        """An authority that nobody named is not trusted, and nothing is asked of such a server."""
        registry = self.registry(tls=Authority().context())
        with self.assertRaises(OriginUnreachable) as caught:
            await self.upstream(registry.url).ask(self.blob())
        self.assertIn("TLS", caught.exception.message)
        with self.assertRaises(OriginUnreachable):
            await self.upstream(registry.url, ca=Authority().write(self.directory())).ask(self.blob())
        self.assertEqual(registry.requests, [])

    async def test_other_name(self) -> None:
        """A certificate for another name or address is refused."""
        authority = Authority()
        ca = authority.write(self.directory())
        named = self.registry(tls=authority.context(["elsewhere.example.com"]))
        addressed = self.registry(tls=authority.context(["127.0.0.9"]))
        for url in (named.url, addressed.url, named.url.replace("127.0.0.1", "localhost")):
            with self.assertRaises(OriginUnreachable):
                await self.upstream(url, ca=ca).ask(self.blob())
        self.assertEqual(named.requests + addressed.requests, [])

    async def test_insecure(self) -> None:
        """C{insecure-skip-verify} takes any certificate."""
        registry = self.registry(tls=Authority().context(["elsewhere.example.com"]))
        for url in (registry.url, registry.url.replace("127.0.0.1", "localhost")):
            _, body = await self.get(self.upstream(url, insecure_skip_verify=True), self.blob())
            self.assertEqual(len(body), 300_000)

    async def test_client_certificate(self) -> None:
        """The client certificate is shown to the registry, also where certificates are not verified."""
        authority = Authority()
        directory = self.directory()
        ca = authority.write(directory)
        cert, key = authority.client().write(directory, "client")
        registry = self.registry(tls=authority.context(client_ca=authority.certificate))
        await self.get(self.upstream(registry.url, ca=ca, client_cert=cert, client_key=key), self.blob())
        insecure = self.upstream(registry.url, client_cert=cert, client_key=key, insecure_skip_verify=True)
        await self.get(insecure, self.blob())
        both = directory / "both.pem"
        both.write_bytes(cert.read_bytes() + key.read_bytes())
        await self.get(self.upstream(registry.url, ca=ca, client_cert=both), self.blob())
        with self.assertRaises(OriginUnreachable):
            await self.upstream(registry.url, ca=ca).ask(self.blob())

    async def test_files_missing(self) -> None:
        """A file that cannot be used is named."""
        registry = self.registry(tls=Authority().context())
        directory = self.directory()
        empty = directory / "empty.pem"
        empty.touch()
        cases: list[dict[str, Any]] = [{"ca": directory / "none.pem"}, {"ca": empty}, {"client_cert": empty}]
        for trust in cases:
            with self.assertRaises(OriginUnreachable) as caught:
                await self.upstream(registry.url, **trust).ask(self.blob())
            self.assertIn(str(next(iter(trust.values()))), caught.exception.message)

    async def test_of_another_time(self) -> None:
        """A certificate that is not valid yet or no more is refused, and the error says which one and since when, by
        which clock: on a machine without a battery that may be the one of 1970."""
        today = datetime.now(UTC).date()
        later, before = today + timedelta(days=10), today - timedelta(days=10)
        valid, future, past = Authority(), Authority(days=(10, 20)), Authority(days=(-20, -10))
        for authority, days, wanted in (
            (valid, (10, 20), f"its certificate is not valid before {later}, and this machine's clock says"),
            (valid, (-20, -10), f"its certificate expired on {before}, and this machine's clock says"),
            (future, (-1, 1), f"the certificate of its authority is not valid before {later}"),
            (past, (-1, 1), f"the certificate of its authority expired on {before}"),
        ):
            registry = self.registry(tls=listening(authority.server(days=days)))
            ca = authority.write(self.directory())
            with self.assertRaises(OriginUnreachable) as caught:
                await self.upstream(registry.url, ca=ca).ask(self.blob())
            self.assertTrue(caught.exception.message.startswith(f"{registry.url[8:]}: {wanted}"), caught.exception)
            self.assertIn(str(today), caught.exception.message)
            self.assertIn("check the clock", caught.exception.message)
            self.assertEqual(registry.requests, [])
            answer = await self.upstream(registry.url, insecure_skip_verify=True).ask(self.blob())
            self.assertEqual(answer.status, 200)
            answer.abort()

    async def test_silent_server(self) -> None:
        """A server that accepts and never shakes hands is given up in the time for connecting."""
        accepted: list[Protocol] = []

        class Silent(Protocol):
            def connectionMade(self) -> None:
                accepted.append(self)

        net: Any = reactor
        port = net.listenTCP(0, Factory.forProtocol(Silent), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.registry()
        clock = Clock()
        settings = UpstreamSettings(connect_timeout=5.0, first_byte_timeout=20.0)
        asking = self.upstream(f"https://127.0.0.1:{port.getHost().port}", clock=clock, settings=settings).ask(
            self.blob()
        )
        await eventually(lambda: accepted)
        clock.advance(5.1)
        with self.assertRaises(OriginUnreachable) as caught:
            await asking
        self.assertIn("5 s", caught.exception.message)

    async def test_cut_without_farewell(self) -> None:
        """Through TLS a body that only the end of the connection ends must end with TLS's own farewell."""
        authority = Authority()
        registry = self.registry(tls=authority.context())
        upstream = self.upstream(registry.url, ca=authority.write(self.directory()))
        registry.fault(Fault(unsized="close"), "blob")
        _, body = await self.get(upstream, self.blob())
        self.assertEqual(len(body), 300_000)
        registry.fault(Fault(unsized="close", cut=1000, reset=True), "blob")
        with self.assertRaises(BodyCut):
            await self.get(upstream, self.blob())


class Elsewhere(UpstreamCase):
    """Hosts that a registry sends us to."""

    async def test_cdn(self) -> None:
        """The registry's authority is trusted at its CDN too; the client certificate is not shown there."""
        authority = Authority()
        directory = self.directory()
        ca = authority.write(directory)
        cert, key = authority.client().write(directory, "client")
        registry = self.registry(tls=authority.context(client_ca=authority.certificate))
        open_cdn = self.registry(tls=authority.context(), content=registry.content)
        upstream = self.upstream(registry.url, ca=ca, client_cert=cert, client_key=key)
        registry.fault(Fault(redirect=open_cdn.url + "/cdn/{digest}"), "blob")
        _, body = await self.get(upstream, self.blob())
        self.assertEqual(len(body), 300_000)
        curious_cdn = self.registry(tls=authority.context(client_ca=authority.certificate), content=registry.content)
        registry.fault(Fault(redirect=curious_cdn.url + "/cdn/{digest}"), "blob")
        with self.assertRaises(OriginUnreachable):
            await upstream.ask(self.blob())

    async def test_insecure_cdn(self) -> None:
        """C{insecure-skip-verify} is for the registry itself."""
        registry = self.registry(tls=Authority().context())
        cdn = self.registry(tls=Authority().context(), content=registry.content)
        registry.fault(Fault(redirect=cdn.url + "/cdn/{digest}"), "blob")
        with self.assertRaises(OriginUnreachable):
            await self.upstream(registry.url, insecure_skip_verify=True).ask(self.blob())

    async def test_connections_are_not_shared(self) -> None:
        """A connection opened without verification is not used by a registry that wants it."""
        registry = self.registry(tls=Authority().context())
        careless, careful = Registry.parse("careless.example.com"), Registry.parse("careful.example.com")
        upstream = self.upstream(registry.url)
        upstream._registry_settings = lambda name: RegistrySettings(
            name, (registry.url,), insecure_skip_verify=name == careless
        )
        self.name = careless
        await self.get(upstream, self.blob())
        self.name = careful
        with self.assertRaises(OriginUnreachable):
            await upstream.ask(self.blob())


class Rules(SynchronousTestCase):
    """Which trust goes with which origin."""

    def test_own_and_other(self) -> None:
        """Own means scheme, host and port of any of the registry's URLs."""
        ca, cert, key = Path("/ca"), Path("/cert"), Path("/key")
        urls = ("https://a.example.com", "https://b.example.com:5000/path")
        settings = RegistrySettings(Registry.parse("a.example.com"), urls, ca, cert, key, True)
        own = Trust(ca, False, cert, key, True)
        self.assertEqual(trust_for(settings, origin_of("https://a.example.com:443/x")), own)
        self.assertEqual(trust_for(settings, origin_of("https://b.example.com:5000/")), own)
        for url in ("https://a.example.com:444", "http://a.example.com:443", "https://c.example.com"):
            self.assertEqual(trust_for(settings, origin_of(url)), Trust(ca, True))

    def test_names_refused(self) -> None:
        """A name that Twisted cannot verify is what is complained of, not the files."""
        authority = Path(self.mktemp())
        authority.mkdir()
        ca = Authority().write(authority)
        for host in ("ab--cd.example.com", "r3---sn-x.example.com", "my_registry"):
            for trust in (Trust(), Trust(ca), Trust(ca, True)):
                with self.assertRaises(OriginUnreachable) as caught:
                    Creators().creator(trust, host)
                self.assertIn(f"TLS cannot be spoken to a host of this name: {host}", caught.exception.message)
                self.assertNotIn("files", caught.exception.message)

    def test_creators_are_kept(self) -> None:
        """The roots are parsed once for a host."""
        creators = Creators()
        first = creators.creator(Trust(), "a.example.com")
        self.assertIs(creators.creator(Trust(), "a.example.com"), first)
        self.assertIsNot(creators.creator(Trust(), "b.example.com"), first)

    def test_few_are_kept(self) -> None:
        """However many hosts there are: each takes most of a mebibyte, and strangers can name any."""
        creators = Creators()
        first = creators.creator(Trust(), "a.example.com")
        for count in range(31):
            creators.creator(Trust(), f"{count}.example.com")
        self.assertIs(creators.creator(Trust(), "a.example.com"), first)
        for count in range(32):
            creators.creator(Trust(), f"{count}.example.com")
        self.assertIsNot(creators.creator(Trust(), "a.example.com"), first)
