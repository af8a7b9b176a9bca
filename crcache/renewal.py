"""Certificates that are renewed by themselves when their files change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.errors import ConfigError
from crcache.watching import Watching
from crcache.workers import Workers

log = Logger()

#: Seconds between two looks at the files, and between two attempts to use files that do not fit.
PACE = 5.0


class Renewable(Protocol):
    """Something that is made of files.

    @ivar name: as the log calls it.
    @ivar files: what it is made of now.
    """

    @property
    def name(self) -> str:
        """See above."""

    @property
    def files(self) -> Sequence[Path]:
        """See above."""

    def prepare(self) -> Callable[[], None]:
        """Read the files, in a thread; what it returns puts them in force, in the reactor thread.

        @raise ConfigError: if they cannot be used.
        """


class Certificates:
    """Looks after several, each by itself."""

    def __init__(self, clock: Any, workers: Workers, renewables: Sequence[Renewable]) -> None:
        """
        @param clock: the reactor's time.
        @param workers: where files are read.
        """
        self._each = [_One(clock, workers, renewable) for renewable in renewables]

    def start(self) -> None:
        """Begin to look at what is made of any files by now."""
        for each in self._each:
            each.start()

    def reloaded(self) -> None:
        """They may be made of other files by now."""
        for each in self._each:
            each.look_at_its_files()

    def stop(self) -> None:
        """Look no more. Idempotent."""
        for each in self._each:
            each.stop()


class _One:
    def __init__(self, clock: Any, workers: Workers, renewable: Renewable) -> None:
        self.watching = Watching(clock, workers, self._changed, PACE)
        self._clock = clock
        self._workers = workers
        self._renewable = renewable
        self._told: str | None = None
        self._later: Any = None
        self._stopped = False

    def start(self) -> None:
        self.look_at_its_files()
        if self._renewable.files:
            self.watching.start()

    def look_at_its_files(self) -> None:
        self.watching.watch(self._renewable.files)

    def stop(self) -> None:
        self._stopped = True
        self.watching.stop()
        self._forget_later()

    def _forget_later(self) -> None:
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None

    def _changed(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._renew())

    async def _renew(self) -> None:
        self._forget_later()
        try:
            commit = await self._workers.run(self._renewable.prepare)
        except CancelledError:
            raise
        except Exception as problem:
            self._keep(problem)
            return
        if self._stopped:
            return
        commit()
        self._told = None
        log.info("{path}: the certificate was renewed", event=events.CERTIFICATE_RENEWED, path=self._renewable.name)

    def _keep(self, problem: Exception) -> None:
        """Those before stay. Perhaps but one of two files has been replaced, or half of one has been written."""
        if self._stopped:
            return
        if not isinstance(problem, ConfigError):
            log.failure("a certificate could not be renewed", Failure(problem), event=events.INTERNAL_ERROR)
        elif problem.message != self._told:
            self._told = problem.message
            told = "{problem}; the certificate from before stays in force, and the files are looked at again"
            log.warn(told, event=events.CERTIFICATE_KEPT, problem=problem.message)
        # Another attempt may have failed meanwhile.
        self._forget_later()
        self._later = self._clock.callLater(PACE, self._changed)
