"""crcache is handed its sockets, as systemd does it, and tells systemd how it does."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.real.daemon import ROOT, twistd
from tests.real.processes import Process, free_port, program, until
from tests.real.scene import CURL, Scene

#: Where Debian keeps python3-systemd, which cannot be had otherwise without its compiler and headers.
LIBRARY = Path("/usr/lib/python3/dist-packages/systemd")


class Manager:
    """Who listens to what a service says of itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.told: list[str] = []

    def hears(self, line: str) -> bool:
        """Whether that line has been said by now."""
        try:
            while True:
                self.told.extend(self._socket.recv(65536).decode().splitlines())
        except BlockingIOError:
            return any(each.startswith(line) for each in self.told)

    def stop(self) -> None:
        """Hear no more."""
        self._socket.close()


class ActivationTests(Scene):
    """C{systemd-socket-activate} opens the sockets and becomes the daemon with the first connection."""

    def setUp(self) -> None:
        super().setUp()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v2/"

    def activated(self, sockets: list[str], *flags: str, **environ: str) -> Process:
        """The daemon with these sockets. Nothing but C{flags} is configured."""
        libraries = self.place("library")
        (libraries / "systemd").symlink_to(LIBRARY)
        variables = {"PYTHONPATH": f"{ROOT}:{libraries}", "PATH": os.environ["PATH"], "HOME": str(self.directory)}
        words = [program("systemd-socket-activate")]
        words += [word for each in sockets for word in ("--listen", each)]
        # Named, as systemd itself does it: Twisted's own C{systemd:} endpoints find no others.
        words.append("--fdname=" + ":".join(["crcache"] * len(sockets)))
        words += [word for pair in {**variables, **environ}.items() for word in ("--setenv", "=".join(pair))]
        flags = ("--cache-dir", str(self.directory / "cache"), "--admin", "off", *flags)
        command = [*words, "--", *twistd(), "-n", "--pidfile=", "crcache", *flags]
        process = Process(command, self.directory / "log", directory=ROOT)
        self.addCleanup(process.stop)
        process.ready("its sockets", lambda: process.said().count("Listening on") == len(sockets))
        return process

    def ping(self, url: str, *flags: str) -> str:
        """The status of an answer to C{/v2/}."""
        command = [program("curl"), *CURL[1:], "--globoff", "--output", os.devnull, "--write-out", "%{http_code}"]
        return subprocess.run([*command, *flags, url], stdout=subprocess.PIPE, text=True, check=False).stdout

    def test_both_families(self) -> None:
        """A socket on all addresses is served to IPv4 and IPv6, with nothing configured, and nothing else is."""
        process = self.activated([f"[::]:{self.port}"])
        self.assertEqual(self.ping(self.url), "200")
        self.assertEqual(self.ping(f"http://[::1]:{self.port}/v2/"), "200")
        self.assertIn(f"is ready on [::]:{self.port}\n", process.said())
        process.stop()
        self.assertNotIn("Traceback", process.said())

    def test_beside(self) -> None:
        """One on an address of IPv4, and a UNIX socket beside it, which is still there after the end."""
        path = self.directory / "crcache.sock"
        process = self.activated([f"127.0.0.1:{self.port}", str(path)])
        self.assertEqual(self.ping(self.url), "200")
        mode = stat.S_IMODE(path.stat().st_mode)
        self.assertEqual(self.ping("http://localhost/v2/", "--unix-socket", str(path)), "200")
        process.stop()
        self.assertTrue(path.exists())
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), mode)

    def test_named_in_the_configuration(self) -> None:
        """A C{systemd:} endpoint in the file still names one of them, which alone is served."""
        config = self.directory / "crcache.yaml"
        config.write_text("listen: systemd:domain=INET:index=0\n")
        process = self.activated([f"127.0.0.1:{self.port}"], "--config", str(config))
        self.assertEqual(self.ping(self.url), "200")
        self.assertEqual(process.said().count(f"127.0.0.1:{self.port}\n"), 1, process.said())

    def test_flags_win(self) -> None:
        """Flags say where to listen: then the sockets are left alone, and that is said."""
        other = free_port()
        process = self.activated([f"127.0.0.1:{self.port}"], "--listen", f"tcp:{other}:interface=127.0.0.1")
        with socket.create_connection(("127.0.0.1", self.port)):
            process.listens(other)
        self.assertEqual(self.ping(f"http://127.0.0.1:{other}/v2/"), "200")
        self.assertIn("the sockets that systemd opened are not served", process.said())

    def test_tells(self) -> None:
        """systemd hears that it is ready, what it does, that it lives, that it reloads and that it stops."""
        self.assertEqual(sysconfig.get_python_version(), "3.11", f"{LIBRARY} is for Debian's own Python")
        manager = self.ending(Manager(self.directory / "notify"))
        process = self.activated([f"127.0.0.1:{self.port}"], NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="1000000")
        self.assertEqual(self.ping(self.url), "200")
        for line in ("READY=1", f"STATUS=serving on 127.0.0.1:{self.port}; 0 fills, ", "WATCHDOG=1"):
            until(line, lambda line=line: manager.hears(line))  # type: ignore[misc]
        manager.told.clear()
        os.kill(process.pid, 1)
        until("the end of a reload", lambda: manager.hears("RELOADING=1") and manager.hears("READY=1"))
        self.assertTrue(manager.hears("MONOTONIC_USEC="))
        process.stop()
        self.assertTrue(manager.hears("STOPPING=1"))
        self.assertNotIn("Traceback", process.said())

    def test_stuck(self) -> None:
        """A process that does not come to run, as one whose reactor is stuck, does not feed the watchdog."""
        manager = self.ending(Manager(self.directory / "notify"))
        process = self.activated([f"127.0.0.1:{self.port}"], NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="200000")
        self.assertEqual(self.ping(self.url), "200")
        until("the watchdog is fed", lambda: manager.hears("WATCHDOG=1"))
        os.kill(process.pid, 19)
        manager.hears("")
        manager.told.clear()
        with self.assertRaises(AssertionError):
            until("it is fed", lambda: manager.hears("WATCHDOG=1"), 1.0)
        os.kill(process.pid, 18)
        until("it is fed again", lambda: manager.hears("WATCHDOG=1"))

    def test_without_the_library(self) -> None:
        """Where python3-systemd is missing that is one line, and all else works."""
        manager = self.ending(Manager(self.directory / "notify"))
        process = self.activated([f"127.0.0.1:{self.port}"], NOTIFY_SOCKET=str(manager.path), PYTHONPATH=str(ROOT))
        if Path(sys.prefix) == Path("/usr"):
            raise AssertionError("run this in a virtual environment, which does not see Debian's packages")
        self.assertEqual(self.ping(self.url), "200")
        self.assertEqual(process.said().count("install python3-systemd"), 1)
        self.assertFalse(manager.hears(""))
