"""Where things are in a cache directory. Paths are made only of values that the grammar has checked."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from crcache.errors import CrcacheError
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag

#: What the C{VERSION} file holds; another number means a layout that this release must not touch.
VERSION = "1"
#: Of digests: each has its directory of content.
ALGORITHMS = ("sha256", "sha512")


@dataclass(frozen=True)
class Place:
    """Where a fill's two files are, and where its data belongs once it is verified."""

    digest: Digest
    data: Path
    marks: Path
    target: Path


class Layout:
    """The paths below one cache directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.version = root / "VERSION"
        self.blobs = root / "blobs"
        self.ingest = root / "ingest"
        self.openly = root / "openly"
        self.registries = root / "registries"
        self.scrub = root / "scrub.json"
        self.scrub_lock = root / "scrub.lock"
        self.eviction = root / "eviction"
        self.uploads = root / "uploads"
        self.quarantine = root / "quarantine"

    def algorithms(self) -> list[Path]:
        """The directories of content."""
        return [self.blobs / algorithm for algorithm in ALGORITHMS]

    def content(self, digest: Digest) -> Path:
        """Committed content."""
        return self.blobs / digest.algorithm / digest.hex

    def given(self, digest: Digest) -> Path:
        """Of the repositories that give everyone this content."""
        return self.openly / digest.algorithm / digest.hex

    def giver(self, registry: Registry, repository: Repository, digest: Digest) -> Path:
        """That this repository gives everyone this content. No name of either holds what stands between them."""
        return self.given(digest) / hashlib.sha256(f"{registry}\0{repository}".encode()).hexdigest()[:32]

    def fill(self, registry: Registry, digest: Digest, repository: Repository | None = None) -> Place:
        """A fill; one for the clients of one repository is apart.

        The names are hashed: they may hold characters that tools dislike, and be long. The hash with a repository is
        longer: it keeps others out, who may choose their repository's name.
        """
        if repository is None:
            hashed = hashlib.sha256(str(registry).encode()).hexdigest()[:16]
        else:
            hashed = hashlib.sha256(f"{registry}/{repository}".encode()).hexdigest()[:32]
        name = f"{hashed}-{digest.algorithm}-{digest.hex}"
        return Place(digest, self.ingest / name, self.ingest / f"{name}.marks", self.content(digest))

    def tag(self, registry: Registry, repository: Repository, tag: Tag) -> Path:
        """What a tag means."""
        return self._tags(registry, repository) / str(tag)

    def member(self, registry: Registry, repository: Repository, digest: Digest) -> Path:
        """That a repository holds a digest."""
        return self._digests(registry, repository) / f"{digest.algorithm}-{digest.hex}"

    def pins(self, registry: Registry, repository: Repository) -> Path:
        """The directory of what is pinned of a repository."""
        return self._repository(registry, repository) / "_pins"

    def pin(self, registry: Registry, repository: Repository, reference: Tag | Digest) -> Path:
        """That a tag or digest is pinned. No tag begins as a digest's file name does."""
        name = str(reference) if isinstance(reference, Tag) else f"@{reference.algorithm}-{reference.hex}"
        return self.pins(registry, repository) / name

    def privacy(self, registry: Registry, repository: Repository) -> Path:
        """That a repository has refused crcache's own way."""
        return self._repository(registry, repository) / "_private"

    def held(self, registry: Registry, repository: Repository) -> list[Digest]:
        """The digests that a repository holds, as far as anybody can tell. Blocks."""
        try:
            names = os.listdir(self._digests(registry, repository))
        except OSError:
            return []
        digests = []
        for name in names:
            with contextlib.suppress(CrcacheError):
                digests.append(Digest.parse(name.replace("-", ":", 1)))
        return digests

    def known(self, registry: Registry, repository: Repository) -> tuple[Path, Path]:
        """The directories of which one is there if anything else is known of a repository."""
        return self._digests(registry, repository), self._tags(registry, repository)

    def _digests(self, registry: Registry, repository: Repository) -> Path:
        return self._repository(registry, repository) / "_digests"

    def _tags(self, registry: Registry, repository: Repository) -> Path:
        return self._repository(registry, repository) / "_tags"

    def _repository(self, registry: Registry, repository: Repository) -> Path:
        return self.registries.joinpath(str(registry), *str(repository).split("/"))
