"""The log of a real C{twistd -n crcache}, in each form that needs no journal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")


class TwistdTests(SynchronousTestCase):
    """twistd logs to what crcache has chosen."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.file = self.directory / "crcache.yaml"
        self.configure()

    def configure(self, **keys: str) -> None:
        """Write the configuration."""
        keys = {"listen": "tcp:0:interface=127.0.0.1", "admin": "off", **keys}
        cache = {"directory": str(self.directory / "cache")}
        self.file.write_text(json.dumps({**keys, "cache": cache}))

    def run_it(self, *flags: str, twistd: tuple[str, ...] = (), reload: dict[str, str] | None = None) -> str:
        """Start it, have it read its configuration again if that is wanted, and end it; returns what it has said."""
        told = self.directory / "output"
        environ = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
        with told.open("wb") as output:
            child = subprocess.Popen(
                [*_TWISTD, *twistd, "crcache", "--config", str(self.file), *flags],
                cwd=ROOT,
                env={**environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        # SIGTERM is heeded as soon as the reactor runs, SIGHUP just before.
        status = Path(f"/proc/{child.pid}/status")
        self._until(child, lambda: _caught(status) >= {signal.SIGHUP, signal.SIGTERM})
        if reload is not None:
            self.configure(**reload)
            child.send_signal(signal.SIGHUP)
            self._until(child, lambda: "was read again" in told.read_text())
        child.send_signal(signal.SIGTERM)
        child.wait(20)
        return told.read_text()

    def _until(self, child: subprocess.Popen[bytes], holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            self.assertIsNone(child.poll(), (self.directory / "output").read_text())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_text(self) -> None:
        """Text is as twistd writes it, without twistd's own chatter; a flag of twistd's still names the file."""
        file = self.directory / "crcache.log"
        self.assertEqual(self.run_it(twistd=("--logfile", str(file))), "")
        lines = file.read_text().splitlines()
        self.assertRegex(lines[0], r"\A\S+ \[crcache\.daemon#info\] crcache \S+ is ready on 127\.0\.0\.1:\d+\Z")
        self.assertTrue(lines[-1].endswith("has stopped"), lines)
        self.assertNotIn("twisted", file.read_text())

    def test_json(self) -> None:
        """Every line is a JSON object, from the first to the last; the lowest level shows Twisted's lines too."""
        lines = [json.loads(line) for line in self.run_it("--log-format", "json", "--log-level", "debug").splitlines()]
        named = [each["event"] for each in lines if "event" in each]
        self.assertEqual((named[0], named[-1]), ("ready", "stopped"))
        foreign = {each["level"] for each in lines if each["logger"].startswith("twisted")}
        self.assertEqual(foreign, {"debug"})

    def test_levels(self) -> None:
        """A level of the file's holds until the file says another and is read again."""
        self.configure(**{"log-level": "error"})
        told = self.run_it(reload={"log-level": "info"})
        self.assertNotIn("is ready", told)
        self.assertIn("was read again", told)
        self.assertIn("has stopped", told)

    def test_cannot_start(self) -> None:
        """What keeps it from starting is told in that form too, and on standard error."""
        (self.directory / "cache").write_text("")
        done = subprocess.run(
            [*_TWISTD, "crcache", "--config", str(self.file), "--log-format", "json"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        (line,) = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual((line["level"], line["event"]), ("critical", "cannot-start"))
        self.assertIn(line["problem"], done.stderr)


def _caught(status: Path) -> set[int]:
    """The signals that a process has handlers for (proc_pid_status(5))."""
    (mask,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt"))
    return {number for number in range(1, 32) if int(mask, 16) >> (number - 1) & 1}
