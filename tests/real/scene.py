"""What every real test starts from: a directory of its own, and an end to all that it began."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.real.daemon import Daemon
from tests.real.processes import program, run


class Stoppable(Protocol):
    """Something that runs."""

    def stop(self) -> None:
        """End it. Idempotent."""


S = TypeVar("S", bound=Stoppable)

#: What every C{curl} here begins with: nothing but the answer, failures told, no proxy of the machine's.
CURL = ("curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60")


class Scene(SynchronousTestCase):
    """A test with real components. What it made is ended and removed in the reverse order, also when it fails.

    @ivar directory: its own, and empty.
    """

    def setUp(self) -> None:
        """Make the directory."""
        self.directory = Path(tempfile.mkdtemp(prefix="crcache-real-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)

    def place(self, name: str) -> Path:
        """A directory in the test's own."""
        place = self.directory / name
        place.mkdir()
        return place

    def ending(self, begun: S) -> S:
        """C{begun}, which is stopped when the test ends."""
        self.addCleanup(begun.stop)
        return begun

    def crcache(self, *arguments: Any, **settings: Any) -> Daemon:
        """A daemon, made as L{Daemon} is. When the test ends it is stopped, and must have logged no traceback."""
        daemon = Daemon(*arguments, **settings)
        self.addCleanup(self._end, daemon)
        return daemon

    def _end(self, daemon: Daemon) -> None:
        daemon.stop()
        self.assertNotIn("Traceback", daemon.said())

    def head(self, url: str, *flags: str) -> dict[str, str]:
        """The header fields, names in lower case, of the answer to a HEAD; C{:status} is its status."""
        lines = run([*CURL, "--head", *flags, url]).splitlines()
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return {**fields, ":status": lines[0].split()[1]}

    def get(self, url: str, *flags: str) -> str:
        """The sha256 digest of the body of the answer, whatever its size. The status must be a good one."""
        body = self.directory / "body"
        run([*CURL, "--fail", "--output", str(body), *flags, url])
        return digest_of(body)


class Download:
    """A GET in the background, its body put into a file."""

    def __init__(self, url: str, body: Path, flags: Sequence[str] = ()) -> None:
        self._body = body
        self._child = subprocess.Popen(
            [program("curl"), *CURL[1:], "--fail", "--output", str(body), *flags, url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self) -> int:
        """curl's exit status, once it has ended."""
        return self._child.wait(90)

    def size(self) -> int:
        """Bytes that have come so far."""
        return self._body.stat().st_size if self._body.exists() else 0

    def digest(self) -> str:
        """The sha256 digest of the body as far as it came."""
        return digest_of(self._body)

    def stop(self) -> None:
        """End it. Idempotent."""
        self._child.kill()
        self._child.wait(10)


def digest_of(file: Path) -> str:
    """The sha256 digest of a file."""
    with file.open("rb") as opened:
        return "sha256:" + hashlib.file_digest(opened, "sha256").hexdigest()
