"""Tests for L{crcache.parents.ancestry}."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import ConfigError
from crcache.parents.ancestry import Ancestry
from crcache.settings import Config, ParentSettings, UpstreamSettings
from crcache.workers import Inline


class Counts:
    """Counts nothing."""

    def asked(self, parent: str, kind: str, status: int | None) -> None:
        """As L{crcache.parents.source.Counts}."""

    def received(self, parent: str, count: int) -> None:
        """As L{crcache.parents.source.Counts}."""


class AncestryTests(SynchronousTestCase):
    """What a reload does, and the name."""

    def setUp(self) -> None:
        self.made = 0
        self.ancestry = Ancestry(Clock(), self._counts, {})
        self.config = Config(cache_directory=Path("/nowhere"))

    def _counts(self) -> Counts:
        self.made += 1
        return Counts()

    def use(self, *urls: str, **settings: object) -> None:
        """Put these in force."""
        upstream = UpstreamSettings(**settings)  # type: ignore[arg-type]
        parents = tuple(map(ParentSettings, urls))
        self.ancestry.prepare(replace(self.config, parents=parents, upstream=upstream))()

    def urls(self) -> list[object]:
        """Of those in force."""
        return [each["url"] for each in self.ancestry.describe(lambda _: True)]

    def test_reload(self) -> None:
        """A reload puts others in force, or none; those that it does not change are the same as before, with all that
        is known of them."""
        self.use()
        self.assertEqual((self.ancestry.sources, self.made), ((), 0))
        self.use("http://a", "http://b")
        self.assertEqual(self.urls(), ["http://a", "http://b"])
        before = self.ancestry.sources
        self.use("http://a", "http://b")
        self.assertEqual(self.ancestry.sources, before)
        self.use("http://b")
        self.assertEqual((self.urls(), self.made), (["http://b"], 1))
        self.use("http://b", connect_timeout=1.0)
        self.assertEqual(self.urls(), ["http://b"])
        self.use()
        self.assertEqual((self.urls(), self.ancestry.sources), ([], ()))
        self.successResultOf(self.ancestry.close())

    def test_mistake(self) -> None:
        """A mistake leaves everything as it was."""
        self.use("http://a")
        self.assertRaises(ConfigError, self.use, "http://b", proxy="ftp://proxy")
        self.assertEqual(self.urls(), ["http://a"])

    def test_name(self) -> None:
        """Who waits for the name gets it; where the directory cannot be looked at it is a name of its own."""
        for directory in (Path(), Path("/nowhere/at/all")):
            ancestry = Ancestry(Clock(), self._counts, {})
            left, waiting = ancestry.named(), ancestry.named()
            left.cancel()
            self.failureResultOf(left)
            self.assertEqual(ancestry.pseudonym(), "")
            ancestry.begin(Inline(), directory, lambda: bytes(16))
            self.successResultOf(waiting)
            self.successResultOf(ancestry.named())
            self.assertRegex(ancestry.pseudonym(), r"\Acrcache-[0-9a-f]{16}\Z")
