"""What is listened on: an endpoint string, and a certificate that can be renewed while the port stays open."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLContextFactory,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from crcache.endpoints import make_endpoint
from crcache.errors import ConfigError
from crcache.host.sockets import forget_stale


class Listening:
    """One endpoint string. Its files are read when listening begins, not before, and again by L{prepare}.

    @ivar description: the endpoint string.
    """

    def __init__(self, reactor: Any, description: str) -> None:
        self.description = description
        self._reactor = reactor
        self._identity: _Identity | None = None

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Open the port. Fails as the endpoint does.

        @raise ValueError: if this is no endpoint, or one of its files cannot be used.
        """
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
        _check(context)
        self._identity = _Identity(context)
        return self._reactor.listenSSL(port, factory, self._identity, backlog, interface)

    @property
    def reactor(self) -> Any:
        """What it listens with."""
        return self._reactor


def _check(context: Any) -> None:
    """Twisted itself would find out in part only with the first connection."""
    if IOpenSSLContextFactory.providedBy(context):
        context.getContext()


def _nothing() -> None:
    """What there is to renew without TLS."""


@implementer(IOpenSSLServerConnectionCreator)
class _Identity:
    """Who we are to clients.

    @ivar shown: what begins the TLS of a new connection, in any of the ways that Twisted knows.
    """

    def __init__(self, shown: Any) -> None:
        self.shown = shown

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """As L{IOpenSSLServerConnectionCreator}."""
        shown = self.shown
        if IOpenSSLServerConnectionCreator.providedBy(shown):
            connection: SSL.Connection = shown.serverConnectionForTLS(tlsProtocol)
            return connection
        return SSL.Connection(shown.getContext(), None)


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
        _check(contextFactory)
        self._found(contextFactory)
