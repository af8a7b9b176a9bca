"""C{crcache pin}: have images stay in the cache."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from crcache.commands import output, place
from crcache.commands.outcome import DONE, FAILED
from crcache.commands.pin_list import read_list
from crcache.commands.progress import Progress, wanted
from crcache.commands.references import Name, reference_argument, spell
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Tag
from crcache.inventory.contents import find
from crcache.inventory.images import Image, Images
from crcache.inventory.problems import Problems
from crcache.inventory.repositories import Home
from crcache.store.contents import Contents
from crcache.store.layout import Layout
from crcache.store.pins import Pins

NAME = "pin"
HELP = "have images stay in the cache, and be served for as long as their origin fails"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Pin images that are in the cache: they are never evicted, nor pruned, and a pinned tag is served for as long"
        " as its origin fails. All are pinned, or none. Without REF and --file, list what is pinned."
    )
    add_names(parser)
    place.add_arguments(parser)
    output.add_json(parser)


def add_names(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which."""
    parser.add_argument(
        "references", metavar="REF", nargs="*", type=reference_argument, help="an image, by its tag or by its digest"
    )
    parser.add_argument(
        "--file", metavar="LIST", type=Path, help="a file of further ones, one a line; # begins a comment"
    )


def names_of(arguments: argparse.Namespace) -> list[Name]:
    """The images that are meant, each once.

    @raise ConfigError: for a list that is wrong.
    """
    listed = [] if arguments.file is None else read_list(arguments.file)
    return list(
        {(name.registry, name.repository, name.image): name for name in (*arguments.references, *listed)}.values()
    )


def run(arguments: argparse.Namespace) -> int:
    """Pin them.

    @raise CrcacheError: with the line to print instead.
    """
    names = names_of(arguments)
    layout, problems = place.open_cache(arguments), Problems()
    images = Images(layout, problems)
    if not arguments.references and arguments.file is None:
        return _list(images, layout, problems, arguments.json)
    found = [(name, _held(images, layout, name)) for name in names]
    absent = [name for name, image in found if image is None]
    if absent:
        for name in absent:
            whole = spell(name.registry, name.repository, name.image)
            print(
                f"crcache: {whole} is not in the cache; nothing is pinned: 'crcache pull' fetches it", file=sys.stderr
            )
        return FAILED
    pinned = [(name, image) for name, image in found if image is not None]
    pins = Pins(layout)
    for name, image in pinned:
        pins.add(name.registry, name.repository, name.image, image.digest)
    with Progress("pin", len(pinned), unit="images", shown=wanted(arguments)) as progress:
        contents = Contents(layout, time.time, lambda digest, before, after: None)
        for _, image in pinned:
            # Whoever has already planned what to evict sees that it is used now, and leaves it.
            for part in images.closure(image.digest, image.media_type):
                contents.touch(part.descriptor.digest)
            progress.advance()
    if arguments.json:
        output.print_json([_report(name, image.digest) for name, image in pinned])
    else:
        for name, image in pinned:
            print(f"{spell(name.registry, name.repository, name.image)}: pinned ({output.short(image.digest)})")
    output.tell(problems)
    return DONE


def _held(images: Images, layout: Layout, name: Name) -> Image | None:
    """The image, if its manifest is here."""
    image = images.find(Home(name.registry, name.repository), name.image)
    return image if image is not None and find(layout, image.digest) is not None else None


def _report(name: Name, digest: Digest | None) -> dict[str, object]:
    return {
        "name": spell(name.registry, name.repository, name.image),
        "digest": None if digest is None else str(digest),
    }


def _list(images: Images, layout: Layout, problems: Problems, as_json: bool) -> int:
    pins = Pins(layout)
    rows = []
    for home in images.repositories.homes():
        for reference, meant in pins.of(home.registry, home.repository):
            tagged = images.repositories.tag(home, reference) if isinstance(reference, Tag) else None
            digest = meant if tagged is None else tagged.entry.digest
            if digest is None:
                path = layout.pin(home.registry, home.repository, reference)
                problems.add(path, "does not say what is pinned: 'crcache unpin' removes it")
            rows.append((Name(home.registry, home.repository, reference), digest))
    if as_json:
        output.print_json([_report(name, digest) for name, digest in rows])
    else:
        shown = ((str(name), "?" if digest is None else output.short(digest)) for name, digest in rows)
        output.table(("PINNED", "DIGEST"), shown)
    output.tell(problems)
    return DONE
