"""What docs/install.md and docs/operate.md tell their readers to type does what they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import yaml

from crcache.testing.certificates import Authority
from tests.real.booted import Booted, base_root, wait_active
from tests.real.containerd import Containerd
from tests.real.daemon import ROOT
from tests.real.debs import deb
from tests.real.hosted import MIRROR, Hosted
from tests.real.library import MULTI, library
from tests.real.printed import blocks, run_printed, tested
from tests.real.processes import Process, until
from tests.real.registries import DockerRegistry
from tests.real.rpms import rpm
from tests.real.scene import Scene
from tests.real.test_activation import Manager

README, INSTALL, OPERATE = "README.md", "docs/install.md", "docs/operate.md"
FILE = "/etc/crcache/crcache.yaml"
HIGHER = "99.1"

#: The blocks that cannot be run here, by the beginning of their first command; with what is tested instead.
NOT_RUN = {
    "dnf install": "the package, with rpm, and what enabling does: tests.real.test_packages_rpm, and here on Debian",
    "dnf upgrade": "the same, while it runs: tests.real.test_packages_rpm",
    "dnf remove": "the same",
    "kubectl apply": "the manifests, against Kubernetes' own schemas: tests.test_kubernetes",
}


class BlockTests(Scene):
    """Those that are not run; that all others are is tests.test_docs' to see."""

    def test_reasons(self) -> None:
        """Each block that is not run has its reason in L{NOT_RUN}, and each reason its block."""
        texts = [block.text for document in (INSTALL, OPERATE) for block in blocks(document) if "not run" in block.mark]
        for begin in NOT_RUN:
            self.assertEqual(len([text for text in texts if text.startswith(f"$ {begin}")]), 1, begin)
        self.assertEqual(len(texts), len(NOT_RUN))

    def test_not_run(self) -> None:
        """Of what is not run: the file names are those of what is built, and directories are there."""
        texts = [block.text for document in (INSTALL, OPERATE) for block in blocks(document) if "not run" in block.mark]
        (place,) = re.findall(r"^\$ kubectl apply --kustomize (\S+)$", "\n".join(texts), re.MULTILINE)
        self.assertTrue((ROOT / place / "kustomization.yaml").is_file())
        (pattern,) = re.findall(r"^\$ dnf install \./(\S+)$", "\n".join(texts), re.MULTILINE)
        self.assertTrue(rpm().match(pattern), rpm().name)


class HostTests(Hosted):
    """On one booted Debian without crcache, from the installation to the purge."""

    def boot(self) -> Booted:
        """Without the package."""
        return Booted(self.directory, base_root())

    def configure(self, **settings: object) -> None:
        """Not before the package is there."""

    def do(self, document: str, name: str, place: str = "/root") -> None:
        """Run the blocks of that name, beginning in that directory."""

        def bash(script: str) -> str:
            return self.system.run("bash", "-c", script, seconds=120)

        run_printed(tested(document, name), bash, f"cd {place}")

    def pull(self, number: int, cache: str = "stored") -> None:
        """One of the small images' manifests and largest layer, as an image of Docker Hub."""
        repository, image = self.small[number]
        for path in (f"manifests/{image.tag}", f"blobs/{image.largest}"):
            url = f"http://127.0.0.1:{MIRROR}/v2/{repository}/{path}?ns=docker.io"
            head = self.curl("--fail", "--dump-header", "-", "--output", "/dev/null", url)
            self.assertIn(cache, head)

    def refused(self) -> bool:
        """Whether nobody listens any more."""
        return self.status().startswith("000")

    def change(self, old: str, new: str) -> None:
        """Edit the configuration."""
        text = self.system.run("cat", FILE)
        self.assertIn(old, text)
        self.system.write(FILE, text.replace(old, new, 1), "640")
        self.system.run("chgrp", "crcache", FILE)

    def test_as_printed(self) -> None:
        """Every command ends well, prints what is shown, and has the effect that the text beside it speaks of."""
        before = self.installed, self.credentials, self.looked, self.restarted, self.upgraded, self.pruned
        after = (
            self.roomy,
            self.other_port,
            self.several,
            self.elsewhere,
            self.bigger_disk,
            self.recovered,
            self.secured,
        )
        for part in (*before, *after, self.purged, self.again):
            part()
            self.no_tracebacks()

    def installed(self) -> None:
        """The package is beside us; containerd has its configuration."""
        self.system.copy(deb(), f"/root/{deb().name}")
        self.do(INSTALL, "debian")
        self.assertEqual(self.system.says("systemctl", "is-enabled", "crcache.service"), "enabled")
        table = '[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
        self.system.write("/etc/containerd/config.toml", f"version = 2\n{table}")
        self.do(INSTALL, "clients")

    def credentials(self) -> None:
        """They are the service's from its next start on."""
        (text,) = tested(INSTALL, "credentials", "yaml")
        self.system.write("/root/credentials.yaml", f"{text}\n")
        self.do(INSTALL, "credentials")
        handed = self.system.run("cat", "/run/credentials/crcache.service/crcache-credentials")
        self.assertEqual(yaml.safe_load(handed), yaml.safe_load(text))
        # The origin here has no use for them, and they would only be sent by https.
        self.system.run("rm", "/etc/crcache/credentials.yaml")

    def looked(self) -> None:
        """A registry is put into the configuration, asked for, and looked for."""
        self.change("\nregistries:\n", f"\nregistries:\n  docker.io: {{url: '{self.origin.url}'}}\n")
        self.change("#drain-timeout: 10s", "drain-timeout: 2s")
        self.do(OPERATE, "reload")
        until("the registry", lambda: self.system.journal("--unit=crcache", "CRCACHE_EVENT=reloaded") != "")
        self.pull(0)
        self.do(OPERATE, "look")

    def restarted(self) -> None:
        """Another process serves the same."""
        before = self.system.property("crcache.service", "MainPID")
        self.do(OPERATE, "restart")
        self.assertNotEqual(self.system.property("crcache.service", "MainPID"), before)
        self.pull(0, "hit")

    def upgraded(self) -> None:
        """Another version runs, with the same configuration; and then the one that was there before."""
        mine = self.system.run("cat", FILE)
        self.system.run("rm", f"/root/{deb().name}")
        self.system.copy(deb(HIGHER), f"/root/{deb(HIGHER).name}")
        self.do(OPERATE, "upgrade")
        self.assertIn(f"Server: crcache/{HIGHER}", self.curl("--head", f"http://127.0.0.1:{MIRROR}/v2/"))
        self.assertEqual(self.system.run("cat", FILE), mine)
        self.system.run("rm", f"/root/{deb(HIGHER).name}")
        self.system.copy(deb(), f"/root/{deb().name}")
        self.do(OPERATE, "downgrade")
        self.assertNotIn(HIGHER, self.curl("--head", f"http://127.0.0.1:{MIRROR}/v2/"))
        self.assertEqual(self.system.run("cat", FILE), mine)

    def pruned(self) -> None:
        """What is old is gone and fetched again; what was used today is there; nobody was disturbed."""
        self.pull(1)
        self.system.run("sh", "-c", "find /var/cache/crcache -type f -exec touch -d '40 days ago' {} +")
        self.pull(1, "hit")
        self.do(OPERATE, "prune")
        repositories = "/var/cache/crcache/registries/docker.io/team"
        kept = self.system.run("find", repositories, "-path", "*/_tags/*", "-type", "f").split()
        self.assertEqual(kept, [f"{repositories}/small1/_tags/1.0"])
        self.pull(1, "hit")
        self.pull(0)
        self.system.run("test", "-s", "/var/cache/crcache/VERSION")

    def roomy(self) -> None:
        """The limits are those of the example."""
        self.do(OPERATE, "memory")
        self.assertGreater(int(self.system.property("crcache.service", "MemoryMax")), 1 << 30)
        self.pull(1, "hit")

    def other_port(self) -> None:
        """Its port, and no other; and back."""
        self.do(OPERATE, "port")
        self.assertTrue(self.refused())
        self.system.run("systemctl", "revert", "crcache.socket")
        self.system.run("systemctl", "restart", "crcache.socket")
        self.pull(1, "hit")

    def several(self) -> None:
        """Two processes serve in the place of one; and one in the place of two."""
        self.do(OPERATE, "several")
        states = [self.system.says("systemctl", "is-active", f"crcache{which}") for which in ("@1", "@2", "")]
        self.assertEqual(states, ["active", "active", "inactive"])
        self.assertEqual(self.system.says("systemctl", "is-enabled", "crcache.socket"), "enabled")
        self.pull(1, "hit")
        self.do(OPERATE, "one")
        states = [self.system.says("systemctl", "is-active", f"crcache{which}") for which in ("@1", "@2", "")]
        self.assertEqual(states, ["inactive", "inactive", "active"])
        self.pull(1, "hit")

    def elsewhere(self) -> None:
        """containerd asks the cache of the rack, until it is told otherwise."""
        self.do(OPERATE, "rack")
        self.do(INSTALL, "clients")

    def bigger_disk(self) -> None:
        """The cache is there with all that was in it. Once it is full, clients are served all the same."""
        self.system.run("mkdir", "/srv/registry-cache")
        self.system.run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", "/srv/registry-cache")
        self.do(OPERATE, "disk")
        self.pull(1, "hit")
        # dd ends with an error: nothing more fits.
        self.system.says("dd", "if=/dev/zero", "of=/srv/registry-cache/rest", "bs=64k")
        self.pull(2, "crcache; fwd=")
        self.pull(1, "hit")
        self.assertIn("No space left", self.system.journal("--unit=crcache", "CRCACHE_EVENT=not-kept"))
        self.system.run("rm", "/srv/registry-cache/rest")
        self.pull(2, "stored")

    def recovered(self) -> None:
        """A service that was given up refuses clients; then the commands have it serve again."""
        self.system.write("/etc/systemd/system/crcache.service.d/limit.conf", "[Unit]\nStartLimitBurst=2\n")
        self.system.run("systemctl", "daemon-reload")
        good = self.system.run("cat", FILE)
        self.system.write(FILE, "cach: {}\n")
        self.system.says("systemctl", "restart", "crcache.service")
        self.curl("--output", "/dev/null", f"http://127.0.0.1:{MIRROR}/v2/")
        until("it is given up", self.refused)
        self.do(OPERATE, "why")
        self.system.write(FILE, good)
        self.do(OPERATE, "recover")
        wait_active(self.system, "crcache.service")

    def secured(self) -> None:
        """With an authority of its own."""
        place = self.place("tls")
        authority = Authority()
        certificate, key = authority.server(["cache.example.com"]).write(place, "cert")
        for file, name in ((certificate, "cert.pem"), (key, "key.pem"), (authority.write(place), "ca.pem")):
            self.system.copy(file, f"/root/{name}")
        self.system.run("sh", "-c", "echo 127.0.0.1 cache.example.com >>/etc/hosts")
        (text,) = tested(OPERATE, "tls", "yaml")
        self.change("#listen: [tcp:3000]", text)
        self.do(OPERATE, "tls")
        self.pull(1, "hit")
        self.assertIn(
            "https://cache.example.com:3443", self.system.run("cat", "/etc/containerd/certs.d/_default/hosts.toml")
        )

    def purged(self) -> None:
        """Nothing of it is left, but the disk that was mounted."""
        self.do(INSTALL, "purge")
        for gone in (
            "/etc/crcache",
            "/var/cache/crcache",
            "/run/crcache",
            "/etc/containerd/certs.d/_default/hosts.toml",
        ):
            self.system.run("test", "!", "-e", gone)
        self.assertTrue(self.refused())

    def again(self) -> None:
        """What README says in three lines does for a host that has none of it; drop-ins are the administrator's."""
        self.system.run("systemctl", "revert", "crcache.service", "crcache.socket")
        self.do(README, "node")
        self.assertEqual(self.status(), "200")
        self.system.run("test", "-s", "/etc/containerd/certs.d/_default/hosts.toml")


class PipTests(Scene):
    """A copy of this checkout, in which nothing has been built."""

    def test_as_printed(self) -> None:
        """It is installed with what it needs from the package index, runs, and talks to systemd with the machine's
        python3-systemd. Without that it runs as well: see tests.real.test_activation.
        """
        checkout = self.directory / "checkout"
        made = [line.strip("/").rpartition("/")[2] for line in (ROOT / ".gitignore").read_text().splitlines()]
        shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".git", *made))

        def bash(script: str) -> str:
            # Debian's own Python, whose packages python3-systemd is among.
            variables = {**os.environ, "PATH": "/usr/bin:/bin"}
            done = subprocess.run(
                ["/bin/bash", "-c", script], env=variables, capture_output=True, check=False, text=True, timeout=180
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            return done.stdout

        run_printed(tested(INSTALL, "pip"), bash, f"cd '{checkout}'")
        place = checkout / "crcache-environment"
        manager = self.ending(Manager(self.directory / "notify"))
        flags = ["--cache-dir", "cache", "--listen", "tcp:0:interface=127.0.0.1", "--admin", "off"]
        daemon = Process(
            [str(place / "bin/twistd"), "-n", "--pidfile=", "crcache", *flags],
            self.directory / "log",
            environment={"NOTIFY_SOCKET": str(manager.path)},
            directory=self.directory,
        )
        self.ending(daemon)
        until("it tells that it is ready", lambda: daemon.alive() and manager.hears("READY=1"))
        daemon.stop()
        self.assertNotIn("Traceback", daemon.said())


class MirrorTests(Scene):
    """The C{hosts.toml} of two hosts, with two daemons and a containerd."""

    def test_one_after_another(self) -> None:
        """While the first is there the second is not asked; without the first it is the second; then the registry."""
        origin = self.ending(DockerRegistry(self.place("origin"), library().storage))
        name = f"localhost:{origin.port}"
        first, second = (self.crcache(self.place(each), {name: {"url": origin.url}}) for each in ("a", "b"))
        (text,) = tested(OPERATE, "mirrors", "toml")
        for printed, daemon in (("http://rack-a.example.com:3000", first), ("http://rack-b.example.com:3000", second)):
            self.assertEqual(text.count(printed), 1)
            text = text.replace(printed, daemon.url)
        containerd = self.ending(Containerd(self.place("containerd")))
        hosts = self.place("hosts")
        (hosts / "_default").mkdir()
        (hosts / "_default/hosts.toml").write_text(text)

        def pull() -> None:
            containerd.pull(f"{name}/{MULTI}:1.0", "--all-platforms", "--hosts-dir", str(hosts))
            self.assertEqual((containerd.digests(), containerd.damaged()), (library().multi.digests, []))
            containerd.forget()

        pull()
        self.assertGreater(first.metrics("crcache_requests_total"), 0)
        self.assertEqual(second.metrics("crcache_requests_total"), 0)
        first.stop()
        pull()
        self.assertGreater(second.metrics("crcache_requests_total"), 0)
        second.stop()
        pull()
