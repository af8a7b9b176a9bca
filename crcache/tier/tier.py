"""The bucket, as the composition root sees it: there, or not, and replaced by a reload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from crcache.facts import Membership, Privacy, Query
from crcache.grammar.reference import Registry, Repository
from crcache.granting import IGrants
from crcache.interfaces import IStore
from crcache.settings import Config, S3Settings
from crcache.sources import ISource
from crcache.threads import Threads
from crcache.tier.counts import Counts
from crcache.tier.tiered import Tiered

if TYPE_CHECKING:
    from crcache.tier.running import Running


class Tier:
    """What stands behind the cache directory, if anything does.

    @ivar store: the disk's store, with the bucket behind it.
    @ivar counts: what operators see.
    """

    def __init__(
        self,
        reactor: Any,
        environ: Mapping[str, str],
        uploads: Path,
        threads: Threads,
        newest: Callable[[Registry, Repository, Privacy | None], Privacy | None],
        day: Callable[[], float],
    ) -> None:
        """
        @param uploads: the directory of the queue of uploads.
        @param newest: what is known of a repository's being private, given what is noted.
        @param day: the time of day, in seconds since the epoch.
        """
        self.counts = Counts()
        self._reactor = reactor
        self._environ = environ
        self._path = uploads
        self._threads = threads
        self._newest = newest
        self._day = day
        self._running: Running | None = None
        self._before: list[Running] = []
        self._started = False

    def over(self, disk: IStore, grants: IGrants) -> Tiered:
        """Stand behind this store. Called once, before anything else."""
        self._disk, self._grants = disk, grants
        self.store = Tiered(disk)
        return self.store

    @property
    def near(self) -> tuple[ISource, ...]:
        """Whom to ask before an origin."""
        return () if self._running is None else (self._running.nearby,)

    def use(self, config: Config) -> None:
        """Have the configured bucket in force, or none.

        @raise crcache.errors.ConfigError: if a proxy is not one; nothing has changed then.
        """
        before, settings = self._running, config.s3
        if settings is None and before is None:
            return
        if before is not None and (before.settings, before.upstream) == (settings, config.upstream):
            before.renew()
            return
        running = None
        if settings is not None:
            # Not without a bucket: each module takes memory.
            from crcache.tier.running import Running

            running = Running(
                self._reactor,
                settings,
                config.upstream,
                self._environ,
                self._disk,
                self.store,
                self._path,
                self._threads,
                self._grants,
                self._newest,
                self.counts,
                self._day,
            )
        self._running = running
        self.store.use(None if running is None else running.behind)
        if before is not None:
            self._before.append(before)

            def gone(_: object, retired: Running = before) -> None:
                self._before.remove(retired)

            Deferred.fromCoroutine(before.retire()).addErrback(_nothing).addCallback(gone)
        if running is not None and self._started:
            running.start()

    def start(self) -> None:
        """The store is open: upload what waits."""
        self._started = True
        if self._running is not None:
            self._running.start()

    def stop(self) -> Deferred[None]:
        """Break everything off. Fires when no connection is left. Idempotent."""
        self._started = False
        everything = [*self._before, *([] if self._running is None else [self._running])]
        closing = [Deferred.fromCoroutine(each.close()) for each in everything]
        return DeferredList(closing, consumeErrors=True).addCallback(lambda _: None)

    def noted(self, registry: Registry, repository: Repository, member: Membership) -> None:
        """A membership has been noted on disk. For any thread; never fails."""
        running = self._running
        if running is not None:
            running.noting.member(registry, repository, member)

    def lied(self, query: Query) -> None:
        """Somebody near has sent other bytes than were asked for."""
        if self._running is not None:
            self._running.lied(query)

    def describe(self) -> Mapping[str, object] | None:
        """What it does now, as JSON can carry it; C{None} without a bucket."""
        running = self._running
        if running is None:
            return None
        return {
            "bucket": running.settings.bucket,
            "endpoint": running.settings.endpoint,
            "problem": running.problem or None,
            **vars(self.counts),
        }


def bucket_hosts(settings: S3Settings) -> list[str]:
    """What has to be looked up to ask the bucket."""
    host = urlsplit(settings.endpoint).hostname or ""
    return [host, f"{settings.bucket}.{host}"]


def _nothing(_: Failure) -> None:
    """Of a bucket that is not in force any more nobody has to hear."""
