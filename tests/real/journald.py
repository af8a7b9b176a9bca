"""A systemd-journald of the test's own, with a catalog that has crcache's messages, in a mount namespace."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.real.processes import Process, program, run, until

CATALOG = Path(__file__).resolve().parents[2] / "systemd" / "crcache.catalog"
_DAEMON = "/lib/systemd/systemd-journald"

# The kernel's messages are left to the journald that gets them already, if there is one.
_SCRIPT = """\
set -e
mkdir -p /run/systemd /run/log /var/lib/systemd/catalog
for place in /run/systemd /run/log /usr/lib/systemd/catalog /var/lib/systemd/catalog; do
    mount -t tmpfs none $place
done
mkdir -p /run/systemd/journal /run/log/journal
mount --bind /dev/null /dev/kmsg
cp "$0" /usr/lib/systemd/catalog/
journalctl --update-catalog
exec "$1"
"""

# What systemd says of standard error to the services that it starts; systemd-cat of Debian 12 does not.
_STREAM = 'JOURNAL_STREAM=$(stat --dereference --format=%d:%i /proc/self/fd/2) exec "$@"'


class Journald:
    """It runs until L{stop}, or until this process ends.

    @ivar prefix: the words that run the command behind them where this one is the journal, and where standard output
        and standard error go into it.
    """

    def __init__(self, directory: Path) -> None:
        command = ["unshare", "--mount", "sh", "-c", _SCRIPT, str(CATALOG), _DAEMON]
        self._process = Process(command, directory / "journald.log")
        self._inside = (program("nsenter"), f"--mount=/proc/{self._process.pid}/ns/mnt", "--")
        self._process.ready("socket", self._answers)
        self.prefix = (*self._inside, program("systemd-cat"), "sh", "-c", _STREAM, "sh")

    def _answers(self) -> bool:
        # The socket can be there before anybody reads from it.
        return "Journal started" in self.show("--quiet", check=False)

    def show(self, *words: str, check: bool = True) -> str:
        """What journalctl says with these words."""
        try:
            return run([*self._inside, "journalctl", "--directory=/run/log/journal", "--no-pager", *words])
        except AssertionError:
            if check:
                raise
            return ""

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """The entries that match, in their order."""
        return [json.loads(line) for line in self.show("--output=json", "--all", *matches).splitlines()]

    def hang(self) -> None:
        """Take nothing any more."""
        os.kill(self._process.pid, signal.SIGSTOP)
        state = Path(f"/proc/{self._process.pid}/stat")
        until("journald stands still", lambda: state.read_text().rpartition(")")[2].split()[0] == "T")

    def go_on(self) -> None:
        """Undo L{hang}."""
        os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it. Idempotent."""
        self._process.stop()
