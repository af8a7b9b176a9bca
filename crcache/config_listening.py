"""The C{tls} and C{limits} sections of the configuration file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from crcache import pem, values
from crcache.settings import ClientLimits, TlsSettings
from crcache.yaml_file import Entry, get

_TLS_KEYS = ("certificate", "key", "clients")
_CLIENTS_KEYS = ("ca",)
_LIMITS_KEYS = ("connections", "connections-per-peer", "requests-per-peer")


def read_tls(top: Mapping[str, Entry], base: Path) -> TlsSettings | None:
    """The section C{tls}; C{None} if there is none.

    @param top: the whole file.
    @param base: where relative paths begin.
    @raise ConfigError: naming the line and key.
    """
    section = top["tls"].section(_TLS_KEYS) if "tls" in top else {}
    if not section:
        return None

    def file(entry: Entry, check: Callable[[Path], Path]) -> Path:
        return entry.convert(lambda text: check(values.absolute(text, base)))

    for key in ("certificate", "key"):
        if key not in section:
            raise top["tls"].wrong(f"has no {key}; certificate and key come together")
    certificate = file(section["certificate"], pem.certificates)
    key_file = file(section["key"], partial(pem.private_key_of, certificate))
    clients = section["clients"].section(_CLIENTS_KEYS) if "clients" in section else {}
    if "clients" in section and "ca" not in clients:
        raise section["clients"].wrong("has no ca, so it would keep nobody out; leave it out for everyone")
    return TlsSettings(certificate, key_file, file(clients["ca"], pem.certificates) if clients else None)


def read_limits(top: Mapping[str, Entry]) -> ClientLimits:
    """The section C{limits}.

    @param top: the whole file.
    @raise ConfigError: naming the line and key.
    """
    section = top["limits"].section(_LIMITS_KEYS) if "limits" in top else {}
    default = ClientLimits()
    number = values.at_least(1)
    return ClientLimits(
        connections=get(section, "connections", number, default.connections),
        connections_per_peer=get(section, "connections-per-peer", number, default.connections_per_peer),
        requests_per_peer=get(section, "requests-per-peer", number, default.requests_per_peer),
    )
