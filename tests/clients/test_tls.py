"""TLS on either side, and sockets that are not TCP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.endpoints import SSL4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate as Trusted
from twisted.internet.ssl import CertificateOptions

from crcache.grammar.reference import Registry
from crcache.settings import RegistrySettings
from crcache.store import ingest
from crcache.testing.certificates import Authority
from crcache.testing.content import noise
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, NAME, REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import Answer, request, send
from tests.clients.test_disk import Disk
from tests.web.cases import reactor

MIB = 1 << 20
DATA = noise(2 * MIB + 31)


class OriginTests(ClientCase):
    """An origin with a certificate of its own authority's."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority()
        self.secure: FakeRegistry = self.registry(tls=self.authority.context())
        self.image = self.secure.add_image(REPO, "1.0", [DATA])

    def settings(self, **trust: Any) -> dict[Registry, RegistrySettings]:
        """The registry with this trust."""
        registry = Registry(NAME)
        return {registry: RegistrySettings(registry, (self.secure.url,), **trust)}

    async def test_own_authority(self) -> None:
        """With its C{ca} the origin is pulled from, and a broken fetch is resumed."""
        ca = self.authority.write(self.directory())
        self.cache = self.instance(registries=self.settings(ca=ca))
        self.secure.fault(Fault(cut=MIB), "blob")
        self.assertEqual((await self.ask(manifest_path("1.0"))).body, self.image.manifest)
        answer = await self.ask(blob_path(self.image.layers[0]))
        self.assertTrue(answer.complete and answer.body == DATA)
        self.assertEqual(len(self.secure.asked("blob")), 2)

    async def test_unknown_authority(self) -> None:
        """Without it nothing is asked of the origin, and the client gets a 502 that says why."""
        self.cache = self.instance(registries=self.settings())
        answer = await self.ask(manifest_path("1.0"))
        self.assertEqual((answer.status, answer.code), (502, "UNAVAILABLE"))
        self.assertIn(b"certificate", answer.body)
        self.assertEqual(self.secure.requests, [])

    async def test_another_authority(self) -> None:
        """Another C{ca} is as good as none, and C{insecure-skip-verify} as good as any."""
        ca = Authority("another").write(self.directory())
        self.cache = self.instance(registries=self.settings(ca=ca))
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 502)
        self.cache = self.instance(registries=self.settings(insecure_skip_verify=True))
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 200)


class ListenerTests(ClientCase):
    """Listeners other than plain TCP."""

    def setUp(self) -> None:
        super().setUp()
        self.image = self.origin.add_image(REPO, "1.0", [DATA])

    async def through(self, endpoint: IStreamClientEndpoint, target: str, *headers: tuple[str, str]) -> Answer:
        """Put a request by that way, and return its whole answer."""
        return await (await send(0, request(target, *headers), endpoint)).end()

    def listen_with_tls(self, **settings: Any) -> IStreamClientEndpoint:
        """A crcache with a certificate, and the way to it."""
        authority = Authority()
        certificate, key = authority.server().write(self.directory(), "server")
        listen = f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        self.cache = self.instance(listen=(listen,), **settings)
        trusted = CertificateOptions(trustRoot=Trusted.loadPEM(authority.certificate))
        return SSL4ClientEndpoint(reactor, "127.0.0.1", self.cache.port, trusted)

    async def pull(self, endpoint: IStreamClientEndpoint) -> None:
        """A whole image, cold and warm, and ranges of its layer."""
        layer = blob_path(self.image.layers[0])
        for _ in range(2):
            await self.settled()
            self.assertEqual((await self.through(endpoint, manifest_path("1.0"))).body, self.image.manifest)
            answer = await self.through(endpoint, layer)
            self.assertTrue(answer.complete and answer.body == DATA)
            answer = await self.through(endpoint, layer, ("Range", f"bytes={MIB}-"))
            self.assertEqual(answer.status, 206)
            self.assertTrue(answer.body == DATA[MIB:])
        self.assertEqual(len(self.origin.asked("blob", "GET")), 1)

    async def test_tls(self) -> None:
        """Clients may be served over TLS, by an C{ssl:} endpoint."""
        await self.pull(self.listen_with_tls())

    async def test_tls_broken_off(self) -> None:
        """There, too, a body that cannot be had whole ends short, and without TLS's own farewell."""
        endpoint = self.listen_with_tls(upstream=IMPATIENT)
        self.origin.fault(Fault(cut=MIB), "blob")
        self.origin.fault(Fault(hang_up=True), "blob", times=None)
        answer = await self.through(endpoint, blob_path(self.image.layers[0]))
        self.assertEqual((answer.status, answer.clean, answer.complete), (200, False, False))

    async def test_tls_disk_full(self) -> None:
        """There, too, a body whose file cannot be written goes on from the origin, and one in chunks as well."""
        endpoint = self.listen_with_tls(upstream=IMPATIENT)
        disk = Disk()
        self.patch(ingest, "write_all", disk.write)
        for fault in (Fault(), Fault(unsized="chunked")):
            disk.room = MIB + 77
            self.origin.fault(fault, "blob", times=2)
            answer = await self.through(endpoint, blob_path(self.image.layers[0]))
            self.assertTrue(answer.complete and answer.body == DATA)
            await self.settled()
            self.origin.script.clear()
        self.assertEqual(len(self.origin.asked("blob")), 4)

    async def test_unix(self) -> None:
        """So may they over a UNIX socket."""
        path = Path(self.mktemp()).name
        self.cache = self.instance(listen=(f"unix:{path}",))
        await self.pull(UNIXClientEndpoint(reactor, path))

    async def test_several(self) -> None:
        """All listeners serve the same cache."""
        plain = "tcp:0:interface=127.0.0.1"
        self.cache = self.instance(listen=(plain, plain))
        first, second = (self.cache.service.ports[index].getHost().port for index in (0, 1))
        layer = request(blob_path(self.image.layers[0]))
        await (await send(first, layer)).end()
        await self.settled()
        self.assertHit(await (await send(second, layer)).end())
