"""C{crcache pull}: images into the cache before anybody asks for them."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from crcache.commands import place
from crcache.commands.making import make
from crcache.commands.outcome import DONE, FAILED, INTERRUPTED, Misused
from crcache.commands.output import add_json, checked, print_json, short, size
from crcache.commands.progress import Progress, wanted
from crcache.commands.references import reference_argument, spell
from crcache.commands.wishlist import images_in_list, images_in_manifest
from crcache.errors import CrcacheError
from crcache.facts import TagEntry
from crcache.grammar.platform import Platform, host
from crcache.grammar.reference import Tag
from crcache.images.noting import Target
from crcache.settings import Config
from crcache.store.layout import Layout
from crcache.store.pins import Pins
from crcache.store.repositories import Repositories

NAME = "pull"
HELP = "bring images into the cache before anybody asks for them"

_JOBS = 4
_MOST_JOBS = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which images, and how much of each."""
    parser.description = (
        "Fetch images into the cache directory, with the daemon's configuration and credentials, whether it runs or"
        " not. What is there already is not fetched again, and what the daemon is fetching is waited for. If one fails"
        " the others go on, and the exit status is 1."
    )
    parser.add_argument(
        "images", metavar="REF", nargs="*", type=reference_argument, help="an image: name[:tag|@digest]"
    )
    parser.add_argument(
        "--file",
        metavar="LIST",
        action="append",
        default=[],
        help="a file that names images, one a line, # for comments; - for stdin; may be repeated",
    )
    parser.add_argument(
        "--manifest",
        metavar="FILE",
        action="append",
        default=[],
        help="Kubernetes manifests: the images of all containers and image volumes in them; may be repeated",
    )
    platforms = parser.add_mutually_exclusive_group()
    platforms.add_argument(
        "--platform",
        metavar="OS/ARCH",
        action="append",
        default=[],
        type=checked(Platform.parse),
        help="of images for several platforms, this one's (default: this machine's); may be repeated",
    )
    platforms.add_argument("--all-platforms", action="store_true", help="of images for several platforms, all")
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=checked(_jobs),
        default=_JOBS,
        help=f"images, and layers, that are fetched at once (default: {_JOBS})",
    )
    parser.add_argument(
        "--pin",
        action="store_true",
        help="pin them: never evicted, and served for as long as their registry cannot be asked, also the tags that"
        " cache.ignore would have asked of it each time",
    )
    place.add_arguments(parser)
    add_json(parser)


def _jobs(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    if not 1 <= number <= _MOST_JOBS:
        raise ValueError(f"must be from 1 to {_MOST_JOBS}: {text!r}")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Fetch them.

    @raise ConfigError: if a list, a manifest or the configuration is wrong; nothing has been fetched then.
    @raise StoreError: if there is no cache directory to be had.
    @raise Misused: if nothing is wanted.
    """
    settings = place.load(arguments)
    names = _names(arguments)
    if arguments.pin and not settings.cache_manifests:
        raise Misused("--pin is of no use where cache.manifests is no: no manifest is kept")
    layout = make(settings)
    results = _pull(arguments, settings, layout, names)
    if results is None:
        return INTERRUPTED
    _report(arguments, results)
    return FAILED if any(isinstance(each, CrcacheError) for each in results.values()) else DONE


def _names(arguments: argparse.Namespace) -> list[Target]:
    if (arguments.file + arguments.manifest).count("-") > 1:
        raise Misused("stdin can be read once")
    wanted = list(arguments.images)
    for name in arguments.file:
        wanted += images_in_list(name)
    for name in arguments.manifest:
        wanted += images_in_manifest(name)
    if not wanted:
        raise Misused("name images, a list of them (--file), or Kubernetes manifests (--manifest)")
    return list(dict.fromkeys((each.registry, each.repository, each.image) for each in wanted))


def _pull(
    arguments: argparse.Namespace, settings: Config, layout: Layout, targets: list[Target]
) -> dict[Target, Any] | None:
    """What has come of each; C{None} if it was interrupted."""
    from twisted.internet import reactor

    from crcache.pulling import Orders, Pulling

    clock: Any = reactor
    platforms = () if arguments.all_platforms else tuple(arguments.platform) or (host(),)
    results: dict[Target, Any] = {}
    failures: list[Any] = []
    with Progress("pulling", None, shown=wanted(arguments)) as progress:
        total = 0

        def expected(count: int) -> None:
            nonlocal total
            total += count
            progress.expect(total)

        def ended(target: Target, result: Any) -> None:
            if arguments.pin and not isinstance(result, CrcacheError):
                try:
                    # At once: what else is pulled must not have it go.
                    _pin(layout, target, result)
                except CrcacheError as problem:
                    result = problem
            results[target] = result
            if isinstance(result, CrcacheError):
                progress.tell(f"crcache: {spell(*target)}: {result.message}")
            elif wanted(arguments):
                progress.tell(f"{spell(*target)}: done")

        pulling = Pulling(settings, clock, advanced=progress.advance, expected=expected)

        def begin() -> None:
            done = pulling.run(Orders(targets, platforms, arguments.jobs), ended)
            done.addErrback(failures.append)
            done.addCallback(lambda _: clock.stop() if clock.running else None)

        clock.callWhenRunning(begin)
        clock.run()
    for failure in failures:
        failure.raiseException()
    return results if len(results) == len(targets) else None


def _pin(layout: Layout, target: Target, result: Any) -> None:
    """Pin what came, in the daemon's own words; a tag that is not kept otherwise is noted.

    @raise StoreError: if that cannot be noted.
    """
    pins, known = Pins(layout), Repositories(layout, time.time)
    registry, repository, reference = target
    root = result.root
    pins.add(registry, repository, reference, root.digest)
    if isinstance(reference, Tag):
        entry = known.tag(registry, repository, reference)
        if entry is None or entry.digest != root.digest:
            new = TagEntry(root.digest, root.media_type, root.size, time.time())
            known.set_tag(registry, repository, reference, new)


def _report(arguments: argparse.Namespace, results: dict[Target, Any]) -> None:
    new: dict[Any, int] = {}
    there: dict[Any, int] = {}
    images: list[dict[str, Any]] = []
    for target, result in results.items():
        if isinstance(result, CrcacheError):
            images.append({"name": spell(*target), "error": result.message})
            continue
        new.update(result.new)
        there.update(result.there)
        images.append(
            {
                "name": spell(*target),
                "digest": str(result.root.digest),
                "platforms": [str(each) for each in result.platforms],
                "new": {"count": len(result.new), "bytes": sum(result.new.values())},
                "there": {"count": len(result.there), "bytes": sum(result.there.values())},
                "pinned": arguments.pin,
            }
        )
        if not arguments.json:
            platforms = "".join(f" {each}" for each in result.platforms)
            got = f"{size(sum(result.new.values()))} new, {size(sum(result.there.values()))} there"
            print(f"pulled {spell(*target)} {short(result.root.digest)}{platforms} {got}")
    failed = sum(isinstance(each, CrcacheError) for each in results.values())
    for digest in new:
        there.pop(digest, None)
    if arguments.json:
        counts = {
            "new": {"count": len(new), "bytes": sum(new.values())},
            "there": {"count": len(there), "bytes": sum(there.values())},
        }
        print_json({"images": images, **counts, "failed": failed})
    elif len(results) > 1:
        told = f"{len(results) - failed} of {len(results)} images, {size(sum(new.values()))} new"
        print(told, file=sys.stderr if failed else sys.stdout)
