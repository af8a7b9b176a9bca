"""The running daemon: what it opens when it starts, and lets go of when it stops."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import __version__, events
from crcache.ending import CannotStart, end_threads, within
from crcache.errors import StoreError
from crcache.flow.fills import Fills
from crcache.host.signals import Signals
from crcache.host.systemd import Manager
from crcache.interfaces import IStore
from crcache.opening import Opening
from crcache.workers import Workers

log = Logger()

#: Seconds that each step of stopping may take, after the drain: a disk that hangs must not keep the process.
STEP = 3.0


class Drainable(Protocol):
    """A site whose requests can be brought to an end."""

    def drain(self, seconds: float) -> Deferred[None]:
        """Close idle connections, finish what is being answered, abort what is left after so many seconds.

        Fires when no connection is left. Called again, with fewer seconds, it hurries.
        """


class Listens(Protocol):
    """As C{IStreamServerEndpoint}."""

    def listen(self, factory: IProtocolFactory, /) -> Deferred[IListeningPort]:
        """Open the port."""


@dataclass(frozen=True)
class Listener:
    """Something to listen on.

    @ivar name: as the administrator wrote it: an endpoint string.
    @ivar endpoint: made when listening begins, not before.
    @ivar admin: whether it is for operators: it stays until the end.
    """

    name: str
    endpoint: Callable[[], Listens]
    factory: IProtocolFactory
    admin: bool = False


@dataclass
class Parts:
    """What the composition root hands over.

    @ivar clock: the reactor: time, threads, and whether it runs.
    @ivar sites: the clients' and then the operators', each drained in its turn.
    @ivar name: what the store is called, where it says that it is waited for.
    @ivar close_upstream: closes the connections to origins.
    @ivar on_start: called when threads run and before the first request; what it returns is called before they end.
    @ivar on_open: called when the store is open.
    @ivar fail: called with what keeps it from starting, if the reactor runs by then.
    @ivar drain_timeout: how many seconds requests have to end, when it stops.
    @ivar status: one line: what it does now.
    @ivar reload: reads the configuration again.
    @ivar signals: C{None}: it handles no signals, because it is not alone in its process.
    @ivar warnings: one line each, to be logged at start.
    """

    clock: Any
    listeners: Sequence[Listener]
    workers: Sequence[Workers]
    name: str
    store: IStore
    fills: Fills
    close_upstream: Callable[[], Deferred[None]]
    on_start: Callable[[], Callable[[], None]]
    on_open: Callable[[], None]
    fail: Callable[[CannotStart], None]
    manager: Manager
    status: Callable[[], str]
    drain_timeout: Callable[[], float]
    reload: Callable[[], Deferred[None]]
    sites: tuple[Sequence[Drainable], Sequence[Drainable]] = ((), ())
    signals: Signals | None = None
    warnings: Sequence[str] = field(default=())


class Daemon(Service):
    """Ports are opened before privileges are dropped; threads, locks and files after that, once twistd has forked.

    What keeps it from starting is L{CannotStart}.

    @ivar draining: whether it has been told to stop.
    """

    name = "crcache"

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._opening = Opening(parts.clock, parts.name, parts.store.start)
        self._ports: list[tuple[Listener, IListeningPort]] = []
        self._stopped: Deferred[None] | None = None
        self.draining = False
        self._undo: Callable[[], None] = _nothing

    @property
    def ports(self) -> tuple[IListeningPort, ...]:
        """What is listened on now, in the order of the listeners."""
        return tuple(port for _, port in self._ports)

    @property
    def waiting(self) -> str | None:
        """One line: why it cannot serve yet; C{None} once it can."""
        return None if self._opening.open else self._opening.reason

    def addresses(self, admin: bool = True) -> list[str]:
        """What is listened on now, as C{HOST:PORT} or a socket's path; for operators too, or for clients alone."""
        return [_address(port.getHost()) for listener, port in self._ports if admin or not listener.admin]

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
            opened: list[IListeningPort] = []
            problems: list[Failure] = []
            opening.addCallbacks(opened.append, problems.append)
            for problem in problems:
                cause = getattr(problem.value, "socketError", None) or problem.value
                raise CannotStart(f"{listener.name}: cannot listen: {getattr(cause, 'strerror', None) or cause}")
            self._ports.extend((listener, port) for port in opened)

    def startService(self) -> None:
        """Open the store, start the threads. A cache directory that is not there yet is waited for afterwards.

        @raise CannotStart: with the line that says what is wrong with the cache directory.
        """
        parts = self._parts
        for warning in parts.warnings:
            # Not as C{warning}: observers take an event with that field for one of Python's own.
            log.warn("{line}", event=events.WARNING, line=warning)
        problems: list[Failure] = []
        opening = self._opening.begin().addErrback(problems.append)
        for problem in problems:
            raise self._cannot_start(problem) from problem.value
        super().startService()
        for workers in parts.workers:
            workers.start()
        self._undo = parts.on_start()
        if parts.signals is not None:
            parts.signals.on(signal.SIGHUP, self.reload)
        opening.addCallback(lambda _: None if problems else self._serve())
        # Whatever it is, nobody would ever be served.
        opening.addErrback(problems.append)
        opening.addCallback(lambda _: self._give_up(problems))
        # Not before the reactor turns: it is its own heartbeat that the watchdog hears.
        parts.clock.callWhenRunning(self._begin)

    def _begin(self) -> None:
        if not self.draining:
            self._parts.manager.begin(self._parts.clock, self._parts.status)

    def _serve(self) -> None:
        self._parts.on_open()
        addresses = ", ".join(self.addresses())
        log.info(
            "crcache {version} is ready on {addresses}", event=events.READY, version=__version__, addresses=addresses
        )
        self._parts.clock.callWhenRunning(self._ready)

    def _ready(self) -> None:
        if not self.draining:
            self._parts.manager.ready(self._parts.status())

    def _give_up(self, problems: Sequence[Failure]) -> None:
        for problem in problems:
            self._parts.clock.callWhenRunning(partial(self._parts.fail, self._cannot_start(problem)))

    def _cannot_start(self, problem: Failure) -> CannotStart:
        """The line that says why. Of what is nobody's mistake but crcache's own, the log gets the traceback."""
        if isinstance(problem.value, StoreError):
            return CannotStart(problem.value.message)
        log.failure("the daemon could not begin to serve", problem, event=events.INTERNAL_ERROR)
        return CannotStart(f"{self._parts.name}: internal error: {type(problem.value).__name__}; the log has more")

    def reload(self) -> Deferred[None]:
        """Read the configuration again, and put it in force; what is being sent or fetched goes on.

        @return: fires when that is done, or a mistake, which has been logged, has left everything as it was.
        """
        if self.draining:
            return succeed(None)
        manager = self._parts.manager
        manager.reloading()
        return self._parts.reload().addCallback(lambda _: manager.reloaded())

    def stopService(self) -> Deferred[None]:
        """Finish what is being answered, leave fills resumable, close the ports and end the threads.

        @return: fires when that is done. Idempotent.
        """
        done: Deferred[None] = Deferred()
        if self._stopped is None:
            self.draining = True
            super().stopService()
            self._stopped = Deferred.fromCoroutine(self._stop())

        def over(result: Any) -> Any:
            done.callback(None)
            return result

        self._stopped.addBoth(over)
        return done

    async def _stop(self) -> None:
        parts = self._parts
        seconds = parts.drain_timeout()
        clients, operators = parts.sites
        log.info("stopping; requests have {seconds:g} s to end", event=events.DRAINING, seconds=seconds)
        parts.manager.stopping(seconds + 8 * STEP)
        self._opening.stop()
        closing = self._close(admin=False)
        if parts.signals is not None:
            # Whoever asks twice does not want to wait.
            for number in (signal.SIGTERM, signal.SIGINT):
                parts.signals.on(number, self._hurry)
        parts.manager.status(parts.status())
        await _all(site.drain(seconds) for site in clients)
        await within(parts.clock, STEP, parts.fills.stop())
        await within(parts.clock, STEP, DeferredList([*closing, parts.close_upstream()], consumeErrors=True))
        await _all(self._close(admin=True))
        await _all(site.drain(0) for site in operators)
        parts.store.stop()
        self._undo()
        end_threads(parts.workers, STEP)
        parts.manager.end()
        log.info("crcache {version} has stopped", event=events.STOPPED, version=__version__)
        if parts.signals is not None:
            parts.signals.restore()

    def _hurry(self) -> None:
        log.warn("told to stop a second time: what is being answered is broken off", event=events.HURRIED)
        for site in self._parts.sites[0]:
            site.drain(0)

    def _close(self, admin: bool) -> list[Deferred[None]]:
        closing = [port.stopListening() for listener, port in self._ports if listener.admin is admin]
        self._ports = [(listener, port) for listener, port in self._ports if listener.admin is not admin]
        return [closed for closed in closing if closed is not None]


async def _all(waiting: Any) -> None:
    await DeferredList(list(waiting), consumeErrors=True)


def _nothing() -> None:
    """What there is to undo before anything has begun."""


def _address(address: object) -> str:
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    name = getattr(address, "name", None)
    return os.fsdecode(name) if isinstance(name, bytes) else str(address)
