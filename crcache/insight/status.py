"""What runs here, for `/api/status`."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import twisted
from twisted.internet.interfaces import IReactorTime

from crcache import __version__
from crcache.grammar.reference import Registry
from crcache.insight.metrics import Meter


class Status:
    """Composes the status from values it is given; nothing in it is secret.

    @ivar started: in the reactor's seconds.
    """

    def __init__(
        self,
        clock: IReactorTime,
        meter: Meter,
        cache_directory: str,
        registries: Sequence[Registry],
        listeners: Callable[[], Sequence[str]],
        fills: Callable[[], Sequence[Mapping[str, object]]],
        state: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """
        @param registries: as for L{configured}.
        @param listeners: the addresses that are listened on now.
        @param fills: the fills in progress, each as JSON can carry it.
        @param state: what else there is to say, by name, as JSON can carry it.
        """
        self.started = clock.seconds()
        self._clock = clock
        self._meter = meter
        self._cache_directory = cache_directory
        self.configured(registries)
        self._listeners = listeners
        self._fills = fills
        self._state = state

    def configured(self, registries: Sequence[Registry]) -> None:
        """A configuration has been put in force.

        @param registries: those that are named in it.
        """
        self._configured_since = datetime.now(UTC).isoformat(timespec="seconds")
        self._registries = sorted(str(registry) for registry in registries)

    def __call__(self) -> Mapping[str, object]:
        """The status now: name → value, as JSON can carry it."""
        return {
            "version": __version__,
            "twisted": twisted.__version__,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "uptime_seconds": round(self._clock.seconds() - self.started, 3),
            "listeners": list(self._listeners()),
            "cache_directory": self._cache_directory,
            "configured_since": self._configured_since,
            "registries": self._registries,
            **self._state(),
            "counters": dict(self._meter.summary()),
            "fills": list(self._fills()),
        }
