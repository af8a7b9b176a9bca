"""The container image: built on Debian from the package, and run with as little as it promises to need."""

from __future__ import annotations

import shlex
from pathlib import Path

from crcache import __version__
from tests.real.daemon import ROOT
from tests.real.debian import root_archive
from tests.real.images import MIB, make_image
from tests.real.podman import Podman
from tests.real.printed import parse_block, tested
from tests.real.processes import run, until
from tests.real.scene import CURL, Scene, digest_of
from tests.real.statics import StaticOrigin

BASE = "localhost/crcache-test-base"
USER = "65532"


class ImageTests(Scene):
    """Everything in one story: a base image and a package are built before anything can be tried."""

    def setUp(self) -> None:
        """Make an image to pull, and a configuration that says where it is."""
        super().setUp()
        self.image = make_image(self.place("oci"), "1.0", [MIB, 8 * MIB])
        self.configuration = self.place("configuration")
        self.configure("")
        # The user in the container is neither root nor this file's owner.
        self.directory.chmod(0o755)

    def configure(self, more: str) -> None:
        """Put another file in the place of the one there is, as editors do."""
        file = self.configuration / "new"
        file.write_text(f'registries: {{"127.0.0.1:5001": {{url: "http://127.0.0.1:5001"}}}}\n{more}')
        file.replace(self.configuration / "crcache.yaml")

    def build(self, podman: Podman) -> str:
        """Build it from the machine's own Debian, as `make image` does.

        @return: its name.
        """
        podman.import_base(root_archive(), BASE)
        podman.run(*self.printed("make image", {}), "-C", str(ROOT), f"BASE={BASE}", BUILDAH_FLAGS="--isolation=chroot")
        return f"localhost/crcache:{__version__}"

    def test_life(self) -> None:
        """It says what it is; runs as a user of its own, unprivileged, on a root that is read only, with 96 MiB; is
        healthy; serves a pull and keeps it for the next container; reads what was changed, and ends by itself, with
        status 0, when it is told to.
        """
        podman = self.ending(Podman(self.place("podman")))
        image = self.build(podman)

        about = podman.inspect(image)["Config"]
        self.assertEqual(about["User"], f"{USER}:{USER}")
        self.assertEqual({*about["ExposedPorts"]}, {"3000/tcp", "3001/tcp"})
        self.assertEqual({*about["Volumes"]}, {"/var/cache/crcache"})
        self.assertEqual(about["Labels"]["org.opencontainers.image.version"], __version__)
        self.assertEqual(about["StopSignal"], "SIGTERM")

        process = self.begin(podman, "first", image)
        status = dict(line.split(":\t") for line in Path(f"/proc/{process}/status").read_text().splitlines())
        self.assertEqual(status["Uid"].split(), [USER] * 4)
        self.assertEqual((status["CapEff"], status["NoNewPrivs"]), ("0" * 16, "1"))
        podman.run(*self.printed("podman healthcheck", {"crcache": "first"}))

        origin = StaticOrigin(self.directory / "origin", port=5001, prefix=inside(process))
        origin.publish(self.image, "team/app")
        origin.start()
        self.ending(origin)
        self.pull(process)
        origin.stop()
        self.end(podman, "first")

        process = self.begin(podman, "second", image)
        self.pull(process)
        self.configure("drain-timeout: 2s\n")
        podman.run(*self.printed("podman kill", {"crcache": "second"}))
        until("the new configuration", lambda: "is in force" in podman.run("podman", "logs", "second").stdout)
        # One that does not answer is not healthy.
        podman("kill", "--signal", "STOP", "second")
        self.assertNotEqual(podman.run("podman", "healthcheck", "run", "second", good=False).returncode, 0)
        podman("kill", "--signal", "CONT", "second")
        self.end(podman, "second")

    def begin(self, podman: Podman, name: str, image: str) -> int:
        """Run a container with a network, and ports, of its own.

        @return: its process, once it is ready.
        """
        instead = {"crcache": name, "host": "none", "crcache:" + __version__: image}
        self.assertIn("--memory", self.printed("podman run", instead))
        podman.run(*self.printed("podman run", instead))
        process = int(podman.inspect(name)["State"]["Pid"])
        self.addCleanup(lambda: self.assertNotIn("Traceback", podman.run("podman", "logs", name, good=False).stdout))
        until("an answer of the container's", lambda: self.ready(process))
        return process

    def printed(self, begins: str, instead: dict[str, str]) -> list[str]:
        """The command of docs/install.md that begins so, with other words in the place of some.

        The configuration is this test's own.
        """
        (command,) = (
            command
            for block in tested("docs/install.md", "container")
            for command, _ in parse_block(block)
            if command.startswith(begins)
        )
        words = shlex.split(command.replace("\\\n", "").replace("./crcache:", f"{self.configuration}:"))
        return [instead.get(word, word) for word in words]

    def ready(self, process: int) -> bool:
        """Whether it can serve."""
        command = [*inside(process), *CURL, "--output", "/dev/null", "--write-out", "%{http_code}"]
        try:
            return run([*command, "http://127.0.0.1:3001/readyz"]) == "200"
        except AssertionError:
            return False

    def pull(self, process: int) -> None:
        """Get the image's manifest by its digest, and its largest layer."""
        for path in (f"manifests/{self.image.top}", f"blobs/{self.image.largest}"):
            body = self.directory / "body"
            url = f"http://127.0.0.1:3000/v2/team/app/{path}?ns=127.0.0.1:5001"
            run([*inside(process), *CURL, "--fail", "--output", str(body), url])
            self.assertEqual(digest_of(body), path.partition("/")[2])

    def end(self, podman: Podman, name: str) -> None:
        """Stop it; it must not have to be killed."""
        podman.run(*self.printed("podman stop", {"crcache": name}))
        state = podman.inspect(name)["State"]
        self.assertEqual((state["ExitCode"], state["OOMKilled"]), (0, False))


def inside(process: int) -> tuple[str, ...]:
    """What runs a command in that process's network."""
    return ("nsenter", f"--net=/proc/{process}/ns/net")
