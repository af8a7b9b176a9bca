"""Clients that pull as containerd does, all at once and without pause, and tell of everything that goes wrong.

    python -m tests.real.puller PLAN.json

One JSON object a line goes to standard output for each pull, and for whatever happens to one. L{Load} runs it.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.real.daemon import ROOT
from tests.real.images import Image
from tests.real.processes import Process

#: How often containerd reopens a body that brings nothing more.
TRIES = 3
#: Seconds without an answer after which a pull is given up.
PATIENCE = 60.0
_PIECE = 1 << 16
_STEP = 4 << 20
_ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*"


class Load:
    """So many clients, from now until L{finish}.

    @ivar begun: the time on the monotonic clock, which all that is told is measured by.
    """

    def __init__(
        self,
        directory: Path,
        mirror: int,
        origin: int,
        images: Sequence[tuple[str, Image]],
        slow: Sequence[tuple[str, Image]] = (),
        *,
        clients: int = 16,
        slow_clients: int = 4,
        rate: int = 8 << 20,
        prefix: Sequence[str] = (),
    ) -> None:
        """
        @param mirror: a port of 127.0.0.1; so is C{origin}, where that is gone to whatever the mirror refuses.
        @param images: with their repositories; pulled at full speed.
        @param slow: pulled by C{slow_clients} of the clients, which take C{rate} bytes a second of each body.
        """
        plan = {
            "mirror": mirror,
            "origin": origin,
            "fast": [[repository, image.tag] for repository, image in images],
            "slow": [[repository, image.tag] for repository, image in slow],
            "clients": clients,
            "slow_clients": slow_clients if slow else 0,
            "rate": rate,
        }
        file = directory / "plan.json"
        file.write_text(json.dumps(plan))
        self.begun = time.monotonic()
        self._process = Process(
            [sys.executable, "-u", "-m", "tests.real.puller", str(file)],
            directory / "puller.log",
            directory=ROOT,
            prefix=prefix,
        )

    def told(self, *kinds: str) -> list[dict[str, Any]]:
        """What has been told so far, of these kinds."""
        lines = [line for line in self._process.said().splitlines(keepends=True) if line.endswith("\n")]
        return [event for event in map(json.loads, lines) if event["what"] in kinds]

    def pulls(self, count: int, seconds: float = 30.0) -> None:
        """Wait for so many more pulls."""
        before = len(self.told("pulled"))
        self._process.ready(f"{count} pulls", lambda: len(self.told("pulled")) >= before + count, seconds)

    def wait_slow(self, seconds: float) -> None:
        """Wait until a slow client has begun a body that takes so many seconds more."""
        since = time.monotonic()

        def one() -> bool:
            return any(event["at"] > since and event["left"] > seconds for event in self.told("slow"))

        self._process.ready("a slow body", one)

    def finish(self) -> None:
        """Let every client end the pull it is at, and stop."""
        os.kill(self._process.pid, signal.SIGUSR1)
        self._process.ready("the last pulls", lambda: bool(self.told("over")), 60)

    def stop(self) -> None:
        """End it at once. Idempotent."""
        self._process.kill()


class Failed(Exception):
    """This pull fails."""


class Client(threading.Thread):
    """One client, with a connection to each host that it keeps."""

    def __init__(self, plan: dict[str, Any], number: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.slow = number < plan["slow_clients"]
        self._rate = plan["rate"] if self.slow else 0
        images = plan["slow" if self.slow else "fast"]
        # Each begins elsewhere: some content is asked for by many, some by one.
        begin = number * len(images) // plan["clients"]
        self._images = itertools.cycle(images[begin:] + images[:begin])
        self._ports = [plan["mirror"], plan["origin"]]
        self._kept: dict[int, http.client.HTTPConnection] = {}
        self._over = over
        self._random = random.Random(number)

    def run(self) -> None:
        """Pull one image after another."""
        for repository, tag in self._images:
            if self._over.is_set():
                return
            self._longest = 0.0
            begun = time.monotonic()
            try:
                self._pull(repository, tag)
            except Exception as error:
                self._drop()
                self._tell("failed", problem=repr(error), repository=repository, tag=tag)
            else:
                self._tell("pulled", longest=self._longest, seconds=time.monotonic() - begun)
            # Some requests come on a kept connection at once, some after a moment, some on a new one.
            self._over.wait(self._random.choice((0, 0, 0.02, 0.2)))
            if self._random.random() < 0.2:
                self._drop()

    def _pull(self, repository: str, tag: str) -> None:
        base = f"/v2/{repository}"
        head = self._ask("HEAD", f"{base}/manifests/{tag}", {"Accept": _ACCEPT})
        head.read()
        digest = head.headers["Docker-Content-Digest"]
        body = self._fetch(f"{base}/manifests/{digest}", digest, int(head.headers["Content-Length"]), keep=True)
        manifest = json.loads(body)
        for part in (manifest["config"], *manifest["layers"]):
            self._fetch(f"{base}/blobs/{part['digest']}", part["digest"], part["size"])

    def _fetch(self, path: str, digest: str, size: int, keep: bool = False) -> bytes:
        """A body, reopened where it broke off."""
        hasher, body, have, fruitless = hashlib.sha256(), b"", 0, 0
        while have < size:
            before = have
            answer = self._ask("GET", path, {"Range": f"bytes={have}-"} if have else {})
            if have and (answer.status != 206 or not str(answer.headers["Content-Range"]).startswith(f"bytes {have}-")):
                raise Failed(f"{path}: no continuation at {have}: {answer.status} {answer.headers['Content-Range']}")
            while have < size:
                begun = time.monotonic()
                try:
                    piece = answer.read(min(_PIECE, size - have))
                except OSError as error:
                    # containerd resumes what ends, not what is reset.
                    raise Failed(f"{path}: {error!r} at {have} of {size}") from error
                if not piece:
                    break
                hasher.update(piece)
                body += piece if keep else b""
                have += len(piece)
                if self._rate and size > 1 << 20:
                    time.sleep(max(0.0, len(piece) / self._rate - (time.monotonic() - begun)))
                    if have // _STEP > (have - len(piece)) // _STEP:
                        self._tell("slow", left=(size - have) / self._rate)
            if have < size:
                self._drop()
                self._tell("cut", path=path, have=have, size=size)
                fruitless = 0 if have > before else fruitless + 1
                if fruitless >= TRIES:
                    raise Failed(f"{path}: cut short at {have} of {size}, and {TRIES} times more")
            else:
                answer.read()
        if f"sha256:{hasher.hexdigest()}" != digest:
            raise Failed(f"{path}: other bytes")
        return body

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """An answer with a good status, of the mirror or else of the origin."""
        for port in self._ports:
            target = path + ("?ns=registry.test" if port == self._ports[0] else "")
            begun = time.monotonic()
            try:
                answer = self._answer(port, method, target, headers)
                problem = "" if answer.status in (200, 206) else f"status {answer.status}"
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
            waited = time.monotonic() - begun
            self._longest = max(self._longest, waited)
            if not problem:
                return answer
            self._drop()
            self._tell("refused", problem=problem, port=port, method=method, path=path, waited=waited)
        raise Failed(f"{method} {path}: nobody answers well: {problem}")

    def _answer(self, port: int, method: str, target: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        while True:
            connection = self._kept.get(port)
            reused = connection is not None
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
                connection.connect()
                if self._rate:
                    # So that little is on the way: what the kernel holds does not count as received.
                    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
                self._kept[port] = connection
            try:
                connection.request(method, target, headers=headers)
                answer = connection.getresponse()
            except (ConnectionError, http.client.BadStatusLine) as error:
                self._drop()
                if not reused:
                    raise
                # As Go does for a kept connection that ends before the first byte of an answer.
                self._tell("again", problem=repr(error))
                continue
            if answer.will_close:
                del self._kept[port]
            return answer

    def _drop(self) -> None:
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    def _tell(self, what: str, **about: Any) -> None:
        line = json.dumps({"what": what, "at": time.monotonic(), "client": self.number, **about})
        sys.stdout.write(line + "\n")


def main(plan: dict[str, Any]) -> None:
    """Run the clients until SIGUSR1."""
    over = threading.Event()
    signal.signal(signal.SIGUSR1, lambda number, frame: over.set())
    clients = [Client(plan, number, over) for number in range(plan["clients"])]
    for client in clients:
        client.start()
    for client in clients:
        while client.is_alive():
            client.join(0.2)
    sys.stdout.write(json.dumps({"what": "over", "at": time.monotonic()}) + "\n")
    # Whoever began this ends it; by itself it would be a failure.
    signal.pause()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
