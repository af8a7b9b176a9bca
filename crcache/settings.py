"""What an administrator can set, as frozen plain values; L{crcache.config} makes them from flags and YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crcache.grammar.hosts import HostPattern
from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.secret import Secret

#: What can be said of the log.
LOG_FORMATS = ("auto", "journal", "text", "json")
LOG_LEVELS = ("debug", "info", "warn", "error")

#: Who gets what only clients' own credentials could open: whom the origin lets in, or anyone.
ACCESS_VERIFY = "verify"
ACCESS_OPEN = "open"

#: Where a registry is, if its name does not say: Docker Hub's API is not at docker.io.
WELL_KNOWN_URLS: Mapping[Registry, tuple[str, ...]] = {DOCKER_IO: ("https://registry-1.docker.io",)}


def default_urls(registry: Registry) -> tuple[str, ...]:
    """Where a registry is if the file does not say: by HTTPS at its own name."""
    return WELL_KNOWN_URLS.get(registry, (f"https://{registry}",))


@dataclass(frozen=True)
class Times:
    """How long a tag lives, in seconds (C{cache.*} in the file, and per registry)."""

    tag_ttl: float = 60.0
    stale_if_error: float = 7 * 86400.0
    negative_ttl: float = 10.0


@dataclass(frozen=True)
class Share:
    """A part of a file system.

    @ivar percent: of its bytes.
    """

    percent: float

    def of(self, total: int) -> int:
        """So many bytes, of a file system of so many."""
        return int(total * self.percent / 100)


@dataclass(frozen=True)
class Bounds:
    """How much the cache may hold; the stricter of the first two holds. Sizes in bytes, or parts of the file system.

    @ivar max_size: of all that it holds.
    @ivar min_free: of what everybody has left free on the file system.
    @ivar high: of what is allowed: beyond it, something has to go.
    @ivar low: of what is allowed: so much is left then.
    """

    max_size: int | Share = Share(80)
    min_free: int | Share = Share(5)
    high: float = 0.95
    low: float = 0.9


@dataclass(frozen=True)
class UpstreamSettings:
    """How origins are spoken to. Times in seconds; C{proxy} is C{None} when the environment decides."""

    connect_timeout: float = 5.0
    first_byte_timeout: float = 20.0
    stall_timeout: float = 20.0
    retries: int = 5
    max_connections: int = 64
    proxy: str | None = None


@dataclass(frozen=True)
class ClientLimits:
    """How much clients may have at once: connections in all, and each of them connections and requests."""

    connections: int = 16384
    connections_per_peer: int = 1024
    requests_per_peer: int = 1024


@dataclass(frozen=True)
class TlsSettings:
    """What C{tls:} endpoints show to clients, and want of them.

    @ivar certificate: with the chain behind it, PEM.
    @ivar key: of the certificate, PEM.
    @ivar clients_ca: only clients with a certificate of this authority are served, PEM; C{None}: anyone.
    """

    certificate: Path
    key: Path
    clients_ca: Path | None = None


@dataclass(frozen=True)
class Reach:
    """Which registries may be asked: if C{allow} is empty, every public one; C{deny} wins."""

    allow: tuple[HostPattern, ...] = ()
    deny: tuple[HostPattern, ...] = ()


@dataclass(frozen=True)
class RegistrySettings:
    """One registry: where it is, whom to trust there, how long its tags live.

    @ivar urls: base URLs without a trailing slash, tried in order.
    @ivar access: L{ACCESS_VERIFY} or L{ACCESS_OPEN}.
    @ivar trusted_hosts: where it may send us besides, whatever address that is at.
    @ivar named: whether it is named in the file. Only such a one may be at an address that is not public.
    """

    registry: Registry
    urls: tuple[str, ...]
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    insecure_skip_verify: bool = False
    times: Times = Times()
    access: str = ACCESS_VERIFY
    trusted_hosts: tuple[HostPattern, ...] = ()
    named: bool = True


@dataclass(frozen=True)
class ParentSettings:
    """Another cache that is asked before origins.

    @ivar url: base URL without a trailing slash.
    """

    url: str
    ca: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


@dataclass(frozen=True)
class Credential:
    """What opens a registry: a user's name and password, or an identity token in place of the password."""

    username: str
    password: Secret
    identity_token: bool = False


@dataclass(frozen=True)
class Credentials:
    """The administrator's credentials, by registry and path prefix (C{()} is the whole registry).

    @ivar helpers: which program is asked for those of a registry, by the last part of its name; empty: none.
    @ivar store: the one for registries that have none of their own there.
    """

    entries: Mapping[tuple[Registry, tuple[str, ...]], Credential] = field(default_factory=dict)
    helpers: Mapping[Registry, str] = field(default_factory=dict)
    store: str = ""

    def helper(self, registry: Registry, repository: Repository | None) -> str:
        """The helper that is asked before L{lookup}'s answer is used; empty for none.

        Helpers know whole registries: an entry with a path knows better.
        """
        name = self.helpers.get(registry, self.store)
        return "" if name and self.lookup(registry, repository) is not self.entries.get((registry, ())) else name

    def lookup(self, registry: Registry, repository: Repository | None) -> Credential | None:
        """The credential whose prefix is the longest that the repository's path begins with, or C{None}."""
        parts = () if repository is None else tuple(str(repository).split("/"))
        for length in range(len(parts), -1, -1):
            found = self.entries.get((registry, parts[:length]))
            if found is not None:
                return found
        return None


@dataclass(frozen=True)
class S3Settings:
    """The bucket that stands behind the cache directory. Who opens it is in no configuration of crcache's.

    @ivar endpoint: the service's URL, without a trailing slash.
    @ivar prefix: what the names of all objects begin with: nothing, or something that ends with a slash.
    @ivar path_style: whether the bucket is in the path; otherwise it is in the host's name.
    @ivar ca: PEM of the only authorities that the service's certificate may be of; C{None}: the system's.
    @ivar timeout: seconds in which an answer has to begin.
    """

    bucket: str
    endpoint: str
    region: str = "us-east-1"
    prefix: str = ""
    path_style: bool = True
    ca: Path | None = None
    timeout: float = 2.0


@dataclass(frozen=True)
class Config:
    """The whole configuration of one daemon.

    @ivar listen: Twisted endpoint strings of the C{/v2/} listeners.
    @ivar admin: endpoint string of the admin listener, or C{None} for none.
    @ivar handed_over: what becomes of sockets that systemd has opened: they are listened on C{instead} of C{listen},
        C{beside} it, or C{no}t at all.
    @ivar drain_timeout: so many seconds requests have to end, when the daemon stops.
    @ivar make_parents: whether what is above the cache directory is made, too; otherwise it is waited for.
    @ivar ignore: tags in which it finds a match (C{re.search}) are never cached.
    @ivar log_format: C{auto}, C{journal}, C{text} or C{json}.
    @ivar log_level: the least that is logged: C{debug}, C{info}, C{warn} or C{error}.
    @ivar parents: caches that are asked before origins.
    @ivar registries: the registries that are named in the file.
    @ivar s3: C{None}: there is no bucket.
    """

    cache_directory: Path
    # Neither can be set: how the others came about says it. So configurations that say the same are equal.
    make_parents: bool = field(default=False, compare=False)
    listen: tuple[str, ...] = ("tcp:3000",)
    handed_over: str = field(default="no", compare=False)
    admin: str | None = "tcp:3001:interface=127.0.0.1"
    drain_timeout: float = 10.0
    cache_manifests: bool = True
    ignore: re.Pattern[str] = re.compile("latest")
    times: Times = Times()
    bounds: Bounds = Bounds()
    upstream: UpstreamSettings = UpstreamSettings()
    tls: TlsSettings | None = None
    limits: ClientLimits = ClientLimits()
    reach: Reach = Reach()
    default_registry: Registry = DOCKER_IO
    log_format: str = "auto"
    log_level: str = "info"
    parents: tuple[ParentSettings, ...] = ()
    registries: Mapping[Registry, RegistrySettings] = field(default_factory=dict)
    credentials: Credentials = Credentials()
    s3: S3Settings | None = None

    def registry(self, registry: Registry) -> RegistrySettings:
        """The settings of any registry: as named in the file, else the defaults (https at its own name)."""
        found = self.registries.get(registry)
        if found is not None:
            return found
        return RegistrySettings(registry, default_urls(registry), times=self.times, named=False)
