"""Who is asked before an origin, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.interfaces import IAnswer, IUpstream
from crcache.sources import ISource, Sources
from crcache.testing.fakes import FakeAnswer

QUERY = Query(Registry.parse("r.example"), Repository.parse("a/b"), "blob", Digest.parse("sha256:" + 64 * "a"), "id")


@implementer(ISource, IUpstream)
class Asked:
    """Notes what it is asked."""

    def __init__(self, answer: IAnswer | None) -> None:
        self.queries: list[Query] = []
        self._answer = answer

    def ask(self, query: Query) -> Deferred[Any]:
        """As L{ISource.ask}."""
        self.queries.append(query)
        return succeed(self._answer)


class SourcesTests(SynchronousTestCase):
    """L{Sources}."""

    def setUp(self) -> None:
        """Two sources, of which the second has it, and an origin."""
        self.answer: IAnswer = FakeAnswer()
        self.theirs: IAnswer = FakeAnswer()
        self.near: list[Asked] = [Asked(None), Asked(self.answer)]
        self.origin = Asked(self.theirs)
        self.sources = Sources(lambda: self.near, self.origin)

    def test_order(self) -> None:
        """The first source that has it answers, and nobody behind it is asked."""
        self.assertIs(self.successResultOf(self.sources.ask(QUERY)), self.answer)
        self.assertEqual([each.queries for each in self.near], [[QUERY], [QUERY]])
        self.assertEqual(self.origin.queries, [])

    def test_nobody(self) -> None:
        """What no source has is asked of the origin."""
        self.near = [Asked(None)]
        self.assertIs(self.successResultOf(self.sources.ask(QUERY)), self.theirs)
        self.assertEqual(self.origin.queries, [QUERY])

    def test_served_badly(self) -> None:
        """Whoever was served badly asks the origin, whose URLs are counted from the first on."""
        self.assertEqual(self.sources.turns, 1)
        self.assertIs(self.successResultOf(self.sources.ask(replace(QUERY, turn=2))), self.theirs)
        self.assertEqual(self.origin.queries, [replace(QUERY, turn=1)])
        self.assertEqual(self.near[0].queries, [])

    def test_none(self) -> None:
        """Without sources a turn is the origin's own, and there are no others."""
        self.near = []
        self.assertEqual(self.sources.turns, 0)
        self.successResultOf(self.sources.ask(replace(QUERY, turn=1)))
        self.assertEqual(self.origin.queries, [replace(QUERY, turn=1)])
