"""A cache directory that is made if it is not there yet, as the daemon would make it."""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from collections.abc import Iterator

from crcache.commands.place import become_owner
from crcache.errors import StoreError
from crcache.evictor import Evictor
from crcache.settings import Config
from crcache.store.filesystem import Filesystem
from crcache.store.layout import Layout
from crcache.workers import Inline

#: As whom the packages' units run the daemon.
USER = "crcache"


def make(settings: Config) -> Layout:
    """The layout of the cache directory. Root goes on as its owner, for what it makes there has to be the daemon's; if
    it has to make the directory, that is the packages' user, if there is one.

    @raise StoreError: with one line, if it cannot be made or entered, or has another release's layout.
    """
    directory = settings.cache_directory
    store = Filesystem(directory, Inline(), time.time, parents=settings.make_parents)
    try:
        if os.geteuid() == 0 and not directory.exists() and directory.parent.is_dir():
            directory.mkdir(mode=0o750)
            _give(directory)
        if directory.exists():
            become_owner(directory)
    except OSError as error:
        raise StoreError(f"cache directory {directory}: {error.strerror}") from error
    store.start()
    return Layout(directory)


@contextlib.contextmanager
def bounded(settings: Config) -> Iterator[Evictor]:
    """Who makes room for what is stored, within the daemon's bounds, whether it runs or not."""
    evictor = Evictor(settings.cache_directory, lambda: settings.bounds, Inline(), None)
    evictor.alone()
    try:
        yield evictor
    finally:
        evictor.stop()


def _give(directory: os.PathLike[str]) -> None:
    try:
        found = pwd.getpwnam(USER)
    except KeyError:
        return
    os.chown(directory, found.pw_uid, found.pw_gid)
