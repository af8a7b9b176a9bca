"""C{crcache verify}: hash all content, and take away what is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from crcache.commands import output, place
from crcache.commands.hashing import Finding, Hashing
from crcache.commands.outcome import DONE, FAILED
from crcache.commands.progress import Progress, wanted
from crcache.commands.selection import add_selectors, selected
from crcache.grammar.digest import Digest
from crcache.inventory.contents import named, walk
from crcache.inventory.images import Images
from crcache.inventory.problems import Problems, shown_path
from crcache.inventory.records import Lie, all_lies, lies
from crcache.inventory.repositories import Home
from crcache.store.files import remove
from crcache.store.layout import Layout

NAME = "verify"
HELP = "hash all content, and take away what is wrong"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Hash all content, or that of some images. What is not what its name says is moved to quarantine/ in the cache"
        " directory, never to be served, and fetched anew when it is asked for; records that lie are removed. Status 1"
        " if anything was wrong. What other programs have in memory is not pushed out of it."
    )
    add_selectors(parser)
    place.add_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="only tell what is wrong")
    output.add_json(parser)


@dataclass
class _Result:
    checked: int = 0
    bytes: int = 0
    wrong: list[Finding] = field(default_factory=list)
    records: list[Lie] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        return not (self.wrong or self.records or self.failed)


def run(arguments: argparse.Namespace) -> int:
    """Check it.

    @raise CrcacheError: with the line to print instead.
    """
    layout, problems, result = place.open_cache(arguments), Problems(), _Result()
    missing: list[str] = []
    digests, homes = None, None
    if arguments.selectors:
        digests, homes = _meant(layout, arguments, missing)
    shown = wanted(arguments)
    total = None
    if shown:
        total = sum(held.size for held in walk(layout, Problems()) if digests is None or held.digest in digests)
    with Progress("verify", total, shown=shown) as progress:
        hashing = Hashing(layout, looking=arguments.dry_run, advance=progress.advance)
        for finding in hashing.check(named(layout, problems) if digests is None else digests):
            _note(layout, finding, result, progress, arguments)
    # After the content: sizes are held against what is known to be right.
    wrong = {finding.digest for finding in result.wrong}
    found = all_lies(layout, problems, wrong) if homes is None else _lies(layout, homes, wrong)
    for lie in found:
        result.records.append(lie)
        _remove(lie, result, arguments)
    if arguments.json:
        output.print_json(_report(layout, result, arguments.dry_run))
    else:
        print(f"{result.checked} checked, {output.size(result.bytes)}: {len(result.wrong)} wrong")
    output.tell(problems)
    for line in (*result.failed, *(f"{name} is not in the cache" for name in missing)):
        print(f"crcache: {line}", file=sys.stderr)
    return DONE if result.fine and not missing else FAILED


def _meant(
    layout: Layout, arguments: argparse.Namespace, missing: list[str]
) -> tuple[dict[Digest, None], dict[Home, None]]:
    """The content that images consist of, and their repositories. What lies about itself is found by being hashed."""
    images = Images(layout, Problems())
    digests: dict[Digest, None] = {}
    homes: dict[Home, None] = {}
    for image in selected(images, arguments.selectors, untagged=True, missing=missing):
        homes[image.home] = None
        digests.update((part.descriptor.digest, None) for part in images.closure(image.digest, image.media_type))
    return digests, homes


def _lies(layout: Layout, homes: Iterable[Home], wrong: Collection[Digest]) -> Iterator[Lie]:
    for home in homes:
        yield from lies(layout, home, wrong)


def _note(layout: Layout, finding: Finding, result: _Result, progress: Progress, arguments: argparse.Namespace) -> None:
    result.checked += 1
    result.bytes += finding.size
    if finding.failed is not None:
        result.failed.append(finding.failed)
    if finding.problem is not None:
        result.wrong.append(finding)
        where = f"; it is {finding.taken} now" if finding.taken is not None else ""
        progress.tell(f"crcache: {layout.content(finding.digest)} {finding.problem}{where}")


def _remove(lie: Lie, result: _Result, arguments: argparse.Namespace) -> None:
    done = ""
    if not arguments.dry_run:
        try:
            remove(lie.path)
            done = "; it is removed"
        except OSError as error:
            result.failed.append(f"{shown_path(lie.path)}: {error.strerror}")
    print(f"crcache: {shown_path(lie.path)}: {lie.problem}{done}", file=sys.stderr)


def _report(layout: Layout, result: _Result, dry: bool) -> dict[str, Any]:
    return {
        "dryRun": dry,
        "checked": result.checked,
        "bytes": result.bytes,
        "wrong": [
            {
                "digest": str(each.digest),
                "path": str(layout.content(each.digest)),
                "problem": each.problem,
                "quarantined": None if each.taken is None else str(each.taken),
            }
            for each in result.wrong
        ],
        "records": [{"path": shown_path(each.path), "problem": each.problem} for each in result.records],
        "failed": result.failed,
    }
