"""Proxies: which one, and how they are spoken to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import ConfigError, OriginUnreachable
from crcache.settings import UpstreamSettings
from crcache.testing.certificates import Authority
from crcache.upstream.proxy import NoProxy, Proxies, parse_proxy
from crcache.upstream.urls import Origin
from tests.upstream.fakeproxy import BODY, FakeProxy
from tests.upstream.harness import UpstreamCase, eventually

HTTP = Origin("http", "a.example.com", 80)
HTTPS = Origin("https", "a.example.com", 443)


class Choice(SynchronousTestCase):
    """Which proxy."""

    def test_forms(self) -> None:
        """A proxy is a host with an optional scheme, port, user and password."""
        for text, expected in [
            ("http://proxy:3128", ("proxy", 3128, False)),
            ("proxy:3128", ("proxy", 3128, False)),
            ("http://proxy/", ("proxy", 80, False)),
            ("https://proxy", ("proxy", 443, True)),
            ("http://[::1]:3128", ("::1", 3128, False)),
        ]:
            proxy = parse_proxy(text)
            self.assertEqual((proxy.host, proxy.port, proxy.secure), expected)
            self.assertIsNone(proxy.authorization)

    def test_credentials(self) -> None:
        """User and password become Basic credentials, unquoted, and show up nowhere."""
        proxy = parse_proxy("http://me:p%40ss@proxy:3128")
        assert proxy.authorization is not None
        self.assertEqual(proxy.authorization.reveal(), "Basic bWU6cEBzcw==")
        self.assertNotIn("p@ss", repr(proxy) + str(proxy))

    def test_wrong(self) -> None:
        """What is no proxy is an error, which does not repeat it."""
        for text in ("socks5://proxy:1080", "http://", "http://:3128", "http://a:secret@b:port", "http://proxy/path"):
            with self.assertRaises(ConfigError) as caught:
                parse_proxy(text)
            self.assertNotIn("secret", caught.exception.message)

    def test_environment(self) -> None:
        """Each scheme has its variable; in lower case it wins; without one there is no proxy."""
        proxies = Proxies(None, {"HTTPS_PROXY": "s:1", "https_proxy": "t:2", "HTTP_PROXY": "p:3"})
        self.assertEqual(str(proxies.choose(HTTPS)), "the proxy t:2")
        self.assertEqual(str(proxies.choose(HTTP)), "the proxy p:3")
        self.assertIsNone(Proxies(None, {}).choose(HTTPS))
        self.assertIsNone(Proxies(None, {"https_proxy": "", "HTTP_PROXY": "p:3"}).choose(HTTPS))

    def test_cgi(self) -> None:
        """Where a client could have set C{HTTP_PROXY} it is not believed; the lower case is."""
        environ = {"REQUEST_METHOD": "GET", "HTTP_PROXY": "p:3", "HTTPS_PROXY": "s:1"}
        self.assertIsNone(Proxies(None, environ).choose(HTTP))
        self.assertIsNotNone(Proxies(None, environ).choose(HTTPS))
        self.assertIsNotNone(Proxies(None, {**environ, "http_proxy": "p:3"}).choose(HTTP))

    def test_setting(self) -> None:
        """The setting replaces the variables for both schemes; exceptions hold."""
        proxies = Proxies("http://set:1", {"HTTPS_PROXY": "s:1", "NO_PROXY": "b.example.com"})
        self.assertEqual(str(proxies.choose(HTTPS)), "the proxy set:1")
        self.assertEqual(str(proxies.choose(HTTP)), "the proxy set:1")
        self.assertIsNone(proxies.choose(Origin("https", "b.example.com", 443)))

    def test_this_host(self) -> None:
        """What the environment says is not about this host: a registry there needs no C{NO_PROXY}. A setting is."""
        here = [Origin("http", host, 5000) for host in ("localhost", "127.0.0.1", "127.0.0.9", "::1")]
        environ = {"HTTP_PROXY": "p:3"}
        self.assertEqual([Proxies(None, environ).choose(each) for each in here], [None] * 4)
        self.assertNotIn(None, [Proxies("http://p:3", {}).choose(each) for each in here])
        self.assertIsNotNone(Proxies(None, environ).choose(Origin("http", "localhost.example.com", 80)))
        self.assertIsNotNone(Proxies(None, environ).choose(Origin("http", "10.0.0.1", 80)))

    def test_exceptions(self) -> None:
        """C{NO_PROXY} knows names with what is below them, ports, addresses, networks, and everything."""
        for text, host, port, expected in [
            ("*", "a.example.com", 443, True),
            ("", "a.example.com", 443, False),
            ("example.com", "a.example.com", 443, True),
            ("example.com", "example.com", 443, True),
            ("example.com", "notexample.com", 443, False),
            (".example.com", "a.example.com", 443, True),
            (".example.com", "example.com", 443, False),
            ("*.example.com", "a.example.com", 443, True),
            ("EXAMPLE.com", "A.Example.COM", 443, True),
            ("b.org, example.com:5000", "a.example.com", 5000, True),
            ("example.com:5000", "a.example.com", 443, False),
            ("localhost 10.0.0.0/8", "10.1.2.3", 443, True),
            ("10.0.0.0/8", "11.1.2.3", 443, False),
            ("127.0.0.1", "127.0.0.1", 80, True),
            ("127.0.0.1:81", "127.0.0.1", 80, False),
            ("127.0.0.1:81", "127.0.0.1", 81, True),
            ("::1", "::1", 80, True),
            ("[::1]:81", "::1", 81, True),
            ("[::1]:81", "::1", 80, False),
            ("fd00::/8", "fd12::1", 80, True),
            ("0.0.1", "127.0.0.1", 80, False),
        ]:
            self.assertEqual(NoProxy(text).match(host, port), expected, (text, host, port))


class Proxied(UpstreamCase):
    """Through a proxy."""

    def proxy(self, tls: Any = None) -> FakeProxy:
        proxy = FakeProxy(tls)
        self.addCleanup(proxy.stop)
        return proxy

    def through(self, proxy: FakeProxy, url: str, user: str = "", **further: Any) -> Any:
        address = f"http://{user}127.0.0.1:{proxy.port}"
        settings = further.pop("settings", UpstreamSettings(3.0, 6.0, 3.0))
        # What the environment says is not about this host, where the tests' registries are.
        return self.upstream(url, settings=replace(settings, proxy=address), **further)

    async def test_plain(self) -> None:
        """A plain request goes to the proxy with its whole URL and the proxy's credentials; connections are kept."""
        proxy = self.proxy()
        self.registry()
        upstream = self.through(proxy, "http://registry.invalid:5000", "me:pass@")
        for _ in range(2):
            answer, body = await self.get(upstream, self.manifest())
            self.assertEqual((answer.status, body), (200, BODY))
        self.assertEqual(proxy.heads[0][0], "GET http://registry.invalid:5000/v2/team/app/manifests/1.0 HTTP/1.1")
        lines = [line.lower() for line in proxy.heads[0]]
        self.assertIn("proxy-authorization: basic bwu6cgfzcw==", lines)
        self.assertIn("host: registry.invalid:5000", lines)
        self.assertEqual(len(proxy._factory.protocols), 1)

    async def test_tunnel(self) -> None:
        """An https request goes through a tunnel; the proxy's credentials do not reach the origin."""
        proxy, authority = self.proxy(), Authority()
        registry = self.registry(tls=authority.context())
        ca = authority.write(self.directory())
        upstream = self.through(proxy, registry.url, "me:pass@", ca=ca)
        for _ in range(2):
            _, body = await self.get(upstream, self.blob())
            self.assertEqual(body, registry.content.blobs[self.image.layers[1]])
        assert registry.listener is not None
        self.assertEqual(len(proxy.heads), 1)
        self.assertEqual(proxy.heads[0][0], f"CONNECT 127.0.0.1:{registry.listener.port} HTTP/1.1")
        self.assertIn("Proxy-Authorization: Basic bWU6cGFzcw==", proxy.heads[0])
        self.assertIsNone(registry.requests[0].header("Proxy-Authorization"))

    async def test_certificate_through_tunnel(self) -> None:
        """The origin's certificate is verified through the tunnel."""
        proxy = self.proxy()
        registry = self.registry(tls=Authority().context())
        with self.assertRaises(OriginUnreachable):
            await self.through(proxy, registry.url).ask(self.blob())
        self.assertEqual(registry.requests, [])

    async def test_refusals(self) -> None:
        """A proxy that opens no tunnel makes the origin unreachable, with a sentence that says why."""
        for answer, words in [
            (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "credentials"),
            (b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\n", "403"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000, "bytes"),
        ]:
            proxy = self.proxy()
            proxy.answer = answer
            self.registry()
            with self.assertRaises(OriginUnreachable) as caught:
                await self.through(proxy, "https://registry.invalid").ask(self.blob())
            self.assertIn(words, caught.exception.message)

    async def test_proxy_hangs_up(self) -> None:
        """So does one that closes the connection."""
        proxy = self.proxy()
        self.registry()
        with self.assertRaises(OriginUnreachable):
            await self.through(proxy, "https://127.0.0.1:1").ask(self.blob())

    async def test_time(self) -> None:
        """The proxy's answer counts in the time for connecting."""
        proxy, clock = self.proxy(), Clock()
        proxy.answer = b""
        self.registry()
        settings = UpstreamSettings(connect_timeout=5.0, first_byte_timeout=20.0)
        asking = self.through(proxy, "https://registry.invalid", clock=clock, settings=settings).ask(self.blob())
        await eventually(lambda: proxy.heads)
        clock.advance(5.1)
        with self.assertRaises(OriginUnreachable):
            await asking
        await eventually(lambda: not proxy._factory.protocols)

    async def test_cancel(self) -> None:
        """Cancelling while the proxy thinks closes the connection."""
        proxy = self.proxy()
        proxy.answer = b""
        self.registry()
        asking: Deferred[Any] = self.through(proxy, "https://registry.invalid").ask(self.blob())
        await eventually(lambda: proxy.heads)
        asking.cancel()
        with self.assertRaises(CancelledError):
            await asking
        await eventually(lambda: not proxy._factory.protocols)

    async def test_no_secret_in_logs(self) -> None:
        """The proxy's credentials are in no log line."""
        events = self.events()
        proxy = self.proxy()
        proxy.answer = b"HTTP/1.1 403 Forbidden\r\n\r\n"
        self.registry()
        with self.assertRaises(OriginUnreachable):
            await self.through(proxy, "https://registry.invalid", "me:pass@").ask(self.blob())
        self.assertTrue(events)
        self.assertNotIn("bWU6cGFzcw", repr(events))
        self.assertNotIn("me:pass", repr(events))
