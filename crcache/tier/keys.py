"""What objects in the bucket are called. Names are made only of values that the grammar has checked."""

from __future__ import annotations

from dataclasses import dataclass

from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag


@dataclass(frozen=True)
class Keys:
    """The same names as in a cache directory, below a prefix.

    @ivar prefix: empty, or ends with a slash.
    """

    prefix: str

    @property
    def probe(self) -> str:
        """What never is there: whoever is told so has an answer."""
        return f"{self.prefix}probe"

    def content(self, digest: Digest) -> str:
        """Content, manifests included."""
        return f"{self.prefix}blobs/{digest.algorithm}/{digest.hex}"

    def given(self, digest: Digest) -> str:
        """Which repository gives everyone this content."""
        return f"{self.prefix}openly/{digest.algorithm}/{digest.hex}"

    def tag(self, registry: Registry, repository: Repository, tag: Tag) -> str:
        """What a tag means."""
        return f"{self._repository(registry, repository)}/_tags/{tag}"

    def member(self, registry: Registry, repository: Repository, digest: Digest) -> str:
        """That a repository holds a digest."""
        return f"{self._repository(registry, repository)}/_digests/{digest.algorithm}-{digest.hex}"

    def privacy(self, registry: Registry, repository: Repository) -> str:
        """That a repository has refused crcache's own way."""
        return f"{self._repository(registry, repository)}/_private"

    def _repository(self, registry: Registry, repository: Repository) -> str:
        return f"{self.prefix}registries/{registry}/{repository}"
