"""What a reload replaces under the feet of whoever works with it."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from crcache.asks import Ask
from crcache.facts import Query
from crcache.interfaces import IAnswer, ICache, IUpstream
from crcache.outcomes import Outcome

T = TypeVar("T")


class Switched(Generic[T]):
    """Something that may be replaced by another of its kind.

    Hand this on wherever the thing itself would be captured for longer than one request: the configuration for
    example, whose values are then looked up through L{now} each time.

    @ivar now: the one in force.
    """

    def __init__(self, first: T) -> None:
        self.now = first

    def use(self, new: T) -> T:
        """From now on this one; returns the one before."""
        old, self.now = self.now, new
        return old


class Retirable(Protocol):
    """An upstream that can be replaced; see L{crcache.upstream.client.Upstream}."""

    def ask(self, query: Query) -> Deferred[IAnswer]:
        """As L{IUpstream.ask}."""

    def retire(self) -> Deferred[None]:
        """Close what is idle, let the rest finish. Fires when nothing is left."""

    def close(self) -> Deferred[None]:
        """Abort all that is left. Fires when nothing is."""


@implementer(IUpstream)
class SwitchedUpstream(Switched[Retirable]):
    """Every question goes to the upstream in force, also one that continues what another has begun.

    @ivar retired: those before it that still have answers in flight.
    """

    def __init__(self, first: Retirable) -> None:
        super().__init__(first)
        self.retired: list[Retirable] = []

    def ask(self, query: Query) -> Deferred[IAnswer]:
        """As L{IUpstream.ask}."""
        return self.now.ask(query)

    def use(self, new: Retirable) -> Retirable:
        """As L{Switched.use}; the one before is retired, and remembered until its last answer is over."""
        old = super().use(new)
        self.retired.append(old)
        old.retire().addCallback(lambda _: self.retired.remove(old))
        return old

    def close(self) -> Deferred[None]:
        """Abort all connections, those of retired ones too. Fires when the last is gone."""
        closing: Deferred[list[None]] = gatherResults([each.close() for each in (self.now, *self.retired)])
        return closing.addCallback(lambda _: None)


@implementer(ICache)
class SwitchedCache(Switched[ICache]):
    """Every ask goes to the cache in force; the outcomes of those before it stay what they are."""

    def handle(self, ask: Ask) -> Deferred[Outcome]:
        """As L{ICache.handle}."""
        return self.now.handle(ask)
