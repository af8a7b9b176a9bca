"""The C{crcache} command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Protocol

from crcache import __version__
from crcache.commands import check_config, hosts
from crcache.errors import CrcacheError


class Command(Protocol):
    """What a module of L{crcache.commands} has."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the command and declare its arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it, and return the exit status: 0 done, 1 failed.

        @raise CrcacheError: for a failure that its one line explains.
        """


COMMANDS: tuple[Command, ...] = (check_config, hosts)


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
    @return: the exit status: 0 done, 1 failed, 2 misused.
    """
    parser = make_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    command: Command | None = arguments.command
    if command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return command.run(arguments)
    except CrcacheError as error:
        print(f"crcache: {error.message}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
