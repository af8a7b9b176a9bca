"""Keeps a daemon running as systemd does: holds its socket, and starts it again whenever it is gone."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.images import NAME
from tests.real.daemon import ROOT, twistd
from tests.real.processes import program

#: Quick to give up on what hangs, so that a short run sees a lot; of all else the defaults.
SETTINGS = {
    "cache": {"tag-ttl": "2s"},
    "upstream": {"connect-timeout": "2s", "first-byte-timeout": "9s", "stall-timeout": "1s"},
    "admin": "off",
    "log-format": "json",
}
#: Of the line that says a daemon is ready.
_READY = "87584ac5e7cb41439dbd7dc653be2708"
#: The descriptor at which the daemon finds its socket (sd_listen_fds(3)).
_SHELL = 'exec 3<&"$0"; LISTEN_PID=$$; export LISTEN_PID; exec "$@"'


class Supervisor:
    """One daemon after another on one socket and one cache directory.

    @ivar port: of 127.0.0.1.
    @ivar cache: the cache directory.
    @ivar log: a JSON object a line, of all daemons.
    @ivar kills: when they were killed, in seconds of the monotonic clock, from the signal to the process's end.
    @ivar ended: exit statuses of those that ended by themselves.
    """

    def __init__(self, directory: Path, urls: Sequence[str]) -> None:
        """
        @param directory: for all of its files.
        @param urls: the registry's.
        """
        self.cache = directory / "cache"
        self.log = directory / "crcache.log"
        self.kills: list[tuple[float, float]] = []
        self.ended: list[int] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._configuration = directory / "crcache.yaml"
        settings = {**SETTINGS, "registries": {NAME: {"url": list(urls), "trusted-hosts": ["127.0.0.1"]}}}
        settings["cache"] = {**SETTINGS["cache"], "directory": str(self.cache)}  # type: ignore[dict-item]
        # JSON is YAML.
        self._configuration.write_text(json.dumps(settings))
        self._lock = threading.Lock()
        self._child = self._begin()

    def killed(self, since: float) -> bool:
        """Whether it was killed after that time of the monotonic clock."""
        return any(end >= since for _, end in tuple(self.kills))

    def kill(self) -> None:
        """Kill it as a crash would, and start another."""
        with self._lock:
            self.kills.append((time.monotonic(), float("inf")))
            self._child.kill()
            self._child.wait()
            self.kills[-1] = (self.kills[-1][0], time.monotonic())
            self._child = self._begin()

    def look(self) -> None:
        """Start another if it has ended by itself, which it must not."""
        with self._lock:
            if self._child.poll() is not None:
                self.ended.append(self._child.returncode)
                self._child = self._begin()

    def starts(self) -> int:
        """How often one has become ready."""
        return self.log.read_text(errors="replace").count(_READY)

    def stop(self) -> None:
        """End it politely, and close the socket. Idempotent."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(30)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._socket.close()

    def _begin(self) -> subprocess.Popen[bytes]:
        descriptor = self._socket.fileno()
        words = [program("setpriv"), "--pdeathsig", "KILL", "sh", "-c", _SHELL, str(descriptor)]
        words += [*twistd(), "-n", "--pidfile=", "crcache", "--config", str(self._configuration)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "crcache"}
        with self.log.open("ab") as output:
            return subprocess.Popen(
                words,
                env=environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(descriptor,),
            )


class Vanisher:
    """Removes files below a cache directory, as anybody may at any time.

    @ivar count: how many.
    """

    def __init__(self, cache: Path, chance: random.Random) -> None:
        self._cache = cache
        self._chance = chance
        self.count = 0

    def one(self) -> None:
        """Remove any one file, if there is one."""
        room = self._chance.choice(("blobs", "blobs", "registries", "ingest"))
        found = sorted(self._files(room))
        if found:
            self._remove(self._chance.choice(found))

    def every(self) -> None:
        """Remove all content, as C{find -delete} does."""
        for path in self._files("blobs"):
            self._remove(path)

    def _files(self, room: str) -> list[Path]:
        # Directories may vanish under the walk.
        return [Path(parent, name) for parent, _, names in os.walk(self._cache / room) for name in names]

    def _remove(self, path: Path) -> None:
        try:
            path.unlink()
        except OSError:
            return
        self.count += 1
