"""How many descriptors this process may have open."""

from __future__ import annotations

import contextlib
import resource


def allow(wanted: int) -> int:
    """Raise the limit towards C{wanted}, as far as whoever started the process allows; it is never lowered.

    Not further: whatever goes through all descriptors that there may be would take minutes where a billion is allowed.

    @return: how many there may be now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return allowed()


def allowed() -> int:
    """How many there may be now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft
