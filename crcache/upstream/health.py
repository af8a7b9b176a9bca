"""Which registries fail at the moment: told once when it begins, and once when it is over."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from twisted.logger import Logger

from crcache import events
from crcache.grammar.reference import Registry

log = Logger()

#: Failing registries that are remembered; clients can name any.
_MOST = 1024
#: Seconds after its last failure for which a registry is told of: nobody knows how one does that nobody asks.
_TOLD = 600.0


class Health:
    """What the last question to each registry said of it."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._since: OrderedDict[Registry, tuple[float, str]] = OrderedDict()
        self._last: dict[Registry, float] = {}

    def answered(self, registry: Registry, status: int, request_id: str) -> None:
        """It has answered; a 5xx is a failure."""
        if status >= 500:
            self.failed(registry, f"it answers {status}", request_id)
        elif registry in self._since:
            del self._last[registry]
            seconds = self._clock.seconds() - self._since.pop(registry)[0]
            log.info(
                "{registry} answers again, after {seconds:.0f} s (request {request_id})",
                event=events.ORIGIN_ANSWERS,
                registry=str(registry),
                seconds=seconds,
                request_id=request_id,
            )

    def failed(self, registry: Registry, problem: str, request_id: str) -> None:
        """It has not, at any of its URLs."""
        self._last[registry] = self._clock.seconds()
        if registry in self._since:
            return
        self._since[registry] = self._clock.seconds(), problem
        if len(self._since) > _MOST:
            del self._last[self._since.popitem(last=False)[0]]
        log.warn(
            "{registry} fails: {problem} (request {request_id})",
            event=events.ORIGIN_FAILING,
            registry=str(registry),
            problem=problem,
            request_id=request_id,
        )

    def failing(self) -> dict[Registry, tuple[float, str]]:
        """The registries that fail now: for how many seconds, and what was wrong first. Not those that nobody has
        found failing for a while."""
        now = self._clock.seconds()
        return {
            registry: (now - since, problem)
            for registry, (since, problem) in self._since.items()
            if now - self._last[registry] < _TOLD
        }
