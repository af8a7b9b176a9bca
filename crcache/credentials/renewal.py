"""Reading the credentials file again whenever it has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.credentials_source import Reading
from crcache.errors import ConfigError
from crcache.settings import Credentials
from crcache.watching import Watching
from crcache.workers import Workers

log = Logger()


class Renewal:
    """Watches the file, and has what it says put in force. Nothing else is read: that is for a reload."""

    def __init__(
        self,
        clock: Any,
        workers: Workers,
        now: Callable[[], Credentials],
        use: Callable[[Credentials], None],
        reading: Reading | None = None,
    ) -> None:
        """
        @param workers: one thread, so that what was read last is what is used.
        @param now: the credentials in force.
        @param use: puts others in force.
        @param reading: how those in force were read.
        """
        self._workers = workers
        self._now = now
        self._use = use
        self._watching = Watching(clock, workers, self.renew)
        self._told: str | None = None
        self._reading = reading
        self._watching.watch(() if reading is None else (reading.path,))

    def follow(self, reading: Reading | None) -> None:
        """Those in force have been read so; C{None}: not from a file."""
        other = reading is not None and (self._reading is None or reading.path != self._reading.path)
        self._reading = reading
        self._told = None
        self._watching.watch(() if reading is None else (reading.path,))
        if other:
            # It has been read, but nobody has looked at it since: it may have changed by the first look.
            self._watching.again()

    def start(self) -> None:
        """Begin to watch; and read it once, for it may have changed since it was read first."""
        self._watching.start()
        self.renew()

    def stop(self) -> None:
        """Watch no more. Idempotent."""
        self._reading = None
        self._watching.stop()

    def renew(self) -> Deferred[None]:
        """Read it. A mistake is logged, and leaves everything as it was. Fires when that is done."""
        return Deferred.fromCoroutine(self._renew())

    async def _renew(self) -> None:
        reading = self._reading
        if reading is None:
            return
        try:
            found, warnings = await self._workers.run(reading.again)
        except CancelledError:
            raise
        except ConfigError as mistake:
            self._keep(reading, mistake.message)
            return
        except Exception:
            told = "the credentials could not be read again; what was in force before stays in force"
            log.failure(told, Failure(), event=events.INTERNAL_ERROR)
            return
        self._told = None
        # A reload may have been quicker, and have read everything.
        if reading is not self._reading or found == self._now():
            return
        self._use(found)
        for line in warnings:
            log.warn("{line}", event=events.WARNING, line=line)
        told = "{path} has changed and was read again; the credentials in it are in force"
        log.info(told, event=events.RELOADED, path=str(reading.path))

    def _keep(self, reading: Reading, problem: str) -> None:
        """Tried again at each look: it may be right once it may be read, which is no change of its content."""
        if reading is not self._reading:
            return
        self._watching.again()
        if problem != self._told:
            self._told = problem
            told = "{problem}; what was in force before stays in force"
            log.error(told, event=events.RELOAD_REFUSED, problem=problem)
