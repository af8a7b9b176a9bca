"""Freshness: whether what was known a while ago may still be told.

As with Varnish, a tag has a time to live and then a grace: for C{tag_ttl} it is served without asking; for
C{stale_if_error} after that only if its origin can't be asked (RFC 5861, 4). The grace of a pinned one has no end.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum
from typing import Generic, TypeVar

from crcache.grammar.reference import Tag
from crcache.settings import Times


class Freshness(Enum):
    """What a tag's age allows."""

    #: It is served without asking its origin.
    FRESH = "fresh"
    #: Its origin is asked; if that fails, it is served.
    STALE = "stale"
    #: Its origin is asked; if that fails, so does the request.
    EXPIRED = "expired"


def judge(checked: float, now: float, times: Times, *, pinned: bool = False) -> Freshness:
    """What a tag is worth that its origin last confirmed at C{checked}.

    One that was confirmed in the future is stale: a clock has been set back, and nobody knows how old it is.

    @param checked: in seconds since the epoch, as is C{now}.
    @param pinned: whether the administrator has pinned it: then it is never too old for an origin that fails.
    """
    age = now - checked
    if age < 0:
        return Freshness.STALE
    if age < times.tag_ttl:
        return Freshness.FRESH
    if pinned or age < times.tag_ttl + times.stale_if_error:
        return Freshness.STALE
    return Freshness.EXPIRED


def may_cache(tag: Tag, ignore: re.Pattern[str], cache_manifests: bool) -> bool:
    """Whether what this tag means may be kept at all.

    @param ignore: tags in which it finds a match (C{re.search}) are always asked of their origin.
    @param cache_manifests: no: all are.
    """
    return cache_manifests and ignore.search(tag.name) is None


_Key = TypeVar("_Key", bound=Hashable)


class Lately(Generic[_Key]):
    """What was found out lately, so that it is not asked again at once: that an origin lacks something, for one.

    It holds a bounded number of keys: the oldest give way. C{now} is in seconds, of any one clock.
    """

    def __init__(self, most: int = 4096) -> None:
        """
        @param most: how many keys are remembered at a time.
        """
        self._most = most
        self._times: OrderedDict[_Key, tuple[float, float]] = OrderedDict()

    def add(self, key: _Key, now: float, ttl: float) -> None:
        """Remember this for C{ttl} seconds (from C{now} on, if it is remembered already)."""
        self._times.pop(key, None)
        if ttl <= 0:
            return
        self._times[key] = (now, now + ttl)
        if len(self._times) > self._most:
            self._times.popitem(last=False)

    def holds(self, key: _Key, now: float) -> bool:
        """Whether this is remembered. After a clock was set back it isn't: better ask once too often."""
        times = self._times.get(key)
        if times is None:
            return False
        since, until = times
        if since <= now < until:
            return True
        del self._times[key]
        return False

    def forget(self, key: _Key) -> None:
        """It does not hold any more. Idempotent."""
        self._times.pop(key, None)

    def __len__(self) -> int:
        return len(self._times)
