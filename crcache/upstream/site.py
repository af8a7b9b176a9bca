"""One registry at one of its URLs, as a request meets it."""

from __future__ import annotations

from dataclasses import dataclass

from crcache.grammar.reference import Registry, Repository
from crcache.settings import RegistrySettings
from crcache.upstream.urls import Origin, origin_of


@dataclass(frozen=True)
class Site:
    """Where and for what is asked.

    @ivar base: the registry's URL, without a trailing slash.
    @ivar peer: for whom, as in L{Query<crcache.facts.Query>}.
    """

    settings: RegistrySettings
    base: str
    repository: Repository
    request_id: str
    peer: str = ""

    @property
    def registry(self) -> Registry:
        """Which registry it is."""
        return self.settings.registry

    @property
    def origin(self) -> Origin:
        """Of the URL."""
        return origin_of(self.base)

    @property
    def plain(self) -> bool:
        """Whether the administrator has chosen plain HTTP for it."""
        return self.origin.scheme == "http"
