"""L{crcache.host.sockets}."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from crcache.host import sockets
from crcache.host.sockets import Adopted, Everywhere, Handed, first_environ, handed_over
from tests.web.cases import AsyncTestCase

reactor: Any = twisted_reactor


class Hello(Protocol):
    """Says a word and ends."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"hello")
        self.transport.loseConnection()


class Heard(Protocol):
    """What was said until the end."""

    def __init__(self) -> None:
        self.data = b""
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        self.done.callback(self.data)


async def hear(connect: Any) -> bytes:
    """Connect, and read to the end."""
    heard = Heard()
    factory: Any = ClientFactory()
    factory.noisy = False
    factory.protocol = lambda: heard
    connect(factory)
    return await heard.done


def handed_at(opened: socket.socket, *others: socket.socket) -> tuple[dict[str, str], int]:
    """The environment of a process that was handed these, whose descriptors follow each other; and the first."""
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": str(1 + len(others)), "LISTEN_FDNAMES": "crcache:more"}
    return environ, opened.fileno()


class HandedOverTests(SynchronousTestCase):
    """L{handed_over}: the protocol of sd_listen_fds(3)."""

    def listening(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, listens: bool = True) -> Any:
        opened = socket.socket(family, kind)
        self.addCleanup(opened.close)
        if family == socket.AF_UNIX:
            opened.bind(self.mktemp())
        else:
            opened.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        if listens:
            opened.listen()
        return opened

    def test_none(self) -> None:
        """Sockets for another process, or none, are none."""
        for environ in ({}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "8", "LISTEN_FDS": "1"}):
            self.assertEqual(handed_over(environ, 7), ())

    def test_families(self) -> None:
        """A socket of each family is found with its name, and is not passed on to programs that are run."""
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            opened = self.listening(family)
            opened.set_inheritable(True)
            environ, first = handed_at(opened)
            self.assertEqual(handed_over(environ, 7, first), (Handed(first, family, "crcache"),))
            self.assertFalse(os.get_inheritable(first))

    def test_everywhere(self) -> None:
        """One that is on every address of IPv6 and IPv4 is known by its port."""
        for host, alone, everywhere in (("::", 0, True), ("::", 1, False), ("::1", 0, False)):
            with socket.socket(socket.AF_INET6) as opened:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone)
                opened.bind((host, 0))
                opened.listen()
                environ, first = handed_at(opened)
                found = handed_over(environ, 7, first)[0]
                self.assertEqual(found.everywhere, opened.getsockname()[1] if everywhere else None)

    def test_everywhere_without_ipv6(self) -> None:
        """Of a host that has no IPv6 it is the one on every address of IPv4; of others that is not all."""

        def without(family: int, kind: int) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            return socket.socket(family, kind)

        for host, is_all in (("0.0.0.0", True), ("127.0.0.1", False)):
            with socket.socket(socket.AF_INET) as opened:
                opened.bind((host, 0))
                opened.listen()
                environ, first = handed_at(opened)
                self.assertIsNone(handed_over(environ, 7, first)[0].everywhere)
                with mock.patch.object(sockets, "_make", without):
                    found = handed_over(environ, 7, first)[0]
                self.assertEqual(found.everywhere, opened.getsockname()[1] if is_all else None)

    def test_names_may_be_missing(self) -> None:
        """Old systemds, and other programs, give no names."""
        opened = self.listening()
        environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1"}
        self.assertEqual(handed_over(environ, 7, opened.fileno())[0].name, "")

    def test_unusable(self) -> None:
        """What cannot be listened on is told with its number and its name."""
        with open(os.devnull, "rb") as file:
            datagrams = self.listening(kind=socket.SOCK_DGRAM, listens=False)
            silent = self.listening(listens=False)
            for fd in (datagrams.fileno(), silent.fileno(), file.fileno()):
                environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
                error = self.assertRaises(ValueError, handed_over, environ, 7, fd)
                self.assertIn(f"socket {fd} of systemd (web) is not one that listens", str(error))

    def test_not_there(self) -> None:
        """So is a count that is wrong."""
        error = self.assertRaises(ValueError, handed_over, {"LISTEN_PID": "7", "LISTEN_FDS": "x"}, 7)
        self.assertEqual(str(error), "LISTEN_FDS of the environment is not a number")
        error = self.assertRaises(ValueError, handed_over, {"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7, 60000)
        self.assertIn("counts descriptor 60000, which is not open", str(error))

    def test_first_environ(self) -> None:
        """What Twisted has taken out of the environment is still in what the process began with."""
        path = Path(self.mktemp())
        path.write_bytes(b"A=1\0LISTEN_PID=7\0LISTEN_FDS=1\0LISTEN_FDNAMES=a:b\0")
        expected = {"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:b"}
        self.assertEqual(first_environ({}, path), expected)
        self.assertEqual(first_environ({"LISTEN_PID": "9", "LISTEN_FDS": "2", "B": "1"}, path),
                         {"LISTEN_PID": "9", "LISTEN_FDS": "2"})  # fmt: skip
        self.assertEqual(first_environ({}, Path("/nonexistent")), {})


class ListenTests(AsyncTestCase):
    """L{Adopted} and L{Everywhere}, over real sockets."""

    def factory(self) -> Any:
        factory: Any = Factory.forProtocol(Hello)
        factory.noisy = False
        return factory

    async def test_adopted_tcp(self) -> None:
        """A TCP socket of systemd's serves, and goes on listening after the port is closed: the kernel holds who
        comes while nobody serves."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.create_server((host, 0), family=family) as opened:
                number = opened.getsockname()[1]
                port: Any = await Adopted(reactor, Handed(os.dup(opened.fileno()), family, "")).listen(self.factory())
                self.assertEqual(await hear(lambda f, h=host, n=number: reactor.connectTCP(h, n, f)), b"hello")
                await port.stopListening()
                socket.create_connection((host, number), timeout=5).close()

    async def test_adopted_unix(self) -> None:
        """So does a UNIX socket, whose file keeps its mode, and its place after the end."""
        path = Path(self.mktemp())
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(path))
            opened.listen()
            path.chmod(0o600)
            port: Any = await Adopted(reactor, Handed(os.dup(opened.fileno()), socket.AF_UNIX, "")).listen(
                self.factory()
            )
            self.assertEqual(await hear(lambda f: reactor.connectUNIX(str(path), f)), b"hello")
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
            self.assertIn(path.name, str(port.getHost()))
            await port.stopListening()
            self.assertTrue(path.exists())
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(str(path))

    async def test_everywhere(self) -> None:
        """One port serves the addresses of IPv4 and IPv6."""
        port: Any = await Everywhere(reactor, 0).listen(self.factory())
        number = port.getHost().port
        for host in ("127.0.0.1", "::1"):
            self.assertEqual(await hear(lambda f, h=host: reactor.connectTCP(h, number, f)), b"hello")
        await port.stopListening()

    async def test_everywhere_without_ipv6(self) -> None:
        """A host whose kernel knows no IPv6 is served on IPv4."""
        made = socket.socket

        def without(family: int, kind: int) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            return made(family, kind)

        self.patch(sockets, "_make", without)
        port: Any = await Everywhere(reactor, 0).listen(self.factory())
        number = port.getHost().port
        self.assertEqual(await hear(lambda f: reactor.connectTCP("127.0.0.1", number, f)), b"hello")
        await port.stopListening()

    async def test_everywhere_taken(self) -> None:
        """A port that another process has is no reason to serve half of the addresses."""
        with socket.create_server(("127.0.0.1", 0)) as taken, self.assertRaises(OSError) as caught:
            await Everywhere(reactor, taken.getsockname()[1]).listen(self.factory())
        self.assertEqual(caught.exception.strerror, "Address already in use")
