"""What must stay: all that is pinned, and all that it names; and what tags keep. All of it blocks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from crcache.errors import CrcacheError
from crcache.eviction.naming import named
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.store.files import read_small
from crcache.store.layout import Layout
from crcache.store.pins import Pins
from crcache.store.records import tag_from

#: What is below a repository's directory beside further repositories begins so.
_OWN = "_"
_DEEPEST = 128


def repositories(
    layout: Layout, step: Callable[[], object] = lambda: None
) -> Iterator[tuple[Registry, Repository, Path]]:
    """All directories that are a repository's by their names, whatever they hold; those below others come before them.

    @param step: called for each name that is looked at.
    """
    for name in _names(layout.registries, step):
        try:
            registry = Registry.parse(name)
        except CrcacheError:
            continue
        if str(registry) == name:
            yield from _below(registry, (), layout.registries / name, step)


def _below(
    registry: Registry, parts: tuple[str, ...], path: Path, step: Callable[[], object]
) -> Iterator[tuple[Registry, Repository, Path]]:
    for name in _names(path, step):
        if len(parts) < _DEEPEST:
            yield from _below(registry, (*parts, name), path / name, step)
    if parts:
        try:
            repository = Repository.parse("/".join(parts))
        except CrcacheError:
            return
        yield registry, repository, path


def _names(path: Path, step: Callable[[], object]) -> list[str]:
    """The directories there, but those that are the repository's own."""
    found = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                step()
                if not entry.name.startswith(_OWN) and entry.is_dir(follow_symlinks=False):
                    found.append(entry.name)
    except OSError:
        pass
    return found


def tagged(layout: Layout, step: Callable[[], object] = lambda: None) -> Iterator[tuple[Digest, int]]:
    """What tags mean, and when each was last asked for, in seconds since the epoch: clients that have the content ask
    for nothing else.

    @param step: called for each name that is looked at.
    """
    for _, _, path in repositories(layout, step):
        with contextlib.suppress(OSError), os.scandir(path / "_tags") as entries:
            for entry in entries:
                step()
                found = tag_from(read_small(Path(entry.path), None))
                if found is not None:
                    with contextlib.suppress(OSError):
                        yield found.digest, int(entry.stat(follow_symlinks=False).st_mtime)


def roots(layout: Layout, step: Callable[[], object] = lambda: None) -> set[Digest]:
    """What is pinned itself: a tag's pin means what the tag means now, and if nobody knows, what it meant."""
    pins = Pins(layout)
    found: set[Digest] = set()
    for registry, repository, _ in repositories(layout, step):
        for reference, meant in pins.of(registry, repository):
            digest = meant
            if isinstance(reference, Tag):
                entry = tag_from(read_small(layout.tag(registry, repository, reference), None))
                digest = meant if entry is None else entry.digest
            if digest is not None:
                found.add(digest)
    return found


def closure(layout: Layout, digests: Iterable[Digest], step: Callable[[], object] = lambda: None) -> set[Digest]:
    """These, and all that they lead to."""
    found = set(digests)
    waiting = list(found)
    while waiting:
        step()
        for child in named(layout, waiting.pop()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found
