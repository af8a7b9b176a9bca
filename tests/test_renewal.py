"""L{crcache.renewal}."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.errors import ConfigError
from crcache.renewal import PACE, Certificates
from crcache.workers import Inline


class Thing:
    """Something made of a file.

    @ivar used: what it was made of, each time.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.files: tuple[Path, ...] = (path,)
        self.used: list[str] = []
        self.broken: Exception | None = None

    def prepare(self) -> Callable[[], None]:
        text = self.files[0].read_text()
        if text == "bad":
            raise ConfigError(f"{self.name} is bad")
        if self.broken is not None:
            raise self.broken
        return lambda: self.used.append(text)


class RenewalTests(SynchronousTestCase):
    """Two things that are looked after."""

    def setUp(self) -> None:
        self.clock = Clock()
        directory = Path(self.mktemp())
        directory.mkdir()
        for name in "ab":
            (directory / name).write_text("first")
        self.a, self.b = (Thing(directory / name) for name in "ab")
        self.renewal = Certificates(self.clock, Inline(), [self.a, self.b])
        self.renewal.start()
        self.addCleanup(self.renewal.stop)
        self.logged: list[LogEvent] = []
        observer: Any = self.logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.count = 0

    def write(self, thing: Thing, text: str) -> None:
        """Another text, and another time of writing."""
        self.count += 1
        thing.files[0].write_text(text)
        os.utime(thing.files[0], ns=(self.count, self.count))

    def look(self) -> list[tuple[Any, Any]]:
        """The next look. Returns what it logged: events and levels."""
        self.logged.clear()
        self.clock.advance(PACE)
        return [(event.get("event"), event["log_level"]) for event in self.logged]

    def test_changed(self) -> None:
        """What has changed is read again, once, and put in force; what has not is left alone."""
        self.assertEqual(self.look(), [])
        self.write(self.a, "second")
        self.assertEqual(self.look(), [(events.CERTIFICATE_RENEWED, LogLevel.info)])
        self.assertEqual(self.logged[0]["path"], "a")
        self.assertEqual(self.look(), [])
        self.assertEqual((self.a.used, self.b.used), (["second"], []))

    def test_mistake(self) -> None:
        """What cannot be used is warned of once, and tried again at each look, changed or not, until it can."""
        self.write(self.a, "bad")
        self.assertEqual(self.look(), [(events.CERTIFICATE_KEPT, LogLevel.warn)])
        self.assertEqual(self.logged[0]["problem"], "a is bad")
        self.assertEqual((self.look(), self.look(), self.a.used), ([], [], []))
        before = self.a.files[0].stat()
        self.a.files[0].write_text("ok!")
        os.utime(self.a.files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
        self.assertEqual(self.look(), [(events.CERTIFICATE_RENEWED, LogLevel.info)])
        self.assertEqual((self.look(), self.a.used), ([], ["ok!"]))
        self.write(self.a, "bad")
        self.assertEqual(self.look(), [(events.CERTIFICATE_KEPT, LogLevel.warn)])

    def test_each_by_itself(self) -> None:
        """One that cannot be used keeps no other from being renewed."""
        self.write(self.a, "bad")
        self.write(self.b, "second")
        self.look()
        self.assertEqual((self.a.used, self.b.used), ([], ["second"]))

    def test_defect(self) -> None:
        """A defect of ours is told as such, and is no reason to look no more."""
        self.a.broken = AssertionError("oops")
        self.write(self.a, "second")
        self.look()
        self.assertEqual(len(self.flushLoggedErrors(AssertionError)), 1)
        self.a.broken = None
        self.look()
        self.assertEqual(self.a.used, ["second"])

    def test_other_files(self) -> None:
        """After a reload, other files are looked at."""
        other = self.a.files[0].with_name("c")
        other.write_text("third")
        old = self.a.files
        self.a.files = (other,)
        self.renewal.reloaded()
        self.look()
        old[0].write_text("nobody looks")
        self.assertEqual((self.look(), self.a.used), ([], []))
        self.write(self.a, "fourth")
        self.look()
        self.assertEqual(self.a.used, ["fourth"])

    def test_stopped(self) -> None:
        """In the end nothing is looked at, nor tried again."""
        self.write(self.a, "bad")
        self.look()
        self.renewal.stop()
        self.renewal.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
