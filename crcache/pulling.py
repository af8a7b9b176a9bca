"""The composition root of C{crcache pull}: a daemon's engine without listeners, and who asks it for images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore
from twisted.logger import Logger

from crcache import events
from crcache.ending import end_threads, within
from crcache.engine import Engine
from crcache.errors import CrcacheError, StoreError
from crcache.grammar.platform import Platform
from crcache.grammar.reference import Registry, Repository
from crcache.images.noting import Target
from crcache.settings import Config
from crcache.upstream import resolver
from crcache.warming.warmer import Warmed, Warmer

log = Logger()

#: Seconds that each step of stopping may take.
_STEP = 3.0


@dataclass(frozen=True)
class Orders:
    """What is wanted.

    @ivar platforms: of an index; none: all.
    @ivar jobs: how many images, and how many blobs, are asked for at once.
    """

    images: Sequence[Target]
    platforms: Sequence[Platform] = ()
    jobs: int = 4


class Pulling:
    """One engine, for as long as it takes. It shares the cache directory with whatever daemon runs there."""

    def __init__(
        self,
        config: Config,
        reactor: Any,
        environ: Mapping[str, str] = os.environ,
        *,
        advanced: Callable[[int], object] = lambda count: None,
        expected: Callable[[int], object] = lambda count: None,
    ) -> None:
        """
        @param environ: says where the proxies are.
        @param advanced: told how many bytes more are here.
        @param expected: told of how many bytes more there will be.
        @raise crcache.errors.ConfigError: if a proxy is not one.
        """
        self._reactor = reactor
        self._engine = Engine(config, reactor, environ, lambda: "the cache opens")
        self._advanced = advanced
        self._expected = expected

    def run(self, orders: Orders, ended: Callable[[Target, Warmed | CrcacheError], object]) -> Deferred[None]:
        """Have them pulled, others even if some fail.

        @param ended: told what has come of each, as soon as it has.
        @return: fires when all have ended, and everything has been let go of; so it does when it is cancelled.
        @raise StoreError: if there is no cache directory to be had.
        """
        engine = self._engine
        engine.store.start()
        for workers in engine.workers:
            workers.start()
        names = resolver.install(self._reactor, engine.names.pool, engine.names_host)
        cache = engine.open_alone()

        def running(registry: Registry, digest: Any) -> object | None:
            return engine.fills.running(registry, digest)

        warmer = Warmer(
            cache,
            engine.store,
            running,
            self._reactor,
            orders.jobs,
            orders.platforms,
            self._advanced,
            self._expected,
        )
        turns = DeferredSemaphore(orders.jobs)

        async def one(target: Target) -> None:
            ended(target, await self._warmed(warmer, *target))

        def begin(target: Target) -> Deferred[None]:
            return Deferred.fromCoroutine(one(target))

        def every(_: None) -> Deferred[Any]:
            pulls = [turns.run(begin, target) for target in orders.images]
            return DeferredList(pulls, fireOnOneErrback=True, consumeErrors=True)

        def over(_: object) -> Deferred[None]:
            names.retire()
            return Deferred.fromCoroutine(self._stop())

        return engine.evictor.alone().addCallback(every).addBoth(over)

    async def _warmed(
        self, warmer: Warmer, registry: Registry, repository: Repository, reference: Any
    ) -> Warmed | CrcacheError:
        try:
            return await warmer.image(registry, repository, reference)
        except CrcacheError as problem:
            return problem
        except Exception as error:
            log.failure("pulling an image failed", event=events.INTERNAL_ERROR)
            return StoreError(f"internal error: {type(error).__name__}")

    async def _stop(self) -> None:
        engine = self._engine
        await within(self._reactor, _STEP, engine.fills.stop())
        engine.evictor.stop()
        await within(self._reactor, _STEP, engine.close_upstream())
        engine.store.stop()
        end_threads(engine.workers, _STEP)
