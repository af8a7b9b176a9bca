"""Reading the configuration again while the daemon runs (SIGHUP)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.errors import ConfigError
from crcache.workers import Workers

log = Logger()

T = TypeVar("T")


class Reloader(Generic[T]):
    """Reads the files in a thread, and has what they say put in force in the reactor thread."""

    def __init__(self, workers: Workers, load: Callable[[], T], use: Callable[[T], None]) -> None:
        """
        @param load: blocks; raises L{ConfigError}.
        @param use: puts it in force, whole or, with a L{ConfigError}, not at all.
        """
        self._workers = workers
        self._load = load
        self._use = use
        self._waiting: list[Deferred[None]] = []
        self._running = False

    def reload(self) -> Deferred[None]:
        """Do it. While it is being done already it is done once more after that, however often it is asked for.

        @return: fires when it is done, also if a mistake, which has been logged, left everything as it was.
        """
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._run())
        return done

    async def _run(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            await self._once()
            for each in waiting:
                each.callback(None)
        self._running = False

    async def _once(self) -> None:
        try:
            self._use(await self._workers.run(self._load))
        except CancelledError:
            raise
        except ConfigError as mistake:
            told = "{problem}; what was in force before stays in force"
            log.error(told, event=events.RELOAD_REFUSED, problem=mistake.message)
        except Exception:
            told = "the configuration could not be read again; what was in force before stays in force"
            log.failure(told, Failure(), event=events.INTERNAL_ERROR)
        else:
            log.info("the configuration was read again, and is in force", event=events.RELOADED)
