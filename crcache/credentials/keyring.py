"""The administrator's credentials as upstreams ask for them: those of the files, and behind them helpers."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from crcache.credentials.helpers import Helpers
from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.settings import Credential, Credentials

#: What helpers call a registry, if not by its name.
_SERVERS = {DOCKER_IO: "https://index.docker.io/v1/"}


def server_of(registry: Registry) -> str:
    """What a helper is asked about."""
    return _SERVERS.get(registry, str(registry))


class Keyring:
    """As L{crcache.upstream.keys.Keys}. What the files say can be replaced at any time."""

    def __init__(
        self, credentials: Credentials, helpers: Helpers, named: Callable[[Registry], bool] = lambda registry: False
    ) -> None:
        """
        @param named: whether the administrator has named a registry: its helper waits for no others'.
        """
        self._credentials = credentials
        self._helpers = helpers
        self._named = named

    def use(self, credentials: Credentials) -> None:
        """From now on these."""
        self._credentials = credentials

    def lookup(self, registry: Registry, repository: Repository | None) -> Deferred[Credential | None]:
        """What a helper knows, if there is one for the registry and it knows something; else what the files say."""
        written = self._credentials.lookup(registry, repository)
        name = self._credentials.helper(registry, repository)
        if not name:
            return succeed(written)
        named = registry in self._credentials.helpers or self._named(registry)
        return self._helpers.ask(name, server_of(registry), named).addCallback(lambda found: found or written)

    def refused(self, registry: Registry, repository: Repository | None, credential: Credential) -> None:
        """A helper is asked again; files are read again when they change."""
        name = self._credentials.helper(registry, repository)
        if name:
            self._helpers.refused(name, server_of(registry), credential)

    def whose(self, registry: Registry, repository: Repository | None) -> str:
        """The user, or the helper that would have to be asked for one."""
        name = self._credentials.helper(registry, repository)
        credential = self._credentials.lookup(registry, repository)
        if name:
            return f"helper {name}"
        return "nobody" if credential is None else f"user {credential.username}"
