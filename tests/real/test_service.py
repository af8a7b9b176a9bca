"""crcache is restarted, killed and upgraded while sixteen clients pull through it, and none of them notices."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

from tests.real.booted import wait_active
from tests.real.containerd import Containerd
from tests.real.debs import deb
from tests.real.hosted import DRAIN, MIRROR, NAME, ORIGIN, START, Hosted
from tests.real.processes import until
from tests.real.puller import Load

#: How often each is done; CRCACHE_FULL=1 in the environment: often.
TIMES = 8 if os.environ.get("CRCACHE_FULL") else 2
HIGHER = "99.1"


class UnderLoadTests(Hosted):
    """One socket, one service."""

    def settled(self, load: Load, longest: float) -> None:
        """End the load. No pull has failed, the mirror has answered every request, and none had to wait for longer."""
        load.pulls(32)
        load.finish()
        self.assertEqual(load.told("failed"), [])
        self.assertEqual(load.told("refused"), [])
        self.assertLess(max(pull["longest"] for pull in load.told("pulled")), longest)
        self.no_tracebacks()

    def test_restart(self) -> None:
        """`systemctl restart` fails no pull and refuses no connection; nobody waits for longer than drain and start.
        Bodies that take longer than the drain are cut, and resumed.
        """
        self.started()
        load = self.load()
        for _ in range(TIMES):
            load.wait_slow(DRAIN + 1)
            before = len(load.told("cut"))
            self.system.run("systemctl", "restart", "crcache.service")
            load.pulls(16)
            self.assertGreater(len(load.told("cut")), before)
        self.settled(load, DRAIN + START)

    def test_killed(self) -> None:
        """A service that is killed comes back; no connection is refused, no pull fails. Only requests that it had begun
        to read, and not begun to answer, are asked elsewhere.
        """
        self.started()
        load = self.load()
        moments = []
        for number in range(TIMES):
            load.wait_slow(DRAIN + 1)
            moments.append(time.monotonic())
            self.system.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "crcache.service")
            self.restarted(number + 1)
            load.pulls(16)
        load.pulls(32)
        load.finish()
        self.assertEqual(load.told("failed"), [])
        self.assertTrue(load.told("cut"))
        self.assertLess(max(pull["longest"] for pull in load.told("pulled")), START)
        for refusal in load.told("refused"):
            self.assertNotIn("Refused", refusal["problem"])
            self.assertTrue(any(0 <= refusal["at"] - moment < 1 for moment in moments), refusal)

    def test_upgrade(self) -> None:
        """So it is when the package is replaced by one of a higher version; the new one runs then, and the
        administrator's configuration is as it was.
        """
        self.started()
        self.system.copy(deb(HIGHER), "/tmp/higher.deb")
        mine = self.system.run("cat", "/etc/crcache/crcache.yaml")
        load = self.load()
        self.system.run("dpkg", "--force-confold", "--install", "/tmp/higher.deb", seconds=120)
        wait_active(self.system, "crcache.service")
        self.settled(load, DRAIN + START)
        self.assertTrue(load.told("cut"))
        self.assertIn(f"Server: crcache/{HIGHER}", self.curl("--head", "http://127.0.0.1:3000/v2/"))
        self.assertEqual(self.system.run("cat", "/etc/crcache/crcache.yaml"), mine)

    def test_containerd(self) -> None:
        """containerd itself, in the middle of a cold layer that takes longer than the drain, gets all of it."""
        self.started()
        containerd = self.ending(Containerd(self.place("containerd"), self.system.inside))
        containerd.mirror(NAME, f"http://127.0.0.1:{ORIGIN}", f"http://127.0.0.1:{MIRROR}")
        repository, image = self.large[0]
        with ThreadPoolExecutor(1) as threads:
            pulling = threads.submit(containerd.pull, f"{NAME}/{repository}:{image.tag}", "--snapshotter", "native")
            until("the layer is on its way", lambda: self.gauge("crcache_fills") > 0)
            self.system.run("systemctl", "restart", "crcache.service")
            pulling.result(60)
        self.assertEqual(containerd.damaged(), [])
        self.assertEqual(containerd.digests(), image.digests)
        # It has not gone to the origin itself, with which this would prove nothing.
        asked = {entry.agent.partition("/")[0] for entry in self.origin.served()}
        self.assertEqual(asked, {"crcache"})
        self.no_tracebacks()

    def restarted(self, times: int) -> None:
        """Wait until systemd has started it anew so many times."""
        until("restart", lambda: self.system.property("crcache", "NRestarts") == str(times))
        wait_active(self.system, "crcache.service")

    def gauge(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = self.curl("http://127.0.0.1:3001/metrics").splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


class RollingTests(Hosted):
    """Two services on one socket."""

    def test_rolling(self) -> None:
        """They are restarted one after another, and nobody waits for either's drain, or start; so it is by an upgrade.
        One whose first process does not start leaves the second as it was.
        """
        example = "/usr/share/doc/crcache/examples/several-processes.conf"
        there = self.system.says("cat", example)
        self.system.write("/etc/systemd/system/crcache.socket.d/several.conf", there)
        self.system.run("systemctl", "daemon-reload")
        units = ["crcache@1.service", "crcache@2.service"]
        self.enable("crcache.socket", *units)
        load = self.load()
        for unit in units * (TIMES // 2):
            load.wait_slow(DRAIN + 1)
            self.system.run("systemctl", "restart", unit)
            load.pulls(16)
        before = [self.system.property(unit, "MainPID") for unit in units]
        self.upgrade()
        upgraded = [self.system.property(unit, "MainPID") for unit in units]
        self.assertEqual({*before} & {*upgraded}, set())
        load.pulls(16)
        load.finish()
        self.assertEqual(load.told("failed", "refused"), [])
        self.assertTrue(load.told("cut"))
        self.assertLess(max(pull["longest"] for pull in load.told("pulled")), DRAIN)
        self.assertEqual(self.system.says("systemctl", "is-active", "crcache.service"), "inactive")
        for number in (1, 2):
            socket = f"/run/crcache/admin-{number}.sock"
            self.assertIn("ok", self.curl("--unix-socket", socket, "http://localhost/healthz"))
        self.system.write("/etc/crcache/crcache.yaml", "cach: {}\n")
        self.upgrade()
        self.assertNotEqual(self.system.property(units[0], "MainPID"), upgraded[0])
        self.assertEqual(self.system.property(units[1], "MainPID"), upgraded[1])
        self.assertIn(f"Server: crcache/{HIGHER}", self.curl("--head", "http://127.0.0.1:3000/v2/"))
        self.no_tracebacks()

    def upgrade(self) -> None:
        """Install the higher version, or that again."""
        self.system.copy(deb(HIGHER), "/tmp/higher.deb")
        self.system.run("dpkg", "--force-confold", "--install", "/tmp/higher.deb", seconds=120)
