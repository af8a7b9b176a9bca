"""Names: registries, repositories, tags.

Whatever exists as a L{Registry}, L{Repository} or L{Tag} (or L{Digest<crcache.grammar.digest.Digest>}) is of its
grammar; there is no way to make another. Hence the guarantee that everything which touches a file system rests on:
C{str()} of a registry or a tag is B{one} safe path component, C{str()} of a repository is one or more of them
with C{/} between: printable ASCII, at most 255 bytes, never empty, never C{.} or C{..}, never beginning with C{.}, C{-}
or a space; a repository's component does not begin with C{_} either. All patterns are meant for C{fullmatch} and know
only ASCII.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from crcache.errors import NameInvalid, TagInvalid
from crcache.grammar.digest import Digest
from crcache.grammar.excerpt import excerpt

# https://github.com/distribution/reference/blob/main/regexp.go: a domain is host names as in DNS, or an address, with
# an optional port. Labels and lengths: RFC 1123, 2.1 and RFC 1035, 2.3.4. Unlike there, a port is 1 to 65535.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HOST_LIMIT = 253
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]{2,45}\]|[a-z0-9.-]+)(?::(?P<port>[1-9][0-9]{0,4}))?")

# https://url.spec.whatwg.org/#ends-in-a-number-checker: resolvers take such a host for an IPv4 address, in whatever
# notation (127.1, 0x7f000001). Only the usual one is taken here: one registry, one name.
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests, <name>; 255 is the limit
# that the specification reports of clients.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")

# The same place, <reference> as a tag.
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

_NAME_LIMIT = 255

_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, order=True, slots=True)
class Registry:
    """A registry by its one canonical name: a host name, IPv4 address or bracketed IPv6 address, perhaps with a port.

    @raise NameInvalid: when made from any other name; L{parse} makes names canonical.
    """

    name: str

    def __post_init__(self) -> None:
        if _canonical(self.name) != self.name:
            raise _no_registry(self.name)

    @classmethod
    def parse(cls, text: str) -> Registry:
        """The registry that this text means.

        Letters become lower case and one trailing dot of a host name goes, for DNS knows no difference. So does
        C{:443}, for a registry without a port is asked by HTTPS, whose port that is (RFC 9110, 4.2.2). An IPv6 address
        is written in its shortest form (RFC 5952). Docker Hub's three names are one registry.

        @raise NameInvalid: if it isn't the name of one.
        """
        canonical = _canonical(text)
        if canonical is None:
            raise _no_registry(text)
        return cls(canonical)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, order=True, slots=True)
class Repository:
    """A repository's name within its registry: components with C{/} between.

    @raise NameInvalid: when made from anything else.
    """

    name: str

    def __post_init__(self) -> None:
        if len(self.name) > _NAME_LIMIT:
            raise NameInvalid(f"Use a repository name of at most {_NAME_LIMIT} characters, not {len(self.name)}.")
        if _REPOSITORY.fullmatch(self.name) is None:
            raise NameInvalid(
                f"Use a repository name of lower-case letters, digits and single separators (. _ __ -), components"
                f" separated by /, not {excerpt(self.name)}."
            )

    @classmethod
    def parse(cls, text: str) -> Repository:
        """The repository of this name.

        @raise NameInvalid: if it isn't the name of one.
        """
        return cls(text)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, order=True, slots=True)
class Tag:
    """A tag.

    @raise TagInvalid: when made from anything else.
    """

    name: str

    def __post_init__(self) -> None:
        if _TAG.fullmatch(self.name) is None:
            raise TagInvalid(
                f"Use a tag of at most 128 letters, digits, . _ and -, beginning with none of . and -,"
                f" not {excerpt(self.name)}."
            )

    @classmethod
    def parse(cls, text: str) -> Tag:
        """The tag of this name.

        @raise TagInvalid: if it isn't the name of one.
        """
        return cls(text)

    def __str__(self) -> str:
        return self.name


def parse_reference(text: str) -> Tag | Digest:
    """A manifest's C{<reference>}: a digest if there is a colon in it, which no tag has, else a tag.

    @raise DigestInvalid: if it has a colon and is no digest that is served.
    @raise TagInvalid: if it has none and is no tag.
    """
    return Digest.parse(text) if ":" in text else Tag.parse(text)


def _canonical(text: str) -> str | None:
    """The one name of the registry that C{text} means, or C{None}."""
    # First of all: str.lower() turns the Kelvin sign, which is not ASCII, into a k.
    if len(text) > _NAME_LIMIT + 1 or not text.isascii():
        return None
    matched = _AUTHORITY.fullmatch(text.lower())
    if matched is None:
        return None
    host, port = matched["host"], matched["port"]
    if port is not None and int(port) > 65535:
        return None
    canonical = _canonical_ipv6(host[1:-1]) if host.startswith("[") else _canonical_host(host.removesuffix("."))
    if canonical is None:
        return None
    if port is not None and port != "443":
        canonical = f"{canonical}:{port}"
    if len(canonical) > _NAME_LIMIT:
        return None
    return "docker.io" if canonical in _DOCKER_HUB else canonical


def _canonical_host(host: str) -> str | None:
    if len(host) > _HOST_LIMIT or _HOST.fullmatch(host) is None:
        return None
    if _ENDS_IN_NUMBER.fullmatch(host) is not None:
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            return None
    return host


def _canonical_ipv6(address: str) -> str | None:
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return None
    # An IPv4 address in disguise: it has a name already.
    return None if parsed.ipv4_mapped is not None else f"[{parsed.compressed}]"


def _no_registry(text: str) -> NameInvalid:
    return NameInvalid(f"Name a registry by its host and, if need be, port (registry:5000), not {excerpt(text)}.")


#: Docker Hub, under the name that references use.
DOCKER_IO = Registry("docker.io")
