"""All that a bucket which is configured needs; nothing of it is there without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from crcache.facts import Privacy, Query
from crcache.flow.patience import to_the_end
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository
from crcache.granting import IGrants
from crcache.interfaces import IStore
from crcache.settings import S3Settings, UpstreamSettings
from crcache.threads import Threads
from crcache.tier.behind import Behind
from crcache.tier.bucket import PATIENCE, Bucket
from crcache.tier.counts import Counts
from crcache.tier.health import SLOW, Health
from crcache.tier.keys import Keys
from crcache.tier.lies import Lies
from crcache.tier.nearby import Nearby
from crcache.tier.noting import Noting, swallow
from crcache.tier.problems import Failed, Wrong
from crcache.tier.queue import Queue
from crcache.tier.remote import Remote
from crcache.tier.sending import Sending
from crcache.tier.signing import Signer
from crcache.tier.tiered import Tiered
from crcache.tier.upload import Upload
from crcache.tier.uploads import Uploads


class Running:
    """A bucket in force: its questions, its answers, its uploads.

    @ivar behind: where the store looks next.
    @ivar nearby: whom fills ask first.
    @ivar noting: what is told of news.
    """

    def __init__(
        self,
        reactor: Any,
        settings: S3Settings,
        upstream: UpstreamSettings,
        environ: Mapping[str, str],
        disk: IStore,
        store: Tiered,
        uploads: Path,
        threads: Threads,
        grants: IGrants,
        newest: Callable[[Registry, Repository, Privacy | None], Privacy | None],
        counts: Counts,
        day: Callable[[], float],
    ) -> None:
        """
        @param store: the disk's store with this behind it.
        @param uploads: the queue's directory.
        @param newest: as for L{Nearby}.
        @raise crcache.errors.ConfigError: if a proxy is not one.
        """
        self.settings, self.upstream = settings, upstream
        seconds = reactor.seconds
        self._reactor = reactor
        self._signer = Signer(settings.region)
        self._bucket = Bucket(reactor, settings, upstream, environ, threads.signing, self._signer)
        self._keys = keys = Keys(settings.prefix)
        slow = max(settings.timeout / 2, SLOW)
        self.health = Health(reactor, self._bucket.name, lambda: self._remote.probe(), slow)  # noqa: PLW0108
        self._remote = Remote(self._bucket, keys, self.health, Lies(seconds), counts, threads.hashing, seconds)
        queue = Queue(uploads, day)
        self.noting = Noting(queue, threads.disk, seconds, self._poke)
        self.behind = Behind(disk, self._remote, self.noting, threads.hashing, seconds)
        self.nearby = Nearby(
            store,
            self._bucket,
            keys,
            self._remote,
            grants,
            newest,
            counts,
            reactor,
            lambda: upstream.stall_timeout,
        )
        sending = Sending(self._bucket, threads.uploading)
        upload = Upload(disk, self._bucket, keys, self._remote, self.noting, sending, counts, threads.uploading, day)
        self._uploads = Uploads(reactor, queue, upload, self.health, counts, threads.uploading, day)

    @property
    def problem(self) -> str:
        """What is wrong with the bucket; empty if nothing is."""
        return self.health.problem or self._uploads.problem

    def renew(self) -> None:
        """The configuration was read again, and is the same: the keys need not be."""
        self._signer.forget()

    def start(self) -> None:
        """Begin to upload."""
        self._uploads.start()

    def lied(self, query: Query) -> None:
        """It has sent other bytes than were asked for. What is there goes, and is uploaded again once it is here."""
        assert isinstance(query.reference, Digest)
        key = self._keys.content(query.reference)
        self._remote.lies.add(key, "holds other bytes than its name says")
        self.noting.again(query.registry, query.repository, query.reference).addErrback(swallow)
        Deferred.fromCoroutine(self._removed(key)).addErrback(swallow)

    async def _removed(self, key: str) -> None:
        try:
            await self._bucket.reply("DELETE", key, seconds=PATIENCE)
        except (Failed, Wrong):
            # It is replaced when the right bytes are uploaded.
            return

    async def retire(self) -> None:
        """Another one is asked from now on: uploads stop; what comes goes on. Returns with the last connection."""
        self.health.stop()
        await self._uploads.stop()
        await self._bucket.retire()

    async def close(self) -> None:
        """Break everything off. What waits stays in the queue."""
        self.health.stop()
        stopping = self._uploads.stop()
        await to_the_end(stopping)
        await self._bucket.close()

    def _poke(self) -> None:
        self._reactor.callFromThread(self._uploads.poke)
