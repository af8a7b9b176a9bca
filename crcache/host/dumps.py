"""Dumps of the process's memory."""

from __future__ import annotations

import contextlib
import resource


def refuse_dumps() -> None:
    """Leave no core file behind, for passwords would be in it. Who needs one can raise the limit again (prlimit(1)).

    The kernel hands it to a program all the same where C{core_pattern} names one; systemd-coredump heeds the limit.
    """
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    # A sandbox may forbid it: no reason not to serve.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, most))
