"""L{crcache.opening}."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crcache.daemon import Daemon, Parts
from crcache.ending import CannotStart
from crcache.errors import StoreAway, StoreError
from crcache.host.systemd import Manager
from crcache.opening import PAUSES, REMIND, SLOW, Closed, Opening


class Reactor(Clock):
    """Time, and what threads want to have called."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def callFromThread(self, call: Callable[..., None], *arguments: object) -> None:
        self.threads.put(partial(call, *arguments))

    def settle(self) -> None:
        """Wait for a thread to end, and hear it."""
        self.threads.get(timeout=10)()


class Daemons(Reactor):
    """One that does not run yet."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], None]] | None = []

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        if self.waiting is None:
            call()
        else:
            self.waiting.append(call)

    def run(self) -> None:
        waiting, self.waiting = self.waiting or [], None
        for call in waiting:
            call()


class OpeningTests(SynchronousTestCase):
    """L{Opening}, of a store that does as it is told."""

    def setUp(self) -> None:
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.reactor = Reactor()
        self.problem: BaseException | None = None
        self.attempts: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.addCleanup(self.gate.set)
        self.opening = Opening(self.reactor, "cache directory /x", self.start)

    def start(self) -> None:
        self.attempts.append(threading.current_thread().name)
        self.gate.wait(20)
        if self.problem is not None:
            raise self.problem

    def lines(self) -> list[str]:
        return [formatEvent(event) for event in self.logged]

    def test_at_once(self) -> None:
        """A directory that is there is open when C{begin} comes back: opened in another thread, nothing logged."""
        self.successResultOf(self.opening.begin())
        self.assertTrue(self.opening.open)
        self.assertNotIn(threading.current_thread().name, self.attempts)
        self.reactor.settle()
        self.assertEqual((self.reactor.getDelayedCalls(), self.lines()), ([], []))

    def test_mistake(self) -> None:
        """A mistake is told at once, and not tried again."""
        self.problem = StoreError("cache directory /x: Permission denied")
        self.failureResultOf(self.opening.begin(), StoreError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_waits(self) -> None:
        """What may come is tried again after pauses that grow to a bound, and logged once while it is the same."""
        self.problem = StoreAway("cache directory /x: /mnt is not there")
        done = self.opening.begin()
        self.assertEqual(self.opening.reason, "cache directory /x: /mnt is not there")
        self.reactor.settle()
        pause, pauses = PAUSES[0], []
        for _ in range(8):
            self.reactor.advance(pause - 0.01)
            before = len(self.attempts)
            self.reactor.advance(0.02)
            self.reactor.settle()
            self.assertEqual(len(self.attempts), before + 1)
            pauses.append(pause)
            pause = min(2 * pause, PAUSES[1])
        self.assertEqual(pauses[-1], PAUSES[1])
        self.assertNoResult(done)
        self.assertEqual(len(self.lines()), 1, self.lines())
        self.assertIn("waiting for cache directory /x: /mnt is not there", self.lines()[0])
        self.problem = StoreAway("cache directory /x: cannot be written: No space left on device")
        self.reactor.advance(PAUSES[1])
        self.reactor.settle()
        self.assertIn("No space left", self.lines()[-1])
        self.problem = None
        self.reactor.advance(PAUSES[1])
        self.reactor.settle()
        self.successResultOf(done)
        self.assertIn("is there now", self.lines()[-1])
        self.assertEqual((len(self.lines()), self.reactor.getDelayedCalls()), (3, []))

    def test_reminds(self) -> None:
        """The same reason is logged again after a long while."""
        self.problem = StoreAway("gone")
        self.opening.begin()
        self.reactor.settle()
        while self.reactor.seconds() < REMIND + 2 * PAUSES[1]:
            self.reactor.advance(PAUSES[1])
            self.reactor.settle()
        self.assertEqual(len(self.lines()), 2)
        self.opening.stop()

    def test_hangs(self) -> None:
        """A directory that does not answer keeps nobody waiting, is said so after a while, and opens when it does."""
        self.gate.clear()
        done = self.opening.begin(quick=0.01)
        self.assertNoResult(done)
        self.assertEqual(self.opening.reason, "cache directory /x: does not answer yet")
        self.reactor.advance(SLOW)
        self.assertEqual(self.opening.reason, f"cache directory /x: has not answered for {SLOW:g} s")
        self.reactor.advance(100)
        self.assertEqual((len(self.attempts), len(self.lines())), (1, 1))
        self.gate.set()
        self.reactor.settle()
        self.successResultOf(done)
        self.assertTrue(self.opening.open)

    def test_late_mistake(self) -> None:
        """A mistake that takes long to see is told when it is seen."""
        self.gate.clear()
        self.problem = StoreError("cache directory /x: not a directory")
        done = self.opening.begin(quick=0.01)
        self.gate.set()
        self.reactor.settle()
        self.failureResultOf(done, StoreError)

    def test_defect(self) -> None:
        """Whatever else is raised, at once or late, is told as it is: nobody waits for what will not come."""
        for quick in (10.0, 0.01):
            for problem in (ZeroDivisionError("x"), SystemExit(3)):
                self.problem = problem
                if quick < 1:
                    self.gate.clear()
                opening = Opening(self.reactor, "cache directory /x", self.start)
                done = opening.begin(quick)
                self.gate.set()
                self.reactor.settle()
                self.assertIs(self.failureResultOf(done).value, problem)
                self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """Once stopped nothing is tried or told any more, whatever a thread that hung comes back with."""
        self.gate.clear()
        done = self.opening.begin(quick=0.01)
        self.opening.stop()
        self.opening.stop()
        self.gate.set()
        self.reactor.settle()
        self.assertNoResult(done)
        self.assertEqual((self.opening.open, self.reactor.getDelayedCalls()), (False, []))

    def test_thread(self) -> None:
        """The thread is one that the end of the process does not wait for."""
        daemonic: list[bool] = []
        opening = Opening(self.reactor, "x", lambda: daemonic.append(threading.current_thread().daemon))
        opening.begin()
        self.assertEqual(daemonic, [True])


class DaemonTests(SynchronousTestCase):
    """A daemon whose store cannot be opened by any waiting, or that cannot serve from it."""

    def setUp(self) -> None:
        self.failed: list[str] = []
        self.reactor = Daemons()
        self.problem: Exception | None = None
        self.serving: Exception | None = None
        anything: Any = SimpleNamespace(notify=lambda line: None)
        self.daemon = Daemon(
            Parts(
                clock=self.reactor,
                listeners=[],
                workers=[],
                name="cache directory /x",
                store=cast(Any, SimpleNamespace(start=partial(self.raised, "problem"))),
                fills=anything,
                close_upstream=lambda: succeed(None),
                on_start=lambda: lambda: None,
                on_open=partial(self.raised, "serving"),
                fail=lambda error: self.failed.append(str(error)),
                manager=Manager({}, 1, lambda _: anything),
                status=lambda: "",
                drain_timeout=lambda: 0.0,
                reload=lambda: succeed(None),
            )
        )

    def raised(self, name: str) -> None:
        """Raise what is there by that name, if anything."""
        if getattr(self, name) is not None:
            raise getattr(self, name)

    def late(self) -> None:
        """Start it with a store that is away, and have that tried again with what there is by now."""
        problem, self.problem = self.problem, StoreAway("gone")
        self.daemon.startService()
        self.reactor.run()
        self.reactor.settle()
        self.problem = problem
        self.reactor.advance(PAUSES[0])
        self.reactor.settle()

    def test_late_defect(self) -> None:
        """What nobody expected ends the daemon, with one line that names it and one traceback in the log."""
        self.problem = ZeroDivisionError("x")
        self.late()
        self.assertEqual(self.failed, ["cache directory /x: internal error: ZeroDivisionError; the log has more"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_defect(self) -> None:
        """So it does if it is known at once: then it does not start."""
        self.problem = ZeroDivisionError("x")
        error = self.assertRaises(CannotStart, self.daemon.startService)
        self.assertIn("internal error: ZeroDivisionError", str(error))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cannot_serve(self) -> None:
        """A daemon whose store is open, but that cannot serve from it, ends too; not before the reactor runs."""
        self.serving = ZeroDivisionError("x")
        self.daemon.startService()
        self.assertEqual(self.failed, [])
        self.reactor.run()
        self.assertEqual(len(self.failed), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cannot_serve_late(self) -> None:
        """The same when the store has come late."""
        self.serving = ZeroDivisionError("x")
        self.late()
        self.assertEqual(len(self.failed), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_mistake(self) -> None:
        """A mistake that is seen late has its own line, and no traceback."""
        self.problem = StoreError("cache directory /x: not a directory")
        self.late()
        self.assertEqual(self.failed, ["cache directory /x: not a directory"])


class ClosedTests(SynchronousTestCase):
    """L{Closed}."""

    def test_refuses(self) -> None:
        """Every ask gets a 503 that says where to go and why."""
        ask: Any = None
        error = self.failureResultOf(Closed(lambda: "cache directory /x: gone").handle(ask), StoreAway).value
        self.assertEqual((error.status, error.code), (503, "UNAVAILABLE"))
        self.assertIn("Ask the registry itself", str(error))
        self.assertIn("cache directory /x: gone", str(error))
