"""Several processes on one directory, all at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from crcache.errors import StoreError
from crcache.eviction import bounded
from crcache.evictor import Evictor
from crcache.grammar.digest import Digest
from crcache.settings import Bounds
from crcache.store.filesystem import Filesystem
from crcache.workers import Inline
from tests.eviction.case import EvictionCase
from tests.store.other import now

KIB = 1024
MOST = 400 * KIB
TIMES = 40
_TOP = Path(__file__).parents[2]


def work(root: Path, seed: int) -> None:
    """Store what is like nothing else, as often as told, and look after the bounds now and then."""
    bounded.AHEAD = 0
    evictor = Evictor(root, lambda: Bounds(MOST, 0, 1.0, 0.9), Inline(), None)
    evictor._stopped.clear()
    store = Filesystem(root, Inline(), time.time, changed=evictor.tally.changed, space=evictor.space)
    store.start()
    chance = random.Random(seed)
    refused = 0
    for number in range(TIMES):
        data = os.urandom(chance.randrange(KIB, 20 * KIB))
        try:
            now(store.put(Digest.of(data), data))
        except StoreError:
            refused += 1
        if number % 10 == 0:
            evictor.look()
            evictor.walk()
    evictor.stop()
    print(refused)


class ProcessesTests(EvictionCase):
    """Four of them, three of which store as fast as they can."""

    def test_at_once(self) -> None:
        """There is never more than there may be, and no room is lost. What somebody commits in the very moment of
        another one's walk may be counted twice, until the next walk; nothing else is, or not at all."""
        self.bounds = Bounds(MOST, 0, 1.0, 0.9)
        self.walk()
        script = "import sys; from pathlib import Path; from tests.eviction.test_processes import work"
        command = [sys.executable, "-c", f"{script}; work(Path(sys.argv[1]), int(sys.argv[2]))", str(self.root)]
        processes = [
            subprocess.Popen([*command, str(seed)], cwd=_TOP, stdout=subprocess.PIPE, text=True) for seed in range(3)
        ]
        most = 0
        while any(process.poll() is None for process in processes):
            most = max(most, self.there())
            time.sleep(0.005)
        refused = [int(process.communicate()[0] or -1) for process in processes]
        self.assertEqual([process.returncode for process in processes], [0, 0, 0])
        self.assertLessEqual(most, MOST)
        self.assertGreater(most, MOST // 2)
        self.assertLess(sum(refused), TIMES // 4)
        content = self.content()
        assert content is not None
        self.assertLessEqual(abs(content - self.held()), 3 * 20 * KIB)
        self.walk()
        self.assertEqual(self.content(), self.held())
        hold = self.evictor.space.hold()
        hold.take(MOST // 2)
        self.assertLessEqual(self.held(), MOST // 2)

    def there(self) -> int:
        """The bytes of all content, while it comes and goes."""
        total = 0
        for path in self.root.glob("blobs/sha256/*"):
            try:
                total += 0 if path.name.startswith(".") else path.stat().st_size
            except FileNotFoundError:
                continue
        return total
