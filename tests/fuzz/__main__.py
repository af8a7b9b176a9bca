"""`python -m tests.fuzz`: exit status 0 if nothing was found, else 1."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TextIO

from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS

#: Examples of one target before it is the next one's turn, at first, and at most.
FIRST, MOST = 50, 5000


def fuzz(
    targets: Sequence[Target], seconds: float, seed: int, said: TextIO, clock: Callable[[], float] = time.monotonic
) -> int:
    """Try all targets in turn until the time is over, each at least once, and longer each time. What was found is told
    with the smallest example, and its target left out from then on.

    @return: how many targets failed.
    """
    until = clock() + seconds
    left, failed, examples, turn = list(targets), 0, FIRST, 0
    counts = dict.fromkeys((target.name for target in targets), 0)
    while left and (turn == 0 or clock() < until):
        for target in tuple(left):
            if turn and clock() >= until:
                break
            try:
                target.try_some(examples, f"{seed}/{turn}/{target.name}")
            except Exception:
                left.remove(target)
                failed += 1
                print(f"{target.name}, seed {seed}, turn {turn}:\n{traceback.format_exc()}", file=said)
            counts[target.name] += examples
        turn, examples = turn + 1, min(examples * 2, MOST)
    for name, count in counts.items():
        print(f"{name}: {count} examples", file=said)
    good = f"successes={len(targets) - failed}"
    print(f"FAILED (failures={failed}, {good})" if failed else f"PASSED ({good})", file=said)
    return failed


def main() -> int:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description="say everything to everything that reads")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--seed", type=int, help="of all that is left to chance (a new one each time)")
    parser.add_argument("--only", choices=[target.name for target in TARGETS], help="one target alone")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="crcache-fuzz-") as directory:
        os.chdir(directory)
        targets = [target for target in TARGETS if given.only in (None, target.name)]
        failed = fuzz(targets, given.minutes * 60, seed, sys.stdout)
        os.chdir("/")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
