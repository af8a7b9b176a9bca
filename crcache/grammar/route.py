"""Routes: which of the specification's questions a path asks.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints ::

    /v2/                            end-1
    /v2/<name>/blobs/<digest>       end-2
    /v2/<name>/manifests/<reference> end-3
    /v2/<name>/tags/list            end-8
    /v2/<name>/referrers/<digest>   end-12
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from crcache.errors import DigestInvalid, NameInvalid, NoSuchRoute, TagInvalid
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag, parse_reference

# https://www.rfc-editor.org/rfc/rfc3986#section-3.3, pchar, and of escapes only those of visible ASCII.
_SEGMENT = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=:@\[\]-]|%[2-7][0-9A-Fa-f])*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_FORBIDDEN = frozenset("/\\ \x7f")


@dataclass(frozen=True, slots=True)
class PingRoute:
    """C{/v2/}: is this a registry?"""


@dataclass(frozen=True, slots=True)
class ManifestRoute:
    """A manifest, by tag or digest. C{name}, here and below, is for L{which_registry} to judge."""

    name: str
    reference: Tag | Digest


@dataclass(frozen=True, slots=True)
class BlobRoute:
    """A blob."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class TagsRoute:
    """The tags of a repository."""

    name: str


@dataclass(frozen=True, slots=True)
class ReferrersRoute:
    """What refers to a manifest."""

    name: str
    digest: Digest


Route = PingRoute | ManifestRoute | BlobRoute | TagsRoute | ReferrersRoute


def parse_path(path: bytes) -> Route:
    """The route that a request's path, as sent and without its query, names.

    Percent-encoding is undone exactly once, and only after the path has been parted at its slashes.

    @raise NoSuchRoute: if it is none of the specification's.
    @raise NameInvalid: if the name has an empty segment, a dot segment, or a character or encoding that no name has.
    @raise DigestInvalid: if there is no digest where one belongs.
    @raise TagInvalid: if a manifest's reference is neither a tag nor a digest.
    """
    segments = [_decode(segment) for segment in path.split(b"/")]
    if segments[:2] != ["", "v2"]:
        raise _no_such_route()
    match segments[2:]:
        case [] | [""]:
            return PingRoute()
        case [first, *more, "tags", "list"]:
            return TagsRoute(_name(first, more))
        case [first, *more, "manifests", reference]:
            name = _name(first, more)
            if reference is None:
                raise TagInvalid("Ask for a manifest by its tag or digest.")
            return ManifestRoute(name, parse_reference(reference))
        case [first, *more, "blobs", digest]:
            return BlobRoute(_name(first, more), _digest(digest))
        case [first, *more, "referrers", digest]:
            return ReferrersRoute(_name(first, more), _digest(digest))
    raise _no_such_route()


def which_registry(
    name: str, ns: Sequence[str], user_agent: str | None, default: Registry
) -> tuple[Registry, Repository]:
    """Which registry's which repository a route's name means.

    With C{ns} the name is the repository, all of it: a first component that looks like a host, even the very one of
    C{ns}, belongs to the repository, for proxies name theirs so (C{docker.io/library/alpine} on a Harbor). Without
    it a first component with a C{.} or C{:}, or C{localhost}, is the registry; else a C{docker/…} user agent, which
    can send neither, means the default one.

    @param name: a route's.
    @param ns: all values of the query's C{ns}.
    @param user_agent: the request's C{User-Agent}.
    @param default: the registry that a C{docker/…} user agent means.
    @raise NameInvalid: if registry or repository are not of their grammar, C{ns} is given more than once or empty, or
        nothing says which registry is meant.
    """
    if len(ns) > 1:
        raise NameInvalid(f"Send ns once, not {len(ns)} times.")
    if ns:
        if not ns[0]:
            raise NameInvalid("Send the registry's host as ns, or leave ns out.")
        return Registry.parse(ns[0]), Repository.parse(name)
    first, _, rest = name.partition("/")
    if "." in first or ":" in first or first == "localhost":
        registry = Registry.parse(first)
        if not rest:
            raise NameInvalid(f"Name a repository after the registry: {registry}/repository.")
        return registry, Repository.parse(rest)
    if user_agent is not None and user_agent.startswith("docker/"):
        return default, Repository.parse(name)
    raise NameInvalid(
        "Say which registry is meant: configure this cache as a mirror in containerd's hosts.toml, which adds ?ns=HOST,"
        f" or put the registry's host before the name, as in /v2/{default}/name/…."
    )


def _decode(segment: bytes) -> str | None:
    """The segment without its percent-encoding; C{None} if it has none that is right, or hides what it must not."""
    if _SEGMENT.fullmatch(segment) is None:
        return None
    decoded = _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode()), segment).decode("ascii")
    return None if _FORBIDDEN.intersection(decoded) else decoded


def _name(first: str | None, more: Sequence[str | None]) -> str:
    segments = []
    for segment in (first, *more):
        if segment is None or segment in ("", ".", ".."):
            raise NameInvalid(
                "Use a name of components with one / between, none of them empty, . or .., in plain ASCII."
            )
        segments.append(segment)
    return "/".join(segments)


def _digest(segment: str | None) -> Digest:
    if segment is None:
        raise DigestInvalid("Ask for content by its digest, as algorithm:hex.")
    return Digest.parse(segment)


def _no_such_route() -> NoSuchRoute:
    return NoSuchRoute("Ask for /v2/ and what the distribution specification has below it.")
