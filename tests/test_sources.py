"""Who is asked before an origin, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from crcache.errors import CrcacheError, OriginBusy, OriginFailed, OriginLied, OriginTimeout, OriginUnreachable
from crcache.facts import Query
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.interfaces import IAnswer, IUpstream
from crcache.sources import ILastResort, ISource, Sources
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

    def test_goes_on(self) -> None:
        """What has broken off is gone on with by whoever is near, if the origin cannot be asked: bodies alone, whose
        bytes are checked."""
        away = OriginUnreachable("x")
        for origin in (away, FakeAnswer(502)):
            near = Asked(None), Asked(self.answer)
            sources = Sources(lambda: near, Failing(origin))  # noqa: B023
            broken = replace(QUERY, turn=2, resumes=True)
            self.assertIs(self.successResultOf(sources.ask(broken)), self.answer)
            self.assertEqual(near[1].queries, [replace(broken, turn=0)])
            self.assertTrue(getattr(origin, "aborted", True))
        for query in (replace(QUERY, turn=1), replace(QUERY, turn=1, resumes=True, kind="manifest")):
            sources = Sources(lambda: [Asked(self.answer)], Failing(away))
            self.assertIs(self.failureResultOf(sources.ask(query)).value, away)
        sources = Sources(lambda: [Asked(None)], Failing(away))
        self.assertIs(self.failureResultOf(sources.ask(broken)).value, away)
        answer = FakeAnswer(404)
        near = Asked(self.answer), Asked(None)
        self.assertIs(self.successResultOf(Sources(lambda: near, Failing(answer)).ask(broken)), answer)

    def test_none(self) -> None:
        """Without sources a turn is the origin's own, and there are no others."""
        self.near = []
        self.assertEqual(self.sources.turns, 0)
        self.successResultOf(self.sources.ask(replace(QUERY, turn=1)))
        self.assertEqual(self.origin.queries, [replace(QUERY, turn=1)])


@implementer(ILastResort)
class Remembers(Asked):
    """Has nothing, unless it is the last resort."""

    def __init__(self, answer: IAnswer | None) -> None:
        super().__init__(None)
        self.resorts: list[Query] = []
        self._remembered = answer

    def resort(self, query: Query) -> Deferred[Any]:
        """As L{ILastResort.resort}."""
        self.resorts.append(query)
        return succeed(self._remembered)


@implementer(IUpstream)
class Failing:
    """An origin that answers so, or fails."""

    def __init__(self, result: IAnswer | CrcacheError) -> None:
        self._result = result

    def ask(self, query: Query) -> Deferred[IAnswer]:
        """As L{IUpstream.ask}."""
        return fail(self._result) if isinstance(self._result, CrcacheError) else succeed(self._result)


class LastResortTests(SynchronousTestCase):
    """What is better than nothing."""

    def ask(self, result: IAnswer | CrcacheError, *near: ISource) -> Deferred[IAnswer]:
        """Ask when the origin does this."""
        return Sources(lambda: near, Failing(result)).ask(QUERY)

    def test_away(self) -> None:
        """When the origin cannot be asked, or answers with an error of its own, the first that remembers it answers,
        and the origin's own answer is let go."""
        for result in (
            *(OriginUnreachable("x"), OriginTimeout("x"), OriginBusy("x"), OriginFailed("x")),
            *(FakeAnswer(500), FakeAnswer(503), FakeAnswer(429)),
        ):
            answer = FakeAnswer()
            near = Asked(None), Remembers(None), Remembers(answer), Remembers(FakeAnswer())
            self.assertIs(self.successResultOf(self.ask(result, *near)), answer)
            self.assertEqual([len(each.resorts) for each in near[1:]], [1, 1, 0])
            self.assertTrue(getattr(result, "aborted", True))

    def test_nothing_remembered(self) -> None:
        """If nobody does the origin's failure stays what it is."""
        problem = OriginTimeout("x")
        self.assertIs(self.failureResultOf(self.ask(problem, Remembers(None))).value, problem)
        answer = FakeAnswer(502)
        self.assertIs(self.successResultOf(self.ask(answer, Remembers(None))), answer)
        self.assertFalse(answer.aborted)

    def test_word_of_the_origin(self) -> None:
        """An origin that says no, or lies, has said something: that is not overruled by what was."""
        for status in (200, 401, 403, 404):
            answer, source = FakeAnswer(status), Remembers(FakeAnswer())
            self.assertIs(self.successResultOf(self.ask(answer, source)), answer)
            self.assertEqual(source.resorts, [])
        source = Remembers(FakeAnswer())
        self.failureResultOf(self.ask(OriginLied("x"), source), OriginLied)
        self.assertEqual(source.resorts, [])
