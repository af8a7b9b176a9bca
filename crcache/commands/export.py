"""C{crcache export}: images into a tar archive that other tools, and other caches, read."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from crcache.commands import place
from crcache.commands.outcome import DONE, FAILED, Misused
from crcache.commands.outgoing import STDOUT, Outgoing
from crcache.commands.output import add_json, checked, print_json, short, size
from crcache.commands.progress import Progress, wanted
from crcache.commands.references import LATEST, Name, reference_argument
from crcache.commands.terminated import as_interrupt
from crcache.errors import ArchiveInvalid, StoreError
from crcache.eviction.tally import Tally
from crcache.grammar.platform import Platform
from crcache.grammar.reference import Tag
from crcache.images.closure import Held, Incomplete
from crcache.images.exporting import Chosen, Exporter, NotHere
from crcache.policy.freshness import may_cache
from crcache.settings import Config

NAME = "export"
HELP = "write images to an archive that skopeo, ctr, podman, docker and 'crcache import' read"

#: What is missing of an image is told by name, but not without end.
_MOST_MISSING = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What goes where."""
    parser.description = (
        "Write images, as they are in the cache directory, to an OCI image layout in a tar archive. No registry is"
        " asked, and no daemon need run. What is missing is told, and nothing is written then. Of an image for several"
        " platforms those are written that are here wholly. The same images give the same bytes. Private images are"
        " written, too: whoever may read the cache directory may export them."
    )
    parser.add_argument(
        "images", metavar="REF", nargs="+", type=reference_argument, help="an image: name[:tag|@digest]"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help="the archive, or - for stdout; it is there once it is whole",
    )
    parser.add_argument(
        "--platform",
        metavar="OS/ARCH",
        action="append",
        default=[],
        type=checked(Platform.parse),
        help="write this platform's images only, and fail if one is not here; may be repeated",
    )
    place.add_arguments(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write them.

    @raise StoreError: if the disk fails.
    @raise Misused: if stdout would get both the archive and JSON.
    """
    if arguments.json and arguments.output == STDOUT:
        raise Misused("--json prints to stdout, which is where the archive goes: name a file with -o")
    settings = place.load(arguments)
    with as_interrupt(), Outgoing(arguments.output) as outgoing:
        layout = place.enter(settings.cache_directory)
        exporter = Exporter(layout, time.time, Tally(layout).changed)
        chosen = _choose(exporter, arguments, settings)
        if chosen is None:
            return FAILED
        total = sum({held.digest: held.size for each in chosen for held in _held(each)}.values())
        with Progress("exporting", total, shown=wanted(arguments)) as progress:
            try:
                exporter.write(outgoing.file, chosen, progress.advance)
                outgoing.commit()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise StoreError(f"{arguments.output}: cannot be written: {error.strerror}") from error
    _report(arguments, chosen, total)
    return DONE


def _held(chosen: Chosen) -> list[Held]:
    return [*chosen.image.manifests.values(), *chosen.image.blobs.values()]


def _choose(exporter: Exporter, arguments: argparse.Namespace, settings: Config) -> list[Chosen] | None:
    """What is written; C{None} if not all is here, which has been told."""
    names = dict.fromkeys(_whole(each) for each in arguments.images)
    chosen = []
    for name in sorted(names):
        try:
            target = name.registry, name.repository, name.image
            chosen.append(exporter.choose(target, str(name), arguments.platform))
        except (NotHere, Incomplete) as problem:
            hint = _hint(name, arguments.platform, settings)
            print(f"crcache: {name}: {_missing(problem)}; '{hint}' gets it", file=sys.stderr)
        except ArchiveInvalid as problem:
            print(f"crcache: {name}: {problem.message}", file=sys.stderr)
    return chosen if len(chosen) == len(names) else None


def _whole(name: Name) -> Name:
    return name if name.reference is not None else Name(name.registry, name.repository, LATEST)


def _hint(name: Name, platforms: Sequence[Platform], settings: Config) -> str:
    """What gets an image. Of tags that are not kept otherwise the meaning is noted only if they are pinned."""
    kept = not isinstance(name.image, Tag) or may_cache(name.image, settings.ignore, settings.cache_manifests)
    flags = [*(f"--platform {each}" for each in platforms), *([] if kept else ["--pin"])]
    return " ".join(["crcache pull", *flags, str(name)])


def _missing(problem: ArchiveInvalid) -> str:
    if not isinstance(problem, Incomplete):
        return problem.message
    missing = list(dict.fromkeys(problem.missing))
    told = [f"{each.digest} ({size(each.size)})" for each in missing[:_MOST_MISSING]]
    more = [f"{len(missing) - _MOST_MISSING} more"] if len(missing) > _MOST_MISSING else []
    return f"not all of it is here, missing: {', '.join([*told, *more])}"


def _report(arguments: argparse.Namespace, chosen: list[Chosen], total: int) -> None:
    if arguments.json:
        images = [
            {
                "name": each.name,
                "digest": str(each.image.root.digest),
                "platforms": [str(platform) for platform in each.image.platforms],
                "bytes": each.image.size,
            }
            for each in chosen
        ]
        print_json({"file": arguments.output, "bytes": total, "images": images})
    elif arguments.output != STDOUT:
        for each in chosen:
            platforms = "".join(f" {platform}" for platform in each.image.platforms)
            print(f"exported {each.name} {short(each.image.root.digest)}{platforms} {size(each.image.size)}")
