"""Checks content again in the background, at a pace that nobody feels, and tells what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, replace
from threading import Event
from typing import Any, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.policy.scrub import DAY, Round, pace, rest, resumed
from crcache.workers import Workers

log = Logger()

#: Seconds after the start until it begins, between two looks whether another process still does it or a new round is
#: due, and after something went wrong.
FIRST = 300.0
PATIENCE = 600.0
#: Seconds' worth of checking in one go.
TURN = 1.0
#: Seconds after which it is noted how far it has come: so much is done again if the process dies.
NOTED = 60.0


class Done(Protocol):
    """A piece of work; see L{crcache.store.checker.Piece}."""

    @property
    def cost(self) -> int:
        """How many bytes it is worth."""

    @property
    def name(self) -> str | None:
        """Of the content that was checked to its end with it."""

    @property
    def size(self) -> int:
        """In bytes, of that content."""

    @property
    def damaged(self) -> bool:
        """Whether it was not what it should be."""


class Checks(Protocol):
    """Goes through content; see L{crcache.store.checker.Checker}. Its methods block."""

    def hold(self) -> bool:
        """Whether this process is the one that checks."""

    def release(self) -> None:
        """Let another process check."""

    def load(self, now: float) -> Mapping[str, Any] | None:
        """What was saved last."""

    def save(self, record: Mapping[str, Any]) -> None:
        """Note how far it has come."""

    def walk(self, after: str) -> Generator[Done, None, None]:
        """Check what comes after this name."""


class Scrub:
    """Has a second's worth of content checked, then rests for the rest of the second, or for as long as that took.

    Of several processes that share a cache directory one checks, and the others look every ten minutes whether it
    still does.
    """

    def __init__(
        self,
        checks: Checks,
        workers: Workers,
        clock: Any,
        now: Callable[[], float],
        total: Callable[[], int | None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        @param workers: a thread of its own.
        @param clock: the reactor's time.
        @param now: the time of day, in seconds since the epoch.
        @param total: bytes of all content, as far as anybody knows.
        @param monotonic: seconds, for the thread.
        """
        self._checks = checks
        self._workers = workers
        self._clock = clock
        self._now = now
        self._total = total
        self._monotonic = monotonic
        self._stopped = Event()
        self._stopped.set()
        self._timer: Any = None
        self._round: Round | None = None
        self._walk: Generator[Done, None, None] | None = None
        self._noted = self._told = 0.0

    def start(self) -> None:
        """Begin in a while; the workers run, and the store is open."""
        self._stopped.clear()
        self._told = self._now()
        self._timer = self._clock.callLater(FIRST, self._turn)

    def stop(self) -> None:
        """Check no more: what is under way ends with its next piece, and is gone on with after the next start.

        The threads must run still. Idempotent; without L{start} nothing happens.
        """
        if not self._stopped.is_set():
            self._stopped.set()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._workers.run(self._end).addErrback(_failed)

    def _turn(self) -> None:
        self._timer = None
        self._workers.run(self._work).addErrback(_failed).addCallback(self._again)

    def _again(self, pause: float | None) -> None:
        if not self._stopped.is_set():
            self._timer = self._clock.callLater(PATIENCE if pause is None else pause, self._turn)

    # In the thread

    def _work(self) -> float:
        """Check for a while; seconds until the next time."""
        try:
            if not self._checks.hold():
                self._forget()
                return PATIENCE
            return self._go_on()
        except BaseException:
            # What was under way is begun anew from what was noted.
            self._end()
            raise

    def _go_on(self) -> float:
        now = self._now()
        if self._round is None:
            self._round = resumed(self._checks.load(now), now)
            self._noted = self._monotonic()
        waiting = rest(self._round, now)
        if waiting:
            return min(waiting, PATIENCE)
        if self._round.over:
            self._round, self._told = Round(now), now
        if self._walk is None:
            self._walk = self._checks.walk(self._round.after)
        speed = pace(self._round, now, self._total())
        began, done = self._monotonic(), 0
        while done < speed * TURN and not self._stopped.is_set():
            piece = next(self._walk, None)
            if piece is None:
                self._finished()
                return PATIENCE
            done += piece.cost
            self._count(piece)
        self._note()
        took = self._monotonic() - began
        return max(done / speed - took, took)

    def _count(self, piece: Done) -> None:
        assert self._round is not None
        if piece.name is not None:
            self._round = replace(
                self._round,
                after=piece.name,
                files=self._round.files + 1,
                size=self._round.size + piece.size,
                damaged=self._round.damaged + piece.damaged,
            )

    def _finished(self) -> None:
        assert self._round is not None
        self._walk = None
        self._round = replace(self._round, over=True)
        self._checks.save(asdict(self._round))
        self._tell("all content has been checked: {count} files, {bytes} bytes, {damaged} damaged")

    def _note(self) -> None:
        assert self._round is not None
        if self._monotonic() - self._noted >= NOTED:
            self._noted = self._monotonic()
            self._checks.save(asdict(self._round))
        if self._now() - self._told >= DAY:
            self._tell("content is being checked: {count} files, {bytes} bytes so far, {damaged} damaged")

    def _tell(self, told: str) -> None:
        assert self._round is not None
        self._told = self._now()
        done = self._round
        log.info(told, event=events.CONTENT_CHECKED, count=done.files, bytes=done.size, damaged=done.damaged)

    def _end(self) -> None:
        if self._round is not None and not self._round.over:
            self._checks.save(asdict(self._round))
        self._forget()
        self._checks.release()

    def _forget(self) -> None:
        self._round = None
        if self._walk is not None:
            self._walk.close()
            self._walk = None


def _failed(failure: Failure) -> None:
    if failure.check(OSError) is None:
        log.failure("content cannot be checked", failure, event=events.INTERNAL_ERROR)
    else:
        log.warn("content cannot be checked: {problem}", event=events.CACHE_FAILED, problem=str(failure.value))
