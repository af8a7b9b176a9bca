"""What a server costs its machine, as the kernel tells: proc_pid_status(5), proc_pid_stat(5), proc(5) on clear_refs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.real.processes import until

_QUIET = 0.25
_PIECE = 1 << 20


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def resident(pid: int) -> int:
    """Bytes of memory that the processes of the tree have now, shared pages counted in each."""
    return _sum(pid, "VmRSS")


def forget_peak(pid: int) -> None:
    """Let L{peak} begin anew."""
    for member in tree(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5")


def peak(pid: int) -> int:
    """The sum of the most that each process of the tree has had since L{forget_peak}: never less than it was."""
    return _sum(pid, "VmHWM")


def settle(pid: int) -> None:
    """Wait until the tree has nothing left to do, and until nothing is left to be written to disk."""

    def quiet() -> bool:
        before = _ticks(pid)
        time.sleep(_QUIET)
        return _ticks(pid) - before <= 1

    until("the server comes to rest", quiet, 120)
    os.sync()


def warm_memory(directory: Path, size: int) -> None:
    """Have the machine hold so many bytes of memory that is free and has just been used.

    A virtual machine gets memory from its host when it touches it for the first time, and gives back what it does not
    use. Whoever fills the page cache first would pay for that, in place of all who come after.
    """
    scratch = directory / "scratch"
    piece = bytes(_PIECE)
    with scratch.open("wb") as file:
        for _ in range(-(-size // _PIECE)):
            file.write(piece)
    scratch.unlink()


def _sum(pid: int, field: str) -> int:
    total = 0
    for member in tree(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                total += int(value.split()[0]) * 1024
    return total


def _ticks(pid: int) -> int:
    total = 0
    for member in tree(pid):
        # The second field, a name in parentheses, may have blanks in it.
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total
