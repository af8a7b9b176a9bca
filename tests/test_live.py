"""L{crcache.live}."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from crcache.live import Switched, SwitchedCache, SwitchedUpstream


class Upstream:
    """Notes what happens to it, and is gone when told."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.retiring: list[Deferred[None]] = []
        self.closed = 0

    def ask(self, query: Any) -> Deferred[Any]:
        self.asked.append(query)
        return succeed("answer")

    def retire(self) -> Deferred[None]:
        self.retiring.append(Deferred())
        return self.retiring[-1]

    def close(self) -> Deferred[None]:
        self.closed += 1
        return succeed(None)


class Cache:
    """Answers with its own name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def handle(self, ask: object) -> Deferred[Any]:
        return succeed((self._name, ask))


class SwitchTests(SynchronousTestCase):
    """Whoever holds the switch has what is in force."""

    def test_plain(self) -> None:
        """C{now} is the latest, and C{use} gives back the one before."""
        switched = Switched(1)
        self.assertEqual((switched.use(2), switched.now), (1, 2))

    def test_cache(self) -> None:
        """Asks go to the cache in force."""
        first: Any = Cache("first")
        second: Any = Cache("second")
        ask: Any = object()
        cache = SwitchedCache(first)
        self.assertEqual(self.successResultOf(cache.handle(ask)), ("first", ask))
        self.assertIs(cache.use(second), first)
        self.assertEqual(self.successResultOf(cache.handle(ask)), ("second", ask))

    def test_upstream(self) -> None:
        """Questions go to the upstream in force; the one before is retired at once, and asked no more."""
        query: Any = object()
        first, second = Upstream(), Upstream()
        upstream = SwitchedUpstream(first)
        self.assertEqual(self.successResultOf(upstream.ask(query)), "answer")
        self.assertIs(upstream.use(second), first)
        upstream.ask(query)
        self.assertEqual((first.asked, second.asked), ([query], [query]))
        self.assertEqual((len(first.retiring), len(second.retiring)), (1, 0))

    def test_retired(self) -> None:
        """A retired one is remembered until it is gone, and not longer, in whatever order they go."""
        first, second, third = Upstream(), Upstream(), Upstream()
        upstream = SwitchedUpstream(first)
        upstream.use(second)
        upstream.use(third)
        self.assertEqual(upstream.retired, [first, second])
        second.retiring[0].callback(None)
        self.assertEqual(upstream.retired, [first])
        first.retiring[0].callback(None)
        self.assertEqual(upstream.retired, [])

    def test_close(self) -> None:
        """All are closed that are not gone yet, each once."""
        gone, first, second = Upstream(), Upstream(), Upstream()
        upstream = SwitchedUpstream(gone)
        upstream.use(first)
        gone.retiring[0].callback(None)
        upstream.use(second)
        self.assertIsNone(self.successResultOf(upstream.close()))
        self.assertEqual((gone.closed, first.closed, second.closed), (0, 1, 1))
