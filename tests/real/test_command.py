"""docs/command.md as it is printed, and the command beside a daemon that a real client pulls through."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any

from tests.commands.tree import Tree
from tests.real.daemon import ROOT, Daemon
from tests.real.library import MULTI, library
from tests.real.printed import run_printed, tested
from tests.real.processes import run
from tests.real.registries import DockerRegistry
from tests.real.scene import Scene
from tests.real.test_skopeo import _CONFIGURATION

_NAME = "registry.test"
_COMMAND = f'crcache() {{ "{sys.executable}" -W ignore -m crcache.cli "$1" -c "$CRCACHE_FILE" "${{@:2}}"; }}\n'


class CommandPageTests(Scene):
    """The blocks of docs/command.md that are marked C{<!-- tested: command -->}."""

    def test_as_printed(self) -> None:
        """Every command is done, beside a daemon, and prints the lines that are shown below it."""
        tree = Tree(self.place("cache"))
        tree.image("nginx:1.27", [b"base" * 1000, b"nginx" * 100])
        app = tree.image("ghcr.io/team/app", [b"base" * 1000, b"app" * 100], tagged=False)
        tree.index("ghcr.io/team/app:v1", {"linux/amd64": app}, absent=["linux/arm64"])
        daemon = self.crcache(self.place("daemon"), {}, cache=tree.layout.root)
        file = self.directory / "command.yaml"
        configuration = {"cache": {"directory": str(daemon.cache)}, "admin": f"tcp:{daemon.admin_port}"}
        file.write_text(json.dumps(configuration))

        def bash(script: str) -> str:
            return run(["bash", "-c", f"exec 2>&1\nCRCACHE_FILE='{file}'\n{_COMMAND}{script}"], directory=ROOT)

        run_printed(tested("docs/command.md", "command"), bash)


class PulledTests(Scene):
    """What a real client has pulled."""

    def command(self, daemon: Daemon, *arguments: str) -> Any:
        """A command on the daemon's directory, whose C{--json} is returned."""
        place = ["-c", "/dev/null", "-d", str(daemon.cache), "--json"]
        python = [sys.executable, "-W", "ignore", "-m", "crcache.cli"]
        return json.loads(run([*python, arguments[0], *place, *arguments[1:]], directory=ROOT))

    def copy(self) -> None:
        """skopeo copies an image with all its platforms, which it verifies."""
        flags = ["--all", "--insecure-policy", f"--registries-conf={self.directory / 'registries.conf'}"]
        run(["skopeo", "copy", *flags, f"docker://{_NAME}/{MULTI}:{self.image.tag}", f"dir:{self.place('copy')}"])
        shutil.rmtree(self.directory / "copy")

    def test_pulled(self) -> None:
        """It is listed whole with its platforms, verified; pinned, it outlives pruning and its registry."""
        self.image = library().multi
        origin = self.ending(DockerRegistry(self.place("origin"), library().storage))
        daemon = self.crcache(self.place("daemon"), {_NAME: {"url": origin.url}})
        text = _CONFIGURATION.format(name=_NAME, origin=origin.port, mirror=daemon.port, insecure="true")
        (self.directory / "registries.conf").write_text(text)
        self.copy()
        name = f"{_NAME}/{MULTI}:{self.image.tag}"
        (found,) = self.command(daemon, "ls", name)
        self.assertTrue(found["complete"])
        self.assertEqual(len(found["platforms"]), found["platformsOffered"])
        self.assertGreater(len(found["platforms"]), 1)
        checked = self.command(daemon, "verify")
        self.assertEqual((checked["checked"], checked["wrong"]), (len(self.image.digests), []))
        self.command(daemon, "pin", name)
        self.assertEqual(self.command(daemon, "prune", "--to-size", "0")["freed"], 0)
        origin.stop()
        self.copy()
        self.command(daemon, "unpin", name)
        self.assertEqual(self.command(daemon, "prune", "--matching", name)["freed"], found["here"])
        self.assertEqual(self.command(daemon, "du")["content"], 0)
