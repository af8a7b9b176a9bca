"""What README.md tells its readers to type does what it says there."""

from __future__ import annotations

import re

import yaml

from tests.real.daemon import ROOT
from tests.real.library import library
from tests.real.namespace import Namespace
from tests.real.processes import run
from tests.real.registries import DockerRegistry
from tests.real.scene import Scene

_BLOCK = re.compile(r"<!-- tested: curl -->\s*```(?:console|sh)\n(.*?)\n```", re.DOTALL)
_CONFIGURATION = re.compile(r"<!-- tested: configuration -->\s*```yaml\n(.*?)\n```", re.DOTALL)
_ELLIPSIS = re.compile(r"…|\.\.\.")
_REGISTRY_PORT, _PORT, _ADMIN_PORT = 5001, 3000, 3001
_END = "-- end of output --"


def parse_block(text: str) -> list[tuple[str, list[str]]]:
    """The commands (after C{$ }, the lines after a backslash at a line's end joined), each with the output shown."""
    commands: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if line.startswith("$ "):
            commands.append((line[2:], []))
        elif commands and commands[-1][0].endswith("\\") and not commands[-1][1]:
            commands[-1] = (f"{commands[-1][0]}\n{line.removeprefix('> ')}", [])
        elif commands and line.strip():
            commands[-1][1].append(line.strip())
    return commands


class CurlLinesTests(Scene):
    """
    The blocks marked C{<!-- tested: curl -->}, with the configuration marked likewise and the ports that are printed,
    in a network of their own.
    """

    def test_as_printed(self) -> None:
        """
        Every command ends with status 0, and every line of output shown is in its output; C{…} stands for anything.
        """
        readme = (ROOT / "README.md").read_text()
        commands = [command for block in _BLOCK.findall(readme) for command in parse_block(block)]
        self.assertTrue([command for command, _ in commands if "curl" in command], "no tested curl line in README.md")
        [configuration] = _CONFIGURATION.findall(readme)
        network = self.ending(Namespace(self.directory))
        self.ending(DockerRegistry(self.place("origin"), library().storage, port=_REGISTRY_PORT, prefix=network.prefix))
        self.crcache(
            self.place("crcache"),
            yaml.safe_load(configuration)["registries"],
            port=_PORT,
            admin_port=_ADMIN_PORT,
            prefix=network.prefix,
        )

        script = f"set -e -o pipefail\ncd '{self.directory}'\n"
        script += "".join(f"{command}\necho; echo '{_END}'\n" for command, _ in commands)
        outputs = run([*network.prefix, "bash", "-c", script]).split(_END)
        for (command, shown), output in zip(commands, outputs, strict=False):
            printed = [line.strip() for line in output.splitlines()]
            for line in shown:
                wanted = re.compile(".*".join(re.escape(part) for part in _ELLIPSIS.split(line)))
                self.assertTrue(
                    any(map(wanted.fullmatch, printed)), f"{command}\ndoes not print\n{line}\nbut\n{output}"
                )
