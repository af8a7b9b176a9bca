"""The caches that are compared, each as its documentation has it set up for this purpose, on one core."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.real.daemon import Daemon
from tests.real.processes import Process, free_port
from tests.real.statics import StaticOrigin

_NAME = "registry.test"

# Buffers, kept connections and the lock's patience are above the defaults, in nginx's favour.
_NGINX = """\
daemon off;
user root;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log {directory}/access.log combined;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    sendfile on;
    tcp_nopush on;
    proxy_cache_path {directory}/cache levels=1:2 keys_zone=blobs:{zone}m inactive=1d use_temp_path=off{bound};
    upstream origin {{
        server 127.0.0.1:{origin};
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass https://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_trusted_certificate {ca};
            proxy_buffers 16 64k;
            proxy_buffer_size 64k;
            proxy_busy_buffers_size 128k;
            proxy_cache blobs;
            proxy_cache_valid 200 1d;
            proxy_cache_lock on;
            proxy_cache_lock_timeout 300s;
            proxy_cache_lock_age 300s;
        }}
    }}
}}
"""


class Server(Protocol):
    """One of them, running."""

    @property
    def pid(self) -> int:
        """Of its first process."""

    def url(self, path: str) -> str:
        """Where it has what the origin has under that path."""

    def stop(self) -> None:
        """End it. Idempotent."""


class Crcache:
    """crcache, with its defaults."""

    def __init__(self, directory: Path, origin: StaticOrigin, prefix: Sequence[str], most: int | None = None) -> None:
        settings = {} if most is None else {"cache": {"max-size": f"{most}B"}}
        registries = {_NAME: {"url": origin.url, "ca": str(origin.ca)}}
        self._daemon = Daemon(directory, registries, prefix=prefix, settings=settings)

    @property
    def pid(self) -> int:
        """Of its only process."""
        return self._daemon.pid

    def url(self, path: str) -> str:
        """With C{ns}, as containerd sends it."""
        return f"{self._daemon.url}{path}?ns={_NAME}"

    def stop(self) -> None:
        """End it. Idempotent."""
        self._daemon.stop()


class _Plain:
    """A server that is one program and knows its one origin."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        port: int,
        prefix: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._process = Process(command, directory / "log", prefix=prefix, environment=environment)
        self._process.listens(port)

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    def url(self, path: str) -> str:
        """The same path."""
        return self._url + path

    def stop(self) -> None:
        """End it. Idempotent."""
        self._process.stop()


def _stock_crcache(directory: Path, files: int) -> None:
    content = directory / "cache" / "blobs" / "sha256"
    content.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        data = b"%d" % number
        (content / hashlib.sha256(data).hexdigest()).write_bytes(data)


def nginx(directory: Path, origin: StaticOrigin, prefix: Sequence[str], most: int | None = None) -> Server:
    """nginx's C{proxy_cache}, one worker; C{proxy_cache_lock} lets one of many clients fetch."""
    port = free_port()
    configuration = directory / "nginx.conf"
    bound = "" if most is None else f" max_size={most // 1024}k"
    configuration.write_text(
        _NGINX.format(
            # Of memory that all its processes share: 1 MiB for 8,000 files.
            directory=directory,
            origin=origin.port,
            port=port,
            ca=origin.ca,
            zone=20,
            bound=bound,
        )
    )
    return _Plain(["nginx", "-c", str(configuration), "-p", str(directory), "-e", "stderr"], directory, port, prefix)


def _stock_nginx(directory: Path, files: int) -> None:
    # It has each file's name from the key, and looks at the rest when it is asked for.
    for number in range(files):
        name = hashlib.md5(b"%d" % number).hexdigest()
        path = directory / "cache" / name[-1] / name[-3:-1] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)


def docker_registry(directory: Path, origin: StaticOrigin, prefix: Sequence[str], most: int | None = None) -> Server:
    """docker-registry as a pull-through cache (C{proxy.remoteurl}). It knows no bound."""
    port = free_port()
    configuration = directory / "registry.yml"
    settings = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "proxy": {"remoteurl": origin.url},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "x"},
    }
    # JSON is YAML.
    configuration.write_text(json.dumps(settings))
    environment = {"SSL_CERT_FILE": str(origin.ca)}
    return _Plain(["docker-registry", "serve", str(configuration)], directory, port, prefix, environment)


def _stock_docker_registry(directory: Path, files: int) -> None:
    for number in range(files):
        data = b"%d" % number
        name = hashlib.sha256(data).hexdigest()
        path = directory / "storage" / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class Begin(Protocol):
    """Starts one."""

    def __call__(self, directory: Path, origin: StaticOrigin, prefix: Sequence[str], most: int | None = None) -> Server:
        """
        @param directory: for its files; what it cached there the last time is there.
        @param prefix: the command that keeps it on its core.
        @param most: how many bytes it may keep; C{None}: any number.
        """


@dataclass(frozen=True)
class Kind:
    """How to have one.

    @ivar stock: puts so many files into the cache in a directory, as if one had cached them there.
    @ivar bounded: whether it can be told how much to keep.
    """

    begin: Begin
    stock: Callable[[Path, int], None]
    bounded: bool = True


#: By the names that the results carry; the first two are the ones compared.
SERVERS: dict[str, Kind] = {
    "crcache": Kind(Crcache, _stock_crcache),
    "nginx": Kind(nginx, _stock_nginx),
    "docker-registry": Kind(docker_registry, _stock_docker_registry, bounded=False),
}
