"""What an origin says it was asked: its access log, read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

# The Apache "combined" format, in which docker-registry logs, and nginx unless told otherwise.
_LINE = re.compile(
    r'^\S+ - \S+ \[[^]]*\] "(?P<method>[A-Z]+) (?P<path>\S+) [^"]*" (?P<status>\d+) (?P<sent>\d+)'
    r' "[^"]*" "(?P<agent>[^"]*)"$',
    re.MULTILINE,
)
_BLOB = re.compile(r"/blobs/(sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Served:
    """One request that an origin has answered.

    @ivar sent: bytes of the body that it sent.
    """

    method: str
    path: str
    status: int
    sent: int
    agent: str

    @property
    def blob(self) -> str | None:
        """The digest, if it was asked for a blob."""
        found = _BLOB.search(self.path)
        return found[1] if found else None

    @property
    def fetched(self) -> str | None:
        """The digest of the blob whose body, or part of it, this was."""
        return self.blob if self.method == "GET" and self.status in (200, 206) else None


def parse_log(text: str) -> list[Served]:
    """The requests of an access log, in order of their ends; other lines are passed over."""
    return [Served(m["method"], m["path"], int(m["status"]), int(m["sent"]), m["agent"]) for m in _LINE.finditer(text)]


def fetches(served: Iterable[Served]) -> Counter[str]:
    """How often each blob's body, or part of it, was sent; by digest."""
    return Counter(entry.fetched for entry in served if entry.fetched)


def agents(served: Iterable[Served]) -> set[str]:
    """The names of the programs that asked, without their versions."""
    return {entry.agent.partition("/")[0] for entry in served}
