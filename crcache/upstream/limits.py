"""How many requests one origin gets at once, and all that have not proved to be there together."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from crcache.errors import CrcacheError
from crcache.facts import Crowd
from crcache.grammar.reference import Registry
from crcache.upstream.shared import Recent
from crcache.upstream.turns import Place, Turns
from crcache.upstream.urls import Origin

#: For HEADs, tokens and manifests, whose answers are read at once: they never queue behind bodies, among which are
#: lists, since those too come at their client's pace.
SMALL = 8

#: So many may wait for one origin, for either kind: all that would get their turn in time, and more.
QUEUE = 1024

#: Requests at once to origins of which nobody knows yet whether there is anybody. Clients can name any.
STRANGERS = 256

#: Origins that are remembered to be there.
_KNOWN = 4096

_Key = tuple[Origin, bool]


class Slot:
    """The right to one request."""

    def __init__(self, limits: Limits, key: _Key, place: Place, strange: Place | None) -> None:
        self._limits = limits
        self._key = key
        self._place = place
        self._strange = strange

    def answered(self) -> None:
        """The origin has answered: it is there. Idempotent."""
        if self._strange is not None:
            self._limits.known.put(self._key[0], True)
            self._strange.release()

    def release(self) -> None:
        """Let the next one go. Idempotent."""
        if self._strange is not None:
            self._strange.release()
        self._place.release()
        self._limits.left(self._key)


class Limits:
    """For each origin so many bodies, and beside them so many small requests, in L{turns<Turns>}.

    @ivar known: origins that have answered.
    """

    def __init__(self, bodies: int, named: Callable[[Registry], bool] = lambda registry: False) -> None:
        """
        @param named: whether the administrator has named a registry: it waits for no others'.
        """
        self._bodies = bodies
        self._named = named
        self._turns: dict[_Key, Turns] = {}
        self._strangers = Turns(STRANGERS, QUEUE, "an answer of registries that have not answered before")
        self._closed: Callable[[], CrcacheError] | None = None
        self.known: Recent[Origin, bool] = Recent(_KNOWN)

    def acquire(
        self, origin: Origin, body: bool, registry: Registry | None = None, peer: str = "", crowd: Crowd | None = None
    ) -> Deferred[Slot]:
        """A slot, as soon as there is one. Cancelling it leaves the queue.

        @param registry: for which one the origin is asked.
        @param peer: for whom.
        @param crowd: for whom besides.

        Fails with L{OriginBusy<crcache.errors.OriginBusy>} if too many wait already.
        """
        return Deferred.fromCoroutine(self._acquire((origin, body), registry, peer, crowd))

    async def _acquire(self, key: _Key, registry: Registry | None, peer: str, crowd: Crowd | None) -> Slot:
        if self._closed is not None:
            raise self._closed()
        turns = self._turns.get(key)
        if turns is None:
            turns = self._turns[key] = Turns(self._bodies if key[1] else SMALL, QUEUE, f"a connection to {key[0]}")
        strange: Place | None = None
        try:
            place = await turns.take(peer, str(registry), crowd)
            try:
                if registry is None or not (self._named(registry) or self.known.get(key[0])):
                    strange = await self._strangers.take(peer, str(registry), crowd)
            except BaseException:
                place.release()
                raise
        except BaseException:
            self.left(key)
            raise
        return Slot(self, key, place, strange)

    def close(self, error: Callable[[], CrcacheError]) -> None:
        """Nobody gets a slot any more: who waits for one, or comes, fails with that."""
        self._closed = error
        for turns in (self._strangers, *self._turns.values()):
            turns.close(error)

    def left(self, key: _Key) -> None:
        """Forget an origin that nobody asks, since names come from clients. Idempotent."""
        turns = self._turns.get(key)
        if turns is not None and turns.unused:
            del self._turns[key]
