"""Whether a repository has a blob, and whether the file here is that blob."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from crcache import events
from crcache.asks import PullBlob
from crcache.errors import Denied, OriginLied, OriginRefused, StoreError
from crcache.facts import Fetched, Membership, Query, Verdict
from crcache.flow.answers import lines
from crcache.flow.collect import dismiss
from crcache.flow.shared import Shared
from crcache.flow.verify import verify
from crcache.grammar.digest import Digest
from crcache.interfaces import IBody, IStore
from crcache.origin import Origin
from crcache.policy.freshness import Lately
from crcache.telling import cache_failed
from crcache.workers import Workers

log = Logger()

#: Seconds for which content that has been hashed is not hashed again, whoever doubts it.
_TRUSTED = 600.0


def blob_query(ask: PullBlob, method: Literal["GET", "HEAD"] = "GET") -> Query:
    """How a blob is asked for in crcache's own way."""
    client = ask.client
    request_id, peer, via = client.request_id, client.peer, client.via
    return Query(ask.registry, ask.repository, "blob", ask.digest, request_id, method, peer=peer, via=via)


class Confirming:
    """Asks origins with HEADs, hashes files, and notes what it finds out."""

    def __init__(self, store: IStore, origin: Origin, hashing: Workers, clock: Callable[[], float]) -> None:
        """
        @param hashing: threads that hash whole files.
        @param clock: the time of day, in seconds since the epoch.
        """
        self._store = store
        self._origin = origin
        self._hashing = hashing
        self._clock = clock
        self._checks: Shared[bool] = Shared()
        self._hashed: Lately[tuple[Digest, int | None]] = Lately()

    async def sound(self, ask: PullBlob, member: Membership, body: IBody) -> IBody | None:
        """A file of another size than was said, or whose size nobody said, is hashed before it is served."""
        if member.size == body.size:
            return body
        try:
            if await self._right(body, ask.digest):
                await self._enrol(ask, replace(member, size=body.size))
                return body
            log.warn(
                "{digest} was damaged on disk; it is fetched again (request {request_id})",
                event=events.CONTENT_DAMAGED,
                **events.about(ask),
            )
            await self._store.drop(ask.digest, body)
        except StoreError as problem:
            cache_failed(log, "reading the cache", ask, problem)
        return None

    async def _right(self, body: IBody, digest: Digest) -> bool:
        """Whether committed content is what its digest says; hashed once, however many ask, and not again soon.

        @raise StoreError: if it cannot be read.
        """
        key = digest, body.size
        if self._hashed.holds(key, self._clock()):
            return True

        async def check() -> bool:
            return await self._hashing.run(verify, body, digest)

        right = await self._checks.join(key, check)
        if right:
            self._hashed.add(key, self._clock(), _TRUSTED)
        return right

    async def confirmed(self, ask: PullBlob, body: IBody) -> Membership | None:
        """What the origin's HEAD says of this repository's holding the blob; C{None} if only a GET would tell.

        @param body: the content that is here.
        @raise crcache.errors.OriginError: if it says no, or nothing.
        @raise StoreError: if the content cannot be read.
        """
        try:
            return await self.asked(ask, body)
        except (OriginRefused, Denied, OriginLied):
            # Signed links are often good for GET alone.
            return None

    async def asked(self, ask: PullBlob, body: IBody | None) -> Membership:
        """The origin's own HEAD; noted, with whether the answer is for everyone.

        @raise OriginLied: if it speaks of something else.
        """
        granted = await self._origin.ask(blob_query(ask, "HEAD"), ask.client)
        dismiss(granted.answer, head=True)
        said, digests = granted.answer.length, lines(granted.answer, "Docker-Content-Digest")
        other = any(each.strip() != str(ask.digest) for each in digests)
        if body is not None and None not in (said, body.size) and said != body.size:
            # Either our file is damaged, or the origin means something else.
            other = other or body.verdict is Verdict.FILLING or await self._right(body, ask.digest)
        if granted.answer.status != 200 or other:
            raise OriginLied(f"{ask.registry} speaks of something else than {ask.digest}; ask it with GET")
        member = Membership(ask.digest, None, said, granted.open)
        await self._enrol(ask, member)
        return member

    def proved(self, ask: PullBlob, openly: bool, size: int) -> None:
        """All bytes of the blob have come from the repository's origin."""
        fetched = Fetched.OPENLY if openly else Fetched.PRIVATELY
        Deferred.fromCoroutine(self._enrol(ask, Membership(ask.digest, None, size, openly, fetched=fetched)))

    async def _enrol(self, ask: PullBlob, member: Membership) -> None:
        try:
            await self._store.enrol(ask.registry, ask.repository, [member])
        except StoreError as problem:
            cache_failed(log, f"noting {ask.digest}", ask, problem)
