"""Grants for a test."""

from __future__ import annotations

import hmac
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.grants.grants import Grants
from crcache.grants.moments import Moment
from crcache.secret import Secret
from crcache.workers import Inline, Workers

START = Moment(1_700_000_000.0, 5_000.0)
ALPINE = Repository("library/alpine")
TOKEN = Secret("Bearer marked-5ecret")


class Later(Workers):
    """Work that is done when the test says so, in order, as one thread would."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As L{Workers.run}, but later."""
        done: Deferred[Any] = Deferred()
        self.waiting.append((done, lambda: work(*args, **kwargs)))
        return done

    def go(self, jobs: int | None = None) -> None:
        """Do so many jobs, or all there are."""
        while self.waiting and jobs != 0:
            done, work = self.waiting.pop(0)
            jobs = None if jobs is None else jobs - 1
            try:
                result = work()
            except Exception:
                done.errback()
            else:
                done.callback(result)


class GrantsCase(SynchronousTestCase):
    """Has a runtime directory, and clocks that stand still."""

    def setUp(self) -> None:
        """Make them."""
        self.runtime = Path(tempfile.mkdtemp(prefix="crcache-test-")) / "crcache"
        self.addCleanup(shutil.rmtree, self.runtime.parent, ignore_errors=True)
        self.path = self.runtime / "grants"
        self.moment = START
        self.timer = Clock()

    def make(self, workers: Workers | None = None, *, shared: bool = True, scope: str = "") -> Grants:
        """Grants of a process of its own."""
        runtime = self.runtime if shared else None
        return Grants(runtime, Inline() if workers is None else workers, self.timer, lambda: self.moment, scope)

    def known(
        self,
        grants: Grants,
        authorization: Secret = TOKEN,
        registry: Registry = DOCKER_IO,
        repository: Repository = ALPINE,
    ) -> bool:
        """What it answers at once."""
        return self.successResultOf(grants.known(authorization, registry, repository))

    def add(self, grants: Grants, authorization: Secret = TOKEN) -> None:
        """One for L{ALPINE}."""
        grants.add(authorization, DOCKER_IO, ALPINE)

    def drop(self, grants: Grants, authorization: Secret = TOKEN) -> None:
        """One for L{ALPINE}."""
        grants.drop(authorization, DOCKER_IO, ALPINE)

    def later(self, day: float, boot: float | None = None) -> None:
        """Let time pass: so much by the day's clock, and by the machine's."""
        self.moment = Moment(self.moment.day + day, self.moment.boot + (day if boot is None else boot))

    def files(self) -> list[Path]:
        """Of grants."""
        return sorted(path for path in self.path.iterdir() if len(path.name) == 64)

    def name_of(self, *parts: str) -> str:
        """What a grant's file must be called."""
        framed = b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)
        return hmac.new((self.path / "key").read_bytes(), framed, "sha256").hexdigest()

    def logged(self) -> list[LogEvent]:
        """What is logged from now on."""
        logged: list[LogEvent] = []
        observer = cast(ILogObserver, logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return logged
