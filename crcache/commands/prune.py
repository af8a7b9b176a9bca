"""C{crcache prune}: remove images, and what nothing needs."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field
from typing import Any

from crcache.commands import output, place
from crcache.commands.outcome import DONE, FAILED, Misused
from crcache.commands.progress import Progress, wanted
from crcache.commands.removing import Done, carry_out
from crcache.commands.selection import pattern_argument
from crcache.errors import StoreError
from crcache.inventory.plan import Plan, plan
from crcache.inventory.problems import Problems
from crcache.inventory.stock import Key, Stock, Unit
from crcache.settings import Share
from crcache.store.layout import Layout
from crcache.store.removal import abandoned, remove_fill
from crcache.units import parse_duration, parse_size

NAME = "prune"
HELP = "remove images that are old, match a pattern, or are too many"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Remove images from the cache, with all that no other image needs. What is pinned stays, and so does what is"
        " used meanwhile. Of several criteria all have to hold; one at least is needed. The daemon may be running."
    )
    parser.add_argument(
        "--older-than", metavar="TIME", type=output.checked(parse_duration), help="what was not used for so long: 7d"
    )
    parser.add_argument(
        "--matching",
        metavar="GLOB",
        nargs="+",
        action="extend",
        type=pattern_argument,
        help="what matches: a shell pattern over registry/repository:tag",
    )
    parser.add_argument("--untagged", action="store_true", help="what no tag leads to")
    parser.add_argument(
        "--to-size",
        metavar="SIZE",
        type=output.checked(parse_target),
        help="only until content takes no more than this, the least recently used first: 20GiB, or 40%% of the file"
        " system",
    )
    parser.add_argument("--fills", action="store_true", help="also fills in progress that no process works on")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would go")
    place.add_arguments(parser)
    output.add_json(parser)


def parse_target(text: str) -> int | Share:
    """A size, or a percentage.

    @raise ValueError: if it is neither.
    """
    if not text.endswith("%"):
        return parse_size(text)
    number = text[:-1]
    if not number.replace(".", "", 1).isdecimal() or not number.isascii() or not 0 <= float(number) <= 100:
        raise ValueError(f"{text!a} is not a percentage such as 40%")
    return Share(float(number))


@dataclass
class _Sum:
    count: int = 0
    bytes: int = 0

    def add(self, count: int) -> None:
        self.count += 1
        self.bytes += count

    def report(self) -> dict[str, int]:
        return {"count": self.count, "bytes": self.bytes}


@dataclass
class _Result:
    before: int
    freed: int = 0
    lacking: int = 0
    images: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[str, _Sum] = field(default_factory=dict)
    unheld: _Sum = field(default_factory=_Sum)
    fills: _Sum = field(default_factory=_Sum)
    spared: list[str] = field(default_factory=list)


def run(arguments: argparse.Namespace) -> int:
    """Remove them.

    @raise Misused: without any criterion.
    @raise CrcacheError: with the line to print instead.
    """
    which = arguments.older_than is not None or arguments.matching or arguments.untagged
    if not (which or arguments.to_size is not None or arguments.fills):
        raise Misused("say what goes: --older-than, --matching, --untagged, --to-size or --fills")
    layout, problems = place.open_cache(arguments), Problems()
    result = _Result(0)
    if which or arguments.to_size is not None:
        _images(layout, problems, arguments, result)
    if arguments.fills:
        _fills(layout, problems, arguments, result)
    if arguments.json:
        output.print_json(_report(result, arguments.dry_run))
    else:
        _tell(result, arguments.dry_run)
        if result.lacking > 0:
            print(f"{output.size(result.lacking)} more than that: what is left is pinned, does not match, or is in use")
    output.tell(problems)
    return FAILED if problems.failed else DONE


def _images(layout: Layout, problems: Problems, arguments: argparse.Namespace, result: _Result) -> None:
    shown = wanted(arguments)
    with Progress("look", None, unit="repositories", shown=shown) as progress:
        stock = Stock(layout, problems, progress.advance)
    result.before = sum(stock.sizes)
    free = None if arguments.to_size is None else result.before - _target(layout, arguments.to_size)
    decided = plan(stock, _criteria(arguments), free)
    done = Done(list(decided.units), {key: stock.sizes[stock.numbers[key]] for key in decided.content})
    if not arguments.dry_run:
        with Progress("prune", sum(done.content.values()), shown=shown) as progress:
            done = carry_out(layout, stock, decided, problems, progress.advance)
    _count(stock, decided, done, result)
    result.lacking = 0 if free is None else free - result.freed


def _criteria(arguments: argparse.Namespace) -> Any:
    before = None if arguments.older_than is None else time.time() - arguments.older_than

    def holds(unit: Unit) -> bool:
        if before is not None and unit.used > before:
            return False
        if arguments.untagged and unit.tag is not None:
            return False
        if not arguments.matching:
            return True
        return unit.home is not None and any(each.matches(unit.home, unit.reference) for each in arguments.matching)

    return holds


def _target(layout: Layout, said: int | Share) -> int:
    if isinstance(said, int):
        return said
    try:
        found = os.statvfs(layout.root)
    except OSError as error:
        raise StoreError(f"{layout.root}: {error.strerror}") from error
    return said.of(found.f_blocks * found.f_frsize)


def _count(stock: Stock, decided: Plan, done: Done, result: _Result) -> None:
    """Each piece of content is counted for the first unit that it was of."""
    counted: set[Key] = set()
    for unit in done.units:
        own = {key for key in stock.consists(unit) if key in done.content and key not in counted}
        counted |= own
        freed = sum(done.content[key] for key in own)
        if unit.image:
            result.images.append({"name": str(unit), "used": output.moment(unit.used), "bytes": freed})
        elif unit.home is not None:
            result.blobs.setdefault(str(unit.home), _Sum()).add(freed)
        else:
            result.unheld.add(freed)
    result.freed += sum(done.content.values())
    result.spared += [str(unit) for unit in done.spared]


def _fills(layout: Layout, problems: Problems, arguments: argparse.Namespace, result: _Result) -> None:
    before = None if arguments.older_than is None else time.time() - arguments.older_than
    for fill in abandoned(layout):
        if before is not None and fill.used > before:
            continue
        try:
            freed = fill.size if arguments.dry_run else remove_fill(layout, fill)
        except StoreError as error:
            problems.fail(error.message)
            continue
        result.fills.add(freed)
        result.freed += freed


def _report(result: _Result, dry: bool) -> dict[str, Any]:
    return {
        "dryRun": dry,
        "images": result.images,
        "blobs": [{"repository": name, **each.report()} for name, each in sorted(result.blobs.items())],
        "unheld": result.unheld.report(),
        "fills": result.fills.report(),
        "spared": result.spared,
        "before": result.before,
        "freed": result.freed,
        "lacking": max(result.lacking, 0),
    }


def _tell(result: _Result, dry: bool) -> None:
    for image in result.images:
        print(f"{image['name']}  {output.size(image['bytes'])}")
    for name, each in sorted(result.blobs.items()):
        print(f"{name}: {each.count} without an image  {output.size(each.bytes)}")
    for what, each in (("held by no repository", result.unheld), ("fills in progress", result.fills)):
        if each.count:
            print(f"{what}: {each.count}  {output.size(each.bytes)}")
    for name in result.spared:
        print(f"{name}  stays: it was used, or pinned, meanwhile")
    print(f"{'would be freed' if dry else 'freed'}: {output.size(result.freed)}")
