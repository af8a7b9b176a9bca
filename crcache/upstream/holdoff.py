"""Origins that limit our rate (429), or say when they will be well again, and for how long they are left alone."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from crcache.errors import OriginBusy
from crcache.facts import Kind, Query
from crcache.grammar.reference import Registry
from crcache.grammar.retry_after import rest
from crcache.upstream.keys import Keys
from crcache.upstream.shared import Recent

#: Limits that are remembered; clients can name any registry, and bring any credentials.
_KEPT = 4096

#: Seconds for which an origin that is unwell is left alone at most, whatever it says: it may be well long before.
_UNWELL = 60.0

_Key = tuple[Registry, str, Kind, Literal["GET", "HEAD"], str]


@dataclass(frozen=True)
class _Limit:
    """@ivar said: whether the origin has said how long.
    @ivar status: of its answer.
    """

    until: float
    said: bool
    status: int


class HoldOff:
    """What must not be asked for a while.

    A limit is that of a URL, for a kind of question, put in the name of somebody: of whom crcache's own credentials
    are, of nobody, or of a client, of whose credentials no more than a hash is kept. Origins count GETs more strictly
    than HEADs (Docker Hub does not count these at all): a limit on GETs is none on HEADs.
    """

    def __init__(self, keys: Keys, clock: Any) -> None:
        self._keys = keys
        self._clock = clock
        self._limits: Recent[_Key, _Limit] = Recent(_KEPT)
        self._salt = secrets.token_bytes(16)

    def note(self, base: str, query: Query, said: float | None, *, every: bool = False, status: int = 429) -> None:
        """This URL wants to be left alone.

        @param said: for how many seconds, if it says so.
        @param every: whether it is about HEADs as well, whatever the question was.
        @param status: of its answer.
        """
        seconds = rest(said) if status == 429 else min(rest(said), _UNWELL)
        limit = _Limit(self._clock.seconds() + seconds, said is not None, status)
        self._limits.put(self._key(base, query, "GET"), limit)
        if every or query.method == "HEAD":
            self._limits.put(self._key(base, query, "HEAD"), limit)

    def left(self, base: str, query: Query) -> float:
        """For how many seconds the question must not be put there; 0 if it may. What goes on with something that was
        under way makes pauses of its own, and need not wait if nobody said so."""
        limit = self._limits.get(self._key(base, query, query.method))
        if limit is None or (query.resumes and not limit.said):
            return 0.0
        return float(max(limit.until - self._clock.seconds(), 0.0))

    def busy(self, bases: Iterable[str], query: Query) -> OriginBusy:
        """What whoever asks all the same is told.

        @param bases: URLs that want to be left alone, at least one.
        """
        base = min(bases, key=lambda each: self.left(each, query))
        seconds, limit = self.left(base, query), self._limits.get(self._key(base, query, query.method))
        wait = max(math.ceil(seconds), 1)
        if limit is None or limit.status == 429:
            does, what = "limits the rate of requests and is", "configure credentials for it, or ask later"
        else:
            does, what = f"answered {limit.status} and wants to be", "ask later"
        return OriginBusy(
            f"{query.registry} {does} left alone for another {wait} s; {what}",
            seconds=seconds,
            headers=[("Retry-After", str(wait))],
        )

    def _key(self, base: str, query: Query, method: Literal["GET", "HEAD"]) -> _Key:
        return query.registry, base, query.kind, method, self._whose(query)

    def _whose(self, query: Query) -> str:
        if query.authorization is not None:
            text = query.authorization.reveal().encode()
            return "client " + hashlib.blake2b(text, digest_size=16, key=self._salt).hexdigest()
        return self._keys.whose(query.registry, query.repository)
