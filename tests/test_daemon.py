"""Tests for L{crcache.daemon}: what is opened when, and let go of in which order."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from crcache.daemon import CannotStart, Daemon, Listener, Parts, tell_why
from crcache.errors import StoreError
from crcache.store.memory import Memory
from crcache.workers import Inline

ADDRESS = IPv4Address("TCP", "127.0.0.1", 3000)
FREE = "tcp:0:interface=127.0.0.1"


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

    def begin(self) -> Callable[[], None]:
        """Note when it is called, and when what it returns is."""
        self.events.append("on start")
        return lambda: self.events.append("undo")

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
                self.begin,
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
        self.assertEqual(self.events[2:], ["close upstream", "stop store", "undo", "stop threads"])

    def test_cannot_listen(self) -> None:
        """A port that cannot be had ends the process with one line that names it and says why."""
        taken = CannotListenError("", 3000, OSError(98, "Address already in use"))
        for problem, why in (
            (taken, "Address already in use"),
            (OSError(13, "Permission denied"), "Permission denied"),
            (ValueError("no such thing"), "no such thing"),
        ):
            daemon = self.daemon(Endpoint(self.events, Port(self.events)), Endpoint(self.events, problem))
            error = self.assertRaises(CannotStart, daemon.privilegedStartService)
            self.assertEqual(str(error), f"tcp:1: cannot listen: {why}")

    def test_no_endpoint(self) -> None:
        """So does one that cannot even be made by then."""
        daemon = self.daemon(ValueError("the certificate has gone"))
        error = self.assertRaises(CannotStart, daemon.privilegedStartService)
        self.assertEqual(str(error), "tcp:0: cannot listen: the certificate has gone")

    def test_unusable_store(self) -> None:
        """A cache directory that cannot be used ends it as well, before any thread is started."""
        daemon = self.daemon(problem=StoreError("cache directory /x: cannot be written"))
        daemon.privilegedStartService()
        error = self.assertRaises(CannotStart, daemon.startService)
        self.assertEqual(str(error), "cache directory /x: cannot be written")
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

    def test_tell_why(self) -> None:
        """The line is told once in the log and once on stderr, however odd; other errors keep their tracebacks."""
        told, others = io.StringIO(), []
        self.patch(sys, "__stderr__", told)
        self.patch(sys, "__excepthook__", lambda *error: others.append(error))
        tell_why(CannotStart, CannotStart("mind the {gap}"), None)
        self.assertEqual(told.getvalue(), "crcache: mind the {gap}\n")
        self.assertEqual([formatEvent(event) for event in self.logged], ["crcache: mind the {gap}"])
        other = ValueError("x")
        tell_why(ValueError, other, None)
        self.assertEqual(others, [(ValueError, other, None)])
        self.assertEqual(told.getvalue(), "crcache: mind the {gap}\n")
        # Nobody has one to tell it to, in a process that was started without.
        self.patch(sys, "__stderr__", None)
        tell_why(CannotStart, CannotStart("again"), None)
        self.assertEqual(len(self.logged), 2)


@dataclass
class Ended:
    """A process that did not start serving."""

    status: int
    stdout: str
    stderr: str
    log: str
    pidfile: bool


class TwistdTests(SynchronousTestCase):
    """twistd, in a process of its own, with what cannot work."""

    def twistd(self, *arguments: str, background: bool = False) -> Ended:
        """Run it until it ends."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        pidfile, log = directory / "pid", directory / "log"
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--pidfile", str(pidfile)]
        command += ["--logfile", str(log)] if background else ["--nodaemon"]
        command += ["crcache", "--cache-dir", str(directory / "cache"), "--admin", "off", *arguments]
        top = str(Path(__file__).parents[1])
        # Not pipes: what hangs in the background would keep them open beyond the timeout.
        with open(directory / "out", "w") as out, open(directory / "err", "w") as err:
            done = subprocess.run(
                command, cwd=top, env={**os.environ, "PYTHONPATH": top}, stdin=subprocess.DEVNULL, stdout=out,
                stderr=err, timeout=20, check=False,
            )  # fmt: skip
        logged = log.read_text() if background else ""
        return Ended(
            done.returncode, (directory / "out").read_text(), (directory / "err").read_text(), logged, pidfile.exists()
        )

    def refused(self, line: str, *arguments: str) -> None:
        """It ends with status 1, no pidfile, and this line: alone on stderr, or by way of the waiting parent."""
        here = self.twistd(*arguments)
        self.assertEqual((here.status, here.stderr, here.pidfile), (1, f"crcache: {line}\n", False), here)
        self.assertEqual(here.stdout.count(line), 1, here.stdout)
        self.assertNotIn("Traceback", here.stdout)
        behind = self.twistd(*arguments, background=True)
        self.assertEqual((behind.status, behind.pidfile), (1, False), behind)
        # twistd passes on so many characters, and refers to the log for the rest.
        self.assertIn(f"CannotStart: {line}"[:60], behind.stderr)
        self.assertIn(f"crcache: {line}", behind.log)
        self.assertNotIn("Traceback", behind.log)

    def test_unwritable(self) -> None:
        """A cache directory that cannot be made, in the foreground and in the background."""
        why = "cannot be written: No such file or directory (/proc/nope)"
        self.refused(f"cache directory /proc/nope: {why}", "--cache-dir", "/proc/nope", "--listen", FREE)

    def test_taken_port(self) -> None:
        """A port that another process has."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            self.refused(f"{endpoint}: cannot listen: Address already in use", "--listen", endpoint)
