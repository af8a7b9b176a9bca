"""A chaos run: the registry, the daemon, its misfortunes and its clients, and what came of it."""

from __future__ import annotations

import datetime
import itertools
import json
import queue
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.images import Wanted, make
from tests.chaos.puller import WRONG, Puller, Tally, Trouble
from tests.chaos.supervisor import Supervisor, Vanisher
from tests.real.daemon import ROOT

#: Failures of each kind of which all is told, and errors in crcache itself.
_TOLD = 4
#: Lines of the daemon's that are shown of each.
_LINES = 30
#: Seconds around a failure in which lines about the same content are shown.
_AROUND = 3.0


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    @ivar seconds: for which images are pulled; each of them at least once, however long that takes.
    @ivar share: of the registry's answers that are bad.
    @ivar kills: seconds between two, on average; 0 is never.
    @ivar vanish: files that vanish, a second.
    """

    seed: int
    seconds: float
    images: int = 200
    clients: int = 8
    share: float = 0.2
    kills: float = 6.0
    vanish: float = 10.0


class Origin:
    """The registry's process."""

    def __init__(self, plan: Plan, log: Path) -> None:
        words = [sys.executable, "-m", "tests.chaos.origin", str(plan.seed), str(plan.images), str(plan.share)]
        with log.open("wb") as errors:
            # It ends with its standard input, so with this process.
            self._child = subprocess.Popen(
                words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self._child.stdout is not None
        where = json.loads(self._child.stdout.readline() or "{}")
        if not where:
            raise AssertionError(f"the origin does not start:\n{log.read_text()}")
        self.urls: list[str] = where["urls"]
        self._control: str = where["control"]
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def told(self) -> dict[str, Any]:
        """What it did so far, as L{tests.chaos.origin.Registry.describe}."""
        with self._opener.open(self._control, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found

    def stop(self) -> None:
        """End it. Idempotent."""
        self._child.kill()
        self._child.wait()


class Run:
    """One run, from its beginning to its end."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        """
        @param directory: an empty one.
        """
        self.plan = plan
        self.tally = Tally()
        _, self._images = make(plan.seed, plan.images)
        self._origin = Origin(plan, directory / "origin.log")
        self._supervisor = Supervisor(directory, self._origin.urls)
        self._vanisher = Vanisher(self._supervisor.cache, random.Random(f"vanish/{plan.seed}"))
        self._over = threading.Event()
        self._began = time.monotonic()
        self._told: dict[str, Any] = {}
        self._broken: list[str] = []

    # The world of the clients

    def killed(self, since: float) -> bool:
        """As L{tests.chaos.puller.World}."""
        return self._supervisor.killed(since)

    def lied(self, reference: str, since: float) -> bool:
        """As L{tests.chaos.puller.World}."""
        last: float | None = self._origin.told()["lies"].get(reference)
        return last is not None and last >= since

    # The run

    def go(self) -> None:
        """Pull until the time is over and every image has been pulled; then let everything end."""
        wanted: queue.Queue[tuple[Wanted, bool] | None] = queue.Queue(self.plan.clients)
        pulling = [threading.Thread(target=self._pull, args=(number, wanted)) for number in range(self.plan.clients)]
        misfortunes = [
            threading.Thread(target=self._guard, args=(work,)) for work in (self._kill, self._vanish, self._look)
        ]
        try:
            for thread in (*pulling, *misfortunes):
                thread.start()
            self._feed(wanted)
            for thread in pulling:
                thread.join()
        finally:
            self._over.set()
            for thread in misfortunes:
                thread.join()
            self._told = self._origin.told()
            self._supervisor.stop()
            self._origin.stop()

    def _feed(self, wanted: queue.Queue[tuple[Wanted, bool] | None]) -> None:
        """Each image twice in a round, often by two clients at once; between rounds all content is removed."""
        chance = random.Random(f"order/{self.plan.seed}")
        for number in itertools.count():
            late = time.monotonic() - self._began >= self.plan.seconds
            if number and late:
                break
            if number:
                self._vanisher.every()
            for image in chance.sample(self._images, len(self._images)):
                if number and time.monotonic() - self._began >= self.plan.seconds:
                    break
                for _ in range(2):
                    wanted.put((image, chance.random() < 0.5))
        for _ in range(self.plan.clients):
            wanted.put(None)

    def _pull(self, number: int, wanted: queue.Queue[tuple[Wanted, bool] | None]) -> None:
        puller = Puller(f"chaos-{number}", self._supervisor.port, self, self.tally)
        while (task := wanted.get()) is not None:
            try:
                puller.pull(*task)
            except Exception as problem:
                self._broken.append(f"client {number}: {type(problem).__name__}: {problem}")
        puller.close()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as problem:
            self._broken.append(f"{work.__name__}: {type(problem).__name__}: {problem}")

    def _kill(self) -> None:
        chance = random.Random(f"kill/{self.plan.seed}")
        while self.plan.kills and not self._over.wait(self.plan.kills * chance.uniform(0.3, 1.7)):
            self._supervisor.kill()

    def _vanish(self) -> None:
        while self.plan.vanish and not self._over.wait(1 / self.plan.vanish):
            self._vanisher.one()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            self._supervisor.look()

    # What came of it

    def report(self) -> tuple[list[str], bool]:
        """The counts, and before them what went wrong; whether nothing did."""
        counts, failed = self.tally.counts, self.tally.failed
        lines, internal = self._lines()
        told, seen = [], Counter[str]()
        for each in failed:
            kind = each[2].kind
            seen[kind] += 1
            told += self._tell(*each, lines) if seen[kind] <= _TOLD else []
        if failed:
            told.append("failures: " + ", ".join(f"{count} {kind}" for kind, count in seen.most_common()))
        faults = Counter(self._told.get("faults", {}))
        kinds = ", ".join(f"{count} {kind}" for kind, count in faults.most_common())
        ended = self._supervisor.ended
        told += [f"the daemon ended by itself, with status {status}" for status in ended]
        told += [f"an error in crcache itself: {_one_line(line)}" for line in internal[:_TOLD]]
        told += self._broken
        misfortunes = [
            ("faults of the registry", sum(faults.values()), self.plan.share),
            ("kills", len(self._supervisor.kills), self.plan.kills),
            ("vanished files", self._vanisher.count, self.plan.vanish),
        ]
        told += [
            f"there were no {name}: this run proves nothing" for name, count, due in misfortunes if due and not count
        ]
        seconds = time.monotonic() - self._began
        told += [
            f"chaos: seed {self.plan.seed}, {seconds:.0f} s: {counts['pulls']} pulls of {self.plan.images} images, "
            f"{len(failed)} failed, {seen[WRONG]} with wrong bytes",
            f"clients: {self.plan.clients}, {counts['requests']} requests, {counts['bytes'] >> 20} MiB; "
            f"{counts['resumed']} resumed after a kill, {counts['anew']} begun anew after a lie",
            f"registry: {self._told.get('answers', 0)} answers, {self._told.get('bytes', 0) >> 20} MiB; "
            f"{sum(faults.values())} bad: {kinds}",
            f"daemon: {len(self._supervisor.kills)} kills, {self._vanisher.count} vanished files, "
            f"{len(internal)} errors of its own",
        ]
        proves = all(count for _, count, due in misfortunes if due)
        return told, not (failed or ended or internal or self._broken) and proves

    def _lines(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What the daemons have logged, and what of it is of errors in crcache itself."""
        lines: list[dict[str, Any]] = []
        for text in self._supervisor.log.read_text(errors="replace").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                # A line that a kill has cut, or one of twistd's before the log was begun.
                lines.append({"message": text, "level": "critical" if "Traceback" in text else "info"})
        return lines, [line for line in lines if line.get("level") == "critical"]

    def _tell(self, wanted: Wanted, when: float, trouble: Trouble, lines: list[dict[str, Any]]) -> list[str]:
        """One failure: which request, what was answered, and what the daemon had to say of it."""
        stamp = time.strftime("%H:%M:%S", time.gmtime(when))
        told = [f"FAILED at {stamp} ({trouble.kind}): {wanted.image.name}:{wanted.tag}"]
        told += [f"    {trouble}", f"    requests {', '.join(trouble.ids)}"]
        mine = [line for line in lines if line.get("request_id") in trouble.ids]
        about = {line.get("digest") for line in mine} - {None}
        near = [
            line
            for line in lines
            if (line.get("digest") in about and abs(_time_of(line) - when) < _AROUND) or line in mine
        ]
        return told + [f"        {_one_line(line)}" for line in near[-_LINES:]] + [""]


def _time_of(line: dict[str, Any]) -> float:
    try:
        stamp = str(line["time"]).replace("Z", "+00:00")
        return datetime.datetime.fromisoformat(stamp).timestamp()
    except (KeyError, ValueError):
        return 0.0


def _one_line(line: dict[str, Any]) -> str:
    words = [str(line.get(name, "")) for name in ("time", "level", "event", "message")]
    return " ".join([*words, *str(line.get("traceback", "")).splitlines()])
