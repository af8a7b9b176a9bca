"""C{crcache status}."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from crcache import __version__
from crcache.commands import admin_client
from crcache.commands.admin_client import Address, address_of
from tests.commands.tree import TreeCase

METRICS = """# TYPE crcache_requests_total counter
crcache_requests_total{cache="hit",kind="blob",registry="other",status="200"} 30.0
crcache_requests_total{cache="miss",kind="blob",registry="other",status="200"} 10.0
crcache_requests_total{cache="none",kind="ping",registry="none",status="200"} 60.0
"""


def said(**more: Any) -> bytes:
    """A status."""
    counters = {"requests": 100, "sent_bytes": 5 << 20, "upstream_bytes": 1 << 20, "fills": 2}
    document = {
        "version": __version__,
        "pid": 7,
        "uptime_seconds": 7200.5,
        "cache_directory": "/srv/cache",
        "cache_bytes": 1 << 30,
        "cache_max_bytes": 4 << 30,
        "failing": [],
        "draining": False,
        "counters": counters,
    }
    return json.dumps({**document, **more}).encode()


def answer(body: bytes, status: str = "200 OK") -> bytes:
    """An HTTP answer."""
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status.encode(), len(body), body)


class StatusCase(TreeCase):
    """Listeners that say what they are told."""

    def setUp(self) -> None:
        """None is configured; the runtime directory is empty."""
        super().setUp()
        self.runtime = self.file.parent / "run"
        self.runtime.mkdir()
        self.patch(os, "environ", {**os.environ, "RUNTIME_DIRECTORY": str(self.runtime)})
        self.patch(admin_client, "PATIENCE", 0.3)
        self.file.write_text("admin: off\n")

    def serve(self, listener: socket.socket, handle: Callable[[socket.socket, str], object]) -> None:
        """Answer every connection to this socket by C{handle}, which is given the path that is asked for."""
        listener.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    handle(connection, connection.recv(4096).split()[1].decode())

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        self.addCleanup(listener.close)
        self.addCleanup(thread.join, 5)
        # A thread in accept(2) is woken by this, and not by close(2).
        self.addCleanup(listener.shutdown, socket.SHUT_RDWR)

    def instance(self, name: str, **more: Any) -> None:
        """A daemon that listens in the runtime directory."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.runtime / name))
        pages = {"/api/status": said(**more), "/metrics": METRICS.encode()}
        self.serve(listener, lambda connection, path: connection.sendall(answer(pages[path])))

    def tcp(self, handle: Callable[[socket.socket, str], object]) -> int:
        """Something that listens on a port, which is configured to be the admin listener's."""
        listener = socket.create_server(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        self.serve(listener, handle)
        self.file.write_text(f"admin: tcp:{port}:interface=127.0.0.1\n")
        return port


class SumTests(StatusCase):
    """What is shown of those that run."""

    def test_one(self) -> None:
        """The configured listener is asked, over TCP; C{--json} has these words."""
        pages = {"/api/status": said(), "/metrics": METRICS.encode()}
        port = self.tcp(lambda connection, path: connection.sendall(answer(pages[path])))
        found = self.json("status")
        counts = {
            "requests": 100,
            "hits": 30,
            "cacheable": 40,
            "sentBytes": 5 << 20,
            "upstreamBytes": 1 << 20,
            "fills": 2,
            "cacheBytes": 1 << 30,
            "cacheMaxBytes": 4 << 30,
        }
        daemon = {
            "address": f"127.0.0.1:{port}",
            "up": True,
            "version": __version__,
            "pid": 7,
            "uptime": 7200.5,
            "draining": False,
            "cacheDirectory": "/srv/cache",
            "failing": [],
            **counts,
        }
        total = {**counts, "hitRatio": 0.75}
        self.assertEqual(found, {"up": True, "daemons": [daemon], "total": total, "directory": None})

    def test_several(self) -> None:
        """Instances of the template unit are summed; a cache that they share counts once."""
        self.instance("admin-1.sock")
        self.instance("admin-2.sock", failing=[{"registry": "quay.io", "seconds": 300, "problem": "refused"}])
        self.instance("admin-3.sock", cache_directory="/srv/other", draining=True)
        (self.runtime / "admin-4.sock").write_bytes(b"no socket")
        found = self.json("status")["total"]
        self.assertEqual((found["requests"], found["hitRatio"], found["cacheBytes"]), (300, 0.75, 2 << 30))
        out = self.done("status")
        self.assertIn(f"unix:{self.runtime}/admin-2.sock: quay.io fails since 5m: refused\n", out)
        self.assertIn("requests:   300, 75.0 % of them hits\n", out)
        self.assertIn("up for 2h, draining, version", out)

    def test_some_down(self) -> None:
        """One that answers is enough for status 0; the others are said to be down."""
        self.instance("admin-1.sock")
        dead = socket.socket(socket.AF_UNIX)
        dead.bind(str(self.runtime / "admin-2.sock"))
        dead.close()
        out = self.done("status")
        self.assertIn("admin-2.sock: down (Connection refused)\n", out)

    def test_asked_for(self) -> None:
        """C{--admin} asks those that are said, and no others."""
        self.instance("admin-1.sock")
        self.instance("admin-2.sock")
        found = self.json("status", "--admin", f"unix:{self.runtime}/admin-2.sock:mode=660")
        self.assertEqual(len(found["daemons"]), 1)
        for wrong in ("tcp:x", "tcp:", "unix:", "tcp:99999"):
            self.assertEqual(self.run_main("status", "--admin", wrong)[0], 2, wrong)


class DownTests(StatusCase):
    """What is shown where none answers."""

    def down(self) -> tuple[dict[str, Any], str]:
        """What is told, as JSON and to people."""
        status, out, _ = self.run_main("status", "--json")
        self.assertEqual(status, 1)
        return json.loads(out), self.run_main("status")[1]

    def test_directory(self) -> None:
        """Without a daemon the directory is looked at."""
        self.tree.put(b"x" * 2048)
        found, out = self.down()
        self.assertEqual((found["up"], found["daemons"], found["total"]), (False, [], None))
        path = str(self.tree.layout.root)
        self.assertEqual(found["directory"], {"path": path, "problem": None, "files": 1, "bytes": 2048})
        self.assertIn(f"{path}: 1 files of content, 2.0 KiB\n", out)

    def test_no_directory(self) -> None:
        """One that is none, or another release's, is said to be."""
        self.tree.layout.version.write_text("7\n")
        self.assertIn("this release knows '1'", self.down()[0]["directory"]["problem"])
        self.tree.layout.version.unlink()
        self.assertEqual(self.down()[0]["directory"]["problem"], "there is no cache in it")

    def test_strangers(self) -> None:
        """Whatever else listens there is told from crcache, and takes two seconds at most."""

        def dribble(connection: socket.socket, path: str) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            for _ in range(20):
                connection.sendall(b" ")
                threading.Event().wait(0.1)

        flood = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (5 << 20)
        handlers: list[tuple[Callable[[socket.socket, str], object], str]] = [
            (lambda connection, path: connection.sendall(b"SSH-2.0-x\r\n"), "is not crcache"),
            (lambda connection, path: connection.sendall(answer(b"{}")), "is not crcache"),
            (lambda connection, path: connection.sendall(answer(b"[" * 100_000)), "is not crcache"),
            (lambda connection, path: connection.sendall(answer(said(), "404 Not Found")), "is not crcache"),
            (lambda connection, path: connection.sendall(flood), "is not crcache"),
            (lambda connection, path: None, ""),
            (dribble, "no answer within 0.3 s"),
        ]
        for handle, expected in handlers:
            self.tcp(handle)
            status, out, _ = self.run_main("status", "--json")
            (found,) = json.loads(out)["daemons"]
            self.assertEqual((status, found["up"]), (1, False))
            self.assertIn(expected, found["problem"])

    def test_lies(self) -> None:
        """Numbers that are none, and names that terminals would act upon, do no harm."""
        self.instance(
            "admin-1.sock",
            counters={"requests": "x", "fills": 1e400},
            version="\x1b[2J",
            failing=[7, {"registry": "\n"}],
        )
        found = self.json("status")
        self.assertEqual((found["total"]["requests"], found["daemons"][0]["version"]), (0, "'\\x1b[2J'"))
        self.assertNotIn("\x1b", self.done("status"))


class AddressTests(TreeCase):
    """L{address_of}."""

    def test_endpoints(self) -> None:
        """Endpoints mean where they can be reached from this host."""
        for endpoint, expected in (
            ("tcp:3001:interface=127.0.0.1", Address("127.0.0.1", 3001)),
            ("tcp:3001", Address("127.0.0.1", 3001)),
            ("tcp:3001:interface=0.0.0.0", Address("127.0.0.1", 3001)),
            ("tcp:port=3001:interface=10.0.0.1:backlog=5", Address("10.0.0.1", 3001)),
            ("tcp6:3001", Address("::1", 3001)),
            (r"tcp:3001:interface=\:\:1", Address("::1", 3001)),
            (r"tcp:3001:interface=\:\:", Address("::1", 3001)),
            ("unix:/run/crcache/admin.sock:mode=660", Address(path="/run/crcache/admin.sock")),
            ("systemd:domain=INET:index=0", None),
            ("tls:3001", None),
        ):
            self.assertEqual(address_of(endpoint), expected, endpoint)
        self.assertEqual(str(Address("::1", 3001)), "[::1]:3001")
