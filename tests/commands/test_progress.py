"""L{crcache.commands.progress} and L{crcache.commands.output}."""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import redirect_stderr, redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from crcache.commands import output
from crcache.commands.progress import Progress, wanted

SCRIPT = """
from argparse import Namespace
import sys, time
from crcache.commands.progress import Progress, wanted
with Progress("verify", 4096, shown=wanted(Namespace(json=%s))) as progress:
    progress.advance(2048)
    progress.expect(8192)
    progress.tell("a line")
print("tqdm" in sys.modules)
"""


class ProgressTests(SynchronousTestCase):
    """L{Progress}."""

    def run_script(self, json: bool) -> tuple[str, str]:
        """@return: stdout, and what a terminal on stderr was sent."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        try:
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT % json],
                stdout=subprocess.PIPE,
                stderr=theirs,
                timeout=60,
                check=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            return done.stdout.decode(), os.read(ours, 65536).decode()
        finally:
            os.close(ours)
            os.close(theirs)

    def test_terminal(self) -> None:
        """On a terminal there is a bar, with lines above it."""
        out, drawn = self.run_script(False)
        self.assertEqual(out, "True\n")
        self.assertIn("verify:", drawn)
        self.assertIn("2.00k/8.00k", drawn)
        self.assertIn("a line\r\n", drawn)

    def test_json(self) -> None:
        """With C{--json} there is none, not on a terminal either; lines are told all the same."""
        self.assertEqual(self.run_script(True), ("False\n", "a line\r\n"))

    def test_no_tqdm(self) -> None:
        """Without what draws them there are no bars, and everything else."""
        shown = io.StringIO()
        self.patch(sys, "stderr", shown)
        self.patch(sys, "modules", {**sys.modules, "tqdm": None})
        with Progress("verify", 4096, shown=True) as progress:
            progress.advance(2048)
            progress.expect(8192)
            progress.tell("a line")
        self.assertEqual(shown.getvalue(), "a line\n")

    def test_pipe(self) -> None:
        """Nothing is drawn into a pipe."""
        err = io.StringIO()
        with redirect_stderr(err), Progress("verify", 4, shown=wanted(argparse.Namespace(json=False))) as progress:
            progress.advance(2)
        self.assertEqual(err.getvalue(), "")


class OutputTests(SynchronousTestCase):
    """What people read."""

    def test_sizes(self) -> None:
        """Sizes have as many digits as one can compare at a glance."""
        shown = [output.size(count) for count in (0, 1023, 1024, 1536, 100 << 20, 5 << 30, 3 << 40, None)]
        self.assertEqual(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 MiB", "5.0 GiB", "3.0 TiB", "?"])

    def test_ages(self) -> None:
        """Ages change their unit where one of the next is too coarse; the future is now."""
        shown = [output.age(100 * 86400 - ago, 100 * 86400) for ago in (-5, 0, 119, 120, 7199, 7200, 172799, 172800)]
        self.assertEqual(shown, ["0s", "0s", "119s", "2m", "119m", "2h", "47h", "2d"])
        self.assertEqual(output.age(None, 5), "-")

    def test_moments(self) -> None:
        """Moments are RFC 3339's; a file's time may be one that no calendar has."""
        self.assertEqual(output.moment(0), "1970-01-01T00:00:00Z")
        self.assertIsNone(output.moment(None))
        self.assertIsNone(output.moment(1e30))

    def test_table(self) -> None:
        """Columns are as wide as they need, and nothing trails."""
        out = io.StringIO()
        with redirect_stdout(out):
            output.table(["NAME", "SIZE", "X"], [["a", "10", ""], ["long name", "5", "y"]], frozenset({"SIZE"}))
        self.assertEqual(out.getvalue(), "NAME       SIZE  X\na            10\nlong name     5  y\n")
