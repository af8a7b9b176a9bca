"""A host's root directory, and C{crcache hosts} on it."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crcache.cli import main

CONFIG, HOSTS = "etc/containerd/config.toml", "etc/containerd/certs.d/_default/hosts.toml"
GOOD = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
MARK = "# Written by 'crcache hosts', which also removes it: sha256 "


class HostCase(SynchronousTestCase):
    """
    @ivar root: the host's root directory, empty.
    """

    def setUp(self) -> None:
        """Make it."""
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir(parents=True)

    def put(self, path: str, text: str, mode: int = 0o644) -> Path:
        """Write a file of the host's."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def text(self, path: str) -> str | None:
        """What is in a file; C{None} if it is not there."""
        file = self.root / path
        return file.read_text() if file.exists() else None

    def files(self) -> dict[str, str]:
        """All files of the host, by their paths."""
        return {str(each.relative_to(self.root)): each.read_text() for each in self.root.rglob("*") if each.is_file()}

    def hosts(self, *flags: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr, the root cut out of these."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(["hosts", "--root", str(self.root), *flags])
        return status, out.getvalue().replace(str(self.root), ""), err.getvalue().replace(str(self.root), "")

    def report(self, *flags: str) -> dict[str, Any]:
        """What C{--json} prints."""
        report: dict[str, Any] = json.loads(self.hosts("--json", *flags)[1])
        return report

    def good(self, *flags: str) -> str:
        """Run it to good end; what it printed."""
        status, out, err = self.hosts(*flags)
        self.assertEqual((status, err), (0, ""))
        return out

    def bad(self, *flags: str) -> str:
        """Run it; the one line of what is wrong."""
        status, _, err = self.hosts(*flags)
        self.assertEqual((status, err.count("\n")), (1, 1), err)
        return err.removeprefix("crcache: ").rstrip("\n")

    def no_leftovers(self) -> None:
        """No temporary file is left."""
        self.assertEqual([each for each in self.files() if os.path.basename(each).startswith(".")], [])
