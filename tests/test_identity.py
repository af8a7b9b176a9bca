"""L{crcache.identity}: what C{tls:} endpoints show."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.endpoints import SSL4ClientEndpoint, connectProtocol
from twisted.internet.ssl import Certificate as Trusted
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread

from crcache.errors import ConfigError
from crcache.identity import Tls
from crcache.listening import Listening
from crcache.settings import TlsSettings
from crcache.testing.certificates import Authority
from tests.test_listening import Client, EchoFactory, ListeningCase, der
from tests.web.cases import reactor


class TlsCase(ListeningCase):
    """A C{tls:} endpoint."""

    tls: Tls

    def settings(self, clients: Authority | None = None, name: str = "server") -> TlsSettings:
        """The files of the directory."""
        ca = None if clients is None else clients.write(self.directory, "clients")
        return TlsSettings(self.directory / f"{name}.pem", self.directory / f"{name}.key", ca)

    def begin(self, settings: TlsSettings | None, description: str = "tls:0:interface=127.0.0.1") -> Listening:
        """Listen."""
        self.tls = Tls(settings)
        listening = Listening(reactor, description, self.tls)
        self.port = self.successResultOf(listening.listen(EchoFactory()))
        self.addCleanup(self.port.stopListening)
        return listening


class TlsTests(TlsCase):
    """L{Tls}."""

    async def test_shown(self) -> None:
        """The file's first certificate is shown, with the others behind it."""
        self.certificate.write_bytes(self.first.certificate + self.authority.certificate)
        listening = self.begin(self.settings())
        client = await self.connect()
        transport: Any = client.transport
        self.assertEqual(client.peer, der(self.first))
        self.assertEqual(len(transport.getHandle().get_peer_cert_chain()), 2)
        self.assertEqual(transport.negotiatedProtocol, b"http/1.1")
        self.assertEqual(await client.say(b"hello"), b"hello")
        self.assertEqual((listening.files, self.tls.files), ((), (self.certificate, self.key)))
        listening.prepare()()

    async def test_everywhere(self) -> None:
        """Without an interface, IPv4 and IPv6 are listened on."""
        self.begin(self.settings(), "tls:0")
        self.assertEqual(await self.shown(), der(self.first))

    async def test_renewed(self) -> None:
        """New connections are shown what has been put in force, and the old ones go on."""
        self.begin(self.settings())
        early = await self.connect()
        self.second.write(self.directory, "server")
        commit = self.tls.prepare()
        self.assertEqual(await self.shown(), der(self.first))
        commit()
        self.assertEqual(await self.shown(), der(self.second))
        self.assertEqual(await early.say(b"still there?"), b"still there?")

    async def test_other_files(self) -> None:
        """A reload may name other files; what was read of the old ones meanwhile is not put in force after that."""
        self.begin(self.settings())
        old = self.tls.prepare()
        self.second.write(self.directory, "other")
        self.tls.prepare(self.settings(name="other"))()
        old()
        self.assertEqual(await self.shown(), der(self.second))
        self.assertEqual([path.name for path in self.tls.files], ["other.pem", "other.key"])

    async def test_mistakes(self) -> None:
        """What cannot be used is told in a line that names the file, and the old one stays."""
        settings = self.settings(self.authority)
        self.begin(settings)
        other = self.second.write(self.directory, "other")
        assert settings.clients_ca is not None
        for path, data, why in [
            (self.certificate, b"", "holds no certificate"),
            (self.certificate, self.first.certificate[:200], "holds no certificate that can be used"),
            (self.certificate, self.second.certificate, f"is not the key of the certificate in {self.certificate}"),
            (self.key, other[1].read_bytes(), f"is not the key of the certificate in {self.certificate}"),
            (self.key, b"", "holds no private key"),
            (settings.clients_ca, b"", "holds no certificate"),
        ]:
            good = path.read_bytes()
            path.write_bytes(data)
            message = self.assertRaises(ConfigError, self.tls.prepare).message
            for part in ("tls: ", str(path), why):
                self.assertIn(part, message)
            self.assertNotIn("\n", message)
            path.write_bytes(good)
            self.tls.prepare()()

    def test_at_first(self) -> None:
        """So it is when listening begins; nothing is looked at before, nor where there is no such endpoint."""
        self.key.write_bytes(b"")
        tls = Tls(self.settings())
        tls.prepare()()
        self.assertEqual(tls.files, ())
        self.assertIn(str(self.key), str(self.assertRaises(ValueError, tls.begin)))
        self.assertIn("no section tls", str(self.assertRaises(ValueError, Tls(None).begin)))

    def test_defaults(self) -> None:
        """TLS 1.2 and later; nothing is compressed, negotiated anew, or taken up again from an earlier connection."""
        for listening in (self.begin(self.settings()), self.listen_with_tls()):
            identity = listening._identity or self.tls.identity
            self.options(identity.shown.getContext().set_options(0))

    def options(self, options: int) -> None:
        for wanted in ("NO_SSLv3", "NO_TLSv1", "NO_TLSv1_1", "NO_COMPRESSION", "NO_RENEGOTIATION", "NO_TICKET"):
            self.assertTrue(options & getattr(SSL, f"OP_{wanted}"), wanted)
        for allowed in ("NO_TLSv1_2", "NO_TLSv1_3"):
            self.assertFalse(options & getattr(SSL, f"OP_{allowed}"), allowed)

    async def test_no_renegotiation(self) -> None:
        """Who asks for it in mid-connection does not get it; an C{ssl:} endpoint gives it to nobody either."""
        for listen in (lambda: self.begin(self.settings()), self.listen_with_tls):
            listen()
            asked = await deferToThread(self.renegotiate, self.port.getHost().port)
            self.assertFalse(asked)

    def renegotiate(self, port: int) -> bool:
        """Blocks. Whether a second handshake came about on one connection."""
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_options(SSL.OP_NO_TLSv1_3)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            raw.settimeout(None)
            connection = SSL.Connection(context, raw)
            connection.set_connect_state()
            connection.do_handshake()
            before = connection.total_renegotiations()
            if not connection.renegotiate():
                return False
            try:
                connection.do_handshake()
                connection.send(b"x")
                connection.recv(1)
            except SSL.Error:
                return False
            return connection.total_renegotiations() > before


class ClientTests(TlsCase):
    """Client certificates."""

    def setUp(self) -> None:
        super().setUp()
        self.clients = Authority("clients")

    async def dial(self, shown: Any = None) -> Client:
        """A client that shows this certificate; it has said something, or has been cut."""
        more: dict[str, Any] = {}
        if shown is not None:
            more["privateKey"] = crypto.load_privatekey(crypto.FILETYPE_PEM, shown.key)
            more["certificate"] = crypto.load_certificate(crypto.FILETYPE_PEM, shown.certificate)
        options = CertificateOptions(trustRoot=Trusted.loadPEM(self.authority.certificate), **more)
        client = Client()
        client.shaken.addErrback(lambda _: None)
        await connectProtocol(SSL4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port, options), client)
        self.addCleanup(lambda: None if client.ended.called else client.leave())
        await client.shaken
        return client

    async def refused(self, shown: Any = None) -> None:
        client = await self.dial(shown)
        said = client.say(b"hello")
        await client.ended.addTimeout(5, reactor)
        self.assertNoResult(said)

    async def test_only_its_own(self) -> None:
        """Only clients with a certificate of that authority, valid now and meant for clients, are talked to."""
        self.begin(self.settings(self.clients))
        client = await self.dial(self.clients.client())
        self.assertEqual(await client.say(b"hello"), b"hello")
        for shown in (
            None,
            Authority("clients").client(),
            self.authority.client(),
            self.clients.client(days=(-30, -1)),
            self.clients.client(days=(1, 30)),
            self.clients.server(),
        ):
            await self.refused(shown)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_renewed(self) -> None:
        """Another authority's clients are let in once it is in force, and those of the one before are not."""
        settings = self.settings(self.clients)
        self.begin(settings)
        after = Authority("after")
        assert settings.clients_ca is not None
        for trusted, others in ((self.clients, [after]), (after, [self.clients])):
            settings.clients_ca.write_bytes(trusted.certificate)
            self.tls.prepare()()
            client = await self.dial(trusted.client())
            self.assertEqual(await client.say(b"hello"), b"hello")
            for other in others:
                await self.refused(other.client())
        settings.clients_ca.write_bytes(self.clients.certificate + after.certificate)
        self.tls.prepare()()
        for each in (self.clients, after):
            client = await self.dial(each.client())
            self.assertEqual(await client.say(b"hello"), b"hello")

    async def test_anyone(self) -> None:
        """Where no authority is named, who shows one is as welcome as who shows none."""
        self.begin(self.settings())
        for shown in (None, self.clients.client()):
            client = await self.dial(shown)
            self.assertEqual(await client.say(b"hello"), b"hello")


class FileTests(TlsCase):
    """Which files are looked after."""

    def test_ssl(self) -> None:
        """Those of an C{ssl:} endpoint are its own, once it listens."""
        chain = self.authority.write(self.directory, "chain")
        description = (
            f"ssl:0:privateKey={self.key}:certKey={self.certificate}:interface=127.0.0.1:extraCertChain={chain}"
        )
        self.assertEqual(Listening(reactor, description).files, ())
        self.assertEqual(self.listen(description).files, (self.key, self.certificate, chain))
        both = self.directory / "both.pem"
        both.write_bytes(self.first.certificate + self.first.key)
        self.assertEqual(self.listen(f"ssl:0:{both}:interface=127.0.0.1").files, (Path(both),))
        self.assertEqual(self.listen("tcp:0:interface=127.0.0.1").files, ())
