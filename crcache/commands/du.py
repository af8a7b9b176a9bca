"""C{crcache du}: whose the bytes in the cache are."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator

from crcache.commands import output, place
from crcache.commands.outcome import DONE
from crcache.commands.progress import Progress, wanted
from crcache.grammar.digest import Digest
from crcache.inventory.images import Images
from crcache.inventory.problems import Problems
from crcache.inventory.shares import Ledger, Usage, beside, by_image, by_registry, by_repository

NAME = "du"
HELP = "show how many bytes each registry, repository or image takes"

_HOLDERS: dict[str, Callable[[Images], Iterator[tuple[str, Iterable[Digest]]]]] = {
    "registry": by_registry,
    "repository": by_repository,
    "image": by_image,
}
_RIGHT = frozenset({"TOTAL", "OWN", "SHARED"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Show who holds how many bytes of content, the largest first: alone (OWN), and together with others (SHARED)."
        " The last lines count each byte once, and add up to all that is in the cache directory."
    )
    place.add_arguments(parser)
    parser.add_argument("--by", choices=tuple(_HOLDERS), default="registry", help="whose (default: %(default)s)")
    output.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show it.

    @raise CrcacheError: with the line to print instead.
    """
    layout, problems = place.open_cache(arguments), Problems()
    images = Images(layout, problems)
    with Progress("du", None, unit=arguments.by, shown=wanted(arguments)) as progress:
        ledger = Ledger(layout, problems)
        for name, digests in _HOLDERS[arguments.by](images):
            ledger.add(name, digests)
            progress.advance()
        usage = ledger.close()
        beside(layout, usage, problems)
    usage.shares.sort(key=lambda share: (-share.total, share.name))
    if arguments.json:
        output.print_json(_report(usage, arguments.by))
    else:
        _tell(usage, arguments.by)
    output.tell(problems)
    return DONE


def _report(usage: Usage, by: str) -> dict[str, object]:
    return {
        "by": by,
        "holders": [
            {"name": share.name, "total": share.total, "own": share.own, "shared": share.shared}
            for share in usage.shares
        ],
        "own": usage.own,
        "shared": usage.shared,
        "unheld": usage.unheld,
        "content": usage.content,
        "fills": usage.fills,
        "records": usage.records,
        "quarantine": usage.quarantine,
        "total": usage.total,
    }


def _tell(usage: Usage, by: str) -> None:
    rows = [
        (share.name, output.size(share.total), output.size(share.own), output.size(share.shared))
        for share in usage.shares
    ]
    output.table((by.upper(), "TOTAL", "OWN", "SHARED"), rows, _RIGHT)
    print()
    sums = (
        ("held by one", usage.own),
        ("shared, each byte once", usage.shared),
        ("held by none", usage.unheld),
        ("fills in progress", usage.fills),
        ("records", usage.records),
        ("quarantine", usage.quarantine),
        ("total", usage.total),
    )
    for name, count in sums:
        if count or name in ("total", "held by one"):
            print(f"{name:<24}{output.size(count):>10}")
