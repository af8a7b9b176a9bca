"""Little memory, really enforced: what many clients of one large cold layer need of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.real.images import MIB
from tests.real.memorygroup import MemoryGroup
from tests.real.processes import program
from tests.real.scene import CURL, Scene
from tests.real.statics import StaticOrigin

LIMIT = 96 * MIB
CLIENTS = 8
#: A layer of 2 GiB takes half a minute: with CRCACHE_FULL=1 in the environment.
LAYER = 2048 * MIB if os.environ.get("CRCACHE_FULL") else 256 * MIB


class MemoryTests(Scene):
    """In a control group of 96 MiB, the page cache of what the daemon writes included."""

    def layer(self) -> tuple[Path, str]:
        """Random bytes on the disk, and their digest."""
        file = self.directory / "layer"
        hashed = hashlib.sha256()
        with file.open("wb") as output:
            for _ in range(LAYER // MIB):
                piece = os.urandom(MIB)
                hashed.update(piece)
                output.write(piece)
        return file, f"sha256:{hashed.hexdigest()}"

    def test_enforced(self) -> None:
        """The limit is a real one: a process that wants more is killed, and counted."""
        group = self.ending(MemoryGroup(LIMIT))
        greedy = ["-c", f"print(len(b'x' * {LIMIT + 32 * MIB}))"]
        done = subprocess.run([*group.prefix, sys.executable, *greedy], capture_output=True, check=False, timeout=60)
        self.assertEqual((done.returncode, done.stdout, group.kills()), (-9, b"", 1))

    def test_cold_layer(self) -> None:
        """Eight clients at once get all of a cold layer, many times as large as the memory; nothing is killed."""
        file, digest = self.layer()
        origin = self.ending(StaticOrigin(self.directory / "origin"))
        path = origin.publish_blob(file, "team/large", digest)
        origin.start()
        group = self.ending(MemoryGroup(LIMIT))
        registry = origin.url.removeprefix("http://")
        daemon = self.crcache(self.directory / "crcache", {registry: {"url": origin.url}}, prefix=group.prefix)

        url = f"{daemon.url}{path}?ns={registry}"
        command = f'{program("curl")} "$@" | sha256sum'
        flags = [*CURL[1:], "--fail", "--max-time", "500", url]
        clients = [
            subprocess.Popen(["sh", "-c", command, "sh", *flags], stdout=subprocess.PIPE, text=True)
            for _ in range(CLIENTS)
        ]
        anonymous = 0
        while any(client.poll() is None for client in clients):
            anonymous = max(anonymous, group.anonymous())
            time.sleep(0.2)
        got = [f"sha256:{client.communicate()[0].split()[0]}" for client in clients]

        self.assertEqual(got, [digest] * CLIENTS)
        self.assertEqual((group.kills(), origin.sent(digest)), (0, LAYER))
        daemon.admin("/healthz")
        # It was short of memory indeed, but of what can be had again: pages of the file that it writes.
        self.assertGreater(group.refusals(), 0)
        self.assertLess(anonymous, LIMIT * 3 // 4)
        self.assertEqual(daemon.metrics("crcache_upstream_resumes_total"), 0)
        print(f"peak {group.peak() // MIB} MiB, anonymous {anonymous // MIB} MiB, refusals {group.refusals()}")
