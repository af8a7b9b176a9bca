"""Asks admin listeners, over TCP or Unix sockets, within bounds of time and size."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Seconds for one listener, from its connection to its last byte.
PATIENCE = 2.0
#: No status is larger.
_LARGEST = 4 << 20
_AT_ONCE = 16
_PARTS = re.compile(r"(?:[^:\\]|\\.)+", re.DOTALL)
_QUOTED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """Where an admin listener is: a host and a port, or a Unix socket's path."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """What a listener said.

    @ivar status: C{/api/status}; C{None} if it did not answer.
    @ivar metrics: C{/metrics}, as text.
    @ivar problem: why it did not.
    """

    address: Address
    status: dict[str, Any] | None = None
    metrics: str = ""
    problem: str = ""


def address_of(endpoint: str) -> Address | None:
    """Where a server endpoint of Twisted's listens, seen from this host; C{None} of types that cannot be asked from
    outside (sockets of systemd's, TLS).

    @raise ValueError: if it is malformed.
    """
    parts = [_QUOTED.sub(r"\1", part) for part in _PARTS.findall(endpoint)]
    kind, given = parts[0] if parts else "", parts[1:]
    plain = [part for part in given if "=" not in part]
    named = dict(part.split("=", 1) for part in given if "=" in part)
    if kind == "unix":
        path = named.get("address", plain[0] if plain else "")
        if not path:
            raise ValueError(f"{endpoint!a} has no path")
        return Address(path=path)
    if kind not in ("tcp", "tcp4", "tcp6"):
        return None
    port = named.get("port", plain[0] if plain else "")
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:9]) <= 65535):
        raise ValueError(f"{endpoint!a} has no port")
    return Address(_reached(named.get("interface", ""), "::1" if kind == "tcp6" else "127.0.0.1"), int(port))


def _reached(interface: str, here: str) -> str:
    """Where to ask what listens on this interface; on all of them, or on none that is said, C{here}."""
    try:
        address = ipaddress.ip_address(interface)
    except ValueError:
        return interface or here
    if not address.is_unspecified:
        return interface
    return "::1" if address.version == 6 else "127.0.0.1"


def sockets_in(directory: Path) -> Iterator[Address]:
    """The admin listeners of a template unit's instances: the Unix sockets that are named C{admin…} there."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        path = directory / name
        try:
            found = os.lstat(path)
        except OSError:
            continue
        if name.startswith("admin") and stat.S_ISSOCK(found.st_mode):
            yield Address(path=str(path))


def ask_all(addresses: list[Address]) -> list[Answer]:
    """What each of them says, several asked at once."""
    if not addresses:
        return []
    with ThreadPoolExecutor(min(len(addresses), _AT_ONCE), "crcache-status") as pool:
        return list(pool.map(lambda address: _ask(address, PATIENCE), addresses))


def _ask(address: Address, patience: float) -> Answer:
    deadline = time.monotonic() + patience
    try:
        said = json.loads(_get(address, "/api/status", deadline))
        if not isinstance(said, dict) or not isinstance(said.get("version"), str):
            return Answer(address, problem="is not crcache")
        return Answer(address, said, _get(address, "/metrics", deadline).decode("utf-8", "replace"))
    except TimeoutError:
        return Answer(address, problem=f"no answer within {patience:g} s")
    except OSError as error:
        return Answer(address, problem=error.strerror or str(error))
    except (http.client.HTTPException, ValueError, RecursionError):
        return Answer(address, problem="is not crcache")


def _get(address: Address, path: str, deadline: float) -> bytes:
    connection = _Connection(address, deadline)
    try:
        connection.request("GET", path, headers={"Host": "localhost", "Connection": "close"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        body = bytearray()
        while piece := answer.read1(65536):
            body += piece
            connection.hurry()
            if len(body) > _LARGEST:
                raise ValueError("too large")
        return bytes(body)
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection with a deadline for all that is done on it."""

    def __init__(self, address: Address, deadline: float) -> None:
        super().__init__(address.host or "localhost", address.port or None)
        self._address = address
        self._deadline = deadline

    def connect(self) -> None:
        left = self._left()
        if self._address.path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(left)
            self.sock.connect(self._address.path)
        else:
            self.sock = socket.create_connection((self._address.host, self._address.port), left)
        self.hurry()

    def hurry(self) -> None:
        """Wait no longer than is left."""
        if self.sock is not None:
            self.sock.settimeout(self._left())

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left
