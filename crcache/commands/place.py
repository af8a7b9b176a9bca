"""Which cache directory a command works on, and as whom."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from crcache import config
from crcache.errors import ConfigError, StoreError
from crcache.settings import Config
from crcache.store import version
from crcache.store.layout import Layout

#: Where the packages' units keep it.
SYSTEM = Path("/var/cache/crcache")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say where, named as those of C{twistd crcache}."""
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=Path,
        help=f"the daemon's configuration file (default: {config.DEFAULT_FILE}, if it is there)",
    )
    parser.add_argument(
        "-d",
        "--cache-dir",
        metavar="DIR",
        type=Path,
        help=f"the cache directory (default: as configured, else $CACHE_DIRECTORY, else {SYSTEM} if it is there, else"
        " your own cache)",
    )


def load(arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Config:
    """The daemon's configuration, with the cache directory that is meant.

    @raise ConfigError: with the line to print instead.
    """
    from twisted.internet import reactor

    overrides = config.Overrides(
        cache_directory=None if arguments.cache_dir is None else arguments.cache_dir.absolute(),
    )
    if "CACHE_DIRECTORY" not in environ and SYSTEM.is_dir():
        environ = {**environ, "CACHE_DIRECTORY": str(SYSTEM)}
    return config.load(arguments.config, overrides, environ, reactor=reactor, inherited=False).config


def enter(directory: Path) -> Layout:
    """The layout of a cache directory that is there. Root goes on as the directory's owner, for what it makes there has
    to be the daemon's.

    @raise StoreError: with one line, if it is no cache directory of this release, or may not be entered.
    """
    layout = Layout(directory)
    try:
        become_owner(directory)
        if not version.check(layout):
            raise ConfigError(f"cache directory {directory}: there is no cache in it (it has no VERSION file)")
    except OSError as error:
        raise StoreError(f"cache directory {directory}: {error.strerror}") from error
    return layout


def become_owner(directory: Path) -> None:
    """Root goes on as a directory's owner, and in its group.

    @raise OSError: as stat(2).
    """
    found = os.stat(directory)
    if os.geteuid() == 0 and found.st_uid != 0:
        os.setegid(found.st_gid)
        os.seteuid(found.st_uid)


def open_cache(arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Layout:
    """The layout of the cache directory that is meant, entered.

    @raise ConfigError: with the line to print instead.
    @raise StoreError: as L{enter}.
    """
    return enter(load(arguments, environ).cache_directory)
