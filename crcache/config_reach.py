"""The configuration file's lists of hosts: whom crcache may ask, and where a registry may send it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crcache.grammar.excerpt import excerpt
from crcache.grammar.hosts import HostPattern, parse_pattern
from crcache.settings import Reach
from crcache.yaml_file import Entry

REACH_KEYS = ("allow", "deny")
TRUSTED_HOSTS = "trusted-hosts"


def read_reach(section: Mapping[str, Entry]) -> Reach:
    """The lists in the C{reach} section.

    @raise ConfigError: naming the line and key.
    """
    return Reach(_patterns(section, "allow", _registries), _patterns(section, "deny", _registries))


def read_trusted_hosts(fields: Mapping[str, Entry]) -> tuple[HostPattern, ...]:
    """The list in a registry's section.

    @raise ConfigError: naming the line and key.
    """
    return _patterns(fields, TRUSTED_HOSTS, _host)


def _patterns(section: Mapping[str, Entry], key: str, parse: Callable[[str], HostPattern]) -> tuple[HostPattern, ...]:
    if key not in section:
        return ()
    return tuple(dict.fromkeys(entry.convert(parse) for entry in section[key].several(empty=True)))


def _registries(text: str) -> HostPattern:
    _alone(text, "a registry's name")
    found = parse_pattern(text, wildcards=True)
    if found is None:
        raise ValueError(f"{excerpt(text)} is none of the forms ghcr.io, registry.example.com:5000, *.example.com, *")
    return found


def _host(text: str) -> HostPattern:
    _alone(text, "a host")
    if "*" in text:
        raise ValueError(f"{excerpt(text)} stands for many; name each host that the registry may send crcache to")
    found = parse_pattern(text, wildcards=False)
    if found is None:
        raise ValueError(f"{excerpt(text)} is not a host such as auth.example.com or minio.example.com:9000")
    return found


def _alone(text: str, what: str) -> None:
    # Not shown: it may have a password in it.
    if "/" in text or "@" in text:
        raise ValueError(f"must be {what} alone, without https:// and without a path")
