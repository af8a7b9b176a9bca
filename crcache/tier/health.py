"""Whether a bucket is asked at all: one that fails is left alone, and nobody's pull finds out when it is back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.tier.problems import Failed

log = Logger()

#: So many errors in a row close it, slow answers among them; a single question without an answer does.
ERRORS = 3
#: Seconds for which it is left alone then.
REST = 30.0
#: Seconds that an answer may take, at least.
SLOW = 1.0


class Health:
    """A circuit breaker whose half-open state costs nobody anything: a probe of its own finds out.

    @ivar usable: whether it is worth asking.
    @ivar problem: one line: why not.
    """

    def __init__(self, clock: Any, name: str, probe: Callable[[], Deferred[None]], slow: float = SLOW) -> None:
        """
        @param name: of the bucket, for people.
        @param probe: asks; fails with L{Failed}.
        @param slow: an answer that takes more seconds than this counts as an error: a pull puts many questions.
        """
        self.usable = True
        self.problem = ""
        self._clock = clock
        self._name = name
        self._probe = probe
        self._slow = slow
        self._errors = 0
        self._timer: IDelayedCall | None = None
        self._probing: Deferred[None] | None = None
        self._stopped = False

    def answered(self, seconds: float = 0.0) -> None:
        """It has done what it should, in so many seconds."""
        if seconds > self._slow:
            self.failed(Failed(f"{self._name} takes {seconds:.1f} s to answer"))
        else:
            self._errors = 0

    def failed(self, problem: Failed) -> None:
        """It has not."""
        self._errors = ERRORS if problem.silent else self._errors + 1
        if self.usable and self._errors >= ERRORS and not self._stopped:
            self.usable = False
            self.problem = problem.message
            told = "{problem}; registries are asked instead, and the bucket again every {seconds:g} s"
            log.warn(told, event=events.BUCKET_FAILING, problem=problem.message, seconds=REST)
            self._later()

    def stop(self) -> None:
        """Ask no more. Idempotent."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._probing is not None:
            self._probing.cancel()

    def _later(self) -> None:
        self._timer = self._clock.callLater(REST, self._look)

    def _look(self) -> None:
        self._timer = None
        self._probing = self._probe()
        self._probing.addCallbacks(self._back, self._still)

    def _back(self, _: None) -> None:
        self._probing = None
        self.usable, self.problem, self._errors = True, "", 0
        log.info("{name} answers again", event=events.BUCKET_ANSWERS, name=self._name)

    def _still(self, failure: Failure) -> None:
        self._probing = None
        if failure.check(CancelledError):
            return
        if failure.check(Failed):
            self.problem = str(failure.value)
        else:
            log.failure(
                "asking {name} whether it answers failed", failure, event=events.INTERNAL_ERROR, name=self._name
            )
        if not self._stopped:
            self._later()
