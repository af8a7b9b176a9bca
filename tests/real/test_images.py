"""Archives of images: what C{crcache export} writes others read, what others write C{crcache import} reads."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from tests.real.containerd import Containerd
from tests.real.daemon import ROOT, Daemon
from tests.real.images import MIB, make_image, make_index
from tests.real.namespace import Namespace
from tests.real.originlog import fetches
from tests.real.podman import Podman
from tests.real.printed import run_printed, tested
from tests.real.processes import program, run, until
from tests.real.registries import DockerRegistry, push
from tests.real.scene import Scene

_NAME = "registry.test"
_APP, _MULTI = "team/app", "team/multi"
_COMMAND = [
    "env",
    f"PYTHONPATH={ROOT}",
    "NO_PROXY=127.0.0.1,localhost",
    "no_proxy=127.0.0.1,localhost",
    sys.executable,
    "-m",
    "crcache.cli",
]


class _ImagesScene(Scene):
    """An origin with an image, and an index whose tag is C{latest}; and a configuration for it.

    @ivar here: the cache directory of this side.
    """

    def setUp(self) -> None:
        """Begin the origin."""
        super().setUp()
        images = self.place("images")
        self.app = make_image(images / "app", "1.0", [20_000, 4 * MIB])
        self.multi = make_index(images / "multi", "latest", [20_000, MIB], ["amd64", "arm64"])
        self.origin = self.ending(DockerRegistry(self.place("origin"), self.directory / "storage"))
        push(self.app, self.origin, _APP)
        push(self.multi, self.origin, _MULTI)
        self.here = self.directory / "here"
        self._file = self.directory / "crcache.yaml"
        self._file.write_text(json.dumps({"registries": {_NAME: {"url": self.origin.url}}}))

    def command(self, name: str, *words: str, cache: Path | None = None) -> dict[str, Any]:
        """Run the command to good end; what it prints as JSON."""
        where = ["--config", str(self._file), "--cache-dir", str(cache or self.here)]
        said: dict[str, Any] = json.loads(run([*_COMMAND, name, *where, "--json", *words], directory=ROOT))
        return said

    def export(self, *images: str) -> Path:
        """An archive of images of this side."""
        archive = self.directory / f"{len(list(self.directory.glob('*.tar')))}.tar"
        self.command("export", "-o", str(archive), *images)
        return archive

    def imported(self, archive: Path, *words: str) -> dict[str, str]:
        """Import it into a cache directory of its own; what of it is there, as digests by names. It is sound as far as
        C{crcache export} can tell, which hashes all of it."""
        cache = self.directory / f"imported-{archive.name}"
        images = self.command("import", str(archive), *words, cache=cache)["images"]
        again = self.directory / f"again-{archive.name}"
        self.command("export", "-o", str(again), *(each["name"] for each in images), cache=cache)
        self.assertEqual(list(cache.glob("ingest/.*")), [])
        return {each["name"]: each["digest"] for each in images}

    def copied(self, source: str, target: str, *flags: str) -> None:
        """Have skopeo copy an image."""
        plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        run([program("skopeo"), "copy", "--insecure-policy", *plain, *flags, source, target])

    def digests(self, layout: Path) -> set[str]:
        """Of all that an OCI layout holds."""
        return {f"{path.parent.name}:{path.name}" for path in layout.glob("blobs/*/*")}


class AirGapTests(_ImagesScene):
    """From a site that reaches registries to one that reaches none."""

    def test_air_gap(self) -> None:
        """What was pulled, exported and imported is pulled by a real containerd, by tag, C{latest} too, from a crcache
        in a network where there is nothing else; the index comes whole, with the platform that was pulled."""
        names = [f"{_NAME}/{_APP}:1.0", f"{_NAME}/{_MULTI}"]
        self.assertEqual(self.command("pull", "--pin", "--platform", "linux/amd64", *names)["failed"], 0)
        archive = self.export(*names)
        self.origin.stop()

        there = self.place("there")
        told = self.command("import", str(archive), cache=there / "cache")["images"]
        self.assertEqual([each["digest"] for each in told], [self.app.top, self.multi.top])
        self.assertEqual(told[1]["platforms"], ["linux/amd64"])
        network = self.ending(Namespace(there))
        registries = {_NAME: {"url": self.origin.url}}
        daemon = self.crcache(there / "daemon", registries, cache=there / "cache", prefix=network.prefix)
        containerd = self.ending(Containerd(self.place("containerd"), network.prefix))
        containerd.mirror(_NAME, self.origin.url, daemon.url)
        containerd.pull(f"{_NAME}/{_APP}:1.0")
        containerd.pull(f"{_NAME}/{_MULTI}:latest", "--platform", "linux/amd64")
        self.assertEqual(containerd.damaged(), [])
        self.assertLess(self.app.digests | {self.multi.top}, containerd.digests())


class PagesTests(_ImagesScene):
    """The blocks of docs/warming.md and docs/airgap.md that are marked as tested."""

    def test_as_printed(self) -> None:
        """Every command is done, and prints the lines that are shown below it."""
        push(self.app, self.origin, "library/nginx", "1.27")
        push(self.app, self.origin, "pause", "3.10")
        names = ["nginx:1.27", "registry.k8s.io/pause:3.10", "ghcr.io/team/app"]
        push(self.multi, self.origin, "team/app", "latest")
        (self.directory / "images.txt").write_text("# what we run\n" + "\n".join(names))
        pod = {"kind": "Pod", "spec": {"containers": [{"image": names[2]}]}}
        (self.directory / "deploy.yaml").write_text(json.dumps(pod))
        pages = {
            "warm": tested("docs/warming.md", "warming"),
            "here": tested("docs/airgap.md", "export"),
            "there": tested("docs/airgap.md", "import"),
        }
        for side, printed in pages.items():
            registries = {name: {"url": self.origin.url} for name in ("docker.io", "registry.k8s.io", "ghcr.io")}
            settings = {"registries": registries, "cache": {"directory": str(self.directory / side)}}
            file = self.directory / f"{side}.yaml"
            file.write_text(json.dumps(settings))
            command = f'crcache() {{ {" ".join(_COMMAND)} "$1" --config {file} "${{@:2}}"; }}\n'

            def bash(script: str, command: str = command) -> str:
                return run(["bash", "-c", f"exec 2>&1\n{command}{script}"], directory=self.directory)

            run_printed(printed, bash)


class ArchiveTests(_ImagesScene):
    """What other tools make of archives, and crcache of theirs."""

    def test_skopeo_and_podman(self) -> None:
        """skopeo reads an export as OCI and as docker archive, of several images by name; what skopeo and podman write,
        gzipped or not, is read, with its names; what has no whole name gets one."""
        name = f"{_NAME}/{_APP}:1.0"
        self.command("pull", "--all-platforms", name, f"{_NAME}/{_MULTI}")
        self.command("pull", "--all-platforms", "--pin", f"{_NAME}/{_MULTI}")
        both, single = self.export(name, f"{_NAME}/{_MULTI}"), self.export(name)
        for source, image in (
            (f"oci-archive:{single}", self.app),
            (f"oci-archive:{both}:{name}", self.app),
            (f"oci-archive:{both}:{_NAME}/{_MULTI}:latest", self.multi),
        ):
            layout = self.directory / f"layout-{len(list(self.directory.glob('layout-*')))}"
            self.copied(source, f"oci:{layout}:x", "--all")
            self.assertEqual(self.digests(layout), image.digests, source)
        self.copied(f"docker-archive:{both}:{name}", f"dir:{self.place('dir')}")

        origin = f"docker://{self.origin.url.removeprefix('http://')}/{_APP}:1.0"
        self.copied(origin, f"oci-archive:{self.directory}/skopeo-oci.tar:{name}")
        self.assertEqual(self.imported(self.directory / "skopeo-oci.tar"), {name: self.app.top})
        self.copied(origin, f"oci-archive:{self.directory}/skopeo-bare.tar:1.0")
        self.assertEqual(self.imported(self.directory / "skopeo-bare.tar", "--as", name), {name: self.app.top})
        self.copied(origin, f"docker-archive:{self.directory}/skopeo-docker.tar:{name}")
        self.assertEqual(list(self.imported(self.directory / "skopeo-docker.tar")), [name])

        podman = Podman(self.place("podman"))
        podman("load", "--input", str(single))
        for kind in ("oci-archive", "docker-archive"):
            archive = self.directory / f"podman-{kind}.tar"
            podman("save", "--format", kind, "--output", str(archive), name)
            zipped = archive.with_suffix(".tgz")
            zipped.write_bytes(gzip.compress(archive.read_bytes(), 1))
            self.assertEqual(list(self.imported(zipped)), [name])

    def test_containerd(self) -> None:
        """C{ctr image import} takes an export under the right names, also of an index of which one platform is there;
        what C{ctr image export} writes is read, and is the same content."""
        names = [f"{_NAME}/{_APP}:1.0", f"{_NAME}/{_MULTI}:latest"]
        self.command("pull", "--pin", "--platform", "linux/amd64", *names)
        containerd = self.ending(Containerd(self.place("containerd")))
        containerd.load(self.export(*names), "--platform", "linux/amd64")
        self.assertEqual(containerd.names(), set(names))
        self.assertEqual(containerd.damaged(), [])
        archive = self.directory / "ctr.tar"
        containerd.save(archive, *names, "--platform", "linux/amd64")
        self.assertEqual(self.imported(archive), {names[0]: self.app.top, names[1]: self.multi.top})


class PullTests(_ImagesScene):
    """C{crcache pull} and a daemon on one directory."""

    def test_beside_a_daemon(self) -> None:
        """What is pulled beside a running daemon is served by that at once; nothing is fetched twice, from whichever
        of the two it was asked first."""
        daemon = self.crcache(self.place("crcache"), {_NAME: {"url": self.origin.url}}, cache=self.here)
        containerd = self.ending(Containerd(self.place("containerd")))
        containerd.mirror(_NAME, self.origin.url, daemon.url)
        manifests = self.directory / "pod.yaml"
        manifests.write_text(
            f"kind: List\nitems:\n- kind: Pod\n  spec: {{initContainers: [{{image: '{_NAME}/{_APP}:1.0'}}]}}\n"
        )
        self._both(daemon, manifests, containerd)
        served = self.origin.settled(self.app)
        self.assertEqual(
            {digest: fetches(served)[digest] for digest in self.app.blobs}, dict.fromkeys(self.app.blobs, 1)
        )
        self.origin.stop()
        containerd.forget()
        containerd.pull(f"{_NAME}/{_APP}:1.0")
        self.assertEqual(containerd.damaged(), [])

    def _both(self, daemon: Daemon, manifests: Path, containerd: Containerd) -> None:
        said = self.command("pull", "--manifest", str(manifests))
        self.assertEqual((said["failed"], said["new"]["count"]), (0, len(self.app.digests)))
        containerd.pull(f"{_NAME}/{_APP}:1.0")
        until("the hits", lambda: daemon.metrics("crcache_requests_total", kind="blob", cache="hit") >= 1)
        self.assertEqual(daemon.metrics("crcache_requests_total", kind="blob", cache="miss"), 0)
        self.assertEqual(self.command("pull", f"{_NAME}/{_APP}:1.0")["new"]["bytes"], 0)
