"""The running daemon: what it opens when it starts, and lets go of when it stops."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import __version__
from crcache.errors import StoreError
from crcache.flow.fills import Fills
from crcache.interfaces import IStore
from crcache.workers import Workers

log = Logger()


class CannotStart(Exception):
    """What keeps the daemon from starting, in one line.

    Not a L{SystemExit}: in the background twistd tells the waiting parent process of an L{Exception} alone.
    """


@dataclass(frozen=True)
class Listener:
    """Something to listen on.

    @ivar name: as the administrator wrote it: an endpoint string.
    @ivar endpoint: made when listening begins, not before.
    """

    name: str
    endpoint: Callable[[], IStreamServerEndpoint]
    factory: IProtocolFactory


@dataclass
class Parts:
    """What the composition root hands over.

    @ivar warnings: one line each, to be logged at start.
    @ivar close_upstream: closes the connections to origins.
    @ivar on_start: called when threads run and before the first request; what it returns is called before they end.
    """

    listeners: Sequence[Listener]
    workers: Sequence[Workers]
    store: IStore
    fills: Fills
    close_upstream: Callable[[], Deferred[None]]
    on_start: Callable[[], Callable[[], None]]
    warnings: Sequence[str] = field(default=())


class Daemon(Service):
    """Ports are opened before privileges are dropped; threads, locks and files after that, once twistd has forked.

    What keeps it from starting is L{CannotStart}; L{tell_why} makes one line on stderr of it, and exit status 1.

    @ivar draining: whether it has been told to stop.
    """

    name = "crcache"

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._ports: list[IListeningPort] = []
        self.draining = False
        self._undo: Callable[[], None] = _nothing

    @property
    def ports(self) -> tuple[IListeningPort, ...]:
        """What is listened on now, in the order of the listeners."""
        return tuple(self._ports)

    def addresses(self) -> list[str]:
        """What is listened on now, as C{HOST:PORT} or a socket's path."""
        return [_address(port.getHost()) for port in self._ports]

    def privilegedStartService(self) -> None:
        """Open the ports.

        @raise CannotStart: with the line that says which cannot be had.
        """
        super().privilegedStartService()
        for listener in self._parts.listeners:
            try:
                opening = listener.endpoint().listen(listener.factory)
            except Exception as error:
                raise CannotStart(f"{listener.name}: cannot listen: {error}") from error
            problems: list[Failure] = []
            opening.addCallbacks(self._ports.append, problems.append)
            for problem in problems:
                cause = getattr(problem.value, "socketError", None) or problem.value
                raise CannotStart(f"{listener.name}: cannot listen: {getattr(cause, 'strerror', None) or cause}")

    def startService(self) -> None:
        """Check the store, start the threads.

        @raise CannotStart: with the line that says what is wrong with the cache directory.
        """
        try:
            self._parts.store.start()
        except StoreError as problem:
            raise CannotStart(problem.message) from problem
        super().startService()
        for workers in self._parts.workers:
            workers.start()
        self._undo = self._parts.on_start()
        for warning in self._parts.warnings:
            # Not as C{warning}: observers take an event with that field for one of Python's own.
            log.warn("{line}", line=warning)
        log.info("crcache {version} is ready on {ports}", version=__version__, ports=", ".join(self.addresses()))

    def stopService(self) -> Deferred[None]:
        """Close the ports, leave fills resumable, end the threads."""
        self.draining = True
        super().stopService()
        closing: list[Deferred[None]] = []
        for port in self._ports:
            closed = port.stopListening()
            if closed is not None:
                closing.append(closed)
        stopping = self._stop(closing)
        return Deferred.fromCoroutine(stopping)

    async def _stop(self, closing: list[Deferred[None]]) -> None:
        await self._parts.fills.stop()
        await DeferredList([*closing, self._parts.close_upstream()], consumeErrors=True)
        self._parts.store.stop()
        self._undo()
        for workers in self._parts.workers:
            workers.stop()


def _nothing() -> None:
    """What there is to undo before anything has begun."""


def _address(address: object) -> str:
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    name = getattr(address, "name", None)
    return os.fsdecode(name) if isinstance(name, bytes) else str(address)


def tell_why(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """As L{sys.excepthook}, but of L{CannotStart} only its line: in the log, and on the process's own stderr."""
    if not isinstance(error, CannotStart):
        sys.__excepthook__(kind, error, traceback)
        return
    log.critical("{line}", line=f"crcache: {error}")
    # By now sys.stderr is the log. In the background this one leads nowhere, and twistd's first process tells.
    if sys.__stderr__ is not None:
        print(f"crcache: {error}", file=sys.__stderr__, flush=True)
