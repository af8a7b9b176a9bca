"""What is known of repositories, on disk: what they hold, what their tags mean, who may read them. All of it blocks."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from crcache.errors import StoreError
from crcache.facts import Fetched, Holding, Membership, Privacy, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.store import version
from crcache.store.contents import unlink
from crcache.store.files import read_small, remove, write_atomically
from crcache.store.givers import Givers
from crcache.store.layout import Layout
from crcache.store.records import (
    membership_from,
    membership_record,
    merged,
    privacy_from,
    privacy_record,
    tag_from,
    tag_record,
)

#: Seconds between two refusals of crcache's own way that are as good as one.
AT_ONCE = 5.0


class Repositories:
    """The small files in C{registries/} and C{openly/}, which anybody may remove, damage or replace at any time."""

    def __init__(
        self,
        layout: Layout,
        clock: Callable[[], float],
        noted: Callable[[Registry, Repository, Membership], None] = lambda registry, repository, member: None,
    ) -> None:
        """
        @param clock: the time of day, in seconds since the epoch.
        @param noted: told of each membership as it is known once it has been noted.
        """
        self._noted = noted
        self._layout = layout
        self._clock = clock
        self._givers = Givers(layout, clock)

    def member(self, registry: Registry, repository: Repository, digest: Digest) -> Membership | None:
        """As L{IStore.member<crcache.interfaces.IStore>}."""
        path = self._layout.member(registry, repository, digest)
        return membership_from(read_small(path, self._clock()), digest)

    def enrol(self, registry: Registry, repository: Repository, memberships: Sequence[Membership]) -> None:
        """As L{IStore.enrol<crcache.interfaces.IStore>}."""
        for new in memberships:
            old = self.member(registry, repository, new.digest)
            known = merged(old, new, self._clock())
            if known != old:
                self._record(self._layout.member(registry, repository, new.digest), membership_record(known))
            # Last: what is given has to be found when it is taken back.
            if known.fetched is Fetched.OPENLY:
                self._givers.add(registry, repository, new.digest)
            self._noted(registry, repository, known)

    def holding(self, registry: Registry, repository: Repository, digest: Digest) -> Holding:
        """As L{IStore.holding<crcache.interfaces.IStore>}."""
        member, privacy = self.member(registry, repository, digest), self.privacy(registry, repository)
        given = member is not None and member.fetched is Fetched.OPENLY and privacy is None
        return Holding(member, given or self._givers.any(digest), privacy)

    def privacy(self, registry: Registry, repository: Repository) -> Privacy | None:
        """As L{IStore.privacy<crcache.interfaces.IStore>}. What is there and cannot be read says that it is private."""
        path = self._layout.privacy(registry, repository)
        record = read_small(path, self._clock())
        return None if record is None and not os.path.lexists(path) else privacy_from(record)

    def set_privacy(self, registry: Registry, repository: Repository, privacy: Privacy | None) -> None:
        """As L{IStore.set_privacy<crcache.interfaces.IStore>}."""
        path = self._layout.privacy(registry, repository)
        if privacy is None:
            if os.path.lexists(path):
                self._open(registry, repository)
            return
        new, old = privacy.shortened(), self.privacy(registry, repository)
        if old is not None and old.challenges == new.challenges and abs(old.checked - new.checked) <= AT_ONCE:
            return
        if any(os.path.isdir(known) for known in self._layout.known(registry, repository)):
            if old is None:
                # Whoever is killed here has noted nothing, and the next refusal begins anew.
                with contextlib.suppress(StoreError):
                    self._take_back(registry, repository, tidy=False)
            self._record(path, privacy_record(new))
            # In any case, and not before it is noted: others may have given something up to then, or may have been
            # killed before they had done this.
            self._take_back(registry, repository)

    def _take_back(self, registry: Registry, repository: Repository, *, tidy: bool = True) -> None:
        for digest in self._layout.held(registry, repository):
            self._givers.take_back(registry, repository, digest, tidy=tidy)

    def _open(self, registry: Registry, repository: Repository) -> None:
        path = self._layout.privacy(registry, repository)
        try:
            remove(path)
        except NotADirectoryError:
            pass
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        for digest in self._layout.held(registry, repository):
            # That something is given is no use of it.
            record = read_small(self._layout.member(registry, repository, digest), None)
            member = membership_from(record, digest)
            if member is not None and member.fetched is Fetched.OPENLY:
                self._givers.add(registry, repository, digest)

    def tag(self, registry: Registry, repository: Repository, tag: Tag) -> TagEntry | None:
        """As L{IStore.tag<crcache.interfaces.IStore>}."""
        found = tag_from(read_small(self._layout.tag(registry, repository, tag), self._clock()))
        if found is None:
            return None
        closed = found.open and self.privacy(registry, repository) is not None
        pinned = os.path.lexists(self._layout.pin(registry, repository, tag))
        return replace(found, open=found.open and not closed, pinned=pinned)

    def set_tag(self, registry: Registry, repository: Repository, tag: Tag, entry: TagEntry) -> None:
        """As L{IStore.set_tag<crcache.interfaces.IStore>}."""
        self._record(self._layout.tag(registry, repository, tag), tag_record(entry))

    def forget_tag(self, registry: Registry, repository: Repository, tag: Tag) -> None:
        """As L{IStore.forget_tag<crcache.interfaces.IStore>}."""
        unlink(self._layout.tag(registry, repository, tag))

    def _record(self, path: Path, record: dict[str, object]) -> None:
        self._write(path, json.dumps(record).encode())

    def _write(self, path: Path, data: bytes) -> None:
        version.restore(self._layout)
        try:
            write_atomically(path, data)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
