"""C{crcache unpin}: let images go again when there is no more room."""

from __future__ import annotations

import argparse
import sys

from crcache.commands import output, place
from crcache.commands.outcome import DONE, FAILED, Misused
from crcache.commands.pin import add_names, names_of
from crcache.commands.references import spell
from crcache.store.pins import Pins

NAME = "unpin"
HELP = "let pinned images go again when there is no more room"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Unpin images. They stay in the cache until there is no more room for them, or they are pruned."
    )
    add_names(parser)
    place.add_arguments(parser)
    output.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Unpin them.

    @return: 1 if one of them was not pinned; the others are unpinned all the same.
    @raise CrcacheError: with the line to print instead.
    """
    if not arguments.references and arguments.file is None:
        raise Misused("say which images; 'crcache pin' lists what is pinned")
    names = names_of(arguments)
    layout = place.open_cache(arguments)
    pins = Pins(layout)
    done = [
        (spell(name.registry, name.repository, name.image), pins.remove(name.registry, name.repository, name.image))
        for name in names
    ]
    if arguments.json:
        output.print_json([{"name": name, "unpinned": unpinned} for name, unpinned in done])
    for name, unpinned in done:
        if not unpinned:
            print(f"crcache: {name} was not pinned", file=sys.stderr)
        elif not arguments.json:
            print(f"{name}: unpinned")
    return DONE if all(unpinned for _, unpinned in done) else FAILED
