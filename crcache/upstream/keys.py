"""The seam to the administrator's credentials: who knows them, and may have to be waited for."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred, succeed

from crcache.grammar.reference import Registry, Repository
from crcache.settings import Credential, Credentials


class Keys(Protocol):
    """Knows what opens a registry. All methods are called in the reactor thread."""

    def lookup(self, registry: Registry, repository: Repository | None) -> Deferred[Credential | None]:
        """The credential for it; C{None} if there is none, or none can be had for the moment.

        Never fails but by being cancelled, which leaves others who wait for the same alone.
        """
        ...

    def refused(self, registry: Registry, repository: Repository | None, credential: Credential) -> None:
        """What L{lookup} gave does not open the registry. It may know a newer one at the next L{lookup}."""
        ...

    def whose(self, registry: Registry, repository: Repository | None) -> str:
        """In whose name questions are put, without waiting: the same text for the same user, and none of it secret."""
        ...


class Fixed:
    """Credentials that are all known.

    @ivar credentials: those in force.
    """

    def __init__(self, credentials: Credentials | None = None) -> None:
        self.credentials = Credentials() if credentials is None else credentials

    def lookup(self, registry: Registry, repository: Repository | None) -> Deferred[Credential | None]:
        """As L{Keys.lookup}, at once."""
        return succeed(self.credentials.lookup(registry, repository))

    def refused(self, registry: Registry, repository: Repository | None, credential: Credential) -> None:
        """There are no newer ones."""

    def whose(self, registry: Registry, repository: Repository | None) -> str:
        """As L{Keys.whose}."""
        credential = self.credentials.lookup(registry, repository)
        return "nobody" if credential is None else f"user {credential.username}"
