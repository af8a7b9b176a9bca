"""What README.md tells its readers to type does what it says there."""

from __future__ import annotations

import yaml

from tests.real.library import library
from tests.real.namespace import Namespace
from tests.real.printed import run_printed, tested
from tests.real.processes import run
from tests.real.registries import DockerRegistry
from tests.real.scene import Scene

_REGISTRY_PORT, _PORT, _ADMIN_PORT = 5001, 3000, 3001


class CurlLinesTests(Scene):
    """
    The blocks marked C{<!-- tested: curl -->}, with the configuration marked likewise and the ports that are printed,
    in a network of their own.
    """

    def test_as_printed(self) -> None:
        """
        Every command ends with status 0, and every line of output shown is in its output; C{…} stands for anything.
        """
        texts = tested("README.md", "curl")
        self.assertTrue([text for text in texts if "$ curl" in text], "no tested curl line in README.md")
        (configuration,) = tested("README.md", "configuration", "yaml")
        network = self.ending(Namespace(self.directory))
        self.ending(DockerRegistry(self.place("origin"), library().storage, port=_REGISTRY_PORT, prefix=network.prefix))
        self.crcache(
            self.place("crcache"),
            yaml.safe_load(configuration)["registries"],
            port=_PORT,
            admin_port=_ADMIN_PORT,
            prefix=network.prefix,
        )
        run_printed(texts, lambda script: run([*network.prefix, "bash", "-c", script]), f"cd '{self.directory}'")
