"""What is new on disk, noted in the queue of uploads, but for what has come from the bucket itself."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.errors import StoreError
from crcache.facts import Fetched, Membership
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.policy.freshness import Lately
from crcache.tier.queue import CONTENT, PRIVACY, TAG, Entry, Queue
from crcache.workers import Workers

log = Logger()

#: Seconds for which what has been seen in the bucket, or put there, is taken to be there.
SEEN = 3600.0
_MOST = 65536


class Noting:
    """Notes in the threads of whoever has news; from outside of them, in those it is given."""

    def __init__(
        self, queue: Queue, workers: Workers, clock: Callable[[], float], poke: Callable[[], None] = lambda: None
    ) -> None:
        """
        @param clock: any time, in seconds.
        @param poke: called, in any thread, when there is something to upload.
        """
        self._queue = queue
        self._workers = workers
        self._clock = clock
        self._poke = poke
        self._lock = Lock()
        self._seen: Lately[tuple[Registry, Repository, Digest, Fetched]] = Lately(_MOST)

    def known(self, registry: Registry, repository: Repository, member: Membership) -> None:
        """The bucket has this, with its content."""
        with self._lock:
            self._seen.add((registry, repository, member.digest, member.fetched), self._clock(), SEEN)

    def unknown(self, registry: Registry, repository: Repository, digest: Digest) -> None:
        """Or it does not, after all."""
        with self._lock:
            for fetched in Fetched:
                self._seen.forget((registry, repository, digest, fetched))

    def member(self, registry: Registry, repository: Repository, member: Membership) -> None:
        """A repository's content has been fetched through it. For worker threads; never fails.

        What repositories but name is not uploaded: their manifests say it.
        """
        if member.fetched is Fetched.NEVER:
            return
        with self._lock:
            if self._seen.holds((registry, repository, member.digest, member.fetched), self._clock()):
                return
        self._add(Entry(CONTENT, registry, repository, str(member.digest)))

    def again(self, registry: Registry, repository: Repository, digest: Digest) -> Deferred[None]:
        """Content has to be uploaded, whatever was known."""
        self.unknown(registry, repository, digest)
        return self._workers.run(self._add, Entry(CONTENT, registry, repository, str(digest)))

    def tag(self, registry: Registry, repository: Repository, tag: Tag, *, gone: bool = False) -> Deferred[None]:
        """A tag means something else, or nothing any more."""
        return self._workers.run(self._add, Entry(TAG, registry, repository, str(tag), gone))

    def privacy(self, registry: Registry, repository: Repository, *, gone: bool = False) -> Deferred[None]:
        """A repository is private, or is not any more."""
        return self._workers.run(self._add, Entry(PRIVACY, registry, repository, "", gone))

    def _add(self, entry: Entry) -> None:
        try:
            self._queue.add(entry)
        except StoreError as problem:
            told = "{problem}; what was to be uploaded is not"
            log.warn(told, event=events.CACHE_FAILED, problem=problem.message)
            return
        self._poke()


def swallow(failure: Failure) -> None:
    """Of what nobody waits for."""
    log.failure("noting an upload failed", failure, event=events.INTERNAL_ERROR)
