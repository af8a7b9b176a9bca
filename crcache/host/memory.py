"""How the C library's malloc keeps memory, and gives it back."""

from __future__ import annotations

import ctypes

# <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_buffers() -> bool:
    """Have malloc keep the memory of network buffers instead of giving it back after each read (mallopt(3)).

    A body passes through buffers of up to a mebibyte, thousands of times. By default glibc returns each to the kernel,
    which then has to clear and map the same pages again: a fifth of the time of a cold fetch. At most 8 MiB are kept,
    in at most two arenas, so that threads do not each keep their own.

    @return: whether there is a malloc that takes it; others (musl's) have their own ways.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((_M_MMAP_THRESHOLD, 4 << 20), (_M_TRIM_THRESHOLD, 8 << 20), (_M_ARENA_MAX, 2))
    return all(mallopt(parameter, value) for parameter, value in settings)


def give_back() -> bool:
    """Have malloc give back to the kernel what nothing is in any more, wherever it lies (malloc_trim(3)).

    @return: whether there is a malloc that does.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return False
    trim(0)
    return True
