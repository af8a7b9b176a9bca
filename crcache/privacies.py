"""Which repositories refuse crcache's own way, as their origins said last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from crcache import events
from crcache.errors import StoreError
from crcache.facts import Privacy, Query
from crcache.grammar.reference import Registry, Repository
from crcache.interfaces import IStore
from crcache.policy.access import remembered

log = Logger()

T = TypeVar("T")

_Heard = tuple[Query, Privacy | None]

#: Repositories whose refusal is remembered here as well: clients can name any, and of those that hold nothing the
#: store notes nothing.
_MOST = 1024

_Known = OrderedDict[tuple[Registry, Repository], Privacy]


class Privacies:
    """On disk for all processes; here, too, so that what was refused just now is not asked for at once."""

    def __init__(self, store: IStore, clock: Callable[[], float], seconds: Callable[[Registry], float]) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        @param seconds: for how long a registry's refusal is told without asking again.
        """
        self._store = store
        self._clock = clock
        self._seconds = seconds
        self._since = 0.0
        self._here: _Known = OrderedDict()
        # Of other processes, which may have found it open by now: it only spares questions.
        self._read: _Known = OrderedDict()
        self._noting: dict[tuple[Registry, Repository], _Heard] = {}

    async def find(self, registry: Registry, repository: Repository) -> Privacy | None:
        """What is known of a repository; C{None}: nothing against its being open. Of one whose note cannot be read it
        has to be believed that there is one."""
        try:
            return self.newest(registry, repository, await self._store.privacy(registry, repository))
        except StoreError:
            return self.newest(registry, repository, Privacy(0.0))

    def newest(self, registry: Registry, repository: Repository, noted: Privacy | None) -> Privacy | None:
        """The same, of one whose note on disk has been read."""
        key = registry, repository
        # What is not on disk yet may be forgotten here: others' refusals are many.
        here = self._here.get(key) or (self._noting[key][1] if key in self._noting else None)
        if noted is None or (here is not None and here.checked >= noted.checked):
            return here
        _remember(self._read, key, noted)
        return noted

    def lately(self, registry: Registry, repository: Repository) -> Privacy | None:
        """The refusal that clients can be told without asking again, if there is one.

        It is one that this process has heard itself, or has read of lately: nobody waits for the disk before a question
        that it may spare.
        """
        for known in (self._here, self._read):
            found = known.get((registry, repository))
            fresh = remembered(found, self._clock(), self._seconds(registry))
            if found is not None and fresh and found.checked >= self._since:
                return found
        return None

    def try_again(self) -> None:
        """Credentials have changed: what was refused before may not be refused any more."""
        self._since = self._clock()

    def refused(self, query: Query, challenges: tuple[str, ...]) -> None:
        """The origin has just refused crcache's own way."""
        key = query.registry, query.repository
        privacy = Privacy(self._clock(), challenges).shortened()
        _remember(self._here, key, privacy)
        self._note(query, privacy)

    def kept(self, query: Query) -> None:
        """Something of the repository has been kept, so that what is known here belongs on disk as well."""
        privacy = self._here.get((query.registry, query.repository))
        if privacy is not None:
            self._note(query, privacy)

    def opened(self, query: Query) -> None:
        """The origin has just let crcache's own way in."""
        for known in (self._here, self._read):
            known.pop((query.registry, query.repository), None)
        self._note(query, None)

    def _note(self, query: Query, privacy: Privacy | None) -> None:
        """One after the other for each repository, whatever threads do it: what was heard last must stay. Of what is
        heard while one is noted, which may take long, the last alone is noted."""
        key = query.registry, query.repository
        waits = key in self._noting
        self._noting[key] = heard = query, privacy
        if not waits:
            self._put(heard)

    def _put(self, heard: _Heard) -> None:
        query, privacy = heard
        noting: Deferred[None] = self._store.set_privacy(query.registry, query.repository, privacy)
        noting.addErrback(self._failed, query).addBoth(self._noted, heard)

    def _noted(self, result: T, heard: _Heard) -> T:
        key = heard[0].registry, heard[0].repository
        if self._noting[key] is heard:
            del self._noting[key]
        else:
            self._put(self._noting[key])
        return result

    def _failed(self, failure: Failure, query: Query) -> None:
        failure.trap(StoreError)
        log.warn(
            "noting who may read {registry}/{repository} failed: {problem} (request {request_id})",
            event=events.CACHE_FAILED,
            problem=failure.getErrorMessage(),
            **events.about(query),
        )


def _remember(known: _Known, key: tuple[Registry, Repository], privacy: Privacy) -> None:
    known[key] = privacy
    known.move_to_end(key)
    if len(known) > _MOST:
        known.popitem(last=False)
