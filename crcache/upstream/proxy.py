"""Which proxy a URL is asked through, as the setting or the environment says."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from crcache.errors import ConfigError
from crcache.secret import Secret
from crcache.upstream.urls import Origin

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.

    @ivar secure: whether the proxy itself is spoken to through TLS (verified with the system's roots).
    @ivar authorization: the value of `Proxy-Authorization`, or C{None}.
    """

    host: str
    port: int
    secure: bool = False
    authorization: Secret | None = None

    def __str__(self) -> str:
        return f"the proxy {self.host}:{self.port}"


def parse_proxy(text: str) -> Proxy:
    """A proxy from C{[http[s]://][user:password@]host[:port]}.

    @raise ConfigError: if it is not of that form. The message does not repeat it, since it may have a password in it.
    """
    wrong = ConfigError(
        "upstream.proxy (or HTTPS_PROXY, HTTP_PROXY) must be of the form http://[user:password@]host:port"
    )
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise wrong
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = Secret("Basic " + base64.b64encode(pair.encode()).decode())
    return Proxy(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "https", authorization)


class Proxies:
    """The choice for every URL.

    The setting replaces `HTTPS_PROXY` and `HTTP_PROXY`; `NO_PROXY` holds for it as for them. Each variable may be
    in lower case, which wins. As everywhere, `HTTP_PROXY` is not looked at where `REQUEST_METHOD` is set: there
    a client could have set it, as the header `Proxy`. As with all that is written in Go, what the environment says is
    not about this host itself, whose addresses mean something else to a proxy.
    """

    def __init__(self, setting: str | None, environ: Mapping[str, str]) -> None:
        """
        @raise ConfigError: if the setting or a variable is not of the form of a proxy.
        """
        self._https: Proxy | None
        self._http: Proxy | None
        if setting is not None:
            self._https = self._http = parse_proxy(setting)
        else:
            https = environ.get("https_proxy") or environ.get("HTTPS_PROXY")
            http = environ.get("http_proxy")
            if not http and "REQUEST_METHOD" not in environ:
                http = environ.get("HTTP_PROXY")
            self._https = parse_proxy(https) if https else None
            self._http = parse_proxy(http) if http else None
        self._everywhere = setting is not None
        self._exceptions = NoProxy(environ.get("no_proxy") or environ.get("NO_PROXY") or "")

    @property
    def hosts(self) -> set[str]:
        """Where they are."""
        return {each.host for each in (self._https, self._http) if each is not None}

    def choose(self, origin: Origin) -> Proxy | None:
        """The proxy for an origin; C{None} to go there directly."""
        proxy = self._https if origin.scheme == "https" else self._http
        if not self._everywhere and _here(origin.host):
            return None
        return None if proxy is None or self._exceptions.match(origin.host, origin.port) else proxy


class NoProxy:
    """The exceptions in `NO_PROXY`: separated by commas or spaces, each one

    C{*} (everything), a name (it and all below it; with a dot in front only what is below it), an address, or a
    network in CIDR form; names and addresses may be followed by C{:port}.
    """

    def __init__(self, text: str) -> None:
        self._all = False
        self._networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None]] = []
        self._names: list[tuple[str, int | None]] = []
        for entry in text.replace(",", " ").lower().split():
            self._add(entry)

    def _add(self, entry: str) -> None:
        if entry == "*":
            self._all = True
            return
        host, port = _split_port(entry)
        try:
            self._networks.append((ipaddress.ip_network(host, strict=False), port))
        except ValueError:
            self._names.append((host.removeprefix("*"), port))

    def match(self, host: str, port: int) -> bool:
        """Whether a host (a name or an address, without brackets) is to be asked directly."""
        if self._all:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            name = host.lower().rstrip(".")
            return any(wanted in (None, port) and _below(name, suffix) for suffix, wanted in self._names)
        return any(wanted in (None, port) and address in network for network, wanted in self._networks)


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _below(name: str, suffix: str) -> bool:
    return name.endswith(suffix) if suffix.startswith(".") else name == suffix or name.endswith(f".{suffix}")


def _split_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return host, int(rest[1:]) if rest.startswith(":") and rest[1:].isdigit() else None
    host, colon, port = entry.rpartition(":")
    if colon and ":" not in host and port.isdigit():
        return host, int(port)
    return entry, None
