"""L{crcache.store.givers}: two processes at once, one of which may die, and what is found in the directories."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from crcache.errors import StoreError
from crcache.facts import Fetched, Membership, Privacy
from crcache.grammar.digest import Digest
from crcache.grammar.reference import DOCKER_IO
from crcache.store import files, givers, repositories
from crcache.store.filesystem import Filesystem
from tests.store.case import DirectoryCase
from tests.store.other import now
from tests.store.stores import ALPINE, DIGEST, NGINX

#: What looks at the disk, or changes it: before each something may happen.
STEPS = ("open", "write", "rename", "unlink", "rmdir", "listdir", "scandir", "lexists", "lstat")
OPENLY = Membership(DIGEST, fetched=Fetched.OPENLY)


class Stepping:
    """The C{os} module, and C{os.path} with it, where something happens before each step."""

    def __init__(self, before: Callable[[], None], module: Any = os) -> None:
        self._before = before
        self._module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if name == "path":
            return Stepping(self._before, found)
        if name not in STEPS:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before()
            return found(*args, **kwargs)

        return call


class GiversCase(DirectoryCase):
    """Two processes on one directory, which take their steps as they are told."""

    def setUp(self) -> None:
        super().setUp()
        self.asked = 0.0
        self.marks = self.root / "openly/sha256" / DIGEST.hex

    def another_started(self) -> Filesystem:
        """The other one."""
        other = self.another()
        other.start()
        return other

    def give(self, store: Any = None) -> None:
        """The repository gives the content."""
        now((store or self.store).enrol(DOCKER_IO, ALPINE, [OPENLY]))

    def close(self, store: Any = None) -> None:
        """The repository has refused crcache's own way, later than the last time."""
        self.asked += 60
        now((store or self.store).set_privacy(DOCKER_IO, ALPINE, Privacy(self.asked)))

    def open(self, store: Any = None) -> None:
        """The repository has let crcache's own way in."""
        now((store or self.store).set_privacy(DOCKER_IO, ALPINE, None))

    def given(self) -> bool:
        """Whether others may have it."""
        return now(self.store.holding(DOCKER_IO, NGINX, DIGEST)).given

    def private(self) -> bool:
        """Whether the repository is noted as private."""
        return now(self.store.privacy(DOCKER_IO, ALPINE)) is not None

    def steps(self, work: Callable[[], None], at: int, between: Callable[[], None]) -> int:
        """Do the work, with something else before one of its steps.

        @return: how many steps it had.
        """
        taken, modules = 0, (files, givers, repositories)

        def before() -> None:
            nonlocal taken
            taken += 1
            if taken == at + 1:
                for module in modules:
                    vars(module)["os"] = os
                between()
                for module in modules:
                    vars(module)["os"] = stepping

        stepping = Stepping(before)
        for module in modules:
            vars(module)["os"] = stepping
        try:
            work()
        finally:
            for module in modules:
                vars(module)["os"] = os
        return taken

    def killed(self, work: Callable[[], object]) -> None:
        """Do the work in a process that is killed, if it does not end before."""
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        try:
            work()
        finally:
            os._exit(0)

    def start_again(self, *, held: bool) -> None:
        """As it was: the repository is known, and open."""
        shutil.rmtree(self.root)
        self.store.start()
        digest = DIGEST if held else Digest.of(b"other")
        now(self.store.enrol(DOCKER_IO, ALPINE, [Membership(digest)]))


def die() -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGKILL)


class RaceTests(GiversCase):
    """However the steps of two processes meet."""

    def test_closed_between(self) -> None:
        """A repository that turns private before any step of giving gives nothing in the end, also if the one who
        gives is killed before any of the steps that are left."""
        for held in (True, False):
            at, most = 0, 1
            while at < most:
                self.start_again(held=held)
                most = self.steps(self.give, at, self.close)
                self.assertEqual((self.private(), self.given()), (True, False), (held, at))
                for later in range(at, most) if held else ():
                    self.start_again(held=held)
                    self.killed(partial(self.twice, at, later))
                    self.assertEqual((self.private(), self.given()), (True, False), (held, at, later))
                at += 1
            self.assertGreater(most, 6)

    def twice(self, first: int, last: int) -> None:
        """Give, with the repository turning private before one step, and the end before another."""
        self.steps(lambda: self.steps_within(first), last, die)

    def steps_within(self, first: int) -> None:
        """Give, counted by whoever counts already."""
        counted = [0]
        stepping = vars(givers)["os"]
        before = stepping._before

        def also() -> None:
            counted[0] += 1
            if counted[0] == first + 1:
                modules = (files, givers, repositories)
                for module in modules:
                    vars(module)["os"] = os
                self.close()
                for module in modules:
                    vars(module)["os"] = stepping
            before()

        stepping._before = also
        self.give()

    def test_given_between(self) -> None:
        """What is given before any step of turning private is taken back as well."""
        for held in (True, False):
            at, most = 0, 1
            while at < most:
                self.start_again(held=held)
                other = self.another_started()
                most = self.steps(self.close, at, partial(self.give, other))
                self.assertEqual((self.private(), self.given()), (True, False), (held, at))
                at += 1
            self.assertGreater(most, 6)

    def test_named_between(self) -> None:
        """A draft that gets its name at any step of turning private does not keep it."""

        def named() -> None:
            with contextlib.suppress(FileNotFoundError):
                draft.rename(mark)

        at, most = 0, 1
        while at < most:
            self.start_again(held=True)
            self.give()
            (mark,) = self.marks.iterdir()
            self.close()
            self.marks.mkdir()
            draft = self.marks / f".{mark.name}.1"
            draft.touch()
            most = self.steps(self.close, at, named)
            self.assertEqual((self.private(), self.given()), (True, False), at)
            at += 1

    def test_given_between_and_killed(self) -> None:
        """If the one who turns it private is killed, nothing is noted yet, or the next refusal ends what it began."""
        at, most = 0, 1
        while at < most:
            self.start_again(held=True)
            self.give()
            most = self.steps(self.close, -1, die)
            self.start_again(held=True)
            self.give()
            self.killed(partial(self.steps, self.close, at, die))
            self.give()
            self.close()
            self.assertEqual((self.private(), self.given()), (True, False), at)
            at += 1

    def test_opened_between(self) -> None:
        """Who opens it while another turns it private, or the other way round: it is private and gives nothing, or it
        is open."""
        for work, between in ((self.close, self.open), (self.open, self.close)):
            seen, at, most = set(), 0, 1
            while at < most:
                self.start_again(held=True)
                self.give()
                if work == self.open:
                    self.close()
                most = self.steps(work, at, between)
                seen.add((self.private(), self.given()))
                at += 1
            self.assertNotIn((True, True), seen)
            self.assertGreater(len(seen), 1)

    def test_refreshed_between(self) -> None:
        """So is it where a refusal is noted again while another process finds it open."""
        at, most = 0, 1
        while at < most:
            self.start_again(held=True)
            self.give()
            self.close()
            most = self.steps(self.close, at, self.open)
            self.assertNotEqual((self.private(), self.given()), (True, True), at)
            at += 1

    def test_directory_goes(self) -> None:
        """Giving what is being cleaned away at any step fails nobody, and can be done again."""
        for remove in (lambda: shutil.rmtree(self.marks, True), lambda: shutil.rmtree(self.root / "openly", True)):
            at, most = 0, 1
            while at < most:
                self.start_again(held=True)
                most = self.steps(self.give, at, remove)
                self.give()
                self.assertTrue(self.given(), at)
                at += 1


class DirectoryTests(GiversCase):
    """What is on disk."""

    def drafts(self) -> list[Path]:
        """What is not a giver yet."""
        return [path for path in self.marks.iterdir() if path.name.startswith(".")]

    def test_emptied(self) -> None:
        """The last giver's directory is removed with it, and not before."""
        self.give()
        now(self.store.enrol(DOCKER_IO, NGINX, [OPENLY]))
        self.close()
        self.assertEqual(len(list(self.marks.iterdir())), 1)
        now(self.store.set_privacy(DOCKER_IO, NGINX, Privacy(1.0)))
        self.assertFalse(self.marks.exists())

    def test_emptied_by_others(self) -> None:
        """What the one who turned it private did not come to remove, the next refusal removes."""
        self.give()
        self.close()
        self.marks.mkdir()
        self.close()
        self.assertFalse(self.marks.exists())

    def test_drafts(self) -> None:
        """Drafts give nothing; those of a repository that turns private are removed, those of others are not."""
        self.give()
        (mark,) = self.marks.iterdir()
        mark.rename(self.marks / f".{mark.name}.1")
        (self.marks / f".{'0' * 32}.2").touch()
        self.assertFalse(self.given())
        self.close()
        self.assertEqual([path.name for path in self.drafts()], [f".{'0' * 32}.2"])

    def test_eight(self) -> None:
        """There are eight at most."""
        self.marks.mkdir(parents=True)
        for number in range(7):
            (self.marks / f"{number:032x}").touch()
        for _ in range(2):
            self.give()
            now(self.store.enrol(DOCKER_IO, NGINX, [OPENLY]))
            self.assertEqual(len(list(self.marks.iterdir())), 8)

    def test_other_names(self) -> None:
        """What has no giver's name in the directory of a held digest is no giver, and stays."""
        self.give()
        (self.marks / "README").touch()
        self.close()
        self.assertFalse(self.given())
        self.assertEqual([path.name for path in self.marks.iterdir()], ["README"])

    def test_unused(self) -> None:
        """Turning private and open again is no use of what is held."""
        self.give()
        (member,) = self.root.glob("registries/**/_digests/*")
        os.utime(member, (1.0, 1.0))
        self.close()
        self.open()
        self.assertTrue(self.given())
        self.assertEqual(member.stat().st_mtime, 1.0)

    def test_stays(self) -> None:
        """If something cannot be taken back the repository is noted as private all the same; the refusal after that
        tries again."""
        self.give()
        (mark,) = self.marks.iterdir()

        class Failing:
            def __getattr__(self, name: str) -> Any:
                return getattr(os, name)

            def unlink(self, path: Path) -> None:
                if path == mark:
                    raise OSError(5, "Input/output error")
                os.unlink(path)

        vars(givers)["os"] = Failing()
        try:
            with self.assertRaises(StoreError):
                self.close()
        finally:
            vars(givers)["os"] = os
        self.assertEqual((self.private(), self.given()), (True, True))
        self.close()
        self.assertEqual((self.private(), self.given()), (True, False))
