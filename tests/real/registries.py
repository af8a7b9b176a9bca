"""docker-registry as the origin: open, with an authority of its own, with a password, or with tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crcache.testing.certificates import Authority
from tests.real.images import Image
from tests.real.originlog import Served, fetches, parse_log
from tests.real.processes import Process, free_port, program, run, until
from tests.real.tokens import TokenServer

USERNAME, PASSWORD = "alice", "s3cret"


class DockerRegistry:
    """One docker-registry on 127.0.0.1.

    @ivar url: its base URL.
    @ivar ca: the authority's certificate if it speaks TLS, else C{None}.
    """

    def __init__(
        self,
        directory: Path,
        storage: Path,
        *,
        tls: bool = False,
        password: bool = False,
        tokens: TokenServer | None = None,
        port: int | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """
        @param directory: for its configuration and log.
        @param storage: its content; several registries may serve the same.
        @param tls: speak TLS, with an authority made for it alone.
        @param password: ask for C{USERNAME} and C{PASSWORD} (Basic).
        @param tokens: ask for tokens of this server's (Bearer).
        """
        self.port = port or free_port()
        self.ca: Path | None = None
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._directory = directory
        self._prefix = prefix
        http: dict[str, Any] = {"addr": f"127.0.0.1:{self.port}", "secret": "x"}
        configuration: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(storage)},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": http,
        }
        if tls:
            authority = Authority()
            self.ca = authority.write(directory, "origin-ca")
            certificate, key = authority.server().write(directory, "origin")
            http["tls"] = {"certificate": str(certificate), "key": str(key)}
        if password:
            htpasswd = directory / "htpasswd"
            htpasswd.write_text(run(["htpasswd", "-Bbn", USERNAME, PASSWORD]))
            configuration["auth"] = {"htpasswd": {"realm": "test", "path": str(htpasswd)}}
        if tokens is not None:
            configuration["auth"] = {"token": tokens.registry_settings(directory)}
        # JSON is YAML.
        (directory / "registry.yml").write_text(json.dumps(configuration))
        self._process = self._begin()

    def _begin(self) -> Process:
        process = Process(
            ["docker-registry", "serve", str(self._directory / "registry.yml")],
            self._directory / "registry.log",
            prefix=self._prefix,
        )
        process.listens(self.port)
        return process

    def stop(self) -> None:
        """End it. Idempotent."""
        self._process.stop()

    def served(self) -> list[Served]:
        """What it has answered so far, in order."""
        return parse_log(self._process.said())

    def settled(self, image: Image) -> list[Served]:
        """What it has answered, once every blob of C{image} is among it: the line comes after the answer's end."""
        until("the origin's log", lambda: set(image.blobs) <= set(fetches(self.served())))
        return self.served()


def push(image: Image, registry: DockerRegistry, repository: str, tag: str | None = None) -> None:
    """Put an image, with all its platforms, into a plain registry, under its own tag or another."""
    run(
        [
            program("skopeo"),
            "copy",
            "--all",
            "--insecure-policy",
            "--dest-tls-verify=false",
            f"oci:{image.layout}:{image.tag}",
            f"docker://127.0.0.1:{registry.port}/{repository}:{tag or image.tag}",
        ]
    )
