"""Manifests that their origins said lately that they do not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from crcache.asks import PullManifest
from crcache.errors import ManifestUnknown
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.policy.freshness import Lately

Method = Literal["GET", "HEAD"]


class Absences:
    """What crcache's own way was told. A HEAD's 404 counts for HEADs alone, as some origins answer them all so; a
    GET's for both."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """
        @param clock: in seconds, of any one clock.
        """
        self._clock = clock
        self._lately: Lately[tuple[Method, Registry, Repository, Tag | Digest]] = Lately()

    def add(self, ask: PullManifest, reference: Tag | Digest, method: Method, seconds: float) -> None:
        """The origin has just said so; remember it for so long."""
        methods: tuple[Method, ...] = ("HEAD",) if method == "HEAD" else ("HEAD", "GET")
        for each in methods:
            self._lately.add((each, ask.registry, ask.repository, reference), self._clock(), seconds)

    def check(self, ask: PullManifest, reference: Tag | Digest, method: Method) -> None:
        """Ask no further for what is not there.

        @raise ManifestUnknown: then.
        """
        if self._lately.holds((method, ask.registry, ask.repository, reference), self._clock()):
            raise ManifestUnknown(f"{ask.registry} said lately that it has no manifest {reference} of {ask.repository}")
