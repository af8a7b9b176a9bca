"""What the administrator wants kept of manifests and tags, and for how long."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from crcache.facts import TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Tag
from crcache.policy.freshness import Freshness, judge, may_cache
from crcache.settings import Times


@dataclass(frozen=True)
class Rules:
    """The rules for all registries.

    @ivar times: of each registry.
    """

    cache_manifests: bool
    ignore: re.Pattern[str]
    times: Callable[[Registry], Times]

    def keep(self, reference: Tag | Digest) -> bool:
        """Whether this is answered from what is kept."""
        if isinstance(reference, Digest):
            return self.cache_manifests
        return may_cache(reference, self.ignore, self.cache_manifests)

    def freshness(self, registry: Registry, entry: TagEntry, now: float) -> Freshness:
        """What a tag's entry is worth.

        @param now: in seconds since the epoch.
        """
        return judge(entry.checked, now, self.times(registry), pinned=entry.pinned)
