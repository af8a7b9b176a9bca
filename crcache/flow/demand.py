"""What clients wait for far ahead of the front is fetched out of turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.errors import Astray, OriginError
from crcache.facts import Query
from crcache.flow.patience import to_the_end
from crcache.flow.streams import Claimed, RangeIgnored, Streams
from crcache.flow.tools import Tools
from crcache.interfaces import IIngest
from crcache.policy.runs import AHEAD, SEGMENT, out_of_turn

log = Logger()

#: Streams out of turn at once, for one fill.
MOST = 6
#: Seconds for which a client waits for a stream that is not far away.
PATIENCE = 2.0
#: So many streams have begun when the front goes on in pieces that others need not split.
LAZY = 4
#: Seconds without any, after too many failures in a row.
REST = 30.0


@dataclass
class _Demand:
    """Bytes that somebody waits for.

    @ivar start: the first that may be missing.
    @ivar since: when it was found there.
    """

    start: int
    stop: int | None
    since: float


class Demands:
    """Which bytes of a fill are waited for, in the order of asking, whoever fetches them.

    @ivar asked: called with each new one, while this process fetches.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """
        @param clock: any time, in seconds.
        """
        self.waiting: dict[int, _Demand] = {}
        self.asked: Callable[[int], None] | None = None
        self._clock = clock

    def add(self, key: int, span: tuple[int, int | None]) -> None:
        """Somebody waits for these bytes."""
        self.waiting[key] = _Demand(*span, self._clock())
        if self.asked is not None:
            self.asked(key)

    def remove(self, key: int) -> None:
        """And waits no more. Idempotent."""
        self.waiting.pop(key, None)


class OutOfTurn:
    """Runs a bounded number of streams over what is waited for. What they cannot get is left to the front stream."""

    def __init__(
        self,
        tools: Tools,
        query: Query,
        ingest: IIngest,
        streams: Streams,
        demands: Demands,
        ended: Callable[[], None],
        broken: Callable[[Failure], None],
    ) -> None:
        """
        @param ended: called after each stream; what it has fetched, or could not fetch, is nobody's now.
        @param broken: called when the store, or we ourselves, fail.
        """
        self._tools = tools
        self._query = query
        self._ingest = ingest
        self._streams = streams
        self._demands = demands
        self._ended = ended
        self._broken = broken
        self._running: dict[Deferred[None], Claimed] = {}
        self._useless = False
        self._begun = 0
        self._failures = 0
        self._not_before = 0.0
        self._timer: IDelayedCall | None = None
        self._deciding = False
        self._again = False
        demands.asked = self._asked

    @property
    def going(self) -> bool:
        """Whether clients ask for bytes all over the body, of an origin that knows ranges."""
        return self._begun >= LAZY and self._streams.ranged and not self._useless

    async def stop(self) -> None:
        """Begin no more, and end those that run; returns when they have written what came."""
        self._useless = True
        self._demands.asked = None
        self._stop_timer()
        running = list(self._running)
        for each in running:
            each.cancel()
        await to_the_end(DeferredList(running))

    def consider(self) -> None:
        """Begin what ought to be fetched now. A stream has begun or ended, or time has passed."""
        self._consider(list(self._demands.waiting))

    def _asked(self, key: int) -> None:
        self._consider([key])

    def _consider(self, keys: list[int]) -> None:
        if self._useless or not self._streams.answered:
            return
        if self._deciding:
            # A stream has ended as soon as it began.
            self._again = True
            return
        self._deciding, self._again = True, False
        try:
            later = [self._decide(key) for key in keys]
        finally:
            self._deciding = False
        if (self._again or any(later)) and self._timer is None and not self._useless:
            pause = self._not_before - self._tools.clock.seconds()
            self._timer = self._tools.clock.callLater(pause if pause > 0 else PATIENCE, self._look)

    def _look(self) -> None:
        self._timer = None
        self.consider()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _decide(self, key: int) -> bool:
        """Begin a stream for one of those who wait, if it needs one; whether to look again after a while."""
        demand, size = self._demands.waiting.get(key), self._ingest.size
        if demand is None or size is None or self._useless:
            return False
        hole = self._ingest.hole(demand.start // SEGMENT * SEGMENT)
        wanted = size if demand.stop is None else min(demand.stop, size)
        if hole is None or hole[0] >= wanted:
            self._demands.remove(key)
            return False
        now = self._tools.clock.seconds()
        if hole[0] > demand.start:
            demand.start, demand.since = hole[0], now
        waited = now - demand.since >= PATIENCE
        decision = out_of_turn((hole[0], hole[1] or size), wanted, self._streams.claims, waited)
        if decision.run is None:
            return decision.later
        if now < self._not_before or not self._tools.room.left:
            return True
        # As long as nobody knows whether the origin knows ranges, one is enough to find out.
        if len(self._running) < (MOST if self._streams.ranged else 1):
            self._begin(self._streams.claim(*decision.run, decision.split))
        else:
            self._make_room()
        return False

    def _make_room(self) -> None:
        """Somebody waits: a stream that has far to go for those who have left ends; the rest is fetched in its turn."""
        wanted = [demand.start for demand in self._demands.waiting.values()]
        for claim in self._running.values():
            stop = claim.stop or 0
            if stop - claim.position >= AHEAD and not any(claim.start <= start < stop for start in wanted):
                claim.shorten(claim.position)
                return

    def _begin(self, claim: Claimed) -> None:
        log.debug(
            "fetching {digest} from byte {start} out of turn (request {request_id})",
            start=claim.start,
            **events.about(self._query),
        )
        self._begun += 1
        running = Deferred.fromCoroutine(self._streams.fetch(claim, ahead=True))
        self._running[running] = claim
        self._tools.room.taken += 1
        running.addBoth(self._over, running, claim)

    def _over(self, result: Failure | None, running: Deferred[None], claim: Claimed) -> None:
        del self._running[running]
        self._tools.room.taken -= 1
        self._streams.release(claim)
        if claim.complete:
            self._failures = 0
        if result is not None and not result.check(CancelledError, RangeIgnored, OriginError):
            self._broken(result)
            return
        if result is not None:
            self._failed(result, claim)
        self._ended()
        self.consider()

    def _failed(self, failure: Failure, claim: Claimed) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(RangeIgnored, Astray):
            self._useless = True
            self._stop_timer()
            return
        self._failures = 1 if claim.moved else self._failures + 1
        pause = self._tools.retry(self._failures)
        if pause is None:
            self._failures, pause = 0, REST
        self._not_before = self._tools.clock.seconds() + pause
        log.info(
            "fetching {digest} from {registry} broke off ({problem}); resuming (request {request_id})",
            event=events.FETCH_RESUMED,
            problem=failure.getErrorMessage(),
            **events.about(self._query),
        )
        self._tools.meter.resumed(self._query.registry)
