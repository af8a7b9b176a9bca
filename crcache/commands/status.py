"""C{crcache status}: what the daemons on this host are doing."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crcache.commands import output, place
from crcache.commands.admin_client import Address, Answer, address_of, ask_all, sockets_in
from crcache.commands.outcome import DONE, FAILED, Misused
from crcache.errors import CrcacheError
from crcache.inventory.contents import walk
from crcache.inventory.problems import Problems
from crcache.settings import Config
from crcache.store import version
from crcache.store.layout import Layout

NAME = "status"
HELP = "show whether the daemon runs, and what it does"

_RUNTIME = Path("/run/crcache")
_LONGEST_LABEL = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Ask the admin listener that is configured, and those of the template unit's instances, and sum what they say."
        " If none of them answers, status is 1, and what is in the cache directory is told."
    )
    place.add_arguments(parser)
    parser.add_argument(
        "--admin",
        metavar="ENDPOINT",
        action="append",
        default=[],
        help="ask this admin listener instead (tcp:PORT, unix:PATH); may be repeated",
    )
    output.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show it.

    @raise Misused: for an endpoint that is none.
    @raise CrcacheError: with the line to print instead.
    """
    settings = place.load(arguments)
    addresses, unasked = _addresses(arguments, settings)
    answers = ask_all(addresses)
    up = [answer for answer in answers if answer.status is not None]
    report: dict[str, Any] = {
        "up": bool(up),
        "daemons": [_daemon(answer) for answer in answers],
        "total": _total(up),
        "directory": None if up else _directory(settings.cache_directory),
    }
    if arguments.json:
        output.print_json(report)
    else:
        _tell(report)
    for endpoint in unasked:
        print(f"crcache: {endpoint} cannot be asked from here", file=sys.stderr)
    return DONE if up else FAILED


def _addresses(arguments: argparse.Namespace, settings: Config) -> tuple[list[Address], list[str]]:
    """Whom to ask, each once; and the endpoints that cannot be asked."""
    endpoints = arguments.admin or ([settings.admin] if settings.admin else [])
    found: dict[Address, None] = {}
    unasked = []
    for endpoint in endpoints:
        try:
            address = address_of(endpoint)
        except ValueError as error:
            raise Misused(f"--admin: {error}") from error
        if address is None:
            unasked.append(endpoint)
        else:
            found[address] = None
    if not arguments.admin:
        runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        found.update((address, None) for address in sockets_in(Path(runtime) if runtime else _RUNTIME))
    return list(found), unasked


def _daemon(answer: Answer) -> dict[str, Any]:
    status = answer.status
    if status is None:
        return {"address": str(answer.address), "up": False, "problem": answer.problem}
    return {
        "address": str(answer.address),
        "up": True,
        "version": _text(status.get("version")),
        "pid": status.get("pid"),
        "uptime": _number(status.get("uptime_seconds")),
        "draining": status.get("draining") is True,
        "cacheDirectory": _text(status.get("cache_directory")),
        "failing": _failing(status.get("failing")),
        **_counts(answer),
    }


def _failing(said: object) -> list[dict[str, Any]]:
    entries = [each for each in said if isinstance(each, dict)] if isinstance(said, list) else []
    return [
        {
            "registry": _text(each.get("registry")),
            "seconds": _number(each.get("seconds")),
            "problem": None if each.get("problem") is None else _text(each.get("problem")),
        }
        for each in entries
    ]


def _counts(answer: Answer) -> dict[str, Any]:
    status = answer.status or {}
    counters = status.get("counters")
    counters = counters if isinstance(counters, Mapping) else {}
    by_cache = _by_cache(answer.metrics)
    return {
        "requests": int(_number(counters.get("requests"))),
        "hits": by_cache["hit"],
        "cacheable": sum(count for word, count in by_cache.items() if word != "none"),
        "sentBytes": int(_number(counters.get("sent_bytes"))),
        "upstreamBytes": int(_number(counters.get("upstream_bytes"))),
        "fills": int(_number(counters.get("fills"))),
        "cacheBytes": _count(status.get("cache_bytes")),
        "cacheMaxBytes": _count(status.get("cache_max_bytes")),
    }


def _by_cache(metrics: str) -> Counter[str]:
    """Requests by what the cache had to do with them."""
    from prometheus_client.parser import text_string_to_metric_families

    found: Counter[str] = Counter()
    lines = [line for line in metrics.splitlines() if line.startswith("crcache_requests_total")]
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                found[sample.labels.get("cache", "none")[:_LONGEST_LABEL]] += int(sample.value)
    except (ValueError, OverflowError):
        return Counter()
    return found


def _total(up: list[Answer]) -> dict[str, Any] | None:
    """The sums. The cache's bytes are those of each directory once, for several daemons share one."""
    if not up:
        return None
    counts = [_counts(answer) for answer in up]
    summed: dict[str, Any] = {
        key: sum(each[key] for each in counts)
        for key in ("requests", "hits", "cacheable", "sentBytes", "upstreamBytes", "fills")
    }
    for key in ("cacheBytes", "cacheMaxBytes"):
        directories: dict[str, int] = {}
        for answer, each in zip(up, counts, strict=True):
            if each[key] is not None:
                directories[str((answer.status or {}).get("cache_directory"))] = each[key]
        summed[key] = sum(directories.values()) if directories else None
    summed["hitRatio"] = round(summed["hits"] / summed["cacheable"], 4) if summed["cacheable"] else None
    return summed


def _directory(path: Path) -> dict[str, Any]:
    """What a cache directory says of itself."""
    found: dict[str, Any] = {"path": str(path), "problem": None, "files": None, "bytes": None}
    layout = Layout(path)
    try:
        if not version.check(layout):
            return {**found, "problem": "there is no cache in it"}
    except FileNotFoundError:
        return {**found, "problem": "there is no cache in it"}
    except OSError as error:
        return {**found, "problem": error.strerror}
    except CrcacheError as error:
        return {**found, "problem": error.message}
    sizes = [held.size for held in walk(layout, Problems())]
    return {**found, "files": len(sizes), "bytes": sum(sizes)}


def _tell(report: Mapping[str, Any]) -> None:
    for each in report["daemons"]:
        if not each["up"]:
            print(f"{each['address']}: down ({each['problem']})")
            continue
        draining = ", draining" if each["draining"] else ""
        print(f"{each['address']}: up for {output.age(0, each['uptime'])}{draining}, version {each['version']}")
        for failing in each["failing"]:
            why = f": {failing['problem']}" if failing["problem"] else ""
            print(f"{each['address']}: {failing['registry']} fails since {output.age(0, failing['seconds'])}{why}")
    if not report["daemons"]:
        print("no admin listener is configured")
    total, directory = report["total"], report["directory"]
    if total is not None:
        ratio = "-" if total["hitRatio"] is None else f"{100 * total['hitRatio']:.1f} %"
        print(f"requests:   {total['requests']}, {ratio} of them hits")
        print(f"sent:       {output.size(total['sentBytes'])}")
        print(f"fetched:    {output.size(total['upstreamBytes'])}, {total['fills']} fills now")
        print(f"cache:      {output.size(total['cacheBytes'])} of {output.size(total['cacheMaxBytes'])}")
    elif directory["problem"] is not None:
        print(f"{directory['path']}: {directory['problem']}")
    else:
        print(f"{directory['path']}: {directory['files']} files of content, {output.size(directory['bytes'])}")


def _text(value: object) -> str:
    """What others say, as it can be printed."""
    text = str(value)[:200]
    return text if text.isprintable() else ascii(text)


def _number(value: object) -> float:
    fine = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e18
    return float(value) if fine else 0.0  # type: ignore[arg-type]


def _count(value: object) -> int | None:
    return None if value is None else int(_number(value))
