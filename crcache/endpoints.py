"""Twisted's endpoint strings, tried before anything listens."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from crcache import pem
from crcache.grammar.excerpt import excerpt

_TCP = re.compile(r"(?:tcp6?|ssl):(?P<port>-?[0-9]+)(?::.*)?", re.DOTALL)
_SERVER_PORT = re.compile(r"(?P<host>[0-9.]*):(?P<port>[0-9]+)|(?P<alone>[0-9]+)")

_TLS = re.compile(r"tls:(?P<port>[0-9]{1,5})(?::interface=(?P<interface>(?:[^:\\]|\\.)+))?", re.DOTALL)
_QUOTED = re.compile(r"\\(.)", re.DOTALL)

_EXAMPLE = "tcp:3000 or tcp:3000:interface=127.0.0.1"


def check_endpoint(description: str, reactor: object, *, inherited: bool = True) -> None:
    """Make the server endpoint that C{description} means, and forget it: nothing listens.

    @param reactor: handed to the endpoint, which does not use it yet.
    @param inherited: whether this process is the one to which systemd hands its sockets. Elsewhere a C{systemd:}
        endpoint may name a socket that is not there.
    @raise ValueError: with what is wrong and what would be right.
    """
    if parse_tls(description) is not None:
        return
    try:
        make_endpoint(description, reactor)
    except _NotHandedOver:
        if inherited:
            raise


def make_endpoint(description: str, reactor: object) -> Any:
    """The server endpoint (C{IStreamServerEndpoint}) that C{description} means; its files are read now.

    @raise ValueError: with what is wrong and what would be right.
    """
    # Not at the top: this import takes LISTEN_FDS and LISTEN_PID out of os.environ, and no module that merely
    # imports this one should find them gone.
    from twisted.internet.endpoints import serverFromString

    shown = excerpt(description)
    alike = _SERVER_PORT.fullmatch(description)
    if alike is not None:
        better = f"tcp:{alike['port'] or alike['alone']}" + (f":interface={alike['host']}" if alike["host"] else "")
        raise ValueError(f"{shown} is not an endpoint; {better} is")
    tcp = _TCP.fullmatch(description)
    if tcp is not None and not 0 <= int(tcp["port"][:9]) <= 65535:
        raise ValueError(f"{shown} has a port beyond 65535")
    kind = description.partition(":")[0]
    if kind == "ssl":
        _check_files(description)
    try:
        return serverFromString(reactor, description)
    except (IndexError, KeyError):
        if kind != "systemd":
            raise ValueError(f"{shown} is not an endpoint such as {_EXAMPLE}") from None
        raise _NotHandedOver(f"{shown} is not a socket that systemd handed over; start the .socket unit") from None
    except OSError as error:
        raise ValueError(f"{shown} needs {error.filename}: {error.strerror}") from None
    except Exception as error:
        # Types of endpoints are plugins, and each fails in its own way.
        unknown = isinstance(error, ValueError) and "Unknown endpoint type" in str(error)
        what = f"there is no type {excerpt(kind)}" if unknown else f"its arguments are not those of {excerpt(kind)}"
        raise ValueError(f"{shown} is not an endpoint such as {_EXAMPLE}: {what}") from None


@dataclass(frozen=True)
class TlsEndpoint:
    """An endpoint of crcache's own type: TLS with what the section C{tls} of the configuration says.

    @ivar interface: an address; empty for all of the host.
    """

    port: int
    interface: str


def parse_tls(description: str) -> TlsEndpoint | None:
    """What C{tls:PORT} or C{tls:PORT:interface=ADDRESS} means; C{None} of other types.

    @raise ValueError: with what would be right.
    """
    if description.partition(":")[0] != "tls":
        return None
    found = _TLS.fullmatch(description)
    interface = _QUOTED.sub(r"\1", (found and found["interface"]) or "")
    try:
        if found is None or int(found["port"]) > 65535:
            raise ValueError(description)
        if interface:
            ipaddress.ip_address(interface)
    except ValueError:
        right = "tls:PORT or tls:PORT:interface=ADDRESS, with the certificate in the section tls"
        raise ValueError(f"{excerpt(description)} is not {right}") from None
    return TlsEndpoint(int(found["port"]), interface)


def files_of(description: str) -> tuple[Path, ...]:
    """The files that an C{ssl:} endpoint shows to clients; of other types none."""
    if description.partition(":")[0] != "ssl":
        return ()
    arguments = _arguments(description)
    key = arguments.get("privateKey", "server.pem")
    found = (key, arguments.get("certKey", key), arguments.get("extraCertChain"))
    return tuple(dict.fromkeys(Path(each) for each in found if each is not None))


class _NotHandedOver(ValueError):
    """A C{systemd:} endpoint is well-formed, but its socket is not there."""


def _check_files(description: str) -> None:
    """Look at the files of an C{ssl:} endpoint, of which Twisted would not say which one is wrong. It would ask for a
    key's passphrase at the terminal, too."""
    arguments = _arguments(description)
    key = Path(arguments.get("privateKey", "server.pem"))
    certificate = Path(arguments.get("certKey", key))
    chain = arguments.get("extraCertChain")
    checks: list[tuple[Path, Callable[[Path], Path]]] = [
        (key, pem.private_key),
        (certificate, pem.certificates),
        (key, partial(pem.private_key_of, certificate)),
    ]
    if chain is not None:
        checks.append((Path(chain), pem.certificates))
    shown = excerpt(description)
    for path, check in checks:
        try:
            path.open("rb").close()
        except OSError as error:
            raise ValueError(f"{shown} needs {path}: {error.strerror}") from None
        try:
            check(path)
        except ValueError as error:
            raise ValueError(f"{shown}: {error}") from None


def _arguments(description: str) -> dict[str, str]:
    """The arguments of an C{ssl:} endpoint by their names: C{:} separates them, a backslash quotes."""
    named: dict[str, str] = {}
    positions = iter(("type", "port", "privateKey", "certKey"))
    for part in re.findall(r"(?:[^:\\]|\\.)+", description, re.DOTALL):
        name, equals, value = part.partition("=")
        if not equals:
            name, value = next(positions, ""), part
        named[name] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
    return named
