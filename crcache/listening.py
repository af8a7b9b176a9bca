"""What is listened on: an endpoint string, and a certificate that can be renewed while the port stays open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from crcache.endpoints import files_of, make_endpoint, parse_tls
from crcache.errors import ConfigError
from crcache.host.sockets import BACKLOG, Everywhere, forget_stale
from crcache.identity import Identity, Secured, Tls, harden


class Listening:
    """One endpoint string. Its files are read when listening begins, not before, and again by L{prepare}.

    @ivar description: the endpoint string.
    """

    def __init__(self, reactor: Any, description: str, tls: Tls | None = None) -> None:
        """
        @param tls: what it shows if it is a C{tls:} endpoint.
        """
        self.description = description
        self._reactor = reactor
        self._tls = Tls(None) if tls is None else tls
        self._identity: Identity | None = None

    @property
    def name(self) -> str:
        """The endpoint string."""
        return self.description

    @property
    def files(self) -> tuple[Path, ...]:
        """What it shows to clients, if that is its own."""
        return () if self._identity is None else files_of(self.description)

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Open the port. Fails as the endpoint does.

        @raise ValueError: if this is no endpoint, or one of its files cannot be used.
        """
        secure = parse_tls(self.description)
        if secure is not None:
            secured = Secured(self._tls.begin(), factory)
            if not secure.interface:
                return Everywhere(self._reactor, secure.port).listen(secured)
            return execute(self._reactor.listenTCP, secure.port, secured, BACKLOG, secure.interface)
        listening: Deferred[IListeningPort] = make_endpoint(self.description, _Listener(self)).listen(factory)
        return listening

    def prepare(self) -> Callable[[], None]:
        """Read the certificate and its key again; for any thread, since it waits for the disk.

        @return: puts them in force for new connections, at once and without fail; for the reactor's thread. Of an
            endpoint without TLS there is nothing to put in force.
        @raise ConfigError: with one line that names the endpoint and the file; the old ones stay in force.
        """
        identity = self._identity
        if identity is None:
            return _nothing
        found: list[Any] = []
        problems: list[Failure] = []
        try:
            endpoint = make_endpoint(self.description, _Finder(self._reactor, found.append))
            endpoint.listen(Factory()).addErrback(problems.append)
            for problem in problems:
                problem.raiseException()
        except Exception as error:
            raise ConfigError(f"the certificate cannot be renewed: {error}") from None
        (renewed,) = found

        def commit() -> None:
            identity.shown = renewed

        return commit

    def listen_with_tls(self, port: int, factory: IProtocolFactory, context: Any, backlog: int, interface: str) -> Any:
        """As C{IReactorSSL.listenSSL}, but what is shown to clients can be replaced."""
        harden(context)
        self._identity = Identity(context)
        return self._reactor.listenTCP(port, Secured(self._identity, factory), backlog, interface)

    @property
    def reactor(self) -> Any:
        """What it listens with."""
        return self._reactor


def _nothing() -> None:
    """What there is to renew without TLS."""


class _Listener:
    """The reactor as an endpoint sees it when it listens."""

    def __init__(self, listening: Listening) -> None:
        self._listening = listening

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening.reactor, name)

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """As C{IReactorSSL}."""
        return self._listening.listen_with_tls(port, factory, contextFactory, backlog, interface)

    def listenUNIX(self, address: str, factory: IProtocolFactory, *args: Any, **kwargs: Any) -> Any:
        """As C{IReactorUNIX}, where somebody may have left a socket behind."""
        forget_stale(os.fsdecode(address))
        return self._listening.reactor.listenUNIX(address, factory, *args, **kwargs)


class _Finder:
    """The reactor as an endpoint sees it that is only made for its certificate: nothing listens."""

    def __init__(self, reactor: Any, found: Callable[[Any], object]) -> None:
        self._reactor = reactor
        self._found = found

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("listen", "adopt")):
            raise AttributeError(name)
        return getattr(self._reactor, name)

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> None:
        """As C{IReactorSSL}, but there is no port."""
        harden(contextFactory)
        self._found(contextFactory)
