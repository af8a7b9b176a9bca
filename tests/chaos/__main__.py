"""`python -m tests.chaos`: exit status 0 if no pull failed and no byte was wrong, else 1."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Plan, Run


def main() -> int:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(prog="tests.chaos", description="pull images while everything fails")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is left to chance (1)")
    parser.add_argument("--images", type=int, default=Plan.images, help="how many there are (200)")
    parser.add_argument("--clients", type=int, default=Plan.clients, help="that pull at once (8)")
    parser.add_argument("--share", type=float, default=Plan.share, help="of its answers are bad (0.2; at most 0.5)")
    parser.add_argument("--kills", type=float, default=Plan.kills, help="seconds between two kills (6); 0: none")
    parser.add_argument("--vanish", type=float, default=Plan.vanish, help="files that vanish, a second (10); 0: none")
    parser.add_argument("--keep", action="store_true", help="keep logs and cache directory, and say where they are")
    said = parser.parse_args()
    if not 0 <= said.share <= 0.5:
        parser.error("--share is from 0 to 0.5")
    plan = Plan(said.seed, said.minutes * 60, said.images, said.clients, said.share, said.kills, said.vanish)
    directory = Path(tempfile.mkdtemp(prefix="crcache-chaos-"))
    try:
        run = Run(plan, directory)
        run.go()
        lines, good = run.report()
    finally:
        if not said.keep:
            shutil.rmtree(directory, ignore_errors=True)
    print("\n".join(lines))
    if said.keep:
        print(f"kept: {directory}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
