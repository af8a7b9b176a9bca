"""A scene with crcache as a service of a booted system, an origin beside it, and clients that pull."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.real.booted import Booted, installed_root, wait_active
from tests.real.images import MIB, Image, make_image
from tests.real.puller import Load
from tests.real.scene import CURL, Scene
from tests.real.statics import StaticOrigin

NAME = "registry.test"
MIRROR, ORIGIN = 3000, 5001
#: Seconds for which transfers go on when the service stops. A slow body takes four times as long.
DRAIN = 2
#: Bytes a second of each connection to the origin, and half of it of each slow client.
RATE = 16 * MIB
#: Seconds within which the service starts on a busy machine.
START = 5


@functools.cache
def shelf() -> tuple[tuple[tuple[str, Image], ...], tuple[tuple[str, Image], ...]]:
    """Small images and large ones, with their repositories; made once, until this process ends."""
    directory = Path(tempfile.mkdtemp(prefix="crcache-shelf-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)

    def make(name: str, layers: list[int]) -> tuple[str, Image]:
        return f"team/{name}", make_image(directory / name, "1.0", layers)

    small = tuple(make(f"small{number}", [20_000, 300_000]) for number in range(32))
    return small, tuple(make(f"large{number}", [64 * MIB]) for number in range(3))


class Hosted(Scene):
    """crcache is installed and configured in the system; nothing is enabled yet.

    @ivar system: the booted one.
    @ivar origin: the registry C{NAME}, in its network.
    """

    def setUp(self) -> None:
        """Boot it, begin the origin, and write the configuration."""
        super().setUp()
        self.system = self.ending(self.boot())
        self.origin = self.ending(
            StaticOrigin(self.directory / "origin", rate=RATE, port=ORIGIN, prefix=self.system.inside)
        )
        self.small, self.large = shelf()
        for repository, image in (*self.small, *self.large):
            self.origin.publish(image, repository)
        self.origin.start()
        self.configure()

    def boot(self) -> Booted:
        """The system, with the package."""
        return Booted(self.directory, installed_root())

    def configure(self, **settings: Any) -> None:
        """Write the configuration, with further sections."""
        configuration = {
            "drain-timeout": f"{DRAIN}s",
            "registries": {NAME: {"url": self.origin.url}},
            **settings,
        }
        # JSON is YAML.
        self.system.write("/etc/crcache/crcache.yaml", json.dumps(configuration, indent=1))

    def enable(self, *units: str) -> None:
        """What an administrator does after the installation."""
        self.system.run("systemctl", "enable", "--now", *(units or ("crcache.socket",)))

    def started(self) -> None:
        """Have the service run, and not only the socket."""
        self.enable("crcache.socket", "crcache.service")
        wait_active(self.system, "crcache.service")

    def load(self) -> Load:
        """Sixteen clients, four of which take longer over a body than the service may take to stop."""
        small, large = self.small, self.large
        load = Load(self.directory, MIRROR, ORIGIN, small, large, rate=RATE // 2, prefix=self.system.inside)
        self.addCleanup(load.stop)
        load.wait_slow(DRAIN)
        load.pulls(16)
        return load

    def status(self, path: str = "/v2/", port: int = MIRROR) -> str:
        """The status of an answer, of the service's unless it is another port."""
        return self.curl("--output", "/dev/null", "--write-out", "%{http_code}", f"http://127.0.0.1:{port}{path}")

    def curl(self, *words: str) -> str:
        """What curl says in the system."""
        return self.system.says(*CURL, *words)

    def manifest(self, number: int = 0) -> str:
        """The path of a small image's manifest, at the service."""
        repository, image = self.small[number]
        return f"/v2/{repository}/manifests/{image.tag}?ns={NAME}"

    def no_tracebacks(self) -> None:
        """Nothing that crcache has logged is a fault of its own."""
        self.assertNotIn("Traceback", self.system.journal("--unit=crcache*"))
