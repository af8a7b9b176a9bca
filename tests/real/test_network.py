"""crcache on hosts with less of a network than usual."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.real.daemon import ROOT, twistd
from tests.real.processes import Process, free_port, program
from tests.real.scene import CURL, Scene


class NetworkTests(Scene):
    """In a network namespace of its own, where nothing but what the test says is there."""

    def begun(self, prepare: str, *flags: str, user: tuple[str, ...] = ()) -> Process:
        """The daemon, once C{prepare} has been done to its network."""
        command = " ".join([*user, *twistd(), "-n", "--pidfile=", "crcache", "--cache-dir", "cache", *flags])
        process = Process(
            ["unshare", "--net", "--", "sh", "-c", f"{prepare}; exec {command}"],
            self.directory / "log",
            environment={"PYTHONPATH": str(ROOT)},
            directory=self.directory,
        )
        self.addCleanup(process.stop)
        return process

    def ping(self, process: Process, url: str) -> str:
        """The status of an answer, asked for in the daemon's own network."""
        curl = [program("curl"), *CURL[1:], "--globoff", "--output", os.devnull, "--write-out", "%{http_code}", url]
        command = [program("nsenter"), "--net", "--target", str(process.pid), "--", *curl]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout

    def test_ipv6_only(self) -> None:
        """On a host whose addresses are all IPv6's, C{--port} is served; so is the admin listener where it is put."""
        port, admin = free_port(), free_port()
        process = self.begun(
            "ip link set lo up; ip address del 127.0.0.1/8 dev lo",
            *("--port", str(port), "--admin", f"'tcp6:{admin}:interface=\\:\\:1'"),
        )
        process.listens(port)
        self.assertEqual(self.ping(process, f"http://[::1]:{port}/v2/"), "200")
        self.assertEqual(self.ping(process, f"http://[::1]:{admin}/readyz"), "200")
        self.assertIn(f"is ready on [::]:{port}, [::1]:{admin}\n", process.said())

    def test_ipv4_only(self) -> None:
        """On one where IPv6 is switched off, all of IPv4 is."""
        port = free_port()
        process = self.begun(
            "ip link set lo up; sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "--port", str(port), "--admin", "off"
        )
        process.listens(port)
        self.assertEqual(self.ping(process, f"http://127.0.0.1:{port}/v2/"), "200")

    def test_no_network(self) -> None:
        """With no network at all it starts with its defaults and is ready; what it does not have is a 5xx in time."""
        process = self.begun("ip link set lo up")
        process.listens(3000)
        process.listens(3001)
        self.assertEqual(self.ping(process, "http://127.0.0.1:3001/readyz"), "200")
        self.assertEqual(self.ping(process, "http://127.0.0.1:3000/v2/library/x/manifests/1?ns=docker.io"), "502")
        process.stop()
        self.assertNotIn("Traceback", process.said())

    def test_not_root(self) -> None:
        """It needs no privileges, and no home directory of its own making."""
        self.directory.chmod(0o777)
        user = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")
        process = self.begun("ip link set lo up", user=user)
        process.listens(3000)
        self.assertEqual(self.ping(process, "http://127.0.0.1:3000/v2/"), "200")
        self.assertEqual(Path(self.directory, "cache", "VERSION").stat().st_uid, 65534)
