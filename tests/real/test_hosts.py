"""What C{crcache hosts} writes is what real clients need, and docs/clients.md says."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tests.real.containerd import Containerd
from tests.real.daemon import ROOT
from tests.real.library import MULTI, library
from tests.real.originlog import agents
from tests.real.printed import parse_block, tested
from tests.real.processes import run
from tests.real.registries import DockerRegistry
from tests.real.scene import Scene

_NAME = "registry.test"
_HOSTS = [sys.executable, "-m", "crcache.cli", "hosts"]
# So that a client's own idea of a registry is found: no TLS, and another address than its name's.
_ORIGIN = """\
unqualified-search-registries = []
[[registry]]
prefix = "{name}"
location = "127.0.0.1:{port}"
insecure = true
"""


class _HostsScene(Scene):
    """An origin with the library, and the root directory of a host."""

    def setUp(self) -> None:
        """Begin the origin."""
        super().setUp()
        self.image = library().multi
        self.origin = self.ending(DockerRegistry(self.place("origin"), library().storage))
        self.root = self.place("root")
        self.seen = 0

    def hosts(self, *flags: str) -> str:
        """Run C{crcache hosts} on that root, to good end."""
        return run([*_HOSTS, "--root", str(self.root), *flags], directory=ROOT)

    def asked(self) -> set[str]:
        """Who has asked the origin since the last time."""
        served = self.origin.served()
        found, self.seen = agents(served[self.seen :]), len(served)
        return found


class ContainerdTests(_HostsScene):
    """containerd with the directory that was written."""

    def test_pull(self) -> None:
        """
        Right after C{--apply} a pull goes through crcache; with crcache stopped it comes from the origin; after
        C{--remove} crcache is not asked. Twice applied is once applied.
        """
        name = f"localhost:{self.origin.port}"
        daemon = self.crcache(self.place("crcache"), {name: {"url": self.origin.url}})
        config = self.root / "etc/containerd/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(
            'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
        )
        containerd = self.ending(Containerd(self.place("containerd")))
        directory = str(self.root / "etc/containerd/certs.d")

        def pull() -> None:
            containerd.pull(f"{name}/{MULTI}:1.0", "--all-platforms", "--hosts-dir", directory)
            self.assertEqual(containerd.digests(), self.image.digests)
            self.assertEqual(containerd.damaged(), [])
            containerd.forget()

        self.assertIn("written", self.hosts("--apply", "--mirror", daemon.url))
        self.assertIn("nothing to change", self.hosts("--apply", "--mirror", daemon.url))
        pull()
        self.origin.settled(self.image)
        self.assertEqual(self.asked(), {"crcache"})

        asked = daemon.metrics("crcache_requests_total")
        self.hosts("--remove")
        pull()
        self.assertEqual(self.asked(), {"containerd"})
        self.assertEqual(daemon.metrics("crcache_requests_total"), asked)

        self.hosts("--apply", "--mirror", daemon.url)
        daemon.stop()
        pull()
        self.assertEqual(self.asked(), {"containerd"})


class PodmanTests(_HostsScene):
    """podman with the directory that was written in the place of its own, in a mount namespace."""

    def pull(self) -> None:
        """Pull into a new storage, and remove that."""
        storage = self.place("storage")
        script = (
            f"mount --bind '{self.root}/etc/containers' /etc/containers && umask 022 && "
            f"podman --root '{storage}/root' --runroot '{storage}/run' --storage-driver vfs --cgroup-manager cgroupfs"
            f" pull -q {_NAME}/{MULTI}:1.0 && podman --root '{storage}/root' --runroot '{storage}/run'"
            f" --storage-driver vfs --cgroup-manager cgroupfs rmi -a -f"
        )
        run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script])
        run(["rm", "-rf", str(storage)])

    def test_pull(self) -> None:
        """
        Right after C{--apply} a pull goes through crcache; with crcache stopped it comes from the origin; after
        C{--remove} crcache is not asked.
        """
        daemon = self.crcache(self.place("crcache"), {_NAME: {"url": self.origin.url}})
        containers = self.root / "etc/containers"
        containers.mkdir(parents=True)
        (containers / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        flags = ("--for", "podman", "--mirror", daemon.url, "--registry", _NAME)
        self.hosts("--apply", *flags)
        # The test's registry is not where its name says: that alone is changed in what was written.
        drop_in = containers / "registries.conf.d/50-crcache.conf"
        written = drop_in.read_text()
        located = f'location = "{_NAME}"\n'
        self.assertIn(located, written)
        drop_in.write_text(written.replace(located, f'location = "127.0.0.1:{self.origin.port}"\ninsecure = true\n'))

        self.pull()
        self.assertEqual(self.asked(), {"crcache"})
        daemon.stop()
        self.pull()
        self.assertEqual(self.asked(), {"containers"})

        daemon.restart()
        drop_in.write_text(written)
        self.hosts("--remove", "--for", "podman")
        self.assertFalse(drop_in.exists())
        (containers / "registries.conf").write_text(_ORIGIN.format(name=_NAME, port=self.origin.port))
        self.pull()
        self.assertEqual(self.asked(), {"containers"})
        self.assertEqual(daemon.metrics("crcache_requests_total"), 0)

    def test_default_registries(self) -> None:
        """What is written for the well-known registries is read by podman, with the mirror of each."""
        self.hosts("--apply", "--for", "podman")
        script = f"mount --bind '{self.root}/etc/containers' /etc/containers && podman info --format json"
        info = json.loads(run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script]))
        [mirror] = info["registries"]["quay.io"]["Mirrors"]
        self.assertEqual((mirror["Location"], mirror["Insecure"]), ("127.0.0.1:3000/quay.io", True))


class ClientsPageTests(Scene):
    """The blocks of docs/clients.md that are marked C{<!-- tested: hosts -->}."""

    def test_as_printed(self) -> None:
        """Every command prints the lines that are shown below it, on a host's root directory of the test's own."""
        blocks = tested("docs/clients.md", "hosts")
        self.assertGreaterEqual(len(blocks), 4)
        root = self.place("root")
        for command, shown in (each for block in blocks for each in parse_block(block)):
            printed = self.shell(command, root)
            for line in shown:
                self.assertIn(line, printed, command)

    def shell(self, command: str, root: Path) -> list[str]:
        """The lines of what a command prints, that root being the host's."""
        python = " ".join(f"'{word}'" for word in _HOSTS)
        command = command.replace("crcache hosts", f"{python} --root '{root}'")
        command = re.sub(r"(?<=[\s=])/etc/", f"{root}/etc/", command)
        output = run(["sh", "-c", f"{{ {command}; }} 2>&1 || true"], directory=ROOT)
        return [line.strip().replace(str(root), "") for line in output.splitlines()]
