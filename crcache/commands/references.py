"""What administrators type for an image, and what that means: short names as docker has them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from crcache.errors import CrcacheError
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Repository, Tag

LATEST = Tag("latest")
_OFFICIAL = "library"


@dataclass(frozen=True, order=True)
class Name:
    """A repository, and perhaps which of its images.

    @ivar reference: C{None} if the text says neither tag nor digest.
    """

    registry: Registry
    repository: Repository
    reference: Tag | Digest | None = None

    @property
    def image(self) -> Tag | Digest:
        """Which image: C{latest} if nothing else was said."""
        return LATEST if self.reference is None else self.reference

    def __str__(self) -> str:
        return spell(self.registry, self.repository, self.reference)


def spell(registry: Registry, repository: Repository, reference: Tag | Digest | None) -> str:
    """The whole name, as L{parse_name} reads it again."""
    home = f"{registry}/{repository}"
    if reference is None:
        return home
    return f"{home}:{reference}" if isinstance(reference, Tag) else f"{home}@{reference}"


def parse_name(text: str) -> Name:
    """What C{[registry/]repository[:tag][@digest]} means.

    What stands before the first C{/} is a registry if it has a C{.} or a C{:}, or is C{localhost}; without one, Docker
    Hub is meant, and C{library/} there if the name has one component only. A tag beside a digest says nothing.

    @raise CrcacheError: if it is not a name, with what would be.
    """
    named, at, digest = text.partition("@")
    first, slash, rest = named.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, path = Registry.parse(first), rest
    else:
        registry, path = DOCKER_IO, named
    path, colon, tag = path.partition(":")
    if registry == DOCKER_IO and "/" not in path:
        path = f"{_OFFICIAL}/{path}"
    repository = Repository.parse(path)
    said = Tag.parse(tag) if colon else None
    return Name(registry, repository, Digest.parse(digest) if at else said)


def reference_argument(text: str) -> Name:
    """The same for C{argparse}: a mistake is misuse, with its reason."""
    try:
        return parse_name(text)
    except CrcacheError as error:
        raise argparse.ArgumentTypeError(f"{error.message}") from error
