"""Hashing a whole body that rests on disk."""

from __future__ import annotations

import os

from crcache.errors import StoreError
from crcache.grammar.digest import Digest
from crcache.interfaces import IBody

_BUFFER = 1 << 20


def verify(body: IBody, digest: Digest) -> bool:
    """Whether a committed body's bytes are what the digest says. Blocking: for a worker thread.

    @raise StoreError: if they cannot be read.
    """
    hasher = digest.hasher()
    buffer = memoryview(bytearray(_BUFFER))
    fd, at = body.open(), 0
    try:
        # The descriptor may share its position with others.
        while count := os.preadv(fd, [buffer], at):
            hasher.update(buffer[:count])
            at += count
    except OSError as error:
        raise StoreError(f"reading {digest} back failed: {error.strerror}") from error
    finally:
        os.close(fd)
    return hasher.hexdigest() == digest.hex
