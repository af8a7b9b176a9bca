"""The figures, the table, and what is to be reached."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks.measure import MIB, Plan, Samples

Figures = dict[str, float]

#: What crcache's times may be, as multiples of nginx's; its memory, in bytes; and the copies an origin may send.
TIMES: Mapping[str, float] = {"cold": 1.5, "warm": 1.0, "warm_few": 1.0, "crowd": 1.0}
BOUNDS: Mapping[str, float] = {
    "crowd_copies": 1.0,
    "idle_bytes": 60 * MIB,
    "above_idle_bytes": 30 * MIB,
    "start": 1.0,
    "kept": 1.0,
}
#: And what its throughput is to be where room has to be made all the time, as a part of what it is where there is room.
LEAST: Mapping[str, float] = {"turnover": 0.8}
#: What others are computed from.
UNJUDGED = frozenset({"pieces", "pieces_full"})


def figures(samples: Samples, plan: Plan) -> Figures:
    """One number for each row: medians of times, and the worst of everything else."""
    found = {
        "cold": median(samples.cold),
        "warm": median(samples.warm),
        "warm_few": median(samples.few),
        "crowd": median(samples.crowd),
        "crowd_copies": max(samples.copies),
        "crowd_wrong_bodies": plan.many - min(samples.right),
        "idle_bytes": max(samples.idle),
        "above_idle_bytes": max(samples.above),
        "start": median(samples.start),
        "pieces": median(samples.free),
    }
    if samples.full:
        found["pieces_full"] = median(samples.full)
        found["kept"] = max(samples.kept)
        found["turnover"] = median(free / full for free, full in zip(samples.free, samples.full, strict=True))
    return found


def missed(servers: Mapping[str, Figures]) -> list[str]:
    """The names of crcache's figures that are not what is to be reached."""
    own, peer = servers["crcache"], servers["nginx"]
    late = [name for name, factor in TIMES.items() if own[name] > factor * peer[name]]
    high = [name for name, bound in BOUNDS.items() if own[name] > bound]
    low = [name for name, bound in LEAST.items() if own[name] < bound]
    return [*late, *high, *low, *(["crowd_wrong_bodies"] if own["crowd_wrong_bodies"] else [])]


def table(servers: Mapping[str, Figures], plan: Plan) -> str:
    """For people: a row for each figure, a column for each server, times with their ratio to nginx's."""
    layer, crowd = f"{plan.layer // MIB} MiB", f"{plan.crowd // MIB} MiB"
    labels = {
        "cold": f"cold {layer}, 1 client",
        "warm": f"warm {layer}, 1 client",
        "warm_few": f"warm {layer}, {plan.few} clients at once",
        "crowd": f"cold {crowd}, {plan.many} clients at once",
        "crowd_copies": "  sent by the origin, copies",
        "crowd_wrong_bodies": "  bodies that were wrong",
        "idle_bytes": "memory, idle",
        "above_idle_bytes": "memory, peak above idle",
        "start": f"start with {plan.files} files cached",
        "pieces": f"cold {plan.pieces} x {plan.piece // MIB} MiB, {plan.few} clients at once",
        "pieces_full": f"  the same, {plan.kept // MIB} MiB may be kept",
        "turnover": "  throughput, of that with room for all",
        "kept": "  kept in the end, of what may be",
    }
    late = missed(servers)
    lines = [["", *servers, "to reach", ""]]
    for name, label in labels.items():
        cells = [_cell(name, its.get(name), servers["nginx"][name]) for its in servers.values()]
        reached = "" if name in UNJUDGED else "MISSED" if name in late else "reached"
        lines.append([label, *cells, _target(name), reached])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def document(servers: Mapping[str, Figures], samples: Mapping[str, Samples], plan: Plan) -> dict[str, Any]:
    """For machines: the figures, all that they were made from, and where."""
    return {
        "machine": {"system": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()},
        "plan": asdict(plan),
        "servers": servers,
        "samples": {name: asdict(its) for name, its in samples.items()},
        "targets": {"times nginx's": TIMES, "at most": BOUNDS, "at least": LEAST},
        "missed": missed(servers),
    }


def _cell(name: str, value: float | None, peer: float) -> str:
    if value is None:
        return "-"
    if name in TIMES or name in UNJUDGED or name == "start":
        return f"{value:.3f} s ({value / peer:.2f}x)"
    if name.endswith("_bytes"):
        return f"{value / MIB:.1f} MiB"
    return f"{value:.4g}"


def _target(name: str) -> str:
    if name in TIMES:
        return f"<= {TIMES[name]:.2f}x"
    if name in UNJUDGED:
        return ""
    if name in LEAST:
        return f">= {LEAST[name]:g}"
    if name == "start":
        return f"<= {BOUNDS[name]:g} s"
    bound = BOUNDS.get(name, 0)
    return f"<= {bound / MIB:.0f} MiB" if name.endswith("_bytes") else f"<= {bound:g}"
