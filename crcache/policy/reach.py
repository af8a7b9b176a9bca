"""Who may be asked: which registries, and at which addresses.

Names are judged by the administrator's lists, addresses by tables of our own: L{ipaddress}'s idea of what is global
differs from one release of Python to the next.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from crcache.errors import NameInvalid
from crcache.grammar.hosts import Address, HostPattern, is_name, plain_address, same_host
from crcache.grammar.reference import Registry
from crcache.settings import Reach, RegistrySettings

#: Where a registry may be, or send us, without being named.
PORTS = (443, 80)

# Docker Hub's own names: whoever speaks of one of them means all.
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")

# https://www.iana.org/assignments/iana-ipv4-special-registry/, and multicast.
_CLOSED_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; 0.0.0.0 is this host for many systems
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carriers' NAT; metadata services of some clouds
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's own services for a virtual machine, though of public space
        "169.254.0.0/16",  # link-local; metadata services
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; metadata services of some clouds
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved; 255.255.255.255 is broadcast
    )
)

# https://www.iana.org/assignments/ipv6-address-space/: all that is global unicast. Outside of it are loopback,
# link-local, site-local, unique local, multicast, IPv4-compatible, and NAT64 for local use (RFC 8215).
_OPEN_IPV6 = IPv6Network("2000::/3")
# https://www.iana.org/assignments/iana-ipv6-special-registry/: what is closed within it.
_CLOSED_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
)
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052, 2.1
_6TO4 = IPv6Network("2002::/16")  # RFC 3056, 2
_TEREDO = IPv6Network("2001::/32")  # RFC 4380, 4

# Names of this host that need no resolver (RFC 6761, 6.3), and those that systems have in their hosts files.
_LOCAL = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "localhost4",
        "localhost4.localdomain4",
        "localhost6",
        "localhost6.localdomain6",
        "ip6-localhost",
        "ip6-loopback",
        "loopback",
        "broadcasthost",
    }
)

_LONGEST = 100


# Which registries --------------------------------------------------------------------------


def refusal(reach: Reach, registry: Registry, named: bool) -> str | None:
    """Why a registry is not asked, as a sentence that names the key to change; C{None} if it may be.

    What is asked for counts, not where it leads.

    @param named: whether it is named under C{registries}.
    """
    host, port = _place(registry)
    if _matches(reach.deny, host, port):
        return f"{registry} is not asked: reach.deny has it; take it from there if it may be"
    if named:
        return None
    if reach.allow and not _matches(reach.allow, host, port):
        return f"{registry} is not asked: reach.allow does not have it; add it there if it may be"
    if port not in PORTS:
        return f"{registry} is not asked, for its port is neither 443 nor 80; name it under registries if it may be"
    if not spelled_public(host):
        return _not_public(registry)
    return None


def allowed(reach: Reach) -> set[Registry]:
    """The registries that C{allow} has by name."""
    found = set()
    for pattern in reach.allow:
        # A name with an underscore is no registry's.
        with suppress(NameInvalid):
            found.add(Registry.parse(str(pattern)))
    return found


def _place(registry: Registry) -> tuple[str, int]:
    parts = urlsplit(f"//{registry}")
    return same_host(parts.hostname or ""), parts.port or 443


def _matches(patterns: tuple[HostPattern, ...], host: str, port: int) -> bool:
    hosts = _DOCKER_HUB if host in _DOCKER_HUB else (host,)
    return any(pattern.matches(each, port) for pattern in patterns for each in hosts)


# Where they lead ---------------------------------------------------------------------------


def trusted(settings: RegistrySettings, host: str, port: int) -> bool:
    """Whether a registry may be, or send us, there whatever its address is: it is named, and the place is one of its
    own URLs or among its C{trusted-hosts}."""
    if not settings.named:
        return False
    host = same_host(host)
    return (host, port) in _own(settings) or any(pattern.matches(host, port) for pattern in settings.trusted_hosts)


def misleading(settings: RegistrySettings, host: str, port: int) -> str | None:
    """Why a registry must not send us there, as far as can be told without resolving the name; C{None} if it may.

    @param host: of a URL, without brackets.
    """
    if trusted(settings, host, port):
        return None
    if not settings.named and port not in PORTS:
        where = _where(host, port)
        return (
            f"{settings.registry} leads to {where}, a port that is neither 443 nor 80; name it under registries if that"
            " is meant to be"
        )
    return None if spelled_public(host) else astray(settings, host, port)


def astray(settings: RegistrySettings, host: str, port: int) -> str:
    """The sentence for a place that is at no public address, naming the key to change. It does not say the address."""
    registry = settings.registry
    if (same_host(host), port) in _own(settings):
        return _not_public(registry)
    told = f"{registry} leads to {_where(host, port)}, which is not at a public address;"
    if settings.named:
        return f"{told} add it to registries.{registry}.trusted-hosts if that is meant to be"
    return f"{told} name {registry} under registries, with that host among its trusted-hosts, if that is meant to be"


def _not_public(registry: Registry) -> str:
    return f"{registry} is not at a public address; name it under registries to have it asked all the same"


def _own(settings: RegistrySettings) -> list[tuple[str, int]]:
    found = []
    for url in settings.urls:
        parts = urlsplit(url)
        default = 80 if parts.scheme == "http" else 443
        found.append((same_host(parts.hostname or ""), default if parts.port is None else parts.port))
    return found


def _where(host: str, port: int) -> str:
    host = host if len(host) <= _LONGEST else f"{host[:_LONGEST]}…"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# Addresses ---------------------------------------------------------------------------------


def spelled_public(host: str) -> bool:
    """Whether a host may be public, judged by its spelling alone. All that can be told where a proxy resolves it.

    Of this host's own names none is. Addresses are judged as such; those in any other than the usual notation are not
    taken at all, for nobody can know what a resolver, or a proxy, makes of them.

    @param host: of a URL, without brackets.
    """
    host = host.lower()
    address = plain_address(host)
    if address is not None:
        return _public(address)
    name = host.removesuffix(".")
    return is_name(host) and name not in _LOCAL and not name.endswith(".localhost")


def address_public(text: str) -> bool:
    """Whether an address, in the usual notation, is one that strangers may have us connect to."""
    address = plain_address(text)
    return address is not None and _public(address)


def _public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_IPV4)
    inside = _inside(address)
    if inside:
        return all(_public(each) for each in inside)
    return address in _OPEN_IPV6 and not any(address in network for network in _CLOSED_IPV6)


def _inside(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that packets to an IPv6 address end at, if it is of a kind that has some in it."""
    number = int(address)
    if address in _MAPPED or address in _NAT64:
        return [IPv4Address(number & 0xFFFFFFFF)]
    if address in _6TO4:
        return [IPv4Address(number >> 80 & 0xFFFFFFFF)]
    if address in _TEREDO:
        # The server's, and the client's with all bits turned.
        return [IPv4Address(number >> 64 & 0xFFFFFFFF), IPv4Address(~number & 0xFFFFFFFF)]
    return []
