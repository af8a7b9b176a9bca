"""Many files: 100,000, or a million by hand, with C{CRCACHE_LONG=1} in the environment."""

from __future__ import annotations

import os
import resource
import sys
import time

from crcache.eviction.naming import named
from crcache.eviction.plan import MOST, Plan
from crcache.settings import Bounds
from tests.eviction.case import TOTAL, EvictionCase
from tests.eviction.tree import make

LONG = "CRCACHE_LONG" in os.environ
FILES = 1_000_000 if LONG else 100_000


class LargeTests(EvictionCase):
    """A tenth of them manifests."""

    timeout = 3600
    # A disk takes longer to make so many files than everything else does.
    where = "/dev/shm" if not LONG and os.access("/dev/shm", os.W_OK) else None

    def test_walk(self) -> None:
        """All are counted, those that go next are in order, and manifests before their layers; then some go."""
        total = make(self.root, FILES, self.now)
        began, cpu = time.monotonic(), time.process_time()
        self.bounds = Bounds(1 << 62, 0)
        self.walk()
        took, worked = time.monotonic() - began, time.process_time() - cpu
        self.assertEqual(self.content(), total)
        steps = list(Plan(self.layout).steps())
        self.assertEqual(len(steps), min(FILES, MOST))
        places = {step.digest: place for place, step in enumerate(steps)}
        for place, step in enumerate(steps):
            if step.size < 1 << 16:
                for child in named(self.layout, step.digest):
                    self.assertGreater(places.get(child, FILES), place)
        self.bounds = Bounds(total * 99 // 100, 0, 1.0, 1.0)
        began = time.monotonic()
        self.evictor.look()
        content = self.content()
        assert content is not None
        self.assertLessEqual(content, total * 99 // 100)
        self.assertLess(total, TOTAL * 1000)
        if LONG:
            removed = time.monotonic() - began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            told = f"{FILES} files: {took:.1f} s, {worked:.1f} s of processor; {removed:.1f} s for {len(self.evicted)}"
            print(f"{told} removed; peak {peak} MiB", file=sys.stderr)
