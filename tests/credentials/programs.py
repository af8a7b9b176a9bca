"""Credential helpers as real programs: shell scripts in a directory that is alone on C{PATH}."""

from __future__ import annotations

import shlex
from pathlib import Path

#: Answers with a user and a password that has the server's name in it.
HONEST = """
read -r server || true
printf '{"ServerURL":"%s","Username":"puller","Secret":"secret-of-%s"}' "$server" "$server"
"""


class Shelf:
    """A directory of helpers.

    @ivar environ: with it, and the system's own programs, on C{PATH}.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory.absolute()
        self.runs = self.directory / "runs"
        self.environ = {"PATH": f"{self.directory}:/usr/bin:/bin"}

    def add(self, name: str, script: str = HONEST) -> Path:
        """A helper that counts how often it is run, and then does what the script says."""
        path = self.directory / f"docker-credential-{name}"
        draft = path.with_suffix(".new")
        draft.write_text(f'#!/bin/sh\necho {shlex.quote(name)} "$@" >>{shlex.quote(str(self.runs))}\n{script}')
        draft.chmod(0o755)
        draft.rename(path)
        return path

    def said(self, text: str, status: int = 0) -> str:
        """The script of one that says this."""
        return f"cat >/dev/null\nprintf %s {shlex.quote(text)}\nexit {status}\n"

    @property
    def count(self) -> int:
        """How often any of them has been run."""
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0
