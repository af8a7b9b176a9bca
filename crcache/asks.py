"""What a client asks, as frozen values: all that the cache ever learns of an HTTP request."""

from __future__ import annotations

from dataclasses import dataclass

from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.secret import Secret


@dataclass(frozen=True)
class Client:
    """Of the one who asks: what may be passed on to an origin.

    @ivar accept: the values of the `Accept` lines, one a line, unparsed; empty if there was none.
    @ivar authorization: the client's own `Authorization`, meant for the origin.
    @ivar peer: the address that it is counted under, where turns have to be fair; empty if there is none.
    @ivar via: through whom the request has come, as L{crcache.grammar.via.parse_via} has it.
    """

    request_id: str
    accept: tuple[str, ...] = ()
    authorization: Secret | None = None
    user_agent: str | None = None
    peer: str = ""
    via: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ping:
    """`GET /v2/`: is this a registry?

    @ivar via: as of a L{Client}.
    """

    via: tuple[str, ...] = ()


@dataclass(frozen=True)
class PullManifest:
    """`GET` or `HEAD` (C{body} false) of `/v2/<name>/manifests/<reference>`."""

    client: Client
    registry: Registry
    repository: Repository
    reference: Tag | Digest
    body: bool = True


@dataclass(frozen=True)
class PullBlob:
    """`GET` or `HEAD` (C{body} false) of `/v2/<name>/blobs/<digest>`.

    @ivar span: the one range that was asked for, as (first byte, end or C{None} for open-ended), half-open, if it
        can be said without the size. Only what has to be relayed heeds it; what comes from a file is cut by the web.
    @ivar suffix: so many of the last bytes are asked for (C{bytes=-n}); heeded as C{span} is.
    """

    client: Client
    registry: Registry
    repository: Repository
    digest: Digest
    body: bool = True
    span: tuple[int, int | None] | None = None
    suffix: int | None = None


@dataclass(frozen=True)
class ListTags:
    """`GET /v2/<name>/tags/list`, with the query's C{n} and C{last} as (name, value)."""

    client: Client
    registry: Registry
    repository: Repository
    parameters: tuple[tuple[str, str], ...] = ()
    body: bool = True


@dataclass(frozen=True)
class ListReferrers:
    """`GET /v2/<name>/referrers/<digest>`, with the query's C{artifactType} as (name, value)."""

    client: Client
    registry: Registry
    repository: Repository
    digest: Digest
    parameters: tuple[tuple[str, str], ...] = ()
    body: bool = True


Ask = Ping | PullManifest | PullBlob | ListTags | ListReferrers
