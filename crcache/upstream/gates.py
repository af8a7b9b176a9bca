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

    def __init__(self, gates: Gates, gate: Gate, query: Query, probe: bool) -> None:
        self._gates = gates
        self._gate = gate
        self._query = query
        self._probe = probe
        self._asked = gates.now()
        # What was under way already is not to be given up for others' failures.
        self._stays = probe or query.resumes
        self._sending = False
        self._work: Deferred[Any] | None = None
        self.queued = False
        self.shut = False

    def begins(self, work: Callable[[], Deferred[T]]) -> Deferred[T]:
        """Begin to put it somewhere. That is cancelled if the registry turns out to fail before it has been sent."""
        self._sending = self.queued = self.shut = False
        begun = self._work = work()
        return begun

    @contextmanager
    def queueing(self) -> Iterator[None]:
        """It waits for a connection."""
        self.queued = True
        yield
        self.queued = False

    @contextmanager
    def sending(self) -> Iterator[None]:
        """It is on a connection, where its answer may come any moment."""
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    def check(self) -> None:
        """Go no further if the registry has turned out to fail.

        @raise OriginError: then.
        """
        if not self._stays and self._gates.standing(self._gate) is not Standing.CLOSED:
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
        problem = OriginFailed(f"{self._query.registry} answered {status}")
        self._failed(problem, (self._query.repository, self._query.reference))

    def failed(self, problem: OriginError) -> None:
        """It has not answered, at any of its URLs."""
        self._failed(problem, None)

    def _failed(self, problem: OriginError, subject: object) -> None:
        gate, before = self._gate, self._gate.breaker
        gate.breaker = failed(before, self._asked, self._gates.now(), subject, probe=self._probe)
        self._probe = False
        if gate.breaker.until != before.until:
            gate.kind, gate.message = type(problem), problem.message
        if gate.breaker.until is not None and before.until is None:
            for entry in list(gate.entries):
                entry._call_off()

    def _call_off(self) -> None:
        if self._work is not None and not (self._work.called or self._sending or self._stays):
            self.shut = True
            self._work.cancel()

    def leave(self) -> None:
        """It is over."""
        if self._probe:
            self._gate.breaker = abandoned(self._gate.breaker)
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
        probe = self.standing(gate) is Standing.PROBE
        entry = Entry(self, gate, query, probe)
        entry.check()
        if probe:
            gate.breaker = probing(gate.breaker)
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
