"""Verified files that come from elsewhere than a fill, made content. All of it blocks."""

from __future__ import annotations

import os
import time
from pathlib import Path

from crcache.errors import StoreError
from crcache.grammar.digest import Digest
from crcache.store.contents import READING, Contents
from crcache.store.files import link_or_move, size_of, sync_directory


def adopt(contents: Contents, digest: Digest, draft: Path) -> None:
    """Make a file content, durably, as a fill's commit does. It may keep its own name besides.

    @param draft: on the cache directory's file system; its bytes have been verified by the caller.
    @raise StoreError: if that fails.
    """
    path = contents.layout.content(digest)
    try:
        fd = os.open(draft, READING)
        try:
            os.fdatasync(fd)
            os.fchmod(fd, 0o440)
            contents.seals.set(fd, digest, time.time())
            before = size_of(path)
            link_or_move(fd, draft, path)
        finally:
            os.close(fd)
        contents.committed(digest, before)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
