"""C{crcache ls}: the images in the cache."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

from crcache.commands import output, place
from crcache.commands.outcome import DONE, FAILED
from crcache.commands.progress import Progress, wanted
from crcache.commands.selection import add_selectors, selected
from crcache.inventory.images import Image, Images
from crcache.inventory.problems import Problems
from crcache.inventory.survey import Survey, survey

NAME = "ls"
HELP = "list the images in the cache"

_HEAD = ("IMAGE", "DIGEST", "PLATFORMS", "HERE", "MISSING", "CHECKED", "USED", "NOTES")
_RIGHT = frozenset({"HERE", "MISSING", "CHECKED", "USED"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "List the images in the cache: what of each is here and what is missing, when its origin last said what its tag"
        " means, when it was last used, and whether it is pinned or private. What cannot be read is passed over, and"
        " told on stderr."
    )
    add_selectors(parser)
    place.add_arguments(parser)
    parser.add_argument("--digests", action="store_true", help="list also the manifests that no tag leads to")
    parser.add_argument("--pinned", action="store_true", help="list only what is pinned")
    parser.add_argument("-q", "--quiet", action="store_true", help="print names alone, without looking at content")
    parser.add_argument("--no-trunc", action="store_true", help="print whole digests")
    output.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List them.

    @raise CrcacheError: with the line to print instead.
    """
    problems = Problems()
    images = Images(place.open_cache(arguments), problems)
    missing: list[str] = []
    if arguments.quiet and not arguments.json:
        untagged = arguments.digests or arguments.pinned
        for image in selected(images, arguments.selectors, untagged=untagged, missing=missing):
            if image.pinned or not arguments.pinned:
                print(image)
        return _end(problems, missing)
    with Progress("ls", None, unit="images", shown=wanted(arguments)) as progress:
        # A pinned digest may have no tag.
        untagged = arguments.digests or arguments.pinned
        found = selected(images, arguments.selectors, untagged=untagged, missing=missing)
        listed = list(_listed(images, (image for image in found if image.pinned or not arguments.pinned), progress))
    if arguments.json:
        output.print_json([report for _, report in listed])
    else:
        output.table(_HEAD, (_row(each, report, arguments.no_trunc) for each, report in listed), _RIGHT)
    return _end(problems, missing)


def _end(problems: Problems, missing: list[str]) -> int:
    output.tell(problems)
    for name in missing:
        print(f"crcache: {name} is not in the cache", file=sys.stderr)
    return FAILED if missing else DONE


def _listed(images: Images, found: Iterator[Image], progress: Progress) -> Iterator[tuple[Survey, dict[str, Any]]]:
    for image in found:
        surveyed = survey(images, image)
        progress.advance()
        yield surveyed, describe(surveyed, images.repositories.privacy(image.home) is not None)


def describe(surveyed: Survey, private: bool) -> dict[str, Any]:
    """An image as JSON has it. Sizes in bytes."""
    image = surveyed.image
    return {
        "name": str(image),
        "registry": str(image.home.registry),
        "repository": str(image.home.repository),
        "tag": None if image.tag is None else str(image.tag),
        "digest": str(image.digest),
        "mediaType": image.media_type,
        "platforms": surveyed.platforms,
        "platformsOffered": surveyed.offered,
        "here": surveyed.here,
        "missing": surveyed.missing,
        "missingParts": surveyed.absent,
        "complete": surveyed.complete,
        "checked": output.moment(image.checked),
        "used": output.moment(image.used),
        "pinned": image.pinned,
        "private": private,
    }


def _row(surveyed: Survey, report: dict[str, Any], whole: bool) -> tuple[str, ...]:
    image, now = surveyed.image, time.time()
    name = str(image) if image.tag is not None or whole else f"{image.home}@{output.short(image.digest)}"
    return (
        name,
        str(image.digest) if whole else output.short(image.digest),
        _platforms(surveyed),
        output.size(surveyed.here),
        "-" if surveyed.complete else _lacking(surveyed),
        output.age(image.checked, now),
        output.age(image.used, now),
        " ".join(note for note in ("pinned", "private") if report[note]),
    )


def _platforms(surveyed: Survey) -> str:
    here = surveyed.platforms
    shown = ",".join(here[:3]) + (f",+{len(here) - 3}" if len(here) > 3 else "")
    return f"{shown or '-'} of {surveyed.offered}" if surveyed.offered > len(here) else shown or "-"


def _lacking(surveyed: Survey) -> str:
    if not surveyed.absent:
        return "all"
    return output.size(surveyed.missing) if surveyed.missing else "?"
