"""Keeps the cache within its bounds in the background, and tells how things stand."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.eviction.bounded import Bounded
from crcache.eviction.pace import HURRIED, REST, Pace, Stopped
from crcache.eviction.plan import Plan
from crcache.eviction.removal import Removal
from crcache.eviction.sweep import Sweep
from crcache.eviction.tally import Tally
from crcache.eviction.walk import Walked, Walker
from crcache.grammar.reference import Registry
from crcache.settings import Bounds, Times
from crcache.store import staging
from crcache.store.contents import Contents
from crcache.store.layout import Layout
from crcache.workers import Workers

log = Logger()

#: Seconds between two looks at how much there is and what is free.
GLANCE = 30.0
#: Seconds of removing in one go.
TURN = 5.0
#: Seconds from one walk to the next for each file of content, and in all at least and at most.
SELDOM = 0.02
SOONEST = 600.0
LATEST = 6 * 3600.0
#: Seconds for each file from one walk to the next if there is a hurry.
HASTE = 0.0005
#: Seconds until somebody who needs room may walk after a walk that has not brought anything.
VAIN = 10.0
#: So many files are walked over at once when room is needed at once: that takes a second or two.
FEW = 20_000


class Evictor:
    """Looks every half a minute, walks now and then, and removes what has to go.

    Of several processes on one cache directory one walks and one removes at a time; what they find out is on the disk.

    @ivar tally: how many bytes there are.
    @ivar space: room for what comes.
    @ivar content: bytes of committed content; C{None} before they have been counted for the first time.
    @ivar bound: bytes that there may be, by the bounds that are in force; C{None} as long as C{content} is.
    """

    def __init__(
        self,
        directory: Path,
        bounds: Callable[[], Bounds],
        workers: Workers,
        clock: Any,
        day: Callable[[], float] = time.time,
        *,
        times: Callable[[Registry], Times] = lambda registry: Times(),
        evicted: Callable[[int], None] = lambda size: None,
        over: Callable[[], object] = lambda: None,
        statvfs: Callable[[os.PathLike[str]], os.statvfs_result] = os.statvfs,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param directory: the cache directory.
        @param bounds: those in force.
        @param workers: two of their threads may be busy for long.
        @param clock: the reactor's time; C{None}, for L{alone}: there is none.
        @param day: the time of day, in seconds since the epoch.
        @param times: how long a registry's tags live.
        @param evicted: told, in any thread, of the bytes of each file of content that is removed to make room.
        @param over: called in a thread after each walk, which takes memory.
        @param monotonic: seconds, for the threads.
        """
        layout = self._layout = Layout(directory)
        self._workers = workers
        self._clock = clock
        self._day = day
        self._monotonic = monotonic
        self._told = evicted
        self._over = over
        self._files = self._bytes = 0
        self._stopped = Event()
        self._stopped.set()
        self._hurry = Event()
        self.tally = Tally(layout)
        self._plan = Plan(layout)
        self._walker = Walker(layout, self.tally, self._plan, day)
        contents = Contents(layout, day, self.tally.changed)
        self._removal = Removal(contents, self.tally, self._plan, day, self._evicted, monotonic)
        self.space = Bounded(layout, bounds, self.tally, self._removal, self._replan, workers.run, statvfs, monotonic)
        self._sweep = Sweep(layout, day, times)
        self._most: int | None = None
        self._seen, self._walked, self._vain = 0, -LATEST, -SOONEST
        self._waited = -SOONEST
        self._looking, self._walking = LoopingCall(self._look), LoopingCall(self._walk)
        self._looking.clock = self._walking.clock = clock

    @property
    def content(self) -> int | None:
        """See above."""
        return self.tally.last.content

    @property
    def bound(self) -> int | None:
        """See above."""
        return None if self.content is None else self._most

    def start(self) -> None:
        """Begin; the workers run, and the directory is there."""
        self._stopped.clear()
        self._looking.start(GLANCE)
        self._walking.start(GLANCE)

    def alone(self) -> Deferred[None]:
        """Begin to make room for what this process stores, and look after nothing else. L{stop} ends this, too.

        @return: fires when it is known what there is and what goes, if nobody knew, or nobody can tell.
        """
        self._stopped.clear()
        return self._workers.run(self._know).addErrback(_failed)

    def stop(self) -> None:
        """End; what is under way ends at once. Idempotent."""
        self._stopped.set()
        for each in (self._looking, self._walking):
            if each.running:
                each.stop()
        self._workers.run(self.tally.holders.close).addErrback(_failed)

    def _look(self) -> Deferred[None]:
        # The next look waits for this one: a disk that hangs has one thread wait for it, not one more every time.
        return self._workers.run(self.look).addErrback(_failed)

    def _walk(self) -> Deferred[None]:
        return self._workers.run(self.walk).addErrback(_failed)

    # In threads

    def look(self) -> None:
        """See how things stand, and remove what is too much.

        @raise OSError: if nobody can tell.
        """
        # What killed imports have left, which can be as much as an archive of everything.
        staging.sweep(self._layout)
        try:
            left = self._removal.abandoned(Pace(self._stopped).step)
        except Stopped:
            return
        with self.tally.open() as book:
            self.tally.holders.counted()
            book.left = left
            found = self.space.measure(book)
        self._most = found.most
        if self._excess() and not self._stopped.is_set():
            # Not until there is no more to do: what is being sent gives its space back later, and others, who wait for
            # room, have their turn as well. The next look sees what is left to do.
            # Others may be at it for all of that time.
            with contextlib.suppress(BlockingIOError):
                dry = self._removal.free(self._excess, self._monotonic() + TURN).dry
                if dry and self._excess():
                    self._hurry.set()
        self._tell()

    def _excess(self) -> int:
        return self.space.excess()

    def _tell(self) -> None:
        files, self._files, size, self._bytes = self._files, 0, self._bytes, 0
        if files:
            told = "room was made: {count} files of content removed, {bytes} bytes"
            log.info(told, event=events.EVICTED, count=files, bytes=size)

    def _evicted(self, size: int) -> None:
        self._files += 1
        self._bytes += size
        self._told(size)

    def walk(self) -> None:
        """Walk, if it is time.

        @raise OSError: if the directories cannot be read.
        """
        if not self._due():
            return
        try:
            walked = self._walked_over(Pace(self._stopped, self._rest))
            if walked is not None:
                self._without_plan(walked)
                self._sweep.run_if_due(Pace(self._stopped, self._rest))
        except Stopped:
            pass
        finally:
            self._over()

    def _rest(self) -> float:
        return HURRIED if self._hurry.is_set() else REST

    def _due(self) -> bool:
        now, made = self._monotonic(), self._plan.made()
        unknown = self.tally.last.content is None
        if unknown or self._hurry.is_set() or made is None or self._plan.used_up():
            # All that is left may be pinned, or not to be removed: no reason to walk all the time.
            vain = not unknown and now - self._vain < SOONEST
            return not vain and now - self._walked >= max(GLANCE / 2, self._seen * HASTE)
        age = self._day() - made[1]
        return not 0 <= age < min(max(self.tally.last.files * SELDOM, SOONEST), LATEST)

    def _know(self) -> None:
        with self.tally.open() as book:
            counted = book.content is not None
        if not counted or self._plan.used_up():
            with contextlib.suppress(Stopped):
                self._walked_over(Pace(self._stopped, lambda: 0.0))

    def _walked_over(self, pace: Pace) -> Walked | None:
        walked = self._walker.walk(pace)
        if walked is not None:
            now = self._walked = self._monotonic()
            self._seen = walked.files
            self._vain = now if walked.files and not walked.lines else -SOONEST
            self._hurry.clear()
        return walked

    def _without_plan(self, walked: Walked) -> None:
        """On a disk too full for a plan to be written, room is made with what is in memory."""
        if walked.kept:
            return
        steps = list(self._plan.read(walked.lines))
        with contextlib.suppress(OSError):
            self._removal.free(self._excess, self._monotonic() + TURN, steps)

    def _replan(self, until: float) -> bool:
        """Nothing is left of the plan, and somebody waits for room: walk at once, if that takes but a moment."""
        now = self._monotonic()
        if now - max(self._vain, self._waited) < VAIN or self._stopped.is_set():
            return False
        before = self._plan.made()
        self._hurry.set()
        if self._clock is None or (self.tally.last.files <= FEW and self.tally.last.content is not None):
            pace = Pace(self._stopped, lambda: 0.0, partial(self._in_time, until))
            with contextlib.suppress(Stopped, OSError):
                walked = self._walked_over(pace)
                if walked is not None:
                    self._without_plan(walked)
                    return bool(walked.lines)
        else:
            self._soon()
        # Another thread or process is at it.
        while self._monotonic() < min(until, now + 2.0) and not self._stopped.wait(0.05):
            if self._plan.made() != before:
                return True
        self._waited = self._monotonic()
        return False

    def _in_time(self, until: float) -> float:
        now = self._monotonic()
        if now >= until:
            raise Stopped
        return now

    def _soon(self) -> None:
        """Have the background walk now. From any thread."""
        call = getattr(self._clock, "callFromThread", None)
        if call is not None:
            call(self._walk_now)

    def _walk_now(self) -> None:
        if not self._stopped.is_set():
            self._walk()


def _failed(failure: Failure) -> None:
    if failure.check(OSError) is None:
        log.failure("the cache cannot be kept within its bounds", failure, event=events.INTERNAL_ERROR)
    else:
        told = "the cache cannot be kept within its bounds: {problem}"
        log.warn(told, event=events.CACHE_FAILED, problem=str(failure.value))
