"""L{crcache.reload}."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import ConfigError
from crcache.reload import Reloader
from crcache.workers import Inline


class Slow(Inline):
    """A thread whose work ends when the test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Any, Deferred[Any]]] = []

    def run(self, work: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.jobs.append((work, done))
        return done

    def end(self) -> None:
        """Do the first job."""
        work, done = self.jobs.pop(0)
        try:
            result = work()
        except Exception as error:
            done.errback(error)
        else:
            done.callback(result)


class ReloaderTests(SynchronousTestCase):
    """L{Reloader}."""

    def setUp(self) -> None:
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.read = 0
        self.used: list[int] = []
        self.workers = Slow()
        self.reloader = Reloader(self.workers, self.load, self.used.append)

    def load(self) -> int:
        self.read += 1
        return self.read

    def test_reload(self) -> None:
        """What was read in a thread is put in force, and logged."""
        done = self.reloader.reload()
        self.assertEqual(self.read, 0)
        self.workers.end()
        self.successResultOf(done)
        self.assertEqual(self.used, [1])
        self.assertIn("is in force", formatEvent(self.logged[-1]))
        again = self.reloader.reload()
        self.workers.end()
        self.successResultOf(again)
        self.assertEqual(self.used, [1, 2])

    def test_collapse(self) -> None:
        """However often it is asked for while it runs, it is done once more; nobody is told before that."""
        first, second, third = (self.reloader.reload() for _ in range(3))
        self.assertEqual(len(self.workers.jobs), 1)
        self.workers.end()
        self.successResultOf(first)
        self.assertNoResult(second)
        self.assertEqual(len(self.workers.jobs), 1)
        self.workers.end()
        for each in (second, third):
            self.successResultOf(each)
        self.assertEqual((self.used, self.workers.jobs), ([1, 2], []))

    def test_mistake(self) -> None:
        """A mistake in the files is one line that names it; nothing is put in force, and the next try is a new one."""

        def load() -> int:
            raise ConfigError("/etc/crcache/crcache.yaml:4: cache.tag-tll: unknown key")

        reloader = Reloader(Inline(), load, self.used.append)
        for _ in range(2):
            self.successResultOf(reloader.reload())
        self.assertEqual((self.used, len(self.logged)), ([], 2))
        line = formatEvent(self.logged[0])
        self.assertTrue(line.startswith("/etc/crcache/crcache.yaml:4: cache.tag-tll: unknown key; "), line)
        self.assertIn("stays in force", line)

    def test_mistake_in_use(self) -> None:
        """So is one that only shows when it is to be put in force."""

        def use(read: int) -> None:
            raise ConfigError("HTTPS_PROXY is none")

        self.successResultOf(Reloader(Inline(), self.load, use).reload())
        self.assertTrue(formatEvent(self.logged[-1]).startswith("HTTPS_PROXY is none; "))

    def test_bug(self) -> None:
        """What should not happen is logged with its traceback, and ends no more than this one reload."""

        def use(read: int) -> None:
            raise ZeroDivisionError

        reloader = Reloader(Inline(), self.load, use)
        self.successResultOf(reloader.reload())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.successResultOf(reloader.reload())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
