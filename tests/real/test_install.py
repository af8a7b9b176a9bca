"""The package's whole life on a host: installed, enabled, pulled through, removed, installed again, purged."""

from __future__ import annotations

import hashlib
import json

from tests.real.booted import Booted, base_root, wait_active
from tests.real.containerd import Containerd
from tests.real.debs import deb
from tests.real.hosted import MIRROR, NAME, ORIGIN, Hosted


class LifeTests(Hosted):
    """One story, on a host on which the package has never been."""

    def boot(self) -> Booted:
        """Without the package."""
        return Booted(self.directory, base_root())

    def configure(self, **settings: object) -> None:
        """Not before the package is there."""

    def test_life(self) -> None:
        """Nothing runs before it is enabled, and that is all there is to do. It is confined, says how it does, is found
        in the journal, and serves curl and containerd. Removed, it leaves configuration and cache; purged, nothing.
        """
        self.system.copy(deb(), "/tmp/crcache.deb")
        self.system.run("dpkg", "--install", "/tmp/crcache.deb", seconds=120)
        for unit in ("crcache.socket", "crcache.service"):
            self.assertEqual(self.system.says("systemctl", "is-active", unit), "inactive")
            self.assertEqual(self.system.says("systemctl", "is-enabled", unit), "disabled")
        self.enabled()
        self.confined()
        self.pulled()
        self.journal()
        self.removed()

    def enabled(self) -> None:
        """The one command; the first connection starts the service."""
        super().configure()
        self.enable("crcache.socket")
        self.assertEqual(self.status(), "200")
        wait_active(self.system, "crcache.service")
        self.assertEqual(self.system.says("systemctl", "is-system-running"), "running")
        self.assertIn('Status: "serving on [::]:3000', self.system.says("systemctl", "status", "crcache.service"))
        self.assertEqual(self.status("/readyz", 3001), "200")

    def confined(self) -> None:
        """It runs as a user of its own, without a capability and without a way to one; its plugin is known."""
        process = self.system.main_process("crcache.service")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        self.assertEqual({*status["Uid"].split()}, {self.system.run("id", "--user", "crcache").strip()})
        for which in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[which], 16), 0, which)
        self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"))
        # As a user who may not write the list of plugins, twistd complains if that is not up to date.
        listed = self.system.run("setpriv", "--reuid=crcache", "--clear-groups", "twistd3", "--help")
        self.assertIn("crcache", listed)
        self.assertIn(
            "crcache", self.system.run("sh", "-c", "cat /usr/lib/python3/dist-packages/twisted/plugins/drop*")
        )
        for page in ("man5/crcache.yaml.5.gz", "man8/crcache.8.gz"):
            self.system.run("test", "-s", f"/usr/share/man/{page}")

    def pulled(self) -> None:
        """Through it, with curl and with containerd."""
        repository, image = self.small[0]
        for expected in ("crcache; fwd=miss; stored", "crcache; hit"):
            head = self.curl(
                "--dump-header", "-", "--output", "/tmp/manifest", f"http://127.0.0.1:3000{self.manifest()}"
            )
            self.assertIn(f"Cache-Status: {expected}", head)
        body = self.system.run("cat", "/tmp/manifest").encode()
        self.assertEqual("sha256:" + hashlib.sha256(body).hexdigest(), image.top)
        containerd = self.ending(Containerd(self.place("containerd"), self.system.inside))
        containerd.mirror(NAME, f"http://127.0.0.1:{ORIGIN}", f"http://127.0.0.1:{MIRROR}")
        containerd.pull(f"{NAME}/{repository}:{image.tag}", "--snapshotter", "native")
        self.assertEqual((containerd.damaged(), containerd.digests()), ([], image.digests))
        self.assertEqual({served.agent.partition("/")[0] for served in self.origin.served()}, {"crcache"})

    def journal(self) -> None:
        """The journal finds requests by what they asked for, and explains its lines."""
        image = self.small[0][1]
        lines = self.system.journal("--unit=crcache", f"CRCACHE_REGISTRY={NAME}", "--output=json").splitlines()
        asked = [json.loads(line) for line in lines]
        self.assertIn(image.largest, {entry.get("CRCACHE_DIGEST", entry.get("CRCACHE_REFERENCE")) for entry in asked})
        self.assertEqual(self.system.journal("--unit=crcache", "CRCACHE_REGISTRY=other.test"), "")
        explained = self.system.run("journalctl", "--no-pager", "-x", "--unit=crcache", f"CRCACHE_REGISTRY={NAME}")
        self.assertIn("░░", explained)
        self.no_tracebacks()

    def removed(self) -> None:
        """Removed, installed again, purged."""
        self.system.run("dpkg", "--remove", "crcache", seconds=120)
        self.assertEqual(
            self.curl("--output", "/dev/null", "--write-out", "%{http_code}", "http://127.0.0.1:3000/")[:3], "000"
        )
        self.assertEqual(self.system.says("systemctl", "list-units", "--no-legend", "--failed"), "")
        for kept in ("/etc/crcache/crcache.yaml", "/var/cache/crcache/VERSION"):
            self.system.run("test", "-s", kept)
        self.origin.stop()
        self.system.run("dpkg", "--force-confold", "--install", "/tmp/crcache.deb", seconds=120)
        self.enable("crcache.socket")
        # The cache is what it was, and the origin is gone.
        self.assertEqual(self.status(self.manifest()), "200")
        self.system.run("dpkg", "--purge", "crcache", seconds=120)
        for gone in ("/etc/crcache", "/var/cache/crcache", "/run/crcache", "/usr/lib/python3/dist-packages/crcache"):
            self.system.run("test", "!", "-e", gone)
        self.assertEqual(self.system.says("systemctl", "list-unit-files", "--no-legend", "crcache*"), "")
        self.assertEqual(self.system.says("systemctl", "is-system-running"), "running")
