"""Another process that uses a cache directory, told what to do line by line."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from twisted.internet.defer import Deferred

from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.interfaces import IBody, IIngest
from crcache.store.filesystem import Filesystem
from crcache.workers import Inline

T = TypeVar("T")


class Other:
    """Starts one, and speaks to it. Each method is what the process does; its answer is JSON."""

    def __init__(self, root: Path, data: Path, repository: Repository | None = None) -> None:
        """
        @param data: a file with the bytes that it writes.
        @param repository: whose clients its fills are for, unless it is told otherwise; C{None} for open ones.
        """
        command = [sys.executable, "-m", "tests.store.other", str(root), str(data), str(repository or "")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_TOP)

    def tell(self, what: str, *arguments: object) -> None:
        """Have it begin something; L{answer} says what came of it."""
        _pipe(self.process.stdin).write(json.dumps([what, *arguments]).encode() + b"\n")
        _pipe(self.process.stdin).flush()

    def answer(self) -> Any:
        """The result of what was told first."""
        line = _pipe(self.process.stdout).readline()
        assert line, "the other process has died"
        return json.loads(line)

    def do(self, what: str, *arguments: object) -> Any:
        """Both."""
        self.tell(what, *arguments)
        return self.answer()

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.end()

    def end(self) -> None:
        """Let it end, and forget it."""
        for pipe in (self.process.stdin, self.process.stdout):
            _pipe(pipe).close()
        self.process.wait()


_TOP = Path(__file__).parents[2]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def now(deferred: Deferred[T]) -> T:
    """The result, which is there already."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    if isinstance(results[0], BaseException) or hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return cast(T, results[0])


def checksum(found: IBody | IIngest) -> str:
    """Of all that can be read from the beginning."""
    end = 0
    while (further := found.readable(end)) > end:
        end = further
    fd = found.open()
    try:
        return hashlib.sha256(os.pread(fd, end, 0)).hexdigest()
    finally:
        os.close(fd)


class Commands:
    """What it can be told."""

    def __init__(self, root: str, data: str, repository: str) -> None:
        self.repository = repository
        self.store = Filesystem(Path(root), Inline(), time.time)
        self.store.start()
        self.data = Path(data).read_bytes()
        self.digest = Digest.of(self.data)
        self.fill: Any = None

    def ingest(self, registry: str = str(DOCKER_IO), repository: str | None = None) -> str:
        """Begin: C{owner}, C{follower} or C{content}. An empty repository is none."""
        self.fill = None
        repository = self.repository if repository is None else repository
        whose = Repository(repository) if repository else None
        self.fill = now(self.store.ingest(Registry(registry), self.digest, whose))
        if not IIngest.providedBy(self.fill):
            return "content"
        return "owner" if self.fill.owner else "follower"

    def write(self, start: int, stop: int) -> None:
        """These bytes of the data."""
        now(self.fill.write(start, [self.data[start:stop]]))

    def commit(self) -> None:
        """All of it."""
        now(self.fill.commit(len(self.data), []))

    def discard(self) -> None:
        """None of it."""
        now(self.fill.discard())

    def claim(self) -> bool:
        """Whether it owns the fill now."""
        return bool(now(self.fill.claim()))

    def close(self) -> None:
        """Let the lock go."""
        self.fill.close()

    def settle(self, size: int) -> None:
        """The origin's size."""
        self.fill.settle(size)

    def look(self) -> dict[str, object]:
        """What can be seen of the fill."""
        fill = self.fill
        return {"state": fill.state.value, "size": fill.size, "hole": fill.hole(0), "checksum": checksum(fill)}

    def find(self) -> str | None:
        """The content's checksum."""
        found = now(self.store.find(self.digest))
        return None if found is None else checksum(found)


def main() -> None:
    """Do as told until there is nobody left who tells."""
    commands = Commands(*sys.argv[1:])
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        command: Callable[..., object] = getattr(commands, what)
        try:
            result = command(*arguments)
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
