"""Hosts as URLs and the configuration spell them: names, and addresses in whatever notation."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What DNS and resolvers know of names (RFC 1123, 2.1), with the underscore that container networks put into them.
_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NAME_LIMIT = 253

# https://url.spec.whatwg.org/#ends-in-a-number-checker: what resolvers and proxies take for an IPv4 address, each in a
# way of its own: 127.1, 0x7f000001, 0177.0.0.1 (octal for some, decimal for others).
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def same_host(text: str) -> str:
    """A host in the one form in which it can be compared: lower case, without brackets and without one trailing dot;
    an IPv6 address as short as can be (RFC 5952)."""
    text = text.lower()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if ":" in text:
        try:
            return str(ipaddress.IPv6Address(text))
        except ValueError:
            return text
    return text.removesuffix(".")


def plain_address(text: str) -> Address | None:
    """The address that this is, in the usual notation: four decimal numbers, or IPv6 without a zone; else C{None}."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if isinstance(address, ipaddress.IPv6Address) and address.scope_id else address


def is_name(text: str) -> bool:
    """Whether it is a name, and nothing that anybody takes for an address.

    @param text: a host, in lower case.
    """
    name = text.removesuffix(".")
    return len(name) <= _NAME_LIMIT and _NAME.fullmatch(name) is not None and not _NUMBER.fullmatch(name)


@dataclass(frozen=True)
class HostPattern:
    """Hosts, perhaps at one port only.

    @ivar host: as L{same_host} makes it: a name or an address; C{*.example.com} (all that is below it); C{*}.
    @ivar port: C{None} is any.
    """

    host: str
    port: int | None = None

    def matches(self, host: str, port: int) -> bool:
        """Whether a host, as L{same_host} makes it, is one of these."""
        if self.port not in (None, port):
            return False
        if self.host.startswith("*"):
            return host.endswith(self.host[1:])
        return host == self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


# RFC 3986, 3.2.2 and 3.2.3; an IPv6 address without its brackets can have no port.
_PATTERN = re.compile(
    r"(?:\[(?P<bracketed>[0-9a-f:.]{2,45})\]|(?P<host>[a-z0-9._*-]{1,254}))(?::(?P<port>[0-9]{1,5}))?"
)


def parse_pattern(text: str, *, wildcards: bool) -> HostPattern | None:
    """The hosts that this text means, or C{None} if it means none.

    @param wildcards: whether C{*} and C{*.example.com} may stand for many.
    """
    if not text.isascii():
        return None
    lower = text.lower()
    if ":" in lower and not lower.startswith("[") and plain_address(lower) is not None:
        return HostPattern(same_host(lower))
    matched = _PATTERN.fullmatch(lower)
    if matched is None:
        return None
    port = None if matched["port"] is None else int(matched["port"])
    if port is not None and not 1 <= port <= 65535:
        return None
    if matched["bracketed"] is not None:
        known = plain_address(matched["bracketed"]) is not None and ":" in matched["bracketed"]
    else:
        name = matched["host"]
        if wildcards:
            name = name.removeprefix("*.") if name != "*" else "any"
        known = is_name(name) or plain_address(name) is not None
    return HostPattern(same_host(matched["bracketed"] or matched["host"]), port) if known else None
