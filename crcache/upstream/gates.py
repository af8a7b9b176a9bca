"""Registries that fail are left alone for a few seconds, so that not everyone who asks pays for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from crcache.errors import OriginError, OriginFailed
from crcache.facts import Query
from crcache.grammar.reference import Registry
from crcache.policy.breaker import WELL, Standing, abandoned, failed, probing, standing
from crcache.policy.tour import PASSING

T = TypeVar("T")

#: Questions that may take an origin long though it is well: they are no sign of how it does, and never find out.
_SLOW = frozenset({"tags", "referrers"})
#: Registries that are remembered; clients can name any.
_MOST = 1024


class Gate:
    """What is known of one registry, and the questions to it that are on their way."""

    def __init__(self) -> None:
        self.breaker = WELL
        # Not the error itself, whose traceback holds on to whatever it has passed through.
        self.kind: type[OriginError] = OriginFailed
        self.message = ""
        self.entries: set[Entry] = set()


class Entry:
    """One question on its way.

    @ivar queued: whether it waits for a connection: what comes of that says nothing of the registry.
    @ivar shut: whether it was called off because the registry fails.
    """

    def __init__(self, gates: Gates, gate: Gate, query: Query) -> None:
        self._gates = gates
        self._gate = gate
        self._query = query
        self._probe = False
        self._asked = gates.now()
        # What was under way already is not to be given up for others' failures.
        self._stays = query.resumes
        self._sending = self._heard = self._late = False
        self._work: Deferred[Any] | None = None
        self.queued = False
        self.shut = False

    def begins(self, work: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Begin to put it somewhere. That is cancelled if the registry turns out to fail before it has been sent."""
        self._sending = self._heard = self.queued = self.shut = False
        begun = self._work = work()
        return begun

    @contextmanager
    def queueing(self, place: Deferred[Any]) -> Iterator[None]:
        """It waits for a connection.

        @param place: fires when it has one.
        """
        if not place.called:
            self.waits()
        self.queued = True
        yield
        self.queued = False

    def waits(self) -> None:
        """It is not put for a while: if it was to find out how the registry does, another may do so meanwhile.
        L{check} must follow."""
        if self._probe:
            self._probe = False
            self._gate.breaker = abandoned(self._gate.breaker)

    def heard(self) -> None:
        """There is a connection that it is sent on."""
        self._heard = True

    def late(self) -> None:
        """It got no answer in time. If it had been sent, that may be for what it is about."""
        self._late = self._late or self._heard

    @contextmanager
    def sending(self) -> Iterator[None]:
        """It is on a connection, where its answer may come any moment."""
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    def check(self) -> None:
        """Go no further if the registry has turned out to fail, unless it is time to find out how it does.

        @raise OriginError: then.
        """
        found = Standing.CLOSED if self._probe else self._gates.standing(self._gate)
        if found is Standing.PROBE and self._query.kind not in _SLOW:
            self._probe = True
            self._gate.breaker = probing(self._gate.breaker)
        elif found is Standing.OPEN and not self._stays:
            self.shut = True
            raise self.remembered()

    def remembered(self) -> OriginError:
        """Why it was called off."""
        return self._gates.remembered(self._query.registry, self._gate)

    def answered(self, status: int) -> None:
        """The registry has answered."""
        if status not in PASSING:
            self._gate.breaker = WELL
            return
        self._failed(OriginFailed(f"{self._query.registry} answered {status}"), about=True)

    def failed(self, problem: OriginError) -> None:
        """It has not answered, at any of its URLs."""
        self._failed(problem, about=self._late, silent=True)

    def _failed(self, problem: OriginError, *, about: bool, silent: bool = False) -> None:
        query, gate, before = self._query, self._gate, self._gate.breaker
        if query.kind in _SLOW:
            return
        subject = (query.kind, query.repository, query.reference) if about else None
        gate.breaker = failed(before, self._asked, self._gates.now(), subject, silent=silent, probe=self._probe)
        self._probe = False
        if gate.breaker.until != before.until:
            gate.kind, gate.message = type(problem), problem.message
            for entry in list(gate.entries):
                entry._call_off()

    def _call_off(self) -> None:
        if self._work is not None and not (self._work.called or self._sending or self._stays or self._probe):
            self.shut = True
            self._work.cancel()

    def leave(self) -> None:
        """It is over."""
        self.waits()
        self._gate.entries.discard(self)
        self._gates.left(self._query.registry)


class Gates:
    """A gate for each registry of which there is something to know."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._gates: OrderedDict[Registry, Gate] = OrderedDict()

    def enter(self, query: Query) -> Entry:
        """A question is about to be put; L{Entry.leave} must follow.

        @raise OriginError: of the class of the remembered failure, if the registry is not to be asked now.
        """
        gate = self._gates.get(query.registry)
        if gate is None:
            gate = self._gates[query.registry] = Gate()
            if len(self._gates) > _MOST:
                self._gates.popitem(last=False)
        self._gates.move_to_end(query.registry)
        entry = Entry(self, gate, query)
        entry.check()
        gate.entries.add(entry)
        return entry

    def left(self, registry: Registry) -> None:
        """Forget a registry that is well and that nobody asks."""
        gate = self._gates.get(registry)
        if gate is not None and gate.breaker == WELL and not gate.entries:
            del self._gates[registry]

    def now(self) -> float:
        """Seconds of the clock."""
        seconds: float = self._clock.seconds()
        return seconds

    def standing(self, gate: Gate) -> Standing:
        """What becomes of a question to this registry now."""
        return standing(gate.breaker, self.now())

    def remembered(self, registry: Registry, gate: Gate) -> OriginError:
        """The failure that is remembered, as it was, and for how long."""
        now = self.now()
        ago, left = now - gate.breaker.last, max((gate.breaker.until or now) - now, 0.0)
        when = f"is asked again in {left:.0f} s" if left >= 0.5 else "is being asked again just now"
        return gate.kind(f"{registry} failed {ago:.0f} s ago, which is remembered, and {when}: {gate.message}")
