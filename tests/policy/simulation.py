"""How many bytes caches would save with different ways of choosing what goes: `python -m tests.policy.simulation`.

Nothing is fetched, and no time passes but in the trace.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from tests.policy.caches import HOUR, Cache, Ideal, Ours, Planned
from tests.policy.peers import Gdsf, Probation, S3Fifo
from tests.policy.trace import Trace, trace

#: Of the bytes of everything that is ever asked for.
ROOMS = (0.05, 0.15, 0.40)

CACHES: Mapping[str, Callable[[Trace, int], Cache]] = {
    "ideal LRU": Ideal,
    "crcache": Ours,
    "crcache, plans a day old": lambda trace, room: Ours(trace, room, every=24 * HOUR),
    "crcache, nothing inherited": lambda trace, room: Ours(trace, room, inherited=False),
    "S3-FIFO": S3Fifo,
    "LRU, with a bit more": Probation,
    "crcache, with a bit more": Planned,
    "crcache, with a bit more, plans ten minutes old": lambda trace, room: Planned(trace, room, every=HOUR / 6),
    "GDSF, for few misses": lambda trace, room: Gdsf(trace, room, lambda size: 1.0),
    "GDSF, for few bytes (LFU with aging)": lambda trace, room: Gdsf(trace, room, float),
}


def hit_ratio(cache: Cache, trace: Trace) -> float:
    """The share of all bytes asked for that the cache had."""
    had = asked = 0
    for pull in trace.pulls:
        for item in pull.wanted:
            size = trace.sizes[item]
            asked += size
            had += size * cache.ask(item, pull.time)
    return had / asked


def main() -> None:
    """Print a row for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.policy.simulation", description="hit ratios by bytes")
    parser.add_argument("--images", type=int, default=5000, metavar="N", help="how many there are (default: 5000)")
    parser.add_argument("--pulls", type=int, default=100_000, metavar="N", help="how many there are (default: 100000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another one is another trace (default: 1)")
    options = parser.parse_args()
    drawn = trace(options.images, options.pulls, seed=options.seed)
    print("| cache | " + " | ".join(f"{room:.0%}" for room in ROOMS) + " |")
    print("|---|" + "---|" * len(ROOMS))
    for name, begin in CACHES.items():
        ratios = (hit_ratio(begin(drawn, int(drawn.total * room)), drawn) for room in ROOMS)
        print(f"| {name} | " + " | ".join(f"{ratio:.2%}" for ratio in ratios) + " |", flush=True)


if __name__ == "__main__":
    main()
