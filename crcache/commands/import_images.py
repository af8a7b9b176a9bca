"""C{crcache import}: what is in an archive of images into the cache, as if it had been pulled."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from typing import BinaryIO

from crcache.commands import place
from crcache.commands.making import bounded, make
from crcache.commands.outcome import DONE, Misused
from crcache.commands.output import add_json, print_json, short, size
from crcache.commands.progress import Progress, wanted
from crcache.commands.references import Name, parse_name, reference_argument, spell
from crcache.commands.terminated import as_interrupt
from crcache.errors import ArchiveInvalid
from crcache.grammar.reference import Tag
from crcache.images.importing import Imported, Importer, Wish
from crcache.images.noting import Target
from crcache.policy.freshness import may_cache
from crcache.settings import Config
from crcache.store.repositories import Repositories

NAME = "import"
HELP = "bring in the images of an archive that 'crcache export', skopeo, ctr, podman or docker wrote"

_STDIN = "-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is brought in, and as what."""
    parser.description = (
        "Bring the images of an archive into the cache, so that they are served as if they had been pulled. The archive"
        " is an OCI image layout in a tar archive, or what 'docker save' writes, gzipped or not. Everything in it is"
        " verified first; of an archive that is refused nothing is left behind. The images are pinned: they are not"
        " evicted, and their tags are served for as long as their registry cannot be asked. Whoever can reach the"
        " daemon can pull them."
    )
    parser.add_argument("archive", metavar="FILE", help="the archive, or - for stdin")
    parser.add_argument(
        "--as",
        dest="names",
        metavar="REF",
        action="append",
        default=[],
        type=reference_argument,
        help="call the archive's one image so, whatever it is called there; may be repeated",
    )
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="let it be evicted, and its tags expire")
    place.add_arguments(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Bring them in.

    @raise ArchiveInvalid: if the archive is refused.
    @raise StoreError: if the disk fails.
    @raise Misused: if the archive would be read from a terminal.
    """
    settings = place.load(arguments)
    source = _open(arguments.archive)
    with source, as_interrupt():
        layout = make(settings)
        wish = Wish(tuple(_target(each) for each in arguments.names), arguments.pin)
        with (
            bounded(settings) as evictor,
            Progress("importing", _length(source), shown=wanted(arguments)) as progress,
        ):
            importer = Importer(
                layout,
                lambda text: _target(parse_name(text)),
                changed=evictor.tally.changed,
                space=evictor.space,
            )
            name = "stdin" if arguments.archive == _STDIN else arguments.archive
            imported = importer.take(source, name, wish, progress.advance)
    repositories = Repositories(layout, lambda: 0.0)
    for (registry, repository, reference), _ in imported.images:
        told = spell(registry, repository, reference)
        if repositories.privacy(registry, repository) is not None:
            print(f"crcache: {told}: its repository is known as private, and stays so", file=sys.stderr)
        if not arguments.pin and not _kept(settings, reference):
            print(f"crcache: {told}: unpinned, such a tag is always asked of its registry", file=sys.stderr)
    _report(arguments, imported)
    return DONE


def _kept(settings: Config, reference: object) -> bool:
    return not isinstance(reference, Tag) or may_cache(reference, settings.ignore, settings.cache_manifests)


def _open(name: str) -> BinaryIO:
    if name == _STDIN:
        if sys.stdin.isatty():
            raise Misused("stdin is a terminal: name a file, or have another program write the archive")
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb", 0)
    try:
        return open(name, "rb", 0)
    except OSError as error:
        raise ArchiveInvalid(f"{name} cannot be read: {error.strerror}") from error


def _length(source: BinaryIO) -> int | None:
    """How many bytes will be read, if that can be told."""
    found = os.fstat(source.fileno())
    start = os.pread(source.fileno(), 2, 0) if stat.S_ISREG(found.st_mode) else b"\x1f\x8b"
    return None if start == b"\x1f\x8b" else found.st_size


def _target(name: Name) -> Target:
    return name.registry, name.repository, name.image


def _report(arguments: argparse.Namespace, imported: Imported) -> None:
    (new, new_bytes), (there, there_bytes) = imported.new, imported.there
    if arguments.json:
        images = [
            {
                "name": spell(*target),
                "digest": str(image.root.digest),
                "platforms": [str(each) for each in image.platforms],
                "bytes": image.size,
                "pinned": arguments.pin,
            }
            for target, image in imported.images
        ]
        counts = {"new": {"count": new, "bytes": new_bytes}, "there": {"count": there, "bytes": there_bytes}}
        print_json({"images": images, **counts})
        return
    for target, image in imported.images:
        platforms = "".join(f" {each}" for each in image.platforms)
        print(f"imported {spell(*target)} {short(image.root.digest)}{platforms} {size(image.size)}")
    print(f"{new} of {new + there} parts were new, {size(new_bytes)}")
