"""crcache itself, as an administrator starts it: `twistd -n crcache`."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.real.processes import Process, free_port

#: The directory in which C{twisted/plugins} and the package are.
ROOT = Path(__file__).resolve().parents[2]

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


def twistd() -> list[str]:
    """The command that starts the daemon, of the Python that runs the tests."""
    beside = Path(sys.executable).with_name("twistd")
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


class Daemon:
    """One crcache on free ports of 127.0.0.1.

    @ivar url: where it listens for clients.
    @ivar cache: its cache directory.
    """

    def __init__(
        self,
        directory: Path,
        registries: Mapping[str, Mapping[str, Any]],
        *,
        cache: Path | None = None,
        listen: str = "tcp:{port}:interface=127.0.0.1",
        settings: Mapping[str, Any] | None = None,
        port: int | None = None,
        admin_port: int | None = None,
        prefix: Sequence[str] = (),
        runtime: Path | None = None,
    ) -> None:
        """
        @param directory: for its configuration and log; made if it is not there.
        @param registries: the section of that name in the configuration.
        @param cache: the cache directory; else one in C{directory}.
        @param listen: the endpoint to listen on, with C{{port}} where the port goes.
        @param settings: further sections of the configuration.
        @param runtime: what systemd would make for C{RuntimeDirectory=}.
        """
        directory.mkdir(exist_ok=True)
        self.port = port or free_port()
        self.admin_port = admin_port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.cache = cache or directory / "cache"
        configuration = {
            **(settings or {}),
            "listen": [listen.format(port=self.port)],
            "admin": f"tcp:{self.admin_port}:interface=127.0.0.1",
            "registries": registries,
        }
        configuration["cache"] = {**configuration.get("cache", {}), "directory": str(self.cache)}
        self._configuration = directory / "crcache.yaml"
        # JSON is YAML.
        self._configuration.write_text(json.dumps(configuration))
        self._log = directory / "crcache.log"
        self._prefix = prefix
        # The proxies of the machine's own environment are not for these tests.
        self._environment = {
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            **({} if runtime is None else {"RUNTIME_DIRECTORY": str(runtime)}),
        }
        self._process = self._begin()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def said(self) -> str:
        """What it has logged so far."""
        return self._process.said()

    def stop(self) -> None:
        """End it as systemd would. Idempotent."""
        self._process.stop()

    def kill(self) -> None:
        """End it as a crash would. Idempotent."""
        self._process.kill()

    def restart(self) -> None:
        """Begin it again, with the same ports and the same cache directory, after L{stop} or L{kill}."""
        self._process = self._begin()

    def metrics(self, name: str, **labels: str) -> float:
        """The sum of that metric's samples that carry all of these labels; 0 if there is none."""
        return sum(
            float(value)
            for found, text, value in _SAMPLE.findall(self.admin("/metrics"))
            if found == name and all(f'{label}="{wanted}"' in text.split(",") for label, wanted in labels.items())
        )

    def admin(self, path: str) -> str:
        """The body of an answer of the admin listener's."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def _begin(self) -> Process:
        process = Process(
            [*twistd(), "-n", "--pidfile=", "crcache", "--config", str(self._configuration)],
            self._log,
            environment=self._environment,
            directory=ROOT,
            prefix=self._prefix,
        )
        process.listens(self.port)
        process.listens(self.admin_port)
        return process
