"""The repositories of a cache directory, and what is noted of each. All of it blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crcache.errors import CrcacheError
from crcache.facts import Membership, Privacy, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.inventory.problems import Problems
from crcache.store.files import read_small
from crcache.store.layout import Layout
from crcache.store.records import membership_from, privacy_from, tag_from

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_DIRECTORY = "is no directory"
_LIES = "is no record of what its name says"


@dataclass(frozen=True, order=True)
class Home:
    """A repository at its registry."""

    registry: Registry
    repository: Repository

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"


@dataclass(frozen=True)
class Tagged:
    """A tag as it is noted.

    @ivar used: when it was last used, in seconds since the epoch.
    """

    tag: Tag
    entry: TagEntry
    used: float


class Repositories:
    """What is in C{registries/}. Nothing is noted as used by being read here; links are not followed."""

    def __init__(self, layout: Layout, problems: Problems) -> None:
        self._layout = layout
        self._problems = problems

    def homes(self) -> Iterator[Home]:
        """All repositories that anything is noted of, in order."""
        for name in self._directories(self._layout.registries, follow=True):
            path = self._layout.registries / name
            try:
                registry = Registry(name)
            except CrcacheError:
                self._problems.add(path, "is not named as a registry")
                continue
            for repository in self._below(path, ""):
                yield Home(registry, repository)

    def _below(self, path: Path, name: str) -> Iterator[Repository]:
        known = False
        further = []
        for each in self._directories(path):
            if each in ("_digests", "_tags", "_pins"):
                known = True
            elif not each.startswith("_"):
                further.append(each)
        if name and (known or os.path.lexists(path / "_private")):
            try:
                yield Repository(name)
            except CrcacheError:
                self._problems.add(path, "is not named as a repository")
                return
        for each in further:
            inner = f"{name}/{each}" if name else each
            # A long name is refused before the file system refuses it.
            try:
                Repository(inner)
            except CrcacheError:
                self._problems.add(path / each, "is not named as a repository")
                continue
            yield from self._below(path / each, inner)

    def _directories(self, path: Path, *, follow: bool = False) -> list[str]:
        names = []
        for name, kind in self._entries(path, follow=follow):
            if stat.S_ISDIR(kind):
                names.append(name)
            elif name != "_private":
                self._problems.add(path / name, _NO_DIRECTORY)
        return sorted(names)

    def _entries(self, path: Path, *, follow: bool = False) -> Iterator[tuple[str, int]]:
        """Names and kinds of what is there; drafts are nobody's business."""
        try:
            fd = os.open(path, _DIRECTORY & ~os.O_NOFOLLOW if follow else _DIRECTORY)
        except FileNotFoundError:
            return
        except OSError as error:
            self._problems.add(path, error.strerror or str(error))
            return
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    yield entry.name, _kind(entry)
        except OSError as error:
            self._problems.add(path, error.strerror or str(error))
        finally:
            os.close(fd)

    def tags(self, home: Home) -> Iterator[Tagged]:
        """Its tags, in order."""
        directory = self._layout.known(home.registry, home.repository)[1]
        for name, _ in sorted(self._entries(directory)):
            path = directory / name
            try:
                tag = Tag(name)
            except CrcacheError:
                self._problems.add(path, "is not named as a tag")
                continue
            found = self.tag(home, tag)
            if found is not None:
                yield found
            elif os.path.lexists(path):
                self._problems.add(path, _LIES)

    def tag(self, home: Home, tag: Tag) -> Tagged | None:
        """One of its tags."""
        path = self._layout.tag(home.registry, home.repository, tag)
        used = mtime(path)
        entry = None if used is None else tag_from(read_small(path, None))
        return None if entry is None or used is None else Tagged(tag, entry, used)

    def digests(self, home: Home) -> Iterator[Digest]:
        """What it holds, by name alone, in no order."""
        directory = self._layout.known(home.registry, home.repository)[0]
        for name, _ in self._entries(directory):
            try:
                yield Digest.parse(name.replace("-", ":", 1))
            except CrcacheError:
                self._problems.add(directory / name, "is not named as a digest")

    def members(self, home: Home) -> Iterator[tuple[Membership, float]]:
        """What it holds, and when that was last used, in no order."""
        for digest in self.digests(home):
            found = self.member(home, digest)
            if found is not None:
                yield found

    def member(self, home: Home, digest: Digest) -> tuple[Membership, float] | None:
        """That it holds a digest, and when that was last used."""
        path = self._layout.member(home.registry, home.repository, digest)
        used = mtime(path)
        if used is None:
            return None
        membership = membership_from(read_small(path, None), digest)
        if membership is None:
            if os.path.lexists(path):
                self._problems.add(path, _LIES)
            return None
        return membership, used

    def holds(self, home: Home, digest: Digest) -> bool:
        """Whether it holds a digest, by name alone."""
        return os.path.lexists(self._layout.member(home.registry, home.repository, digest))

    def privacy(self, home: Home) -> Privacy | None:
        """Whether it is private, as far as is known. What cannot be read says that it is."""
        path = self._layout.privacy(home.registry, home.repository)
        return privacy_from(read_small(path, None)) if os.path.lexists(path) else None


def mtime(path: Path) -> float | None:
    """When a file was last used or written; C{None} if there is none."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return None


def _kind(entry: os.DirEntry[str]) -> int:
    try:
        return stat.S_IFDIR if entry.is_dir(follow_symlinks=False) else stat.S_IFREG
    except OSError:
        return stat.S_IFREG
