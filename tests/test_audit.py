"""The answers to what is known of Debian 12's versions: whole, and known to `make audit`."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[1]


class AnswersTests(SynchronousTestCase):
    """The table in `docs/dependencies.md`."""

    def setUp(self) -> None:
        text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
        self.rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in text.splitlines()
            if re.match(r"\| (CVE|GHSA)", line)
        ]

    def test_rows(self) -> None:
        """Each advisory is there once, is of something in use, and says what it is and why it is none of ours."""
        pins = (ROOT / "requirements/oldest.txt").read_text(encoding="utf-8").lower()
        self.assertGreater(len(self.rows), 20)
        for advisory, package, what, ours, _ in self.rows:
            self.assertIn(f"\n{package.lower()} == ", pins, advisory)
            self.assertTrue(what and ours, advisory)
        self.assertEqual(len({row[0] for row in self.rows}), len(self.rows))

    def test_left_out(self) -> None:
        """`make audit` leaves out these, and nothing else."""
        script = (ROOT / "tools/audit.sh").read_text(encoding="utf-8")
        found = re.search(r"(?m)^answered=\$\((sed .*)\)$", script)
        assert found is not None
        said = subprocess.run(["sh", "-c", found[1]], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        self.assertEqual(said.split(), [word for row in self.rows for word in ("--ignore-vuln", row[0])])
