"""The command: `python -m benchmarks [--quick] [--rounds N] [--json FILE] [--directory DIR]`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from benchmarks.measure import QUICK, Course, Plan, Samples
from benchmarks.report import document, figures, table
from benchmarks.servers import SERVERS
from tests.real.processes import program

T = TypeVar("T")


def main() -> None:
    """Measure every server in turn, a round at a time, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="crcache side by side with its peers")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, one round: shows that it works, not how fast"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each server starts anew (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write (default: in benchmarks/results)")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="where the caches are (default: TMPDIR)")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("python -m benchmarks: needs two processor cores, one for the server, one for all else")
    plan = QUICK if options.quick else Plan()
    if options.rounds:
        plan = replace(plan, rounds=options.rounds)
    samples = {name: Samples() for name in SERVERS}
    # The origin and the clients descend from this process.
    os.sched_setaffinity(0, {cores[1]})
    with tempfile.TemporaryDirectory(prefix="crcache-bench-", dir=options.directory) as scratch:
        course = Course(Path(scratch), plan)
        try:
            for number in range(plan.rounds):
                # Each is first, second and third in turn: none has always the same one before it.
                for name, kind in _rotated(list(SERVERS.items()), number):
                    print(f"round {number + 1} of {plan.rounds}: {name}", file=sys.stderr, flush=True)
                    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=scratch) as directory:
                        prefix = [program("taskset"), "--cpu-list", str(cores[0])]
                        course.run(kind, Path(directory), prefix, samples[name])
                        course.start(kind, Path(directory), prefix, samples[name])
                    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=scratch) as directory:
                        course.turn_over(kind, Path(directory), prefix, samples[name])
        finally:
            course.stop()
    servers = {name: figures(its, plan) for name, its in samples.items()}
    target = options.json or Path(__file__).parent / "results" / time.strftime("%Y-%m-%dT%H%M%SZ.json", time.gmtime())
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document(servers, samples, plan), indent=2) + "\n")
    print(table(servers, plan))
    print(f"\nwritten to {target}", file=sys.stderr)


def _rotated(entries: list[T], by: int) -> list[T]:
    first = by % len(entries)
    return entries[first:] + entries[:first]


main()
