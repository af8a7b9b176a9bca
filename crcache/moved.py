"""Tags that mean something new of which only a HEAD has told so far."""

from __future__ import annotations

from collections import OrderedDict

from crcache.asks import PullManifest
from crcache.facts import TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag

_MOST = 1024


class Moved:
    """Tags that a HEAD has found to mean something else than before, until the manifest has come as well."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[Registry, Repository, Tag], TagEntry] = OrderedDict()

    def add(self, ask: PullManifest, tag: Tag, entry: TagEntry) -> None:
        """The manifest is still to come; of too many, the oldest are forgotten."""
        self._entries[ask.registry, ask.repository, tag] = entry
        if len(self._entries) > _MOST:
            self._entries.popitem(last=False)

    def forget(self, ask: PullManifest, tag: Tag) -> None:
        """The tag is looked up again. Idempotent."""
        self._entries.pop((ask.registry, ask.repository, tag), None)

    def take(self, ask: PullManifest, digest: Digest) -> list[tuple[Tag, TagEntry]]:
        """The tags of this repository that mean a manifest which has come."""
        here = ask.registry, ask.repository
        found = [key for key, entry in self._entries.items() if key[:2] == here and entry.digest == digest]
        return [(key[2], self._entries.pop(key)) for key in found]
