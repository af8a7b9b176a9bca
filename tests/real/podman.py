"""podman and buildah, with images and containers of a test's own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.real.processes import program, run

# Where the machine's control groups and limits are not those of a booted system, podman's defaults do not do.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{directory}/graph"
runroot = "{directory}/run"
"""


class Podman:
    """Images, containers and volumes that nobody else sees.

    @ivar environment: what podman, buildah, and what calls them, need to find them.
    """

    def __init__(self, directory: Path) -> None:
        """
        @param directory: for all of it.
        """
        (directory / "containers.conf").write_text(_CONTAINERS)
        (directory / "storage.conf").write_text(_STORAGE.format(directory=directory))
        self.environment = {
            "CONTAINERS_CONF": str(directory / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
        }
        self._graph = directory / "graph"

    def __call__(self, *arguments: str) -> str:
        """Run podman to its end.

        @return: what it wrote.
        @raise AssertionError: if it fails.
        """
        return self.run("podman", *arguments).stdout.strip()

    def run(self, *command: str, good: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program that works on these images.

        @param good: whether it must succeed.
        @param environment: further variables.
        """
        done = subprocess.run(
            [program(command[0]), *command[1:]],
            env={**os.environ, **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=300,
        )
        if good and done.returncode != 0:
            raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def inspect(self, name: str) -> dict[str, Any]:
        """All that is known of an image or a container."""
        found: list[dict[str, Any]] = json.loads(self("inspect", name))
        return found[0]

    def import_base(self, archive: Path, name: str) -> None:
        """Make an image of the archive of a root directory."""
        recipe = archive.with_suffix(".containerfile")
        recipe.write_text(f"FROM scratch\nADD {archive.name} /\n")
        self.run("buildah", "build", "--isolation=chroot", "--tag", name, "--file", str(recipe), str(archive.parent))

    def stop(self) -> None:
        """Remove everything. Idempotent."""
        self.run("podman", "rm", "--all", "--force", "--time", "1", good=False)
        self.run("podman", "volume", "rm", "--all", "--force", good=False)
        if os.path.ismount(self._graph / "overlay"):
            run(["umount", str(self._graph / "overlay")])
