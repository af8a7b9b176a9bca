"""Where content goes that is not what its name says: kept for whoever asks why, and never served. It blocks."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from crcache.errors import StoreError
from crcache.grammar.digest import Digest
from crcache.store.files import is_at
from crcache.store.layout import Layout


def quarantine(layout: Layout, digest: Digest, fd: int | None) -> Path | None:
    """Take what is in content's place away to C{quarantine/}.

    @param fd: the open file that was found to be wrong; what has come in its place since is left there. C{None}: it is
        no file at all.
    @return: where it is now; C{None} if it has gone by itself.
    @raise StoreError: if it stays.
    """
    path = layout.content(digest)
    target = layout.quarantine / f"{digest.algorithm}-{digest.hex}"
    if os.path.lexists(target):
        target = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    try:
        layout.quarantine.mkdir(exist_ok=True, mode=0o750)
        if fd is not None and not is_at(fd, path):
            return None
        os.rename(path, target)
        if fd is not None and not is_at(fd, target):
            # Fetched anew between the look and the move: it is right, as far as anybody knows.
            with contextlib.suppress(FileExistsError):
                os.link(target, path, follow_symlinks=False)
            os.unlink(target)
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    return target
