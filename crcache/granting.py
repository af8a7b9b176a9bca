"""The seam towards grants: who has been let in by an origin lately."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Interface

from crcache.grammar.reference import Registry, Repository
from crcache.secret import Secret


class IGrants(Interface):
    """Which `Authorization` an origin has accepted for which of its repositories, in the last minutes.

    All processes of the host know it; it outlives none of the host's boots, and nothing of it is legible on disk.
    """

    def known(authorization: Secret, registry: Registry, repository: Repository) -> Deferred[bool]:
        """Whether it was accepted, and has neither expired nor been refused since.

        Never fails: what cannot be read is unknown.
        """

    def add(authorization: Secret, registry: Registry, repository: Repository) -> None:
        """It has been accepted just now. Known here at once, and to other processes soon."""

    def drop(authorization: Secret, registry: Registry, repository: Repository) -> None:
        """It has been refused just now. Idempotent."""
