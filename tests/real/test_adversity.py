"""A service with a wrong configuration, a stuck reactor, no cache directory, no network: what it does, and says."""

from __future__ import annotations

import time

from tests.real.booted import wait_active
from tests.real.hosted import NAME, Hosted
from tests.real.processes import until

_FILE = "/etc/crcache/crcache.yaml"


class AdversityTests(Hosted):
    """Each on a freshly booted system."""

    def status_line(self) -> str:
        """What it says of itself to systemd."""
        return self.system.property("crcache.service", "StatusText")

    def begun(self) -> str:
        """When it was started."""
        return self.system.property("crcache.service", "ExecMainStartTimestampMonotonic")

    def test_configuration(self) -> None:
        """A reload puts a changed configuration in force. With a mistake in it, file, line and key are said and the old
        one stays; then a start fails with one line, while the socket holds clients; mended, they are served.
        """
        self.started()
        self.configure(registries={"other.test": {"url": self.origin.url}})
        begun = self.begun()
        self.system.run("systemctl", "reload", "crcache.service")
        until("the new one", lambda: self.status(self.manifest().replace(NAME, "other.test")) == "200")
        self.configure()
        self.system.run("systemctl", "reload", "crcache.service")
        until("the old one", lambda: self.status(self.manifest()) == "200")

        good = self.system.run("cat", _FILE)
        self.system.write(_FILE, "cache:\n  tag-ttl: soon\n")
        self.system.run("systemctl", "reload", "crcache.service")
        until("a line about it", lambda: "stays in force" in self.system.journal("--unit=crcache"))
        (line,) = [line for line in self.system.journal("--unit=crcache").splitlines() if "stays in force" in line]
        self.assertIn(f"{_FILE}:2: cache.tag-ttl: ", line)
        self.assertEqual(self.status(self.manifest(1)), "200")
        self.assertEqual((self.begun(), self.system.says("systemctl", "is-active", "crcache")), (begun, "active"))

        cursor = self.system.run("journalctl", "--quiet", "--lines=0", "--show-cursor").strip().partition(": ")[2]
        self.assertIn("failed", self.system.says("systemctl", "restart", "crcache.service"))
        said = self.system.journal("--unit=crcache", f"--after-cursor={cursor}", "_COMM=twistd3")
        lines = {line for line in said.splitlines() if f"{_FILE}:2: " in line}
        self.assertEqual(len(lines), 1, said)
        self.assertNotIn("Traceback", said)
        self.assertEqual(self.system.says("systemctl", "is-active", "crcache.socket"), "active")
        client = self.system.begin(
            "curl",
            "--silent",
            "--max-time",
            "30",
            f"http://127.0.0.1:3000{self.manifest(2)}",
            log=self.directory / "held",
        )
        self.addCleanup(client.stop)
        self.system.write(_FILE, good)
        until("the client that was held is served", lambda: "schemaVersion" in client.said())
        self.no_tracebacks()

    def test_watchdog(self) -> None:
        """A process that stands still is killed after WatchdogSec=, and another one serves."""
        self.system.write("/etc/systemd/system/crcache.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
        self.system.run("systemctl", "daemon-reload")
        self.started()
        # It is fed: otherwise it would not live for so long.
        time.sleep(3)
        self.assertEqual(self.system.property("crcache.service", "NRestarts"), "0")
        self.system.run("systemctl", "kill", "--kill-who=main", "--signal=STOP", "crcache.service")
        until("another process", lambda: self.system.property("crcache.service", "NRestarts") == "1", 10)
        self.assertEqual(self.status(self.manifest()), "200")
        self.assertIn("Watchdog timeout", self.system.journal("--unit=crcache"))

    def test_missing_directory(self) -> None:
        """Without its directory it says that it waits, and for what; clients are sent on at once, and so they are when
        systemd has lost its patience and started it anew. When the directory is there it serves, by itself.
        """
        cache = "/srv/registry-cache/crcache"
        self.system.write(
            "/etc/systemd/system/crcache.service.d/disk.conf",
            # As in examples/bigger-disk.conf.
            f"[Service]\nCacheDirectory=\nReadWritePaths=-{cache}\nTimeoutStartSec=3s\n",
        )
        self.system.run("mkdir", "/srv/registry-cache")
        self.system.run("systemctl", "daemon-reload")
        self.configure(cache={"directory": cache})
        self.enable("crcache.socket")
        # The start itself does not come to an end, and whoever waits for it should not wait here.
        self.system.run("systemctl", "start", "--no-block", "crcache.service")
        until("it says so", lambda: "waiting" in self.status_line(), 10)
        self.assertIn(cache, self.status_line())
        begun = time.monotonic()
        answer = self.curl("--write-out", "\n%{http_code}", f"http://127.0.0.1:3000{self.manifest()}")
        self.assertLess(time.monotonic() - begun, 1)
        self.assertTrue(answer.endswith("503"), answer)
        self.assertEqual(self.status("/readyz", 3001), "503")
        until("another start", lambda: self.system.property("crcache.service", "NRestarts") != "0", 10)
        self.assertEqual(self.status(self.manifest()), "503")
        self.system.run("mount", "-t", "tmpfs", "tmpfs", "/srv/registry-cache")
        self.system.run("install", "-d", "-o", "crcache", "-g", "crcache", "-m", "0750", cache)
        wait_active(self.system, "crcache.service")
        self.assertEqual(self.status("/readyz", 3001), "200")
        self.assertEqual(self.status(self.manifest()), "200")
        self.system.run("test", "-s", f"{cache}/VERSION")
        self.no_tracebacks()

    def test_no_network(self) -> None:
        """It starts without any network, not even loopback; content that is there is served once loopback is."""
        self.started()
        self.assertEqual(self.status(self.manifest()), "200")
        self.system.run("systemctl", "stop", "crcache.service", "crcache.socket")
        self.system.run("ip", "link", "set", "lo", "down")
        self.enable("crcache.socket", "crcache.service")
        wait_active(self.system, "crcache.service")
        self.origin.stop()
        self.system.run("ip", "link", "set", "lo", "up")
        self.assertEqual(self.status(self.manifest()), "200")
        self.no_tracebacks()

    def test_no_ipv4(self) -> None:
        """Where all addresses are of IPv6, they are served, once the admin listener is told to be on one of them."""
        self.configure(admin=r"tcp:3001:interface=\:\:1")
        self.system.run("ip", "address", "del", "127.0.0.1/8", "dev", "lo")
        self.started()
        answer = self.curl("--write-out", "%{http_code}", "http://[::1]:3000/v2/")
        self.assertEqual(answer, "{}200")
        self.assertIn("ready", self.curl("http://[::1]:3001/readyz"))
        self.no_tracebacks()
