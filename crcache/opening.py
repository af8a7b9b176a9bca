"""Opening the store at the start: waiting for a cache directory that is late, and what clients get meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from crcache import events
from crcache.asks import Ask
from crcache.errors import StoreAway
from crcache.interfaces import ICache
from crcache.outcomes import Outcome

log = Logger()

#: Seconds for which starting waits for the first answer: a mistake known by then is told to whoever starts us.
QUICK = 2.0
#: Seconds until a directory that does not answer is said not to.
SLOW = 5.0
#: Seconds between attempts: the first pause, and the longest.
PAUSES = 0.25, 5.0
#: Seconds after which the same reason is logged again.
REMIND = 600.0


class Opening:
    """Tries to open the store until it is open, each time in a thread of its own.

    That thread keeps nobody waiting, nor the process from ending: a directory on a dead server may never answer.

    @ivar open: whether it is.
    @ivar reason: one line: why it is not open yet.
    """

    def __init__(self, clock: Any, name: str, start: Callable[[], None]) -> None:
        """
        @param clock: time, and C{callFromThread}.
        @param name: what is opened.
        @param start: L{IStore.start<crcache.interfaces.IStore.start>}; blocks.
        """
        self.open = False
        self.reason = f"{name}: does not answer yet"
        self._name = name
        self._clock = clock
        self._start = start
        self._done: Deferred[None] = Deferred()
        self._stopped = False
        self._pause = PAUSES[0]
        self._told = (float("-inf"), "")
        self._timer: Any = None

    def begin(self, quick: float = QUICK) -> Deferred[None]:
        """Open it. Comes back with the first result, or after C{quick} seconds, which block.

        @return: fires when it is open; fails with what waiting cannot mend: a
            L{StoreError<crcache.errors.StoreError>}, or whatever else C{start} has raised.
        """
        attempt = self._attempt()
        if attempt.over.wait(quick):
            self._result(attempt)
        return self._done

    def stop(self) -> None:
        """Try no more; what L{begin} returned never fires then. Idempotent."""
        self._stopped = True
        self._cancel()

    def _attempt(self) -> _Attempt:
        def over() -> None:
            self._clock.callFromThread(self._result, attempt)

        attempt = _Attempt(self._start, over)
        self._timer = self._clock.callLater(SLOW, self._slow)
        attempt.begin()
        return attempt

    def _slow(self) -> None:
        self._timer = None
        self._wait_for(f"{self._name}: has not answered for {SLOW:g} s")

    def _again(self) -> None:
        self._timer = None
        self._attempt()

    def _result(self, attempt: _Attempt) -> None:
        if self._stopped or attempt.seen:
            return
        attempt.seen = True
        self._cancel()
        problem = attempt.problem
        if problem is None:
            self.open = True
            if self._told[1]:
                log.info("{path} is there now", event=events.CACHE_THERE, path=self._name)
            self._done.callback(None)
        elif isinstance(problem.value, StoreAway):
            self._wait_for(problem.value.message)
            self._timer = self._clock.callLater(self._pause, self._again)
            self._pause = min(2 * self._pause, PAUSES[1])
        else:
            self._stopped = True
            self._done.errback(problem)

    def _wait_for(self, reason: str) -> None:
        self.reason = reason
        when, told = self._told
        now = self._clock.seconds()
        if told != reason or now - when >= REMIND:
            self._told = now, reason
            told = "waiting for {problem}; clients are sent to the registries themselves"
            log.warn(told, event=events.CACHE_WAITING, problem=reason)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Attempt:
    """One call of C{start}.

    @ivar over: set in the thread, when it has ended.
    @ivar problem: why it failed, if it did.
    @ivar seen: whether the reactor knows.
    """

    def __init__(self, start: Callable[[], None], tell: Callable[[], None]) -> None:
        self.over = threading.Event()
        self.problem: Failure | None = None
        self.seen = False
        self._start = start
        self._tell = tell

    def begin(self) -> None:
        threading.Thread(target=self._run, name="crcache-opening", daemon=True).start()

    def _run(self) -> None:
        try:
            self._start()
        except BaseException:
            # Nobody else would hear of it, and it would be waited for.
            self.problem = Failure()
        self.over.set()
        self._tell()


@implementer(ICache)
class Closed:
    """What clients get while the store is not open: 503, with which they go to the registry itself."""

    def __init__(self, reason: Callable[[], str]) -> None:
        self._reason = reason

    def handle(self, ask: Ask) -> Deferred[Outcome]:
        """As L{ICache.handle}."""
        return fail(StoreAway(f"Ask the registry itself; this cache waits for {self._reason()}."))
