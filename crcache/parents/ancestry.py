"""The parents of one daemon from beginning to end: what a reload replaces, and the name that goes before them."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.python.failure import Failure

from crcache.grammar.reference import Registry, Tag
from crcache.grammar.via import OURS
from crcache.parents.pseudonym import pseudonym
from crcache.settings import Config
from crcache.sources import ISource
from crcache.workers import Workers

if TYPE_CHECKING:
    from crcache.grammar.digest import Digest
    from crcache.parents.source import Counts, Parents


class Ancestry:
    """Holds the parents in force, and those before them as long as answers of theirs are on their way."""

    def __init__(
        self,
        reactor: Any,
        meter: Callable[[], Counts],
        environ: Mapping[str, str],
        ttl: Callable[[Registry], float] = lambda registry: math.inf,
    ) -> None:
        """
        @param meter: makes what counts, when there is something to count.
        @param environ: where the proxies are, if a configuration does not say.
        @param ttl: for how many seconds a registry's tags are told here.
        """
        self._ttl = ttl
        self._reactor = reactor
        self._meter = meter
        self._environ = environ
        self._pseudonym = ""
        self._config: Config | None = None
        self._now: Parents | None = None
        self._retired: list[Parents] = []
        self._counts: Counts | None = None
        self._waiting: list[Deferred[None]] = []

    def pseudonym(self) -> str:
        """This cache's own; empty as long as it is not known, when no parent is asked."""
        return self._pseudonym

    def named(self) -> Deferred[None]:
        """Fires when it is known."""
        if self._pseudonym:
            return succeed(None)
        waiting: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def begin(self, workers: Workers, directory: Path, boot: Callable[[], bytes]) -> None:
        """Find out the own name; the cache directory is there."""

        def known(name: str) -> None:
            self._pseudonym = name
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

        def unknown(_: Failure) -> None:
            # It is unique all the same; only other processes on this directory are not known for the same cache.
            known(OURS + secrets.token_hex(8))

        workers.run(lambda: pseudonym(directory, boot())).addCallbacks(known, unknown)

    def prepare(self, config: Config) -> Callable[[], None]:
        """What puts a configuration's parents in force; those that it leaves as they are stay, with all that is known
        of them.

        @raise crcache.errors.ConfigError: if a proxy is not one.
        """
        old = self._config
        if old is not None and (old.parents, old.upstream) == (config.parents, config.upstream):
            return lambda: None
        new: Parents | None = None
        if config.parents:
            # Only who has some pays for it, in memory.
            from crcache.parents.source import Parents

            new = Parents(
                self._reactor, config.upstream, config.parents, self._counting(), self._environ, self, self._ttl
            )

        def use() -> None:
            before, self._now, self._config = self._now, new, config
            if before is not None:
                self._retired.append(before)
                before.retire().addCallback(lambda _: self._retired.remove(before))

        return use

    def _counting(self) -> Counts:
        if self._counts is None:
            self._counts = self._meter()
        return self._counts

    @property
    def sources(self) -> Sequence[ISource]:
        """They, if there are any."""
        return () if self._now is None else (self._now,)

    def crossed(self, hops: tuple[str, ...], registry: Registry, reference: Tag | Digest) -> None:
        """As L{Parents.crossed<crcache.parents.source.Parents.crossed>}, of those that were in force before, too."""
        for each in (*self._retired, *([] if self._now is None else [self._now])):
            each.crossed(hops, registry, reference)

    def describe(self, named: Callable[[Registry], bool]) -> list[dict[str, object]]:
        """As L{Parents.describe<crcache.parents.source.Parents.describe>}."""
        return [] if self._now is None else self._now.describe(named)

    def close(self) -> Deferred[None]:
        """Abort all connections. Fires when the last one is gone."""
        every = [each.close() for each in (*self._retired, *([] if self._now is None else [self._now]))]
        closing: Deferred[list[None]] = gatherResults(every)
        return closing.addCallback(lambda _: None)
