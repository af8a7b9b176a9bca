"""A Debian with a systemd of its own, booted in a container (systemd-nspawn) for one test, in about a second.

What is changed in it is gone with it. Its network is a namespace with nothing but loopback, which origins and clients
outside of it can enter too.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.real.debian import root_archive
from tests.real.debs import deb
from tests.real.namespace import Namespace
from tests.real.processes import Process, program, run, until

_PREFIX = "crcache-booted-"
_numbers = itertools.count()
_ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb")


@functools.cache
def base_root() -> Path:
    """The root directory of a Debian without crcache, to be read only. It lasts until this process ends."""
    return _unpack(root_archive())


@functools.cache
def installed_root() -> Path:
    """The same with crcache's package installed, and nothing enabled."""
    root = _unpack(root_archive())
    shutil.copy(deb(), root / "tmp/crcache.deb")
    # Nothing can be started in there: no systemd runs. Neither is that asked for: the package says so itself.
    run(["chroot", str(root), *_ENVIRONMENT, "dpkg", "--install", "/tmp/crcache.deb"], seconds=120)
    return root


def _unpack(archive: Path) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="crcache-root-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    root = directory / "root"
    root.mkdir(mode=0o755)
    run(["tar", "--extract", "--numeric-owner", "--file", str(archive), "--directory", str(root)], seconds=120)
    return root


class Booted:
    """One booted system.

    @ivar inside: a command that runs another one, of ours, in the system's network.
    """

    def __init__(self, directory: Path, root: Path, *flags: str) -> None:
        """
        @param directory: for its logs.
        @param flags: further ones for systemd-nspawn.
        """
        self._root = root
        self._network = Namespace(directory)
        self.inside = self._network.prefix
        self._groups = Groups(f"{_PREFIX}{os.getpid()}-{next(_numbers)}")
        self._init = 0
        network = self._network.prefix[1].partition("=")[2]
        try:
            self._process = Process(
                [
                    "systemd-nspawn",
                    "--quiet",
                    f"--directory={root}",
                    "--boot",
                    "--register=no",
                    "--keep-unit",
                    "--console=pipe",
                    "--volatile=overlay",
                    f"--machine=booted-{os.getpid()}-{next(_numbers)}",
                    f"--network-namespace-path={network}",
                    *flags,
                ],
                directory / "boot.log",
                prefix=self._groups.prefix,
            )
            self._process.ready("boot", self._is_up, 60)
        except BaseException:
            self._network.stop()
            self._groups.remove()
            raise

    def command(self, *command: str) -> list[str]:
        """The words that run a command of the system's own in it, as root."""
        flags = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        return [program("nsenter"), f"--target={self._init}", *flags, *_ENVIRONMENT, *command]

    def run(self, *command: str, seconds: float = 60.0) -> str:
        """Run a command of the system's own in it, as root.

        @return: what it wrote to standard output.
        @raise AssertionError: with all that it wrote, if it fails.
        """
        return run(self.command(*command), seconds=seconds)

    def begin(self, *command: str, log: Path) -> Process:
        """Run one in the background."""
        return Process(self.command(*command), log)

    def says(self, *command: str) -> str:
        """What a command writes, without the end of the last line, whether it succeeds or not."""
        done = subprocess.run(
            self.command(*command), stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True, timeout=60
        )
        return (done.stdout + done.stderr).strip()

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Make a file, and the directory it is in."""
        script = 'mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1" && chmod "$3" "$1"'
        self.run("sh", "-c", script, "sh", path, text, mode)

    def copy(self, file: Path, path: str) -> None:
        """Copy a file of ours into it."""
        with file.open("rb") as opened:
            subprocess.run(self.command("sh", "-c", f"cat >'{path}'"), stdin=opened, check=True, timeout=60)

    def property(self, unit: str, name: str) -> str:
        """What systemd knows of a unit."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit).strip()

    def journal(self, *flags: str) -> str:
        """What the journal holds, one message a line."""
        return self.run("journalctl", "--quiet", "--no-pager", "--output=cat", *flags)

    def main_process(self, unit: str) -> Path:
        """Of a service's main process: its directory in our C{/proc}."""
        inner = self.property(unit, "MainPID")
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                found = re.search(r"^NSpid:\t(\d+)\t(\d+)$", status.read_text(), re.MULTILINE)
                same = found is not None and os.path.samefile(status.parent / "ns/pid", f"/proc/{self._init}/ns/pid")
            except OSError:
                continue
            if found is not None and same and found[2] == inner:
                return status.parent
        raise AssertionError(f"{unit}: no process {inner}")

    def stop(self) -> None:
        """Switch it off, and remove all of it. Idempotent."""
        self._process.stop()
        self._network.stop()
        self._groups.remove()

    def _is_up(self) -> bool:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self._init = int(children[0])
        return self.says("systemctl", "is-system-running") in ("running", "degraded")


class Groups:
    """A control group in each of the machine's hierarchies, be they of version 1, 2, or mixed.

    @ivar prefix: a command that runs another one, in its own place and inside the groups.
    """

    def __init__(self, name: str) -> None:
        self._groups = [Path(mount) / name for mount in _hierarchies()]
        for group in self._groups:
            _sweep(group.parent)
            group.mkdir()
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (group.parent / "cgroup.sane_behavior").exists() and (group / setting).exists():
                    # Version 1 leaves them empty, and then nobody may enter.
                    (group / setting).write_text((group.parent / setting).read_text())
        script = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@"'
        self.prefix: Sequence[str] = ("sh", "-c", script, "sh", *map(str, self._groups), "--")

    def remove(self) -> None:
        """Remove them, once all in them have ended. Idempotent."""
        for group in self._groups:
            _remove(group)


def _hierarchies() -> list[str]:
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [words[1] for words in lines if words[2] in ("cgroup", "cgroup2")]


def _sweep(hierarchy: Path) -> None:
    """Remove what a test left behind whose process was killed."""
    for group in hierarchy.glob(f"{_PREFIX}*"):
        if not Path("/proc", group.name.removeprefix(_PREFIX).partition("-")[0]).exists():
            _remove(group, seconds=0)


def _remove(group: Path, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while group.exists():
        try:
            for directory, _, _ in os.walk(group, topdown=False):
                os.rmdir(directory)
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)


def wait_active(system: Booted, unit: str, seconds: float = 30) -> None:
    """Wait until a unit is active."""
    until(f"{unit} is active", lambda: system.says("systemctl", "is-active", unit) == "active", seconds)
