"""What every server goes through, and what is noted of it."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.clients import Failed, first_answer, pull, pull_all, right_bodies
from benchmarks.memory import forget_peak, peak, resident, settle, warm_memory
from benchmarks.servers import Kind, Server
from tests.real.statics import StaticOrigin

MIB = 1 << 20
_PIECE = 16 * MIB
_SMALL = 64 << 10


@dataclass(frozen=True)
class Plan:
    """How much is done. Sizes in bytes.

    @ivar layer: of the blob that one client pulls, and four.
    @ivar crowd: of the cold blob that many clients pull at once.
    @ivar rounds: how often each server starts anew, with an empty cache.
    @ivar warm: how often the warm pulls are repeated in a round.
    @ivar files: in the cache of a server that is started.
    @ivar pieces: of each of a few clients, who pull one cold blob after another.
    @ivar piece: of such a blob.
    """

    layer: int = 500 * MIB
    crowd: int = 200 * MIB
    few: int = 4
    many: int = 20
    rounds: int = 3
    warm: int = 3
    files: int = 100_000
    pieces: int = 16
    piece: int = 8 * MIB

    @property
    def kept(self) -> int:
        """Bytes that may be kept where room has to be made all the time: a sixth of what is pulled, or less."""
        return self.few * self.pieces * self.piece // 6


QUICK = Plan(layer=16 * MIB, crowd=8 * MIB, rounds=1, warm=1, files=500, pieces=6, piece=MIB)


@dataclass(frozen=True)
class Blob:
    """Random bytes that the origin has.

    @ivar path: of its URL.
    """

    path: str
    digest: str
    size: int


@dataclass
class Samples:
    """What was noted of one server. Seconds and bytes, one entry for each time it was measured.

    @ivar copies: how many times its size the origin sent of the blob that many clients pulled at once.
    @ivar right: how many of the many clients of an extra, untimed crowd on another cold blob got the right bytes.
    @ivar idle: resident memory before the first request.
    @ivar above: peak resident memory over all of a round, less C{idle}.
    @ivar start: with many files in the cache, until one of them is served.
    @ivar free: until a few clients have all of many cold blobs, with room for all of them.
    @ivar full: the same, with room for few; nothing for a server that cannot be told so.
    @ivar kept: what is kept afterwards, of what may be.
    """

    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    few: list[float] = field(default_factory=list)
    crowd: list[float] = field(default_factory=list)
    copies: list[float] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)
    above: list[int] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    free: list[float] = field(default_factory=list)
    full: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)


class Course:
    """The origin with its blobs, and the way that each server takes through them."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        self._plan = plan
        self._directory = directory
        self.origin = StaticOrigin(directory / "origin", tls=True)
        self._first = self._make(MIB)
        self._layer = self._make(plan.layer)
        self._crowd = self._make(plan.crowd)
        self._check = self._make(plan.crowd)
        self._pieces = [[self._make(plan.piece) for _ in range(plan.pieces)] for _ in range(plan.few)]
        self.origin.start()

    def stop(self) -> None:
        """End the origin. Idempotent."""
        self.origin.stop()

    def run(self, kind: Kind, directory: Path, prefix: Sequence[str], samples: Samples) -> None:
        """One round of one server, from an empty cache.

        @param directory: empty; for the server's files.
        @param prefix: the command that keeps the server on its core.
        """
        plan = self._plan
        server = kind.begin(directory, self.origin, prefix)
        try:
            settle(server.pid)
            samples.idle.append(resident(server.pid))
            forget_peak(server.pid)
            # Not the first request of a server's life is meant, but any one after it.
            self._pull(server, self._first)
            warm_memory(directory, 2 * plan.layer)
            samples.cold.append(self._pull(server, self._layer))
            for _ in range(plan.warm):
                samples.warm.append(self._pull(server, self._layer))
            for _ in range(plan.warm):
                samples.few.append(self._pull(server, self._layer, plan.few))
            warm_memory(directory, 2 * plan.crowd)
            before = self.origin.sent(self._crowd.digest)
            samples.crowd.append(self._pull(server, self._crowd, plan.many))
            samples.copies.append((self.origin.sent(self._crowd.digest) - before) / self._crowd.size)
            samples.right.append(right_bodies(server.url(self._check.path), self._check.digest, plan.many))
            settle(server.pid)
            samples.above.append(max(0, peak(server.pid) - samples.idle[-1]))
        finally:
            server.stop()

    def start(self, kind: Kind, directory: Path, prefix: Sequence[str], samples: Samples) -> None:
        """Start one whose cache has many files, and have one of them.

        @param directory: the one in which it has just L{run}.
        @raise Failed: if it was not in the cache.
        """
        kind.stock(directory, self._plan.files)
        os.sync()
        before = self.origin.sent(self._first.digest)
        begun = time.monotonic()
        server = kind.begin(directory, self.origin, prefix)
        try:
            first_answer(server.url(self._first.path), self._first.size)
            samples.start.append(time.monotonic() - begun)
            if self.origin.sent(self._first.digest) != before:
                raise Failed("what had been cached was fetched again")
        finally:
            server.stop()

    def turn_over(self, kind: Kind, directory: Path, prefix: Sequence[str], samples: Samples) -> None:
        """Pull more than there is room for, and as much where there is; which of them first, alternates.

        A hundredth of the files are there before, and have to go one by one: what has been cached for a while is many
        small files beside some large ones.

        @param directory: empty; for the server's files.
        """
        ways = [(None, samples.free), (self._plan.kept, samples.full)] if kind.bounded else [(None, samples.free)]
        for most, noted in ways if len(samples.free) % 2 else reversed(ways):
            with tempfile.TemporaryDirectory(dir=directory) as own:
                kind.stock(Path(own), self._plan.files // 100)
                warm_memory(directory, self._plan.few * self._plan.pieces * self._plan.piece)
                server = kind.begin(Path(own), self.origin, prefix, most)
                try:
                    first_answer(server.url(self._first.path), self._first.size)
                    settle(server.pid)
                    urls = [[server.url(blob.path) for blob in blobs] for blobs in self._pieces]
                    noted.append(pull_all(urls, self._plan.piece))
                    if most is not None:
                        settle(server.pid)
                        samples.kept.append(_content_below(Path(own)) / most)
                finally:
                    server.stop()

    def _pull(self, server: Server, blob: Blob, clients: int = 1) -> float:
        seconds = pull(server.url(blob.path), blob.size, clients)
        # So that no pull pays for what the one before left to be written.
        settle(server.pid)
        return seconds

    def _make(self, size: int) -> Blob:
        file = self._directory / "blob"
        hasher = hashlib.sha256()
        with file.open("wb") as output:
            for start in range(0, size, _PIECE):
                piece = os.urandom(min(_PIECE, size - start))
                hasher.update(piece)
                output.write(piece)
        digest = f"sha256:{hasher.hexdigest()}"
        path = self.origin.publish_blob(file, "team/app", digest)
        file.unlink()
        return Blob(path, digest, size)


def _content_below(directory: Path) -> int:
    """Bytes in files that are no configuration, log or record."""
    sizes = (path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return sum(size for size in sizes if size > _SMALL)
