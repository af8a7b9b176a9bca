"""The benchmark runs, and what it says of correctness holds."""

from __future__ import annotations

import json
import sys

from tests.real.daemon import ROOT
from tests.real.processes import run
from tests.real.scene import Scene


class BenchTests(Scene):
    """`python -m benchmarks --quick`, whose sizes are too small for its times to mean anything."""

    def test_quick(self) -> None:
        """
        Every server gives every figure; crcache has the origin send a crowd's blob once, every body of the crowd's is
        right, and it keeps what it may, however fast more comes.
        """
        results = self.directory / "results.json"
        run([sys.executable, "-m", "benchmarks", "--quick", "--json", str(results)], directory=ROOT)
        servers = json.loads(results.read_text())["servers"]
        self.assertEqual(set(servers), {"crcache", "nginx", "docker-registry"})
        for name, figures in servers.items():
            for figure in ("cold", "warm", "warm_few", "crowd", "idle_bytes", "start", "pieces"):
                self.assertGreater(figures[figure], 0, f"{name}: {figure}")
        self.assertEqual(servers["crcache"]["crowd_copies"], 1)
        self.assertEqual(servers["crcache"]["crowd_wrong_bodies"], 0)
        self.assertGreater(servers["crcache"]["turnover"], 0)
        self.assertGreater(servers["crcache"]["kept"], 0.1)
        self.assertLessEqual(servers["crcache"]["kept"], 1)
