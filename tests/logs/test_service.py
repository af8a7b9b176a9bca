"""Tests for L{crcache.logs.service} and L{crcache.logs.output}: what is logged to, chosen before twistd begins."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from twisted.application.service import Application, Service
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogPublisher
from twisted.python.logfile import LogFile
from twisted.python.syslog import SyslogObserver
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.errors import ConfigError
from crcache.logs import output
from crcache.logs.output import journal_is_stderr
from crcache.logs.repeats import MOST, PERIOD
from crcache.logs.service import Logs, chosen
from tests.host.test_journal import decode


class Reactor(Clock):
    """Time, and what happens when it stops."""

    def __init__(self) -> None:
        super().__init__()
        self.at_the_end: list[Any] = []

    def addSystemEventTrigger(self, phase: str, event: str, call: Any) -> None:
        """As C{IReactorCore}."""
        assert (phase, event) == ("after", "shutdown")
        self.at_the_end.append(call)


class ChosenTests(SynchronousTestCase):
    """What C{auto} means."""

    def setUp(self) -> None:
        here = os.fstat(2)
        self.environ = {"JOURNAL_STREAM": f"{here.st_dev}:{here.st_ino}"}

    def test_journal(self) -> None:
        """Standard error is the journal's if the environment names just that file."""
        self.assertEqual(chosen("auto", {}, self.environ), "journal")
        self.assertEqual(chosen("auto", {}, {"JOURNAL_STREAM": "1:2"}), "text")
        self.assertEqual(chosen("auto", {}, {}), "text")
        self.assertFalse(journal_is_stderr(self.environ, 1 << 20))

    def test_elsewhere(self) -> None:
        """Whoever tells twistd another place wants lines there; whoever names a format gets that."""
        for twistd in ({"logfile": "x.log"}, {"syslog": True}):
            self.assertEqual(chosen("auto", twistd, self.environ), "text")
            self.assertEqual(chosen("journal", twistd, self.environ), "journal")
        self.assertEqual(chosen("json", {}, self.environ), "json")


class LogsTests(SynchronousTestCase):
    """L{Logs}."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.reactor = Reactor()
        self.daemon = Service()
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        self.patch(output, "LogFile", self)

    def fromFullPath(self, path: str) -> LogFile:
        """As C{LogFile}'s; and closed after the test."""
        file: LogFile = LogFile.fromFullPath(path)
        self.addCleanup(file.close)
        return file

    def logs(self, form: str, level: str = "info", path: str = "", **twistd: Any) -> Logs:
        """A daemon's log, with these options of twistd's."""
        return Logs(self.daemon, self.reactor, twistd, form, level, {}, path)

    def logger(self, logs: Logs) -> Logger:
        """What logs to where twistd would."""
        application = Application("crcache")
        logs.setServiceParent(application)
        observer = application.getComponent(ILogObserver, None)
        assert observer is not None
        return Logger("crcache.test", observer=LogPublisher(observer))

    def test_file(self) -> None:
        """A file that twistd was told of gets the lines; only those of the level, which can change."""
        file = self.directory / "crcache.log"
        logs = self.logs("text", "warn", logfile=str(file))
        log = self.logger(logs)
        log.info("first")
        logs.use("info")
        log.info("second")
        logs.use("error")
        log.warn("third")
        self.assertRegex(file.read_text(), r"\A\S+ \[crcache\.test#info\] second\n\Z")

    def test_background(self) -> None:
        """In the background without a file's name the file is twistd's own, and standard output is a mistake."""
        before = os.getcwd()
        os.chdir(self.directory)
        self.addCleanup(os.chdir, before)
        self.logger(self.logs("json")).info("x")
        self.assertIn('"x"', (self.directory / "twistd.log").read_text())
        with self.assertRaises(SystemExit):
            self.logger(self.logs("text", logfile="-"))

    def test_standard_output(self) -> None:
        """In the foreground it is standard output."""
        file = self.directory / "out"
        with file.open("w") as out:
            self.patch(sys, "stdout", out)
            self.logger(self.logs("json", nodaemon=True)).info("x")
        self.assertIn('"x"', file.read_text())

    def test_syslog(self) -> None:
        """What goes to syslog by twistd's flag is as clean as all else, and more urgent if it is an error."""
        told: list[tuple[int, str]] = []
        self.patch(SyslogObserver, "openlog", lambda observer, *arguments: None)
        self.patch(SyslogObserver, "syslog", lambda observer, urgency, line: told.append((urgency, line)))
        log = self.logger(self.logs("text", syslog=True))
        log.info("a\x1bb https://me:hunter2@x.test/")
        try:
            raise ValueError("https://me:hunter2@x.test/?hunter2")
        except ValueError:
            log.failure("it {what}", what="failed")
        self.assertEqual([line for _, line in told[:2]], ["[-] a?b https://x.test/", "[-] it failed"])
        self.assertLess(told[1][0], told[0][0])
        self.assertTrue(told[-1][1].endswith("ValueError: https://x.test/?…"), told)
        self.assertNotIn("hunter2", str(told))

    def test_logger_flag(self) -> None:
        """With C{--logger} twistd is not interfered with, and the level can be set all the same."""
        logs = self.logs("text", logger="somebody.elses")
        application = Application("crcache")
        logs.setServiceParent(application)
        self.assertIsNone(application.getComponent(ILogObserver, None))
        logs.use("debug")

    def test_no_journal(self) -> None:
        """Where there is no journal, asking for it is a mistake that is told."""
        path = str(self.directory / "socket")
        with self.assertRaises(ConfigError) as raised:
            self.logs("journal", path=path)
        self.assertIn(f"log-format: journal: there is no journal at {path}", raised.exception.message)

    def test_journal(self) -> None:
        """The journal's thread begins with the services, not before, and ends when the reactor has."""
        path = str(self.directory / "socket")
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(server.close)
        server.bind(path)
        server.settimeout(5)
        before = threading.active_count()
        logs = self.logs("journal", path=path)
        log = self.logger(logs)
        log.info("first")
        self.assertEqual(threading.active_count(), before)
        logs.privilegedStartService()
        logs.startService()
        self.assertTrue(self.daemon.running)
        self.assertEqual(threading.active_count(), before + 1)
        log.info("second")
        logs.stopService()
        (finish,) = self.reactor.at_the_end
        finish()
        self.assertEqual(threading.active_count(), before)
        log.info("third")
        told = [dict(decode(server.recv(9999)))["MESSAGE"] for _ in range(3)]
        self.assertEqual(told, ["first", "second", "third"])

    def test_repeats(self) -> None:
        """Repeats are kept back, and told of while nothing else happens, and at the end."""
        file = self.directory / "crcache.log"
        logs = self.logs("text", logfile=str(file))
        log = self.logger(logs)
        logs.startService()

        def warn() -> None:
            for _ in range(MOST + 3):
                log.warn("it fails", event=events.ORIGIN_FAILING, registry="a.test")

        warn()
        self.reactor.pump([PERIOD / 4] * 5)
        self.assertEqual(file.read_text().count("\n"), MOST + 1)
        self.assertIn("3 times more in the same minute: it fails", file.read_text())
        warn()
        logs.stopService()
        self.reactor.at_the_end[0]()
        self.assertEqual(file.read_text().count("3 times more"), 2)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
