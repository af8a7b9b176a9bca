"""A listener that speaks TLS with what its own section of the configuration says."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from OpenSSL import crypto
from twisted.internet.endpoints import SSL4ClientEndpoint
from twisted.internet.ssl import Certificate as Trusted
from twisted.internet.ssl import CertificateOptions
from twisted.logger import LogEvent, LogLevel

from crcache import events, renewal
from crcache.config import Loaded
from crcache.ending import CannotStart
from crcache.settings import TlsSettings
from crcache.tap import build
from crcache.testing.certificates import Authority, Certificate
from crcache.testing.content import noise
from crcache.testing.daemon import Instance
from tests.clients.case import NAME, REPO, ClientCase, blob_path, eventually, manifest_path
from tests.clients.http import Answer, request, send
from tests.web.cases import pause, reactor

ENDPOINT = "tls:0:interface=127.0.0.1"
DATA = noise(300_000)


class TlsCase(ClientCase):
    """A crcache with C{tls:} endpoints, whose files are looked at all the time."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(renewal, "PACE", 0.02)
        self.image = self.origin.add_image(REPO, "1.0", [DATA])
        self.authority, self.clients = Authority(), Authority("clients")
        self.files = self.directory()
        self.first = self.authority.server()
        self.first.write(self.files, "tls")

    def settings(self, clients: bool = False) -> TlsSettings:
        """What stands in the file."""
        ca = self.clients.write(self.files, "clients") if clients else None
        return TlsSettings(self.files / "tls.pem", self.files / "tls.key", ca)

    def live(self, **settings: Any) -> None:
        """It runs."""
        load = settings.pop("load", None)
        settings = {"listen": (ENDPOINT,), "admin": ENDPOINT, "tls": self.settings(), **settings}
        self.cache = Instance(partial(build, load=load), reactor, self.directory(), {NAME: self.origin.url}, **settings)
        self.cache.start()
        self.addCleanup(self.cache.stop)

    async def dial(
        self, target: str, shown: Certificate | None = None, port: int = 0, authority: Authority | None = None
    ) -> Answer:
        """The whole answer, if there is one."""
        more: dict[str, Any] = {}
        if shown is not None:
            more["privateKey"] = crypto.load_privatekey(crypto.FILETYPE_PEM, shown.key)
            more["certificate"] = crypto.load_certificate(crypto.FILETYPE_PEM, shown.certificate)
        trusted = CertificateOptions(trustRoot=Trusted.loadPEM((authority or self.authority).certificate), **more)
        endpoint = SSL4ClientEndpoint(reactor, "127.0.0.1", port or self.cache.port, trusted)
        return await (await send(0, request(target), endpoint)).end()

    async def trusts(self, authority: Authority) -> bool:
        """Whether who trusts this authority alone is served."""
        return (await self.dial("/v2/", authority=authority)).status == 200

    async def becomes(self, authority: Authority) -> None:
        """Wait until a certificate by this authority is shown."""
        for _ in range(200):
            if await self.trusts(authority):
                return
            await pause(0.02)
        self.fail("it is never shown")

    def told(self, event: events.Event) -> list[LogEvent]:
        """The lines of this kind."""
        return [each for each in self.events if each.get("event") == event]


class RenewalTests(TlsCase):
    """Certificates that are replaced."""

    async def test_pull(self) -> None:
        """An image is pulled, and operators see their pages, by the same certificate."""
        self.live()
        self.assertEqual((await self.dial(manifest_path("1.0"))).body, self.image.manifest)
        answer = await self.dial(blob_path(self.image.layers[0]))
        self.assertTrue(answer.complete and answer.body == DATA)
        self.assertEqual((await self.dial("/healthz", port=self.cache.admin_port)).status, 200)

    async def test_by_itself(self) -> None:
        """When its files change, the certificate is renewed: nobody does anything. A key that does not fit yet keeps
        the old pair in force, with one warning."""
        self.live()
        await self.becomes(self.authority)
        await pause(0.1)
        after = Authority("after")
        second = after.server()
        (self.files / "tls.pem").write_bytes(second.certificate)
        await eventually(lambda: self.told(events.CERTIFICATE_KEPT))
        self.assertTrue(await self.trusts(self.authority))
        await pause(0.1)
        (line,) = self.told(events.CERTIFICATE_KEPT)
        self.assertEqual(line["log_level"], LogLevel.warn)
        self.assertIn(f"{self.files / 'tls.key'} is not the key of the certificate", line["problem"])
        (self.files / "tls.key").write_bytes(second.key)
        await self.becomes(after)
        self.assertFalse(await self.trusts(self.authority))
        self.assertEqual(len(self.told(events.CERTIFICATE_KEPT)), 1)
        self.assertTrue(self.told(events.CERTIFICATE_RENEWED))

    async def test_linked(self) -> None:
        """So it is where a symbolic link is changed to lead elsewhere, as Kubernetes does with secrets."""
        after = Authority("after")
        for name, certificate in (("one", self.first), ("two", after.server())):
            (self.files / name).mkdir()
            certificate.write(self.files / name, "tls")
        current = self.files / "current"
        current.symlink_to("one")
        self.live(tls=TlsSettings(current / "tls.pem", current / "tls.key"))
        await self.becomes(self.authority)
        await pause(0.1)
        (self.files / "next").symlink_to("two")
        (self.files / "next").rename(current)
        await self.becomes(after)
        self.assertEqual(self.told(events.CERTIFICATE_KEPT), [])

    async def test_ssl(self) -> None:
        """The certificate of an C{ssl:} endpoint is renewed likewise."""
        pem, key = self.files / "tls.pem", self.files / "tls.key"
        self.live(listen=(f"ssl:0:privateKey={key}:certKey={pem}:interface=127.0.0.1",), tls=None, admin=None)
        await self.becomes(self.authority)
        await pause(0.1)
        after = Authority("after")
        after.server().write(self.files, "tls")
        await self.becomes(after)

    async def test_reload(self) -> None:
        """A reload may name other files, whose changes are noticed from then on; a broken one leaves all as it was."""
        after, last = Authority("after"), Authority("last")
        after.server().write(self.files, "other")
        other = TlsSettings(self.files / "other.pem", self.files / "other.key")
        self.live(load=lambda: Loaded(replace(self.cache.config, tls=other), None))
        (self.files / "other.key").write_bytes(b"")
        await self.cache.service.reload()
        (line,) = self.told(events.RELOAD_REFUSED)
        self.assertIn(str(self.files / "other.key"), line["problem"])
        self.assertTrue(await self.trusts(self.authority))
        after.server().write(self.files, "other")
        await self.cache.service.reload()
        self.assertTrue(await self.trusts(after))
        await pause(0.1)
        last.server().write(self.files, "other")
        await self.becomes(last)

    def test_no_section(self) -> None:
        """Without the section nothing listens, and one line says why."""
        error = self.assertRaises(CannotStart, self.live, tls=None)
        self.assertIn("no section tls", str(error))


class CertificateTests(TlsCase):
    """Clients that have to show a certificate."""

    async def test_only_they(self) -> None:
        """Clients of that authority pull; others get nothing, not even the admin listener's pages, and strangers leave
        no line above info."""
        self.live(tls=self.settings(clients=True))
        mine = self.clients.client()
        self.assertEqual((await self.dial(manifest_path("1.0"), mine)).body, self.image.manifest)
        before = len(self.origin.requests)
        for shown in (None, Authority("clients").client(), self.clients.client(days=(-30, -1))):
            for port in (self.cache.port, self.cache.admin_port):
                answer = await self.dial(manifest_path("1.0", "other/app"), shown, port)
                self.assertEqual((answer.status, answer.raw), (0, b""))
        self.assertEqual(len(self.origin.requests), before)
        self.assertEqual([event for event in self.events if event["log_level"] > LogLevel.info], [])
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual((await self.dial("/healthz", mine, self.cache.admin_port)).status, 200)

    async def test_another_authority(self) -> None:
        """When the authority's file changes, its clients are those who are let in."""
        self.live(tls=self.settings(clients=True))
        mine, theirs = self.clients.client(), Authority("after")
        self.assertEqual((await self.dial("/v2/", mine)).status, 200)
        await pause(0.1)
        theirs.write(self.files, "clients")
        shown = theirs.client()
        for _ in range(200):
            if (await self.dial("/v2/", shown)).status == 200:
                break
            await pause(0.02)
        self.assertEqual((await self.dial("/v2/", mine)).status, 0)
