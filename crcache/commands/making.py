"""A cache directory that is made if it is not there yet, as the daemon would make it."""

from __future__ import annotations

import os
import pwd
import time

from crcache.commands.place import become_owner
from crcache.errors import StoreError
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


def _give(directory: os.PathLike[str]) -> None:
    try:
        found = pwd.getpwnam(USER)
    except KeyError:
        return
    os.chown(directory, found.pw_uid, found.pw_gid)
