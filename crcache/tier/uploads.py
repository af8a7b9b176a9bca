"""The background work on the queue of uploads: two at a time, later again what fails, never in a pull's way."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from crcache import events
from crcache.errors import StoreError
from crcache.tier.counts import Counts
from crcache.tier.health import Health
from crcache.tier.problems import Elsewhere, Failed, Wrong
from crcache.tier.queue import CONTENT, Lease, Queue
from crcache.tier.upload import NotYet, Upload
from crcache.workers import Workers

log = Logger()

#: Uploads at a time, and entries that are taken from the queue at once.
AT_ONCE = 2
_BATCH = 1000
#: Seconds between two looks at the queue, into which other processes put theirs.
LOOK = 10.0
#: Seconds over which many nodes that have just fetched the same thing begin to upload it.
SPREAD = 3.0
#: Seconds after which it is looked again for what was noted before it was on disk.
NOT_YET = 2.0
#: Seconds, about, after which it is looked whether somebody else has come to an end with it.
ELSEWHERE = 10.0
#: Seconds after a failure: the first pause, and the longest; and after which nothing is tried any more.
PAUSES = 10.0, 3600.0
GIVEN_UP = 86400.0
#: Seconds in which what was noted has to be on disk.
SOON = 120.0
#: Seconds for which nothing is uploaded when somebody's mistake stands against all of it.
REFUSED = 300.0


class Uploads:
    """Works while it is started. What it does not come to is there for the next one.

    @ivar problem: why nothing is uploaded now; empty if something could be.
    """

    def __init__(
        self,
        clock: Any,
        queue: Queue,
        upload: Upload,
        health: Health,
        counts: Counts,
        workers: Workers,
        day: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        @param workers: threads for the queue's files.
        @param day: the time of day, in seconds since the epoch.
        @param chance: from 0 up to 1, anew each time.
        """
        self.problem = ""
        self._clock = clock
        self._queue = queue
        self._upload = upload
        self._health = health
        self._counts = counts
        self._workers = workers
        self._day = day
        self._chance = chance
        self._timer: IDelayedCall | None = None
        self._round: Deferred[None] | None = None
        self._again = False
        self._stopped = True
        self._rest_until = 0.0
        self._told: set[str] = set()

    def start(self) -> None:
        """Begin with what waits already."""
        self._stopped = False
        self._later(0)

    def stop(self) -> Deferred[None]:
        """Break off what is being uploaded; it stays in the queue. Fires when nothing is done any more. Idempotent."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        over: Deferred[None] = Deferred()
        if self._round is None:
            over.callback(None)
        else:
            self._round.addBoth(lambda _: over.callback(None))
            self._round.cancel()
        return over

    def poke(self) -> None:
        """There is something new. It is not hurried: others may have the same."""
        self._again = True
        if self._round is None and not self._stopped:
            self._later(SPREAD * self._chance())

    def _later(self, seconds: float) -> None:
        if self._timer is not None:
            if self._timer.getTime() <= self._clock.seconds() + seconds:
                return
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._again = False
        self._round = Deferred.fromCoroutine(self._work())
        self._round.addBoth(self._ended)

    def _ended(self, result: Any) -> None:
        self._round = None
        if self._stopped:
            return
        if result is not None and not isinstance(result, float):
            log.failure("working on the queue of uploads failed", result, event=events.INTERNAL_ERROR)
        pause = SPREAD * self._chance() if self._again else LOOK
        self._later(min(pause, result) if isinstance(result, float) else pause)

    async def _work(self) -> Any:
        """As long as there is something that can be done now; in how many seconds there may be more."""
        while not self._stopped:
            rest = self._rest_until - self._clock.seconds()
            if rest > 0 or not self._health.usable:
                return LOOK
            names, later = await self._workers.run(self._queue.due, _BATCH)
            self._counts.waiting = await self._workers.run(self._queue.waiting)
            if not self._counts.waiting:
                # What failed has been given up, or others have done it.
                self._well()
            if not names:
                return LOOK if later is None else min(LOOK, max(later - self._day(), 0.1))
            waiting = iter(names)
            lanes = [Deferred.fromCoroutine(self._lane(waiting)) for _ in range(AT_ONCE)]
            everybody: Deferred[Any] = DeferredList(lanes, fireOnOneErrback=True, consumeErrors=True)
            try:
                done = await everybody
            except CancelledError:
                raise
            except BaseException:
                for lane in lanes:
                    lane.cancel()
                raise
            if not any(did for _, did in done):
                # Other processes are at them.
                return LOOK / 10
        return LOOK

    async def _lane(self, waiting: Any) -> bool:
        did = False
        for name in waiting:
            if self._stopped or self._rest_until > self._clock.seconds() or not self._health.usable:
                break
            lease = await self._workers.run(self._queue.take, name)
            if lease is None:
                continue
            did = True
            try:
                await self._one(lease)
            finally:
                lease.end()
        return did

    async def _one(self, lease: Lease) -> None:
        entry = lease.entry
        try:
            await self._upload.run(lease)
        except NotYet:
            # It has been evicted, or whoever noted it died before it was there.
            if entry.what == CONTENT and 0 <= self._day() - entry.since < SOON:
                await self._workers.run(lease.note, after=self._day() + NOT_YET)
                return
        except Elsewhere:
            await self._workers.run(lease.note, after=self._day() + ELSEWHERE * (0.5 + self._chance()))
            return
        except Wrong as wrong:
            told = "{digest} of {registry}/{repository} {problem}"
            about = {"registry": str(entry.registry), "repository": str(entry.repository)}
            log.warn(told, event=events.UPLOAD_DROPPED, problem=wrong.message, digest=entry.name, **about)
        except (Failed, StoreError) as problem:
            await self._put_off(lease, problem)
            return
        except OSError as error:
            # One bad place on the disk must not stand in the way of all that comes after it.
            await self._put_off(lease, StoreError(f"reading {entry.name}: {error.strerror or error}"))
            return
        else:
            self._well()
        await self._workers.run(lease.done)

    def _well(self) -> None:
        if self.problem:
            self.problem = ""
            self._told.clear()
            log.info("what waits is uploaded to the bucket again", event=events.BUCKET_ANSWERS)

    async def _put_off(self, lease: Lease, problem: Failed | StoreError) -> None:
        entry = lease.entry
        if isinstance(problem, Failed):
            if problem.refused:
                self._rest_until = self._clock.seconds() + REFUSED
            if problem.message not in self._told and len(self._told) < 16:
                self._told.add(problem.message)
                told = "uploading failed: {problem}; it is tried again"
                if problem.refused:
                    log.warn(told, event=events.BUCKET_REFUSED, problem=problem.message)
                else:
                    log.warn(told, event=events.BUCKET_FAILING, problem=problem.message)
            self.problem = problem.message
        if self._day() - entry.since > GIVEN_UP:
            told = "{path} could not be uploaded for a day, and is not tried again: {problem}"
            log.warn(
                told, event=events.UPLOAD_DROPPED, path=entry.name or str(entry.repository), problem=problem.message
            )
            await self._workers.run(lease.done)
            return
        pause = min(PAUSES[0] * 2 ** min(entry.tries, 20), PAUSES[1]) * (0.5 + self._chance())
        tries = min(entry.tries + 1, 1000)
        await self._workers.run(lease.note, tries=tries, after=self._day() + pause)
