"""The two kinds of listeners kept apart, and the operators' own, in a whole daemon."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twisted.internet.threads import deferToThread

from crcache.options import Options
from crcache.testing.content import noise
from tests.clients.case import MANIFEST_TYPES, REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import request, send

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("/metrics", "/healthz", "/readyz", "/api/status", "/")
DATA = noise(100_000)


class ApartTests(ClientCase):
    """What is answered where."""

    async def test_pages(self) -> None:
        """No page of the operators' is there for clients."""
        for path in PAGES:
            for method in ("GET", "HEAD", "POST"):
                answer = await self.ask(path, method=method)
                self.assertGreaterEqual(answer.status, 400, path)
                self.assertNotIn(b"crcache_", answer.raw, path)

    async def test_registry(self) -> None:
        """Nothing of a registry is there for operators; nothing is asked of one."""
        image = self.origin.add_image(REPO, "1.0", [DATA])
        for path in ("/v2/", "/v2", manifest_path("1.0"), blob_path(image.layers[0])):
            answer = await (await send(self.cache.admin_port, request(path))).end()
            self.assertEqual(answer.status, 404, path)
        self.assertEqual(self.origin.requests, [])

    async def test_odd_clients(self) -> None:
        """Whatever clients ask for and however, metrics name no registry but those that are configured."""
        for number in range(30):
            await self.ask(f"/v2/a/blobs/x{number}?ns=r{number}.invalid", method=f"ODD{number}")
            await self.ask(f"/v2/r{number}.invalid/a/manifests/b", ("User-Agent", f"odd/{number}"), method="HEAD")
        text = (await self.admin("/metrics")).body.decode()
        self.assertNotIn(".invalid", text)
        self.assertNotIn("ODD", text)
        self.assertLess(text.count("\ncrcache_requests_total{"), 12)

    async def test_cache_bytes(self) -> None:
        """The cache's bytes are known soon after the start, and grow with what is fetched; the status has them."""
        image = self.origin.add_image(REPO, "1.0", [DATA])
        await self.metric_becomes(0.0, "crcache_cache_bytes")
        await self.ask(manifest_path("1.0"), ("Accept", ", ".join(MANIFEST_TYPES)))
        await self.ask(blob_path(image.layers[0]))
        held = float(len(DATA) + len(image.manifest))
        await self.metric_becomes(held, "crcache_cache_bytes")
        self.assertGreater(await self.metric("crcache_cache_max_bytes"), held)
        status = json.loads((await self.admin("/api/status")).body)
        self.assertEqual((status["cache_bytes"], status["draining"], status["waiting_for"]), (int(held), False, None))
        self.assertGreater(status["cache_max_bytes"], held)
        self.assertRegex(status["configured_since"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\Z")

    def test_loopback(self) -> None:
        """Unless something else is said, operators are listened to on the loopback interface alone."""
        options = Options()
        options.parseOptions([])
        self.assertEqual(options.config.admin, "tcp:3001:interface=127.0.0.1")


class SocketTests(ClientCase):
    """The operators' listener as a UNIX socket, of a process that is killed."""

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory_ = Path(temporary.name)
        self.socket = self.directory_ / "admin.sock"

    def start(self, more: str = "") -> subprocess.Popen[bytes]:
        """A daemon; it has answered on its socket."""
        script = "from twisted.scripts.twistd import run; run()"
        command = [sys.executable, "-c", script, "-n", "--pidfile=", "crcache"]
        command += ["--listen", "tcp:0:interface=127.0.0.1", "--cache-dir", str(self.directory_ / "cache")]
        command += ["--admin", f"unix:{self.socket}{more}"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        with open(self.directory_ / "log", "ab") as log:
            process = subprocess.Popen(command, cwd=self.directory_, env=environ, stdout=log, stderr=log)
        self.addCleanup(_end, process)
        deadline = time.monotonic() + 20
        while b" 200 " not in self.ask_socket():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.directory_ / "log").read_text())
            time.sleep(0.05)
        return process

    def ask_socket(self) -> bytes:
        """What the socket says of readiness; nothing if nobody listens."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(self.socket))
                client.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b"".join(iter(lambda: client.recv(4096), b""))
            except OSError:
                return b""

    def _killed(self) -> None:
        process = self.start()
        mode = self.socket.stat().st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o660)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertTrue(self.socket.exists())
        again = self.start(":mode=600")
        self.assertEqual(stat.S_IMODE(self.socket.stat().st_mode), 0o600)
        again.send_signal(signal.SIGTERM)
        # Newer releases of Twisted end with the signal that they were sent.
        self.assertIn(again.wait(15), (0, -signal.SIGTERM))
        self.assertFalse(self.socket.exists())

    async def test_killed(self) -> None:
        """It is for owner and group, unless C{mode} says otherwise; one left by a killed process is no obstacle."""
        await deferToThread(self._killed)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
