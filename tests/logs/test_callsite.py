"""Tests for L{crcache.logs.callsite}, as the journal gets it."""

from __future__ import annotations

import io
import sys
import warnings
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogBeginner, Logger, LogPublisher
from twisted.python import log as legacy
from twisted.trial.unittest import SynchronousTestCase

from crcache.host.journal import Entry
from crcache.logs.observers import JournalObserver
from crcache.logs.repeats import Repeats


class CallSiteTests(SynchronousTestCase):
    """L{call_site<crcache.logs.callsite.call_site>}."""

    def setUp(self) -> None:
        self.entries: list[dict[str, str]] = []
        journal: Any = self
        self.observer = JournalObserver(journal)

    def send(self, entry: Entry) -> None:
        """As a journal."""
        self.entries.append(dict(entry))

    def only(self) -> tuple[str, str, str]:
        """What the one entry says of its place: file, line, function."""
        (entry,) = self.entries
        return entry["CODE_FILE"], entry["CODE_LINE"], entry["CODE_FUNC"].removeprefix("CallSiteTests.")

    def test_logger(self) -> None:
        """It is the line on which a logger was called, through whatever observers."""
        log = Logger(observer=LogPublisher(Repeats(self.observer, lambda: 0.0)))
        log.warn("x")
        line = sys._getframe().f_lineno - 1
        self.assertEqual(self.only(), (__file__, str(line), "test_logger"))

    def test_failure(self) -> None:
        """Also of a failure that is logged by an errback."""
        log = Logger(observer=LogPublisher(self.observer))
        failing: Deferred[None] = Deferred()
        failing.addErrback(lambda failure: log.failure("x", failure))
        failing.errback(ValueError())
        self.assertEqual(self.only()[::2], (__file__, "test_failure.<locals>.<lambda>"))

    def test_legacy(self) -> None:
        """And of Twisted's older way."""
        publisher = legacy.LogPublisher(publishPublisher=LogPublisher(self.observer))
        publisher.msg("x")
        self.assertEqual(self.only()[::2], (__file__, "test_legacy"))

    def test_before_logging_began(self) -> None:
        """What is told again has no place any more."""
        publisher = LogPublisher()
        stdio = SimpleNamespace(stdout=sys.stdout, stderr=sys.stderr)
        module = SimpleNamespace(showwarning=warnings.showwarning)
        beginner = LogBeginner(publisher, io.StringIO(), stdio, module)
        log = Logger(observer=publisher)
        log.warn("early")
        beginner.beginLoggingTo([self.observer], redirectStandardIO=False)
        log.warn("late")
        early, late = self.entries
        self.assertEqual([name for name in early if name.startswith("CODE_")], [])
        self.assertEqual(late["CODE_FUNC"], "CallSiteTests.test_before_logging_began")
