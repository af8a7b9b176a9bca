"""Records that lie: what is noted of repositories, held against the content itself. All of it blocks."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from crcache.errors import CrcacheError
from crcache.facts import Membership, TagEntry
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Tag
from crcache.inventory.contents import find
from crcache.inventory.problems import Problems
from crcache.inventory.repositories import Home, Repositories
from crcache.store.files import read_small
from crcache.store.layout import Layout
from crcache.store.records import membership_from, tag_from


@dataclass(frozen=True)
class Lie:
    """A file that does not say what it should."""

    path: Path
    problem: str


def lies(layout: Layout, home: Home, wrong: Collection[Digest]) -> Iterator[Lie]:
    """The tags and memberships of a repository that cannot be read, are about something else, or have another size
    than the content.

    @param wrong: content that no record is held against.
    """
    digests, tags = layout.known(home.registry, home.repository)
    yield from _lies(tags, lambda name, path: _tag(layout, name, path, wrong))
    yield from _lies(digests, lambda name, path: _member(layout, name, path, wrong))


def _lies(directory: Path, judge: Callable[[str, Path], str | None]) -> Iterator[Lie]:
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in sorted(names):
        if name.startswith("."):
            continue
        path = directory / name
        try:
            problem = judge(name, path)
        except CrcacheError:
            problem = "is not named as anything that crcache notes"
        # What has gone meanwhile does not lie.
        if problem is not None and os.path.lexists(path):
            yield Lie(path, problem)


def _tag(layout: Layout, name: str, path: Path, wrong: Collection[Digest]) -> str | None:
    Tag(name)
    return _judge(layout, tag_from(read_small(path, None)), wrong)


def _member(layout: Layout, name: str, path: Path, wrong: Collection[Digest]) -> str | None:
    digest = Digest.parse(name.replace("-", ":", 1))
    return _judge(layout, membership_from(read_small(path, None), digest), wrong)


def _judge(layout: Layout, found: TagEntry | Membership | None, wrong: Collection[Digest]) -> str | None:
    if found is None:
        return "is no record of what its name says"
    held = find(layout, found.digest)
    if held is None or found.digest in wrong or found.size in (None, held.size):
        return None
    return f"says {found.size} bytes of {found.digest}, which has {held.size}"


def all_lies(layout: Layout, problems: Problems, wrong: Collection[Digest]) -> Iterator[Lie]:
    """Those of all repositories."""
    for home in Repositories(layout, problems).homes():
        yield from lies(layout, home, wrong)
