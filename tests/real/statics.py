"""nginx with static files as the origin: as fast as an origin gets, or as slow as a test wants it.

It answers the paths that pulls use (C{/v2/}, manifests by tag and digest, blobs), GET and HEAD, ranges included.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from crcache.testing.certificates import Authority
from tests.real.images import Image
from tests.real.originlog import Served, parse_log
from tests.real.processes import Process, free_port

_CONFIGURATION = """\
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
    keepalive_requests 100000;
    types {{ }}
    server {{
        listen 127.0.0.1:{port}{tls};
        root {files};
{password}        limit_rate {rate};
        location = /v2/ {{
            default_type application/json;
            return 200 '{{}}';
        }}
        location ~ "/blobs/(sha256:[0-9a-f]+)$" {{
            default_type application/octet-stream;
            add_header Docker-Content-Digest $1;
        }}
{manifests}    }}
}}
"""
_TLS = """\
 ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key}"""
_PASSWORD = """\
        auth_basic private;
        auth_basic_user_file {file};
"""
_MANIFEST = """\
        location = {path} {{
            default_type {media_type};
            add_header Docker-Content-Digest {digest};
        }}
"""


class StaticOrigin:
    """One nginx on 127.0.0.1; L{publish} first, then L{start}.

    @ivar url: its base URL.
    @ivar ca: the authority's certificate if it speaks TLS, else C{None}.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tls: bool = False,
        rate: int = 0,
        port: int | None = None,
        prefix: Sequence[str] = (),
        users: Mapping[str, str] | None = None,
    ) -> None:
        """
        @param directory: for its files, configuration and logs; made if it is not there.
        @param rate: bytes a second that each connection gets; 0: as many as there are.
        @param users: names and their passwords, without which nothing is given out.
        """
        directory.mkdir(exist_ok=True)
        self.port = port or free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.ca: Path | None = None
        self._tls = ""
        if tls:
            authority = Authority()
            self.ca = authority.write(directory, "origin-ca")
            certificate, key = authority.server().write(directory, "origin")
            self._tls = _TLS.format(certificate=certificate, key=key)
        self._password = ""
        if users is not None:
            file = directory / "users"
            file.write_text("".join(f"{name}:{{PLAIN}}{password}\n" for name, password in users.items()))
            self._password = _PASSWORD.format(file=file)
        self._directory = directory
        self._files = directory / "files"
        self._rate = rate
        self._prefix = prefix
        self._manifests = ""
        self._process: Process | None = None

    def publish(self, image: Image, repository: str) -> None:
        """Serve an image with all its platforms. Its files must be of the same file system."""
        for digest in image.blobs:
            self.publish_blob(image.path(digest), repository, digest)
        for digest in image.manifests:
            references = [digest, image.tag] if digest == image.top else [digest]
            for reference in references:
                path = f"/v2/{repository}/manifests/{reference}"
                self._link(image.path(digest), path)
                self._manifests += _MANIFEST.format(path=path, media_type=image.media_type(digest), digest=digest)

    def publish_blob(self, file: Path, repository: str, digest: str) -> str:
        """Serve one blob, of the same file system.

        @return: its URL's path.
        """
        path = f"/v2/{repository}/blobs/{digest}"
        self._link(file, path)
        return path

    def start(self) -> None:
        """Listen."""
        configuration = self._directory / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                directory=self._directory,
                files=self._files,
                port=self.port,
                tls=self._tls,
                password=self._password,
                rate=self._rate,
                manifests=self._manifests,
            )
        )
        self._process = Process(
            ["nginx", "-c", str(configuration), "-p", str(self._directory), "-e", "stderr"],
            self._directory / "nginx.log",
            prefix=self._prefix,
        )
        self._process.listens(self.port)

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._process is not None:
            self._process.stop()

    def served(self) -> list[Served]:
        """What it has answered so far, in order of the answers' ends."""
        return parse_log((self._directory / "access.log").read_text())

    def sent(self, digest: str) -> int:
        """Bytes of that blob which it has sent so far, in all."""
        return sum(entry.sent for entry in self.served() if entry.blob == digest)

    def _link(self, file: Path, path: str) -> None:
        target = Path(f"{self._files}{path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(file, target)
