"""One upload: what the bucket should have, brought there unless it has it already."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred, DeferredLock

from crcache.facts import Fetched, Membership
from crcache.grammar.digest import Digest
from crcache.grammar.length import parse_length
from crcache.interfaces import IStore
from crcache.store.records import (
    membership_from,
    membership_record,
    merged,
    privacy_from,
    privacy_record,
    tag_from,
    tag_record,
)
from crcache.tier.bucket import PATIENCE, Bucket, Reply
from crcache.tier.counts import Counts
from crcache.tier.keys import Keys
from crcache.tier.noting import Noting
from crcache.tier.problems import Wrong
from crcache.tier.queue import CONTENT, TAG, Lease
from crcache.tier.remote import RECORD, Remote
from crcache.tier.sending import Sending
from crcache.workers import Workers

#: Seconds by which another's note of a tag may be older, and is left as it is.
AS_GOOD = 3600.0


class NotYet(Exception):
    """What has to be uploaded is not on disk, and may be in a moment: it was noted before it was there."""


class Upload:
    """Does what one entry of the queue says. Whatever somebody else has done already is not done again."""

    def __init__(
        self,
        disk: IStore,
        bucket: Bucket,
        keys: Keys,
        remote: Remote,
        noting: Noting,
        sending: Sending,
        counts: Counts,
        workers: Workers,
        day: Callable[[], float],
    ) -> None:
        """
        @param workers: threads for the queue's files.
        @param day: the time of day, in seconds since the epoch.
        """
        self._disk = disk
        self._bucket = bucket
        self._keys = keys
        self._remote = remote
        self._noting = noting
        self._sending = sending
        self._counts = counts
        self._workers = workers
        self._day = day
        self._contents: dict[Digest, DeferredLock] = {}

    async def run(self, lease: Lease) -> None:
        """All of it.

        @raise crcache.tier.problems.Failed: if the bucket does not take it.
        @raise Wrong: if what is on disk, or answered, is not what it should be.
        @raise NotYet: if it is not on disk.
        @raise crcache.tier.problems.Elsewhere: if somebody else is uploading it.
        @raise crcache.errors.StoreError: if the disk fails.
        """
        what = lease.entry.what
        if what == CONTENT:
            await self._content(lease)
        elif what == TAG:
            await self._tag(lease)
        else:
            await self._privacy(lease)

    async def _content(self, lease: Lease) -> None:
        """Content first: what speaks of it comes when it is there."""
        entry = lease.entry
        digest = entry.digest
        body = await self._disk.find(digest)
        member = await self._disk.member(entry.registry, entry.repository, digest)
        if body is None or member is None or member.fetched is Fetched.NEVER:
            raise NotYet
        file = os.fdopen(body.open(), "rb", buffering=0)
        size = body.size or 0
        del body
        # What another entry has just uploaded is found there then.
        turn = self._contents.setdefault(digest, DeferredLock())
        try:
            async with _Turn(turn):
                await self._stored(lease, digest, file, size)
        finally:
            if not (turn.locked or turn.waiting):
                self._contents.pop(digest, None)
        privacy = await self._disk.privacy(entry.registry, entry.repository)
        if privacy is not None:
            # It closes what the next one says.
            await self._privacy(lease)
        await self._member(lease, member)
        if member.fetched is Fetched.OPENLY and privacy is None:
            given = {"registry": str(entry.registry), "repository": str(entry.repository)}
            await self._put(self._keys.given(digest), given, once=True)
        self._noting.known(entry.registry, entry.repository, member)

    async def _stored(self, lease: Lease, digest: Digest, file: BinaryIO, size: int) -> None:
        key = self._keys.content(digest)
        lied = self._remote.lies.holds(key)
        if lease.entry.upload:
            await self._sending.abort(key, lease.entry.upload)
        if not lied:
            there = await self._size(key)
            if there == size:
                return
            # Somebody has put something else there.
            lied = there is not None

        def began(upload: str) -> Deferred[None]:
            return self._workers.run(lease.note, upload=upload)

        try:
            sent = await self._sending.put(key, file, digest, began, over=lied)
        except Wrong as wrong:
            damaged = await self._disk.find(digest)
            if damaged is not None:
                await self._disk.drop(digest, damaged)
            raise Wrong(f"is not uploaded: it {wrong.message}") from None
        self._remote.lies.mended(key)
        self._remote.there(key)
        if sent is not None:
            self._counts.uploads += 1
            self._counts.sent += sent

    async def _size(self, key: str) -> int | None:
        """Of an object; C{None} if it is not there, or nobody may know."""
        reply = await self._bucket.reply("HEAD", key, seconds=PATIENCE)
        if reply.status in (403, 404):
            return None
        if not self._bucket.judge(reply):
            raise self._bucket.failure(reply)
        (length,) = reply.headers.getRawHeaders(b"Content-Length", [b""])[:1] or [b""]
        return parse_length(length.decode("latin-1"))

    async def _member(self, lease: Lease, member: Membership) -> None:
        entry = lease.entry
        key = self._keys.member(entry.registry, entry.repository, member.digest)
        old = membership_from(await self._record(key), member.digest)
        known = merged(old, member, self._day())
        if known != old:
            await self._put(key, membership_record(known))

    async def _tag(self, lease: Lease) -> None:
        entry = lease.entry
        key = self._keys.tag(entry.registry, entry.repository, entry.tag)
        found = await self._disk.tag(entry.registry, entry.repository, entry.tag)
        if found is None:
            # What has merely been evicted is left there.
            if entry.gone:
                await self._delete(key)
            return
        old = tag_from(await self._record(key))
        if old is not None and old.checked > self._day() + AS_GOOD >= found.checked:
            # Somebody's clock is wrong: nobody could say anything about it for as long.
            old = None
        if old is not None and old.checked >= found.checked:
            return
        same = old is not None and (old.digest, old.open) == (found.digest, found.open)
        if old is None or not same or found.checked - old.checked >= AS_GOOD:
            await self._put(key, tag_record(found))

    async def _privacy(self, lease: Lease) -> None:
        entry = lease.entry
        key = self._keys.privacy(entry.registry, entry.repository)
        found = await self._disk.privacy(entry.registry, entry.repository)
        if found is None:
            if entry.gone:
                await self._delete(key)
            return
        old = await self._record(key)
        if old is None or privacy_from(old).challenges != found.challenges:
            await self._put(key, privacy_record(found))

    async def _record(self, key: str) -> dict[str, Any] | None:
        """What a small object says; what is none is as good as nothing: it is replaced."""
        try:
            reply = await self._bucket.reply("GET", key, seconds=PATIENCE, limit=RECORD)
            found = json.loads(reply.body) if self._bucket.judge(reply) else None
        except (Wrong, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    async def _put(self, key: str, record: dict[str, Any], *, once: bool = False) -> None:
        headers = {"Content-Type": "application/json", **({"If-None-Match": "*"} if once else {})}
        reply = await self._bucket.reply(
            "PUT", key, headers=headers, data=json.dumps(record).encode(), seconds=PATIENCE
        )
        if once and reply.status in (409, 412, 501):
            return
        self._taken(reply)
        self._remote.lies.mended(key)
        self._remote.there(key)

    async def _delete(self, key: str) -> None:
        self._taken(await self._bucket.reply("DELETE", key, seconds=PATIENCE))
        self._remote.lies.mended(key)

    def _taken(self, reply: Reply) -> None:
        # Of what is written, unlike what is read, a refusal never means that it is not there.
        if not 200 <= reply.status < 300 and reply.status != 404:
            raise self._bucket.failure(reply)
        if reply.status == 404 and reply.code not in ("", "NoSuchKey"):
            raise self._bucket.failure(reply)


class _Turn:
    """With older releases of Twisted a lock is no context manager."""

    def __init__(self, lock: DeferredLock) -> None:
        self._lock = lock

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
