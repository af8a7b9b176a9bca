"""A limit on memory that the kernel enforces: a control group of a test's own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.real.processes import until

#: Where the memory controller is mounted (cgroups(7), version 1).
_CONTROLLER = Path("/sys/fs/cgroup/memory")


class MemoryGroup:
    """Programs that may use so many bytes together, what they have in the page cache included.

    @ivar prefix: a command that runs another one, in its own place and inside the group.
    """

    def __init__(self, limit: int) -> None:
        """
        @param limit: in bytes.
        @raise AssertionError: if this machine has no such controller, or we may not use it.
        """
        try:
            self._group = Path(tempfile.mkdtemp(prefix="crcache-real-", dir=_CONTROLLER))
        except OSError as error:
            raise AssertionError(f"{_CONTROLLER}: no control group can be made: {error}") from error
        (self._group / "memory.limit_in_bytes").write_text(str(limit))
        self.prefix = ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self._group))

    def peak(self) -> int:
        """The most bytes that were in use at once."""
        return int((self._group / "memory.max_usage_in_bytes").read_text())

    def anonymous(self) -> int:
        """Bytes in use now that cannot be dropped or written to a file: heaps and stacks."""
        return self._number("memory.stat", "rss")

    def refusals(self) -> int:
        """How often something had to be given up before there was room for more."""
        return int((self._group / "memory.failcnt").read_text())

    def kills(self) -> int:
        """How many processes were killed for want of memory."""
        return self._number("memory.oom_control", "oom_kill")

    def stop(self) -> None:
        """Remove the group, once all in it have ended. Idempotent."""
        if self._group.exists():
            until("end of all in the group", lambda: not (self._group / "cgroup.procs").read_text())
            os.rmdir(self._group)

    def _number(self, file: str, name: str) -> int:
        pairs = (line.split() for line in (self._group / file).read_text().splitlines())
        return next(int(number) for found, number in pairs if found == name)
