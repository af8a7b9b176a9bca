"""L{crcache.workers}."""

from __future__ import annotations

import threading
import time
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase

from crcache.workers import Inline, Workers
from tests.web.cases import AsyncTestCase


def named(name: str) -> list[threading.Thread]:
    """The threads of that pool."""
    return [thread for thread in threading.enumerate() if name in thread.name]


class WorkersTests(AsyncTestCase):
    """A pool of threads."""

    def make(self, size: int) -> Workers:
        """One that is not started yet."""
        return Workers(cast(IReactorFromThreads, reactor), size, self.id())

    async def test_result(self) -> None:
        """Results and exceptions come back into the reactor's thread; the work is done in another."""
        workers = self.make(2)
        workers.start()
        self.addCleanup(workers.stop)
        here = threading.current_thread()

        def work(value: int, *, more: int) -> tuple[int, threading.Thread]:
            return value + more, threading.current_thread()

        result, there = await workers.run(work, 1, more=2)
        self.assertEqual(result, 3)
        self.assertIsNot(there, here)
        # The end of the process does not wait for a disk that answers no more.
        self.assertTrue(there.daemon)
        self.assertIs(threading.current_thread(), here)
        with self.assertRaises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        self.assertIs(threading.current_thread(), here)

    async def test_nothing_before_start(self) -> None:
        """No thread exists before the start, whatever is asked for: the process may still fork."""
        before = threading.active_count()
        workers = self.make(3)
        asked = workers.run(lambda: 7)
        self.assertEqual(threading.active_count(), before)
        self.assertEqual(named(self.id()), [])
        workers.start()
        self.addCleanup(workers.stop)
        self.assertEqual(await asked, 7)

    async def test_bounded(self) -> None:
        """There are never more threads than were allowed; what is more waits its turn."""
        workers = self.make(2)
        workers.start()
        self.addCleanup(workers.stop)
        lock, running, most = threading.Lock(), 0, 0

        def work() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.01)
            with lock:
                running -= 1

        await gatherResults([workers.run(work) for _ in range(10)])
        self.assertEqual(most, 2)
        self.assertLessEqual(len(named(self.id())), 2)

    async def test_stop(self) -> None:
        """Stopping waits for the work at hand, and ends the threads."""
        workers = self.make(2)
        workers.start()
        done: list[int] = []

        def work() -> None:
            time.sleep(0.05)
            done.append(1)

        working = workers.run(work)
        workers.stop()
        self.assertEqual(done, [1])
        self.assertEqual(named(self.id()), [])
        await working


class InlineTests(SynchronousTestCase):
    """Work done at once."""

    def test_at_once(self) -> None:
        """The result is there at once, as a fired Deferred, and so is an exception."""
        workers = Inline()
        workers.start()
        self.assertEqual(self.successResultOf(workers.run(lambda a, b: a + b, 1, b=2)), 3)
        self.failureResultOf(workers.run(lambda: 1 // 0), ZeroDivisionError)
        workers.stop()
        here = self.successResultOf(workers.run(threading.current_thread))
        self.assertIs(here, threading.current_thread())
