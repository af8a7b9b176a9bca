"""The credentials file is read again when it changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.credentials.renewal import Renewal
from crcache.credentials_file import Scope
from crcache.credentials_source import Reading
from crcache.errors import ConfigError
from crcache.grammar.reference import Registry
from crcache.secret import Secret
from crcache.settings import Credential, Credentials
from crcache.watching import PACE
from crcache.workers import Inline

GHCR = Registry("ghcr.io")


def refuse(problem: Exception) -> NoReturn:
    raise problem


def entry(password: str) -> str:
    return f"ghcr.io: {{username: u, password: {password}}}\n"


class RenewalTests(SynchronousTestCase):
    """A file, and a clock.

    @ivar used: what has been put in force, in order.
    """

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.write("file.yaml", entry("first"))
        self.seen: list[Any] = []
        observer: Any = self.seen.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.clock = Clock()
        self.reading = Reading(self.path, {})
        self.used = [self.reading.again()[0]]
        self.renewal = self.start(self.reading)

    def start(self, reading: Reading | None) -> Renewal:
        renewal = Renewal(self.clock, Inline(), lambda: self.used[-1], self.used.append, reading)
        renewal.start()
        self.addCleanup(renewal.stop)
        return renewal

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def replace(self, text: str) -> None:
        self.write("draft", text).replace(self.path)

    def passwords(self) -> list[str]:
        """What has been in force for C{ghcr.io}, after another look."""
        self.clock.advance(PACE)
        return [each.entries[GHCR, ()].password.reveal() for each in self.used]

    def told(self, event: events.Event) -> list[str]:
        return [formatEvent(each) for each in self.seen if each.get("event") is event]

    def test_changed(self) -> None:
        """A file that is written to, or replaced, is in force a moment later; that is one line, without its content."""
        self.assertEqual(self.passwords(), ["first"])
        self.write("file.yaml", entry("second"))
        self.assertEqual(self.passwords(), ["first", "second"])
        self.replace(entry("s3cret-3"))
        self.assertEqual(self.passwords(), ["first", "second", "s3cret-3"])
        line = f"{self.path} has changed and was read again; the credentials in it are in force"
        self.assertEqual(self.told(events.RELOADED), [line, line])
        self.assertNotIn("s3cret", repr(self.seen))

    def test_links(self) -> None:
        """So is one behind links that are switched over, as Kubernetes does it."""
        for name, text in (("one", "first"), ("two", "second")):
            (self.directory / name).mkdir()
            self.write(f"{name}/file.yaml", entry(text))
        (self.directory / "data").symlink_to("one")
        self.path = self.directory / "data/file.yaml"
        self.renewal.follow(Reading(self.path, {}))
        self.assertEqual(self.passwords(), ["first"])
        (self.directory / "draft").symlink_to("two")
        (self.directory / "draft").replace(self.directory / "data")
        self.assertEqual(self.passwords(), ["first", "second"])

    def test_same(self) -> None:
        """A file that says what it said before is not worth a line."""
        self.replace(entry("first") + "# a remark\n")
        self.assertEqual(self.passwords(), ["first"])
        self.assertEqual(self.told(events.RELOADED), [])

    def test_mistake(self) -> None:
        """A mistake is told once, with the file, the line and the key, and not with what is behind it; what was in
        force stays, until the mistake is mended."""
        self.replace("\nghcr.io: {username: u, pasword: s3cret}")
        self.assertEqual(self.passwords(), ["first"])
        self.assertEqual(self.passwords(), ["first"])
        (line,) = self.told(events.RELOAD_REFUSED)
        self.assertTrue(line.startswith(f"{self.path}:2: ghcr.io: unknown key 'pasword'"), line)
        self.assertTrue(line.endswith("; what was in force before stays in force"), line)
        self.assertNotIn("s3cret", repr(self.seen))
        self.replace(entry("mended"))
        self.assertEqual(self.passwords(), ["first", "mended"])

    def test_not_to_be_read(self) -> None:
        """A file that may not be read is told of once, and used as soon as it may, for all that nobody has written."""
        self.replace(entry("second"))
        whole, broken = Reading.again, ConfigError(f"{self.path}: Permission denied")
        self.patch(Reading, "again", lambda reading: refuse(broken))
        self.assertEqual([self.passwords() for _ in range(3)], [["first"]] * 3)
        self.assertEqual(len(self.told(events.RELOAD_REFUSED)), 1)
        self.patch(Reading, "again", whole)
        self.assertEqual(self.passwords(), ["first", "second"])

    def test_changed_before_the_first_look(self) -> None:
        """Nor is a change missed that a file sees between a reload that names it and the next look."""
        other = self.write("other.yaml", entry("first"))
        self.renewal.follow(Reading(other, {}))
        self.write("other.yaml", entry("second"))
        self.assertEqual(self.passwords(), ["first", "second"])

    def test_gone(self) -> None:
        """A file that is gone for a while changes nothing; the one that comes in its place does."""
        self.path.unlink()
        self.assertEqual(self.passwords(), ["first"])
        self.assertEqual(self.told(events.RELOAD_REFUSED), [])
        self.write("file.yaml", entry("back"))
        self.assertEqual(self.passwords(), ["first", "back"])

    def test_at_the_start(self) -> None:
        """What has changed between the first reading and the start is noticed."""
        self.renewal.stop()
        self.replace(entry("early"))
        self.start(self.reading)
        self.assertEqual(self.passwords(), ["first", "early"])

    def test_own(self) -> None:
        """What the configuration says itself stays, and wins."""
        own: dict[Scope, Credential] = {(GHCR, ()): Credential("own", Secret("own"))}
        self.renewal.follow(Reading(self.path, own))
        self.clock.advance(PACE)
        self.replace(entry("second") + "quay.io: {username: q, password: q}")
        self.assertEqual(self.passwords(), ["first", "own"])
        self.assertEqual(len(self.used[-1].entries), 2)

    def test_helpers(self) -> None:
        """A docker C{config.json} in its place, with helpers, is one, too."""
        self.replace(json.dumps({"credsStore": "pass"}))
        self.clock.advance(PACE)
        self.assertEqual(self.used[-1], Credentials({}, {}, "pass"))

    def test_reload_meanwhile(self) -> None:
        """What a reload has put in force while the file was read is not replaced by what was read before."""
        held: Deferred[None] = Deferred()

        class Held(Inline):
            def run(self, work: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
                done = super().run(work, *args, **kwargs)
                return held.addCallback(lambda _: done)

        renewal = Renewal(self.clock, Held(), lambda: self.used[-1], self.used.append, self.reading)
        self.replace(entry("second"))
        renewal.renew()
        renewal.follow(Reading(self.path, {}))
        held.callback(None)
        self.assertEqual(len(self.used), 1)

    def test_no_file(self) -> None:
        """Without a file there is nothing to watch; after a reload that names one there is."""
        self.renewal.follow(None)
        self.replace(entry("second"))
        self.assertEqual(self.passwords(), ["first"])
        self.renewal.follow(self.reading)
        self.assertEqual(self.passwords(), ["first", "second"])
        self.replace(entry("third!"))
        self.assertEqual(self.passwords(), ["first", "second", "third!"])

    def test_stopped(self) -> None:
        """Nothing is read any more."""
        self.renewal.stop()
        self.replace(entry("second"))
        self.assertEqual(self.passwords(), ["first"])
