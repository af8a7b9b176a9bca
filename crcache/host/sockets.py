"""Sockets to listen on: those that systemd handed over, and one for every address of the host."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet import unix
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

#: SD_LISTEN_FDS_START of sd_listen_fds(3).
FIRST = 3

_LISTEN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
#: Connections that may wait for being taken.
BACKLOG = 1024
_ANY = ipaddress.IPv4Address(0)
_make = socket.socket
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


@dataclass(frozen=True)
class Handed:
    """A listening socket that systemd has opened.

    @ivar fd: its descriptor in this process.
    @ivar name: C{FileDescriptorName=}, by default the name of the socket unit.
    @ivar everywhere: its port, if it is on every address that L{Everywhere} would listen on.
    """

    fd: int
    family: int
    name: str
    everywhere: int | None = None

    def __str__(self) -> str:
        return f"socket {self.fd} of systemd" + (f" ({self.name})" if self.name else "")


def first_environ(
    environ: Mapping[str, str] = os.environ, initial: Path = Path("/proc/self/environ")
) -> dict[str, str]:
    """The variables that tell of sockets, as this process was given them.

    Importing C{twisted.internet.endpoints} takes them away, and under C{twistd} another plugin may have done that.
    """
    if "LISTEN_FDS" in environ:
        return {name: environ[name] for name in _LISTEN if name in environ}
    try:
        lines = initial.read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(line).partition("=") for line in lines)
    return {name: value for name, _, value in pairs if name in _LISTEN}


def handed_over(environ: Mapping[str, str], pid: int, first: int = FIRST) -> tuple[Handed, ...]:
    """The sockets that were handed to the process C{pid} (sd_listen_fds(3)); they stay open until they are adopted.

    @raise ValueError: with what is wrong with one of them.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return ()
    count = environ.get("LISTEN_FDS", "")
    if not count.isdecimal() or len(count) > 5:
        raise ValueError("LISTEN_FDS of the environment is not a number")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    return tuple(_look(first + index, names[index]) for index in range(int(count)))


def _look(fd: int, name: str) -> Handed:
    try:
        # Made of another descriptor, so that closing it leaves the first one alone.
        with socket.socket(fileno=os.dup(fd)) as opened:
            listens = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            found = Handed(fd, int(opened.family), name, _port_of_all(opened))
            if listens and opened.type == socket.SOCK_STREAM and opened.family in _FAMILIES:
                os.set_inheritable(fd, False)
                return found
    except OSError as error:
        if error.errno == errno.EBADF:
            raise ValueError(f"LISTEN_FDS of the environment counts descriptor {fd}, which is not open") from None
        if error.errno != errno.ENOTSOCK:
            raise ValueError(f"{Handed(fd, 0, name)}: {error.strerror}") from None
    wanted = "use ListenStream= with Accept=no"
    raise ValueError(f"{Handed(fd, 0, name)} is not one that listens for streams of TCP or UNIX: {wanted}")


def _port_of_all(opened: socket.socket) -> int | None:
    if opened.family == socket.AF_INET6:
        both = not opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        return int(opened.getsockname()[1]) if both and opened.getsockname()[0] == "::" else None
    if opened.family == socket.AF_INET and opened.getsockname()[0] == str(_ANY) and not _has_ipv6():
        return int(opened.getsockname()[1])
    return None


def _has_ipv6() -> bool:
    try:
        _make(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno != errno.EAFNOSUPPORT
    return True


def forget_stale(path: str) -> None:
    """Remove the file of a UNIX socket whose process was killed, and the lock that Twisted put beside it.

    Twisted goes by the lock alone, which names a process: by now, perhaps, quite another one, or in a container
    ourselves.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            probe.connect(path)
    except ConnectionRefusedError:
        for file in (path, f"{path}.lock"):
            with contextlib.suppress(OSError):
                os.unlink(file)
    except OSError:
        # Whatever it is, listening will say so.
        return


@implementer(IStreamServerEndpoint)
class Adopted:
    """Listens on a socket that was handed over. Stopping leaves it to systemd, and a UNIX socket's file as it is."""

    def __init__(self, reactor: Any, handed: Handed) -> None:
        self._reactor = reactor
        self._handed = handed

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """As L{IStreamServerEndpoint}; once only."""
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        handed = self._handed
        os.set_blocking(handed.fd, False)
        if handed.family == socket.AF_UNIX:
            port: Any = _UNIXPort(handed.fd, factory, self._reactor)
            port.startListening()
        else:
            port = self._reactor.adoptStreamPort(handed.fd, handed.family, factory)
        os.close(handed.fd)
        listening: IListeningPort = port
        return listening


class _UNIXPort(unix.Port):
    """Twisted's own would change the mode of an adopted socket's file, and remove the file in the end."""

    # shutdown(2) would end the socket for systemd, and for every process that listens on it.
    _shouldShutdown = False

    def __init__(self, fd: int, factory: IProtocolFactory, reactor: Any) -> None:
        # A name in the abstract namespace has no file. Only getHost tells of the address, and it asks the socket.
        super().__init__(b"\0", factory, backlog=BACKLOG, reactor=reactor)
        self._fd = fd

    def createInternetSocket(self) -> socket.socket:
        return _Bound(fileno=os.dup(self._fd))


class _Bound(socket.socket):
    """A socket that has its address."""

    def bind(self, address: object) -> None:
        """It is."""


@implementer(IStreamServerEndpoint)
class Everywhere:
    """Listens on all addresses of the host, of IPv6 and IPv4, or of IPv4 alone where there is no IPv6."""

    def __init__(self, reactor: Any, port: int, backlog: int = BACKLOG) -> None:
        self._reactor = reactor
        self._port = port
        self._backlog = backlog

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """As L{IStreamServerEndpoint}."""
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> IListeningPort:
        with self._bound() as opened:
            opened.setblocking(False)
            opened.listen(self._backlog)
            listening: IListeningPort = self._reactor.adoptStreamPort(opened.fileno(), opened.family, factory)
            return listening

    def _bound(self) -> socket.socket:
        try:
            return _bind(socket.AF_INET6, "::", self._port)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
        return _bind(socket.AF_INET, "", self._port)


def _bind(family: int, host: str, port: int) -> socket.socket:
    opened = _make(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Whatever the host's net.ipv6.bindv6only says.
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind((host, port))
    except BaseException:
        opened.close()
        raise
    return opened
