"""Tests for L{crcache.daemon}: what is opened when, and let go of in which order."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from crcache.daemon import STEP, Daemon, Listener, Parts
from crcache.ending import CannotStart, tell_why
from crcache.errors import StoreAway, StoreError
from crcache.host.systemd import Manager
from crcache.opening import PAUSES
from crcache.store.memory import Memory
from crcache.workers import Inline

ADDRESS = IPv4Address("TCP", "127.0.0.1", 3000)
FREE = "tcp:0:interface=127.0.0.1"


@implementer(IListeningPort)
class Port:
    """A port that is listened on."""

    def __init__(self, events: list[str], address: object = ADDRESS, name: str = "port") -> None:
        self._events = events
        self._address = address
        self._name = name

    def startListening(self) -> None:
        """It does already."""

    def stopListening(self) -> Deferred[None]:
        """As L{IListeningPort}."""
        self._events.append(f"close {self._name}")
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
        self.problem = problem

    def start(self) -> None:
        if self.problem is not None:
            raise self.problem
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


class Site:
    """Requests that take their time to end."""

    def __init__(self, events: list[str], name: str) -> None:
        self._events = events
        self._name = name
        self.drained: Deferred[None] = Deferred()

    def drain(self, seconds: float) -> Deferred[None]:
        self._events.append(f"drain {self._name} {seconds:g}")
        if seconds == 0 and not self.drained.called:
            self.drained.callback(None)
        return self.drained


class Reactor(Clock):
    """Time, and threads that have no one to disturb."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.running: list[Callable[[], None]] | None = []

    def callFromThread(self, call: Callable[..., None], *arguments: object) -> None:
        self.threads.put(partial(call, *arguments))

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        if self.running is None:
            call()
        else:
            self.running.append(call)

    def run(self) -> None:
        waiting, self.running = self.running or [], None
        for call in waiting:
            call()


class Handlers:
    """Signals, as the daemon handles them."""

    def __init__(self) -> None:
        self.calls: dict[int, Callable[[], object]] = {}

    def on(self, number: int, call: Callable[[], object]) -> None:
        self.calls[number] = call

    def restore(self) -> None:
        self.calls.clear()


class DaemonTests(SynchronousTestCase):
    """L{Daemon}."""

    def setUp(self) -> None:
        self.events: list[str] = []
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.fills = Fills(self.events)
        self.clients, self.operators = Site(self.events, "clients"), Site(self.events, "operators")
        self.reactor = Reactor()
        self.signals = Handlers()
        self.told: list[str] = []
        self.failed: list[str] = []
        self.reloading: Deferred[None] = Deferred()

    def begin(self) -> Callable[[], None]:
        """Note when it is called, and when what it returns is."""
        self.events.append("on start")
        return lambda: self.events.append("undo")

    def daemon(
        self,
        *endpoints: Endpoint | Exception,
        problem: StoreError | None = None,
        warnings: Sequence[str] = (),
        admin: Endpoint | None = None,
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
        if admin is not None:
            listeners.append(Listener("admin", lambda: make(admin), Factory(), admin=True))
        self.store = Store(self.events, problem)
        manager: Any = SimpleNamespace(notify=self.told.append)
        return Daemon(
            Parts(
                clock=self.reactor,
                listeners=listeners,
                workers=[Threads(self.events)],
                name="cache directory /x",
                store=self.store,
                fills=self.fills,  # type: ignore[arg-type]
                close_upstream=close,
                on_start=self.begin,
                on_open=lambda: self.events.append("open"),
                fail=lambda error: self.failed.append(str(error)),
                manager=Manager({"NOTIFY_SOCKET": "x"}, 1, lambda _: manager),
                status=lambda: "as it is",
                drain_timeout=lambda: 7.0,
                reload=lambda: self.reloading,
                sites=([self.clients], [self.operators]),
                signals=self.signals,  # type: ignore[arg-type]
                warnings=warnings,
            )
        )

    def started(self, *endpoints: Endpoint, **further: Any) -> Daemon:
        """One that runs; what led there is forgotten."""
        daemon = self.daemon(*endpoints, **further)
        daemon.privilegedStartService()
        daemon.startService()
        self.reactor.run()
        self.events.clear()
        self.told.clear()
        return daemon

    def test_start(self) -> None:
        """Ports are opened with privileges; store and threads only after twistd has forked and dropped them. It is
        ready when the reactor runs."""
        daemon = self.daemon(Endpoint(self.events, Port(self.events)))
        self.assertEqual(self.events, [])
        daemon.privilegedStartService()
        self.assertEqual(self.events, ["open port"])
        daemon.startService()
        self.assertEqual(self.events[1:], ["start store", "start threads", "on start", "open"])
        self.assertTrue(daemon.running)
        self.assertIsNone(daemon.waiting)
        self.assertEqual(self.told, [])
        self.reactor.run()
        self.assertEqual(self.told, ["READY=1", "STATUS=as it is"])

    def test_stop(self) -> None:
        """Clients' ports are closed first, then what is being answered ends, then fills let go, then all else; the
        operators' port is the last one."""
        ports = [Endpoint(self.events, Port(self.events)), Endpoint(self.events, Port(self.events, name="admin"))]
        daemon = self.started(ports[0], admin=ports[1])
        self.assertFalse(daemon.draining)
        stopped = daemon.stopService()
        self.assertTrue(daemon.draining)
        self.assertEqual(self.events, ["close port", "drain clients 7"])
        self.assertTrue(self.told[0].startswith("STOPPING=1\nEXTEND_TIMEOUT_USEC="))
        self.clients.drained.callback(None)
        self.assertEqual(self.events[2:], ["stop fills"])
        self.assertNoResult(stopped)
        self.fills.stopped.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(
            self.events[3:],
            ["close upstream", "close admin", "drain operators 0", "stop store", "undo", "stop threads"],
        )
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.signals.calls, {})

    def test_stop_twice(self) -> None:
        """Stopping again does nothing but wait for the same end."""
        daemon = self.started()
        stopped = [daemon.stopService(), daemon.stopService()]
        self.assertEqual(self.events, ["drain clients 7"])
        self.clients.drained.callback(None)
        self.fills.stopped.callback(None)
        stopped.append(daemon.stopService())
        for each in stopped:
            self.successResultOf(each)
        self.assertEqual(self.events.count("stop threads"), 1)

    def test_second_signal(self) -> None:
        """A second SIGTERM, or Ctrl-C, while it drains ends the drain."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.clients, self.signals = Site(self.events, "clients"), Handlers()
            daemon = self.started()
            self.assertNotIn(number, self.signals.calls)
            daemon.stopService()
            self.assertNotIn("stop fills", self.events)
            self.signals.calls[number]()
            self.assertEqual(self.events[-2:], ["drain clients 0", "stop fills"])

    def test_fills_that_hang(self) -> None:
        """Fills that cannot let go, as their disk does not answer, keep it from ending for so long only."""
        daemon = self.started()
        stopped = daemon.stopService()
        self.clients.drained.callback(None)
        self.reactor.advance(STEP - 0.1)
        self.assertNoResult(stopped)
        self.reactor.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(self.events[-1], "stop threads")

    def test_reload(self) -> None:
        """SIGHUP reads the configuration again, and systemd knows from when to when."""
        daemon = self.started()
        self.signals.calls[signal.SIGHUP]()
        self.assertTrue(self.told[-1].startswith("RELOADING=1\nMONOTONIC_USEC="))
        self.reloading.callback(None)
        self.assertEqual(self.told[-1], "READY=1")
        count = len(self.told)
        daemon.stopService()
        self.signals.calls[signal.SIGHUP]()
        self.assertFalse([each for each in self.told[count:] if "RELOADING" in each])

    def test_waits_for_the_store(self) -> None:
        """A cache directory that is not there is waited for: threads run and operators see why, but it is not ready;
        then it opens."""
        daemon = self.daemon(problem=StoreAway("cache directory /x: /mnt is not there"))
        daemon.startService()
        self.reactor.run()
        self.assertEqual(self.events, ["start threads", "on start"])
        self.assertEqual(daemon.waiting, "cache directory /x: /mnt is not there")
        self.assertEqual(self.told, ["STATUS=as it is"])
        self.store.problem = None
        self.settle()
        self.assertEqual(self.events[2:], ["start store", "open"])
        self.assertIsNone(daemon.waiting)
        self.assertEqual(self.told[1:], ["READY=1"])

    def test_late_mistake(self) -> None:
        """A mistake that is seen only when the mount has come ends it all the same, with its line."""
        daemon = self.daemon(problem=StoreAway("cache directory /x: /mnt is not there"))
        daemon.startService()
        self.reactor.run()
        self.store.problem = StoreError("cache directory /x: its layout is '99'")
        self.settle()
        self.assertEqual(self.failed, ["cache directory /x: its layout is '99'"])
        self.assertNotIn("READY=1", self.told)

    def test_stopped_while_waiting(self) -> None:
        """Whoever waits can be stopped, and does not open the store after that."""
        daemon = self.daemon(problem=StoreAway("cache directory /x: /mnt is not there"))
        daemon.startService()
        self.reactor.run()
        stopped = daemon.stopService()
        self.clients.drained.callback(None)
        self.fills.stopped.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def settle(self) -> None:
        """Time goes on until a thread has tried the store once more."""
        # What the first attempt said is known already.
        self.reactor.threads.get(timeout=10)()
        self.reactor.advance(PAUSES[0])
        self.reactor.threads.get(timeout=10)()

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
        # The first process ends as soon as the one in the background has told it why, which logs it after that.
        until = time.monotonic() + 10
        while background and "crcache: " not in logged and time.monotonic() < until:
            time.sleep(0.02)
            logged = log.read_text()
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


class LateTests(SynchronousTestCase):
    """twistd, in a process of its own, with a cache directory that is late or does not answer."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)

    def begin(self, before: str = "", cache: str = "mount/cache", *flags: str) -> subprocess.Popen[str]:
        """Run it, after C{before} has been done in its process."""
        top = str(Path(__file__).parents[1])
        command = [sys.executable, "-c", f"{before}\nfrom twisted.scripts.twistd import run; run()"]
        command += ["--nodaemon", "--pidfile", str(self.directory / "pid"), "crcache", "--listen", FREE]
        command += ["--admin", "off", "--cache-dir", str(self.directory / cache), *flags]
        with open(self.directory / "out", "w") as out, open(self.directory / "err", "w") as err:
            process = subprocess.Popen(
                command, cwd=top, env={**os.environ, "PYTHONPATH": top}, stdin=subprocess.DEVNULL, stdout=out,
                stderr=err, text=True,
            )  # fmt: skip
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def said(self, line: str) -> None:
        """Wait until it has logged that."""
        deadline = time.monotonic() + 20
        while line not in (self.directory / "out").read_text():
            self.assertLess(time.monotonic(), deadline, (self.directory / "out").read_text())
            time.sleep(0.02)

    def ended(self, process: subprocess.Popen[str]) -> None:
        """It ends in good order, after which twistd passes on the signal."""
        self.assertEqual(process.wait(20), -signal.SIGTERM)
        self.said("has stopped")

    def test_comes(self) -> None:
        """A mount that comes late is waited for, and then served from; nothing was made in its place."""
        process = self.begin()
        self.said(f"waiting for cache directory {self.directory}/mount/cache: {self.directory}/mount is not there")
        self.assertFalse((self.directory / "mount").exists())
        (self.directory / "mount").mkdir()
        self.said("is ready on 127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        self.ended(process)

    def test_late_mistake(self) -> None:
        """A mistake that shows when the mount has come ends it with its one line and status 1, and no pidfile."""
        process = self.begin()
        self.said("is not there")
        late = self.directory / "late"
        (late / "cache").mkdir(parents=True)
        (late / "cache" / "VERSION").write_text("99\n")
        late.rename(self.directory / "mount")
        self.assertEqual(process.wait(20), 1)
        line = f"crcache: cache directory {self.directory}/mount/cache: its layout is '99', this release knows '1': "
        advice = "take the later release, or an empty directory\n"
        self.assertEqual((self.directory / "err").read_text(), line + advice)
        self.assertNotIn("Traceback", (self.directory / "out").read_text())
        self.assertFalse((self.directory / "pid").exists())

    def test_reload(self) -> None:
        """SIGHUP tells a mistake in the file with its line and key; the corrected file is in force after the next."""
        config = self.directory / "crcache.yaml"
        config.write_text("upstream:\n  retries: 3\n")
        process = self.begin("", "cache", "--config", str(config))
        self.said("is ready on 127.0.0.1:")
        config.write_text("upstream:\n  retries: often\n")
        process.send_signal(signal.SIGHUP)
        self.said(f"{config}:2: upstream.retries: must be a whole number, 0 or more; what was in force before stays")
        config.write_text("upstream:\n  retries: 4\n")
        process.send_signal(signal.SIGHUP)
        self.said("the configuration was read again, and is in force")
        process.send_signal(signal.SIGTERM)
        self.ended(process)

    def test_hangs(self) -> None:
        """A directory that never answers keeps neither the start nor the end of the process waiting."""
        process = self.begin(
            "import time\nfrom crcache.store.filesystem import Filesystem\n"
            "Filesystem.start = lambda self: time.sleep(1000)"
        )
        self.said("has not answered for")
        process.send_signal(signal.SIGTERM)
        self.ended(process)

    def test_hangs_later(self) -> None:
        """Nor does one that stops answering while it is served from."""
        process = self.begin(
            "import time\nfrom crcache.store.repositories import Repositories\n"
            "Repositories.tag = Repositories.member = Repositories.holding = lambda *_: time.sleep(1000)",
            "cache",
        )
        self.said("is ready on 127.0.0.1:")
        port = int((self.directory / "out").read_text().split("127.0.0.1:")[1].split()[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET /v2/a/b/manifests/1?ns=x.test HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.5)
            for _ in range(2):
                process.send_signal(signal.SIGTERM)
                time.sleep(0.5)
            self.ended(process)
        self.said("left behind")
        self.assertNotIn("Traceback", (self.directory / "out").read_text())
