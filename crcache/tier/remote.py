"""What the bucket knows, for pulls: nothing that takes long, nothing that is not what its name says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from crcache import events
from crcache.errors import CrcacheError
from crcache.facts import Membership, Privacy, TagEntry
from crcache.flow.shared import Shared
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.policy.freshness import Lately
from crcache.store.records import membership_from, privacy_from, tag_from
from crcache.tier.bucket import Bucket, Reply
from crcache.tier.counts import Counts
from crcache.tier.health import Health
from crcache.tier.keys import Keys
from crcache.tier.lies import Lies
from crcache.tier.problems import Failed, Wrong
from crcache.workers import Workers

log = Logger()

T = TypeVar("T")

#: Bytes that a record may have; a privacy's challenges have 4096 at most.
RECORD = 64 << 10
#: Seconds for which it is remembered that something is not there.
ABSENT = 30.0
_MOST = 65536


class Unknown(Exception):
    """The bucket does not say, for now."""


class Remote:
    """Reads records and small content. Of what it does not find out nobody learns more than that.

    @ivar health: whether the bucket is asked at all.
    @ivar lies: the objects that are not what their names say.
    """

    def __init__(
        self,
        bucket: Bucket,
        keys: Keys,
        health: Health,
        lies: Lies,
        counts: Counts,
        hashing: Workers,
        clock: Callable[[], float],
    ) -> None:
        """
        @param hashing: threads that hash, and parse.
        @param clock: any time, in seconds.
        """
        self.health = health
        self.lies = lies
        self._bucket = bucket
        self._keys = keys
        self._counts = counts
        self._hashing = hashing
        self._clock = clock
        self._absent: Lately[str] = Lately(_MOST)
        self._asking: Shared[bytes | None] = Shared()
        self._denied = False

    async def tag(self, registry: Registry, repository: Repository, tag: Tag) -> TagEntry | None:
        """What a tag meant when somebody last noted it there.

        @raise Unknown: if the bucket does not say.
        """
        key = self._keys.tag(registry, repository, tag)
        record = await self._record(key)
        return None if record is None else self._sound(key, tag_from(record), "does not say what a tag means")

    async def member(self, registry: Registry, repository: Repository, digest: Digest) -> Membership | None:
        """What somebody noted there of this repository's holding this digest.

        @raise Unknown: if the bucket does not say.
        """
        key = self._keys.member(registry, repository, digest)
        record = await self._record(key)
        if record is None:
            return None
        return self._sound(key, membership_from(record, digest), "speaks of another digest than its name does")

    async def privacy(self, registry: Registry, repository: Repository) -> Privacy | None:
        """Whether it is noted there that the repository has refused crcache's own way. What cannot be read says so.

        @raise Unknown: if the bucket does not say.
        """
        key = self._keys.privacy(registry, repository)
        if self.lies.holds(key):
            return Privacy(0.0)
        record = await self._record(key)
        if record is None:
            return Privacy(0.0) if self.lies.holds(key) else None
        return privacy_from(record)

    async def giver(self, digest: Digest) -> tuple[Registry, Repository] | None:
        """A repository that, somebody noted, gives everyone this content.

        @raise Unknown: if the bucket does not say.
        """
        key = self._keys.given(digest)
        record = await self._record(key)
        if record is None:
            return None
        registry, repository = record.get("registry"), record.get("repository")
        if isinstance(registry, str) and isinstance(repository, str) and max(len(registry), len(repository)) < 4096:
            try:
                return Registry.parse(registry), Repository.parse(repository)
            except CrcacheError:
                pass
        self.lies.add(key, "does not say which repository gives the content")
        return None

    async def content(self, digest: Digest, limit: int) -> bytes | None:
        """Small content, verified.

        @param limit: in bytes.
        @raise Unknown: if the bucket does not say.
        """
        key = self._keys.content(digest)
        data = await self._small(key, limit)
        if data is None or await self._hashing.run(Digest.of, data, digest.algorithm) == digest:
            return data
        self.lies.add(key, "holds other bytes than its name says")
        return None

    async def _record(self, key: str) -> Mapping[str, Any] | None:
        data = await self._small(key, RECORD)
        if data is None:
            return None
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        self.lies.add(key, "is no record")
        return None

    def _sound(self, key: str, found: T | None, otherwise: str) -> T | None:
        if found is None:
            self.lies.add(key, otherwise)
        return found

    async def _small(self, key: str, limit: int) -> bytes | None:
        if self.lies.holds(key) or self._absent.holds(key, self._clock()):
            return None
        if not self.health.usable:
            raise Unknown
        return await self._asking.join(key, lambda: self._read(key, limit))

    async def _read(self, key: str, limit: int) -> bytes | None:
        began = self._clock()
        try:
            reply = await self._bucket.reply("GET", key, limit=limit)
            found = self._bucket.judge(reply)
        except Wrong as wrong:
            self.lies.add(key, wrong.message)
            return None
        except Failed as problem:
            self._counts.failed += 1
            self.health.failed(problem)
            raise Unknown from None
        self.health.answered(self._clock() - began)
        if found:
            self._counts.hits += 1
            self._counts.received += len(reply.body)
            return reply.body
        self._counts.misses += 1
        self.absent(key, reply)
        return None

    def absent(self, key: str, reply: Reply | None = None) -> None:
        """It is not there; which is not asked again for a moment."""
        self._absent.add(key, self._clock(), ABSENT)
        if reply is not None and reply.status == 403 and not self._denied:
            self._denied = True
            told = f"{self._bucket.name} answers 403 {reply.code}, as it does without s3:ListBucket for all it lacks"
            log.warn("{problem}", event=events.BUCKET_REFUSED, problem=told)

    def there(self, key: str) -> None:
        """Somebody has just put it there."""
        self._absent.forget(key)

    def probe(self) -> Deferred[None]:
        """Ask for something.

        Fails with L{Failed} if there is no answer that is of use.
        """
        return Deferred.fromCoroutine(self._probed())

    async def _probed(self) -> None:
        try:
            self._bucket.judge(await self._bucket.reply("GET", self._keys.probe))
        except Wrong:
            # Whatever it is, it is an answer.
            return
