"""The C{crcache} command."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from crcache import __version__
from crcache.commands import (
    check_config,
    du,
    export,
    hosts,
    import_images,
    ls,
    pin,
    prune,
    pull,
    show,
    status,
    unpin,
    verify,
)
from crcache.commands.outcome import CLOSED, FAILED, INTERRUPTED, MISUSED, Misused
from crcache.errors import CrcacheError


class Command(Protocol):
    """What a module of L{crcache.commands} has."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the command and declare its arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it, and return the exit status: 0 done, 1 failed.

        @raise CrcacheError: for a failure that its one line explains: status 1.
        @raise Misused: for arguments that do not go together: status 2.
        """


COMMANDS: tuple[Command, ...] = (
    check_config,
    hosts,
    ls,
    du,
    show,
    pull,
    pin,
    unpin,
    prune,
    verify,
    export,
    import_images,
    status,
)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; C{command} in its result is the L{Command}, or C{None}."""
    parser = argparse.ArgumentParser(
        prog="crcache",
        description="The administrator's tool of crcache, a pull-through cache of container registries.",
        epilog="The cache itself is run as 'twistd -n crcache'; 'twistd crcache --help' lists its flags.",
    )
    parser.add_argument("--version", action="version", version=f"crcache {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        its_own = commands.add_parser(command.NAME, help=command.HELP)
        its_own.set_defaults(command=command)
        command.add_arguments(its_own)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    @param argv: the arguments; by default the process's own.
    @return: the exit status: 0 done, 1 failed, 2 misused; 130 if it was interrupted, 141 if nobody reads what it
        prints any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal has no sign for is no reason to print nothing.
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _main(argv)
        # Here, not when the interpreter ends: that would end with a traceback.
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        _let_go()
        return CLOSED
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED


def _main(argv: Sequence[str] | None) -> int:
    parser = make_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else MISUSED
    command: Command | None = arguments.command
    if command is None:
        parser.print_help(sys.stderr)
        return MISUSED
    try:
        return command.run(arguments)
    except Misused as misuse:
        print(f"crcache {command.NAME}: {_plain(misuse.message)}", file=sys.stderr)
        return MISUSED
    except CrcacheError as error:
        print(f"crcache: {_plain(error.message)}", file=sys.stderr)
        return FAILED


def _plain(line: str) -> str:
    """A line without what would do something to a terminal: whoever made a file chose its name."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)


def _let_go() -> None:
    """Have what is still to be flushed go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    finally:
        os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
