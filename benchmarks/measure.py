"""What every server goes through, and what is noted of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.clients import pull, right_bodies
from benchmarks.memory import forget_peak, peak, resident, settle, warm_memory
from benchmarks.servers import Server
from tests.real.statics import StaticOrigin

MIB = 1 << 20
_PIECE = 16 * MIB


@dataclass(frozen=True)
class Plan:
    """How much is done. Sizes in bytes.

    @ivar layer: of the blob that one client pulls, and four.
    @ivar crowd: of the cold blob that many clients pull at once.
    @ivar rounds: how often each server starts anew, with an empty cache.
    @ivar warm: how often the warm pulls are repeated in a round.
    """

    layer: int = 500 * MIB
    crowd: int = 200 * MIB
    few: int = 4
    many: int = 20
    rounds: int = 3
    warm: int = 3


QUICK = Plan(layer=16 * MIB, crowd=8 * MIB, rounds=1, warm=1)


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
    """

    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    few: list[float] = field(default_factory=list)
    crowd: list[float] = field(default_factory=list)
    copies: list[float] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    idle: list[int] = field(default_factory=list)
    above: list[int] = field(default_factory=list)


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
        self.origin.start()

    def stop(self) -> None:
        """End the origin. Idempotent."""
        self.origin.stop()

    def run(
        self,
        begin: Callable[[Path, StaticOrigin, Sequence[str]], Server],
        directory: Path,
        prefix: Sequence[str],
        samples: Samples,
    ) -> None:
        """One round of one server, from an empty cache.

        @param directory: empty; for the server's files.
        @param prefix: the command that keeps the server on its core.
        """
        plan = self._plan
        server = begin(directory, self.origin, prefix)
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
