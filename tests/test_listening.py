"""L{crcache.listening}."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from OpenSSL import crypto
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IHandshakeListener, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate as Trusted
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from zope.interface import implementer

from crcache.errors import ConfigError
from crcache.listening import Listening
from crcache.testing.certificates import Authority, Certificate
from tests.web.cases import AsyncTestCase, reactor


class Echo(Protocol):
    """Sends back what comes."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[union-attr]


@implementer(IProtocolNegotiationFactory)
class EchoFactory(Factory):
    """Speaks like a site: there is a protocol to agree on."""

    protocol = Echo
    noisy = False

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]


@implementer(IHandshakeListener)
class Client(Protocol):
    """Sees whom it is talking to."""

    def __init__(self) -> None:
        self.shaken: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._awaited: Deferred[bytes] | None = None

    def handshakeCompleted(self) -> None:
        self.shaken.callback(None)

    def dataReceived(self, data: bytes) -> None:
        assert self._awaited is not None
        self._awaited.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.shaken.called:
            self.shaken.errback(reason)
        self.ended.callback(None)

    @property
    def peer(self) -> bytes:
        """The certificate that was shown, DER."""
        transport: Any = self.transport
        return crypto.dump_certificate(crypto.FILETYPE_ASN1, transport.getPeerCertificate())

    def say(self, data: bytes) -> Deferred[bytes]:
        """What comes back."""
        self._awaited = Deferred()
        self.transport.write(data)  # type: ignore[union-attr]
        return self._awaited

    def leave(self) -> Deferred[None]:
        self.transport.abortConnection()  # type: ignore[union-attr]
        return self.ended


def der(certificate: Certificate) -> bytes:
    """Its bytes as they go over the wire."""
    loaded = crypto.load_certificate(crypto.FILETYPE_PEM, certificate.certificate)
    return crypto.dump_certificate(crypto.FILETYPE_ASN1, loaded)


class ListeningCase(AsyncTestCase):
    """An authority, a directory with a certificate, and a port."""

    def setUp(self) -> None:
        self.authority = Authority()
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.first, self.second = self.authority.server(), self.authority.server()
        self.certificate, self.key = self.first.write(self.directory, "server")
        self.port: Any = None

    def listen(self, description: str) -> Listening:
        listening = Listening(reactor, description)
        self.port = self.successResultOf(listening.listen(EchoFactory()))
        self.addCleanup(self.port.stopListening)
        return listening

    def listen_with_tls(self, further: str = "") -> Listening:
        return self.listen(f"ssl:0:privateKey={self.key}:certKey={self.certificate}:interface=127.0.0.1{further}")

    async def connect(self, authority: Authority | None = None) -> Client:
        trusted = Trusted.loadPEM((authority or self.authority).certificate)
        options = optionsForClientTLS("localhost", trusted, acceptableProtocols=[b"h2", b"http/1.1"])
        client: Client = await connectProtocol(
            SSL4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port, options), Client()
        )
        self.addCleanup(lambda: None if client.ended.called else client.leave())
        await client.shaken
        return client

    async def shown(self) -> bytes:
        """The certificate that a new connection is shown."""
        client = await self.connect()
        peer = client.peer
        await client.leave()
        return peer


class RenewTests(ListeningCase):
    """Certificates that are replaced while the port stays open."""

    async def test_renewed(self) -> None:
        """New connections are shown the new certificate, once it is in force and not before; those that are open go
        on, and the port is the same."""
        listening = self.listen_with_tls()
        early = await self.connect()
        self.assertEqual(early.peer, der(self.first))
        self.second.write(self.directory, "server")
        self.assertEqual(await self.shown(), der(self.first))
        commit = listening.prepare()
        self.assertEqual(await self.shown(), der(self.first))
        commit()
        self.assertEqual(await self.shown(), der(self.second))
        self.assertEqual(await early.say(b"still there?"), b"still there?")

    async def test_again_and_again(self) -> None:
        """As often as there is a new one; an authority may be a new one, too."""
        listening = self.listen_with_tls()
        for _ in range(3):
            self.authority = Authority()
            certificate = self.authority.server()
            certificate.write(self.directory, "server")
            listening.prepare()()
            self.assertEqual(await self.shown(), der(certificate))

    async def test_agreed(self) -> None:
        """HTTP/1.1 is what both agree on, before and after."""
        listening = self.listen_with_tls()
        for _ in range(2):
            client = await self.connect()
            transport: Any = client.transport
            self.assertEqual(transport.negotiatedProtocol, b"http/1.1")
            await client.leave()
            listening.prepare()()

    async def test_chain(self) -> None:
        """So it is with the certificates in between."""
        chain = self.directory / "chain.pem"
        chain.write_bytes(self.authority.certificate)
        listening = self.listen_with_tls(f":extraCertChain={chain}")
        chain.write_bytes(b"nothing")
        self.refused(listening, chain, "holds no certificate")
        chain.write_bytes(self.authority.certificate)
        listening.prepare()()
        client = await self.connect()
        transport: Any = client.transport
        self.assertEqual(len(transport.getHandle().get_peer_cert_chain()), 2)

    async def test_thread(self) -> None:
        """The files may be read in a thread."""
        listening = self.listen_with_tls()
        self.second.write(self.directory, "server")
        done: Deferred[Callable[[], None]] = Deferred()
        reactor.callInThread(lambda: reactor.callFromThread(done.callback, listening.prepare()))
        (await done)()
        self.assertEqual(await self.shown(), der(self.second))

    async def test_mistakes(self) -> None:
        """What cannot be used is told in a line that names the endpoint and the file, and the old one stays."""
        listening = self.listen_with_tls()
        other = self.second.write(self.directory, "other")
        good = {path: path.read_bytes() for path in (self.key, self.certificate)}
        garbage = b"-----BEGIN %s-----\nAAAA\n-----END %s-----\n"
        for path, data, why in [
            (self.certificate, None, "No such file"),
            (self.key, None, "No such file"),
            (self.certificate, b"", "holds no certificate"),
            (self.key, b"", "holds no private key"),
            (self.certificate, garbage % (b"CERTIFICATE", b"CERTIFICATE"), "holds no certificate that can be used"),
            (self.key, garbage % (b"PRIVATE KEY", b"PRIVATE KEY"), "holds no private key that can be used"),
            (self.key, garbage % (b"ENCRYPTED PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"), "is encrypted"),
            (self.key, other[1].read_bytes(), f"is not the key of the certificate in {self.certificate}"),
        ]:
            path.unlink()
            if data is not None:
                path.write_bytes(data)
            self.refused(listening, path, why)
            path.write_bytes(good[path])
            self.assertEqual(await self.shown(), der(self.first))

    def refused(self, listening: Listening, path: Path, why: str) -> None:
        message = self.assertRaises(ConfigError, listening.prepare).message
        for part in ("ssl:0:", str(path), why):
            self.assertIn(part, message)
        self.assertNotIn("\n", message)

    async def test_quoted(self) -> None:
        """A path may have a colon in it, quoted as Twisted has it, and the names of arguments may be left out."""
        self.directory = self.directory / "a:b"
        self.directory.mkdir()
        self.certificate, self.key = self.first.write(self.directory, "server")
        quoted = str(self.key).replace(":", "\\:"), str(self.certificate).replace(":", "\\:")
        listening = self.listen(f"ssl:0:{quoted[0]}:{quoted[1]}:interface=127.0.0.1")
        self.second.write(self.directory, "server")
        listening.prepare()()
        self.assertEqual(await self.shown(), der(self.second))
        self.certificate.unlink()
        self.refused(listening, self.certificate, "No such file")


class OtherTests(ListeningCase):
    """Endpoints without a certificate."""

    def test_nothing_to_renew(self) -> None:
        """Of TCP and UNIX sockets there is nothing to renew; they listen on as they are."""
        for description in ("tcp:0:interface=127.0.0.1", f"unix:{Path(self.mktemp()).name}"):
            listening = self.listen(description)
            host = self.port.getHost()
            listening.prepare()()
            self.assertEqual(self.port.getHost(), host)

    def short(self) -> str:
        """A path that is short enough for a socket."""
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return f"{directory.name}/socket"

    def test_killed_before(self) -> None:
        """The socket of a process that was killed gives way, whatever process has its number by now."""
        path = self.short()
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(path)
            gone.listen()
        os.symlink(str(os.getpid()), f"{path}.lock")
        self.listen(f"unix:{path}")

    def test_alive(self) -> None:
        """That of a process that lives does not, nor does a file that is no socket."""
        path, file = self.short(), Path(self.mktemp())
        file.write_text("mine")
        with socket.socket(socket.AF_UNIX) as alive:
            alive.bind(path)
            alive.listen()
            for there in (path, str(file)):
                self.failureResultOf(Listening(reactor, f"unix:{there}").listen(EchoFactory()), CannotListenError)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
        self.assertEqual(file.read_text(), "mine")

    def test_before(self) -> None:
        """Nor is there before it listens: the files are read then."""
        listening = Listening(reactor, f"ssl:0:privateKey={self.key}:certKey={self.certificate}:interface=127.0.0.1")
        self.key.unlink()
        listening.prepare()()
        self.assertIn(str(self.key), str(self.assertRaises(ValueError, listening.listen, EchoFactory())))

    def test_unusable_at_first(self) -> None:
        """What cannot be used for listening is told when listening begins, not with the first client."""
        (self.directory / "dh.pem").write_bytes(b"nothing")
        listening = Listening(
            reactor, f"ssl:0:privateKey={self.key}:certKey={self.certificate}:dhParameters={self.directory}/dh.pem"
        )
        self.failureResultOf(listening.listen(EchoFactory()))
