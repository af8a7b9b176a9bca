"""Tests for L{crcache.daemon}: what is opened when, and let go of in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from crcache.daemon import Daemon, Listener, Parts
from crcache.errors import StoreError
from crcache.store.memory import Memory
from crcache.workers import Inline

ADDRESS = IPv4Address("TCP", "127.0.0.1", 3000)


@implementer(IListeningPort)
class Port:
    """A port that is listened on."""

    def __init__(self, events: list[str], address: object = ADDRESS) -> None:
        self._events = events
        self._address = address

    def startListening(self) -> None:
        """It does already."""

    def stopListening(self) -> Deferred[None]:
        """As L{IListeningPort}."""
        self._events.append("close port")
        return succeed(None)

    def getHost(self) -> Any:
        """As L{IListeningPort}."""
        return self._address


@implementer(IStreamServerEndpoint)
class Endpoint:
    """Listens, or fails to."""

    def __init__(self, events: list[str], result: Port | Exception) -> None:
        self._events = events
        self._result = result

    def listen(self, protocolFactory: object) -> Deferred[IListeningPort]:
        """As L{IStreamServerEndpoint}."""
        if isinstance(self._result, Exception):
            return fail(self._result)
        self._events.append("open port")
        return succeed(cast(IListeningPort, self._result))


class Threads(Inline):
    """Workers that tell when."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def start(self) -> None:
        self._events.append("start threads")

    def stop(self) -> None:
        self._events.append("stop threads")


class Store(Memory):
    """A store that tells when, and may fail."""

    def __init__(self, events: list[str], problem: StoreError | None) -> None:
        super().__init__(lambda: 0.0)
        self._events = events
        self._problem = problem

    def start(self) -> None:
        if self._problem is not None:
            raise self._problem
        self._events.append("start store")

    def stop(self) -> None:
        self._events.append("stop store")


class Fills:
    """Fills that take their time to stop."""

    def __init__(self, events: list[str]) -> None:
        self._events = events
        self.stopped: Deferred[None] = Deferred()

    def stop(self) -> Deferred[None]:
        self._events.append("stop fills")
        return self.stopped


class DaemonTests(SynchronousTestCase):
    """L{Daemon}."""

    def setUp(self) -> None:
        self.events: list[str] = []
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.fills = Fills(self.events)

    def daemon(
        self,
        *endpoints: Endpoint | Exception,
        problem: StoreError | None = None,
        warnings: Sequence[str] = (),
    ) -> Daemon:
        """A daemon that listens on these."""

        def make(endpoint: Endpoint | Exception) -> IStreamServerEndpoint:
            if isinstance(endpoint, Exception):
                raise endpoint
            return cast(IStreamServerEndpoint, endpoint)

        def close() -> Deferred[None]:
            self.events.append("close upstream")
            return succeed(None)

        def listener(index: int, endpoint: Endpoint | Exception) -> Listener:
            return Listener(f"tcp:{index}", lambda: make(endpoint), Factory())

        listeners = [listener(index, endpoint) for index, endpoint in enumerate(endpoints)]
        return Daemon(
            Parts(
                listeners,
                [Threads(self.events)],
                Store(self.events, problem),
                self.fills,  # type: ignore[arg-type]
                close,
                lambda: self.events.append("on start"),
                warnings,
            )
        )

    def test_start(self) -> None:
        """Ports are opened with privileges; store and threads only after twistd has forked and dropped them."""
        daemon = self.daemon(Endpoint(self.events, Port(self.events)))
        self.assertEqual(self.events, [])
        daemon.privilegedStartService()
        self.assertEqual(self.events, ["open port"])
        daemon.startService()
        self.assertEqual(self.events[1:], ["start store", "start threads", "on start"])
        self.assertTrue(daemon.running)

    def test_stop(self) -> None:
        """The ports are closed first; store and threads only when every fill has let go."""
        daemon = self.daemon(Endpoint(self.events, Port(self.events)))
        daemon.privilegedStartService()
        daemon.startService()
        self.events.clear()
        self.assertFalse(daemon.draining)
        stopped = daemon.stopService()
        self.assertTrue(daemon.draining)
        self.assertEqual(self.events, ["close port", "stop fills"])
        self.assertNoResult(stopped)
        self.fills.stopped.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.events[2:], ["close upstream", "stop store", "stop threads"])

    def test_cannot_listen(self) -> None:
        """A port that cannot be had ends the process with one line that names it and says why."""
        taken = CannotListenError("", 3000, OSError(98, "Address already in use"))
        for problem, why in (
            (taken, "Address already in use"),
            (OSError(13, "Permission denied"), "Permission denied"),
            (ValueError("no such thing"), "no such thing"),
        ):
            daemon = self.daemon(Endpoint(self.events, Port(self.events)), Endpoint(self.events, problem))
            error = self.assertRaises(SystemExit, daemon.privilegedStartService)
            self.assertEqual(error.code, f"crcache: tcp:1: cannot listen: {why}")

    def test_no_endpoint(self) -> None:
        """So does one that cannot even be made by then."""
        daemon = self.daemon(ValueError("the certificate has gone"))
        error = self.assertRaises(SystemExit, daemon.privilegedStartService)
        self.assertEqual(error.code, "crcache: tcp:0: cannot listen: the certificate has gone")

    def test_unusable_store(self) -> None:
        """A cache directory that cannot be used ends it as well, before any thread is started."""
        daemon = self.daemon(problem=StoreError("cache directory /x: cannot be written"))
        daemon.privilegedStartService()
        error = self.assertRaises(SystemExit, daemon.startService)
        self.assertEqual(error.code, "crcache: cache directory /x: cannot be written")
        self.assertEqual(self.events, [])

    def test_says_so(self) -> None:
        """What there is to warn of is logged, and that it is ready, and where."""
        ports = [
            Port(self.events, ADDRESS),
            Port(self.events, IPv6Address("TCP", "::1", 3001)),
            Port(self.events, UNIXAddress(b"/run/crcache.sock")),
        ]
        daemon = self.daemon(*(Endpoint(self.events, port) for port in ports), warnings=["mind the {gap}"])
        daemon.privilegedStartService()
        self.assertEqual(daemon.addresses(), ["127.0.0.1:3000", "[::1]:3001", "/run/crcache.sock"])
        daemon.startService()
        lines = [formatEvent(event) for event in self.logged]
        self.assertIn("mind the {gap}", lines)
        self.assertIn("is ready on 127.0.0.1:3000, [::1]:3001, /run/crcache.sock", lines[-1])
