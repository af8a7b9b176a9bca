"""L{crcache.grants.directory}: what a host's processes tell each other, and what they believe."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import formatEvent

from crcache import events
from crcache.grants import directory as module
from crcache.grants.directory import BETWEEN, MOST, Directory
from crcache.grants.grants import SWEEP, Grants
from crcache.grants.moments import TTL, Moment, expiry
from crcache.secret import Secret
from tests.grants.case import ALPINE, START, TOKEN, GrantsCase

TOP = Path(__file__).parents[2]


class SharingTests(GrantsCase):
    """Two processes, as good as."""

    def setUp(self) -> None:
        """Make them."""
        super().setUp()
        self.first, self.second = self.make(), self.make()

    def test_files(self) -> None:
        """On disk there is a key, and an empty file for each grant: its name a hash, its time when it expires."""
        self.add(self.first)
        (file,) = self.files()
        self.assertEqual({path.name for path in self.path.iterdir()}, {"key", file.name})
        self.assertEqual(file.name, self.name_of("", TOKEN.reveal(), "docker.io", str(ALPINE)))
        self.assertEqual(file.read_bytes(), b"")
        self.assertEqual(file.stat().st_mtime, START.day + TTL)
        for path, mode in ((self.runtime, 0o700), (self.path, 0o700), (self.path / "key", 0o600), (file, 0o600)):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), mode, path)
        self.assertEqual(len((self.path / "key").read_bytes()), 32)

    def test_modes(self) -> None:
        """So it is whatever the umask."""
        for mask in (0o000, 0o077, 0o027):
            self.addCleanup(os.umask, os.umask(mask))
            shutil.rmtree(self.runtime, ignore_errors=True)
            self.add(self.first)
            self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
            self.assertEqual([stat.S_IMODE(path.stat().st_mode) for path in self.path.iterdir()], [0o600] * 2)

    def test_known(self) -> None:
        """What one was told the other knows, until it expires, or either is told otherwise."""
        self.add(self.first)
        self.assertTrue(self.known(self.second))
        self.assertFalse(self.known(self.second, Secret("other")))
        self.drop(self.second)
        self.assertFalse(self.known(self.first))
        self.assertFalse(self.known(self.second))
        self.add(self.second)
        self.assertTrue(self.known(self.first))
        self.later(TTL)
        self.assertFalse(self.known(self.first))
        self.assertFalse(self.known(self.second))

    def test_renewed(self) -> None:
        """What one renews lasts longer for both."""
        self.add(self.first)
        self.later(TTL - 1)
        self.add(self.second)
        self.later(TTL - 1)
        self.assertTrue(self.known(self.first))

    def test_outlives_processes(self) -> None:
        """The next process knows what the last one did: a restart costs no questions."""
        self.add(self.first)
        self.assertTrue(self.known(self.make()))

    def test_scope(self) -> None:
        """With another cache nothing is shared: its registries may be other ones."""
        self.add(self.first)
        self.assertFalse(self.known(self.make(scope="/var/cache/other")))

    def test_far_ahead(self) -> None:
        """A file that expires later than any grant can is not believed."""
        self.add(self.first)
        (file,) = self.files()
        far = START.day + TTL + 10
        for times in ((START.boot + TTL, far), (START.boot + TTL + 10, START.day + TTL), (far, far), (0, 0)):
            os.utime(file, times)
            self.assertFalse(self.known(self.second), times)
        os.utime(file, (START.boot + 5, START.day + 5))
        self.assertTrue(self.known(self.second))

    def test_other_key(self) -> None:
        """Under another key the same files say nothing."""
        self.add(self.first)
        (file,) = self.files()
        (self.path / "key").unlink()
        self.assertFalse(self.known(self.second))
        self.add(self.second, Secret("other"))
        self.assertTrue(file.exists())
        self.assertFalse(self.known(self.second))

    def test_vanishing(self) -> None:
        """Files may vanish, and the directory: then nothing is known, and what is granted next is shared again."""
        logged = self.logged()
        for what in ("grant", "key", "directory", "runtime directory"):
            self.add(self.first)
            self.assertTrue(self.known(self.second))
            if "directory" in what:
                shutil.rmtree(self.path if what == "directory" else self.runtime)
            else:
                (self.files()[0] if what == "grant" else self.path / "key").unlink()
            for grants in (self.first, self.second):
                self.assertFalse(self.known(grants))
                self.drop(grants)
        self.add(self.first)
        self.assertTrue(self.known(self.second))
        self.assertEqual(logged, [])


class RefusalTests(GrantsCase):
    """What somebody else may have made is not used."""

    def _alone(self, problem: str) -> None:
        logged = self.logged()
        first, second = self.make(), self.make()
        for _ in range(2):
            self.add(first)
            self.assertTrue(self.known(first))
            self.assertFalse(self.known(second))
            self.drop(first)
            self.assertFalse(self.known(first))
        first.start()
        first.stop()
        told = [event for event in logged if event["event"] is events.GRANTS_ALONE]
        self.assertEqual(len(told), 2, "once for each process")
        self.assertEqual(len(logged), 2)
        for event in told:
            self.assertIn(problem, formatEvent(event))
            self.assertIn(str(self.path), formatEvent(event))

    def _key(self, data: bytes = bytes(32), mode: int = 0o600) -> Path:
        self.path.mkdir(mode=0o700, parents=True)
        path = self.path / "key"
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def test_good_key(self) -> None:
        """What the others are compared with: such a key is used."""
        self._key()
        first, second = self.make(), self.make()
        self.add(first)
        self.assertTrue(self.known(second))
        self.assertEqual(self.files()[0].name, self.name_of("", TOKEN.reveal(), "docker.io", str(ALPINE)))

    def test_short_key(self) -> None:
        """A key that is cut short is none."""
        self._key(bytes(31))
        self._alone("not a key")

    def test_empty_key(self) -> None:
        """Nor one that is empty."""
        self._key(b"")
        self._alone("not a key")

    def test_long_key(self) -> None:
        """Nor one that is longer."""
        self._key(bytes(33))
        self._alone("not a key")

    def test_legible_key(self) -> None:
        """A key that others could have read, or written, is no secret."""
        for mode in (0o640, 0o604, 0o620, 0o700, 0o400):
            self._key(mode=mode)
            self._alone("own user")
            self.assertEqual([path.name for path in self.path.iterdir()], ["key"])
            shutil.rmtree(self.runtime)

    def test_linked_key(self) -> None:
        """A symbolic link leads to what somebody else has chosen."""
        good = self._key()
        good.rename(self.runtime / "elsewhere")
        good.symlink_to(self.runtime / "elsewhere")
        self._alone("no file")

    def test_odd_key(self) -> None:
        """A directory or a pipe is no key, and is not waited for."""
        for make in (os.mkdir, lambda path: os.mkfifo(path, 0o600)):
            path = self._key()
            path.unlink()
            make(path)
            self._alone("no file")
            shutil.rmtree(self.runtime)

    def test_foreign_key(self) -> None:
        """A key of another user is that user's."""
        self._key()
        self._as_another(lambda: self._alone("own user"))

    def _as_another(self, work: Callable[[], None]) -> None:
        """As if whatever is there were somebody else's."""

        class Another:
            def __getattr__(self, name: str) -> Any:
                return (lambda: os.geteuid() + 1) if name == "geteuid" else getattr(os, name)

        vars(module)["os"] = Another()
        try:
            work()
        finally:
            vars(module)["os"] = os

    def test_open_directory(self) -> None:
        """A directory that others may look into, or write to, is not used."""
        for mode in (0o750, 0o705, 0o720, 0o777):
            self._key()
            self.path.chmod(mode)
            self._alone("own user")
            shutil.rmtree(self.runtime)

    def test_odd_directory(self) -> None:
        """Nor is a symbolic link to one, or a file."""
        elsewhere = self.runtime.parent / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        for make in (lambda: self.path.symlink_to(elsewhere), self.path.touch):
            self.runtime.mkdir(mode=0o700)
            make()
            self._alone("no directory")
            shutil.rmtree(self.runtime)
        self.assertEqual(list(elsewhere.iterdir()), [])

    def test_turns_bad(self) -> None:
        """A directory that is no longer to be trusted is left at once: what was granted here counts still."""
        first, second = self.make(), self.make()
        self.add(first)
        self.assertTrue(self.known(second))
        self.path.chmod(0o777)
        self.assertTrue(self.known(first))
        self.assertFalse(self.known(second))


class FailureTests(GrantsCase):
    """A directory that fails is nobody's trouble."""

    def _failing(self, *names: str, number: int = errno.ENOSPC) -> None:
        """From now on these fail."""

        def fail(*args: object, **kwargs: object) -> Any:
            raise OSError(number, os.strerror(number), "5ecret")

        class Failing:
            def __getattr__(self, name: str) -> Any:
                return fail if name in names else getattr(os, name)

        vars(module)["os"] = Failing()
        self.addCleanup(vars(module).__setitem__, "os", os)

    def _mended(self) -> None:
        vars(module)["os"] = os

    def test_full(self) -> None:
        """What cannot be written is known here alone, and told of once; when there is room again it is shared again."""
        logged = self.logged()
        first, second = self.make(), self.make()
        self._failing("utime", "mkdir")
        for _ in range(3):
            self.add(first)
            self.assertTrue(self.known(first))
            self.assertFalse(self.known(second))
        (event,) = logged
        self.assertIn("No space left", formatEvent(event))
        self.assertNotIn("5ecret", formatEvent(event))
        self._mended()
        self.add(first)
        self.assertTrue(self.known(second))
        self.assertEqual(len(logged), 1)

    def test_no_parent(self) -> None:
        """Where the directory cannot be made nothing is shared."""
        shutil.rmtree(self.runtime.parent)
        logged = self.logged()
        grants = self.make()
        grants.start()
        self.add(grants)
        self.assertTrue(self.known(grants))
        self.drop(grants)
        self.assertFalse(self.known(grants))
        grants.stop()
        self.assertEqual([event["event"] for event in logged], [events.GRANTS_ALONE])
        self.assertFalse(self.runtime.parent.exists())

    def test_unreadable(self) -> None:
        """What cannot be read is unknown, but to those who granted it."""
        first, second = self.make(), self.make()
        self.add(first)
        self._failing("stat", number=errno.EIO)
        self.assertTrue(self.known(first))
        self.assertFalse(self.known(second))
        self.later(TTL)
        self.assertFalse(self.known(first))

    def test_cannot_drop(self) -> None:
        """Whoever was refused is not let in because a file could not be removed: the directory counts no more then."""
        logged = self.logged()
        first = self.make()
        self.add(first)
        self._failing("unlink", number=errno.EROFS)
        self.drop(first)
        self._mended()
        self.assertEqual(len(self.files()), 1)
        self.assertFalse(self.known(first))
        self.assertEqual([event["event"] for event in logged], [events.GRANTS_ALONE])

    def test_bug(self) -> None:
        """An error of crcache's own is told of with its traceback, and is no client's either."""
        grants = self.make()
        self.add(grants)
        self.patch(Directory, "known", lambda self, grant: 1 // 0)
        self.assertTrue(self.known(grants))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class SweepTests(GrantsCase):
    """There are never too many files."""

    def setUp(self) -> None:
        """Have a directory."""
        super().setUp()
        self.grants = self.make()
        self.directory = Directory(self.path, lambda: self.moment)

    def test_expired(self) -> None:
        """What has expired is removed now and then, and what nobody believes; the rest stays."""
        self.grants.start()
        self.add(self.grants)
        self.later(TTL / 2)
        self.add(self.grants, Secret("other"))
        far = self.path / ("0" * 64)
        far.touch()
        os.utime(far, (1e6, 2e9))
        self.later(TTL / 2)
        self.timer.advance(SWEEP - 1)
        self.assertEqual(len(self.files()), 3)
        self.timer.advance(1)
        self.assertEqual(len(self.files()), 1)
        self.assertTrue(self.known(self.grants, Secret("other")))
        self.later(TTL)
        self.timer.advance(SWEEP)
        self.assertEqual([path.name for path in self.path.iterdir()], ["key"])
        self.grants.stop()
        self.assertEqual(self.timer.getDelayedCalls(), [])

    def test_made(self) -> None:
        """The first look makes directory and key, so that what is wrong with them is told at the start."""
        self.grants.start()
        self.assertEqual([path.name for path in self.path.iterdir()], ["key"])
        self.grants.stop()

    def test_fresh(self) -> None:
        """A file that another process is making just now is left alone, and so is what is not crcache's."""
        self.moment = Moment(time.time(), START.boot)
        self.directory.sweep()
        names = "1" * 64, "." + "0" * 16, "other"
        for name in names:
            (self.path / name).touch()
        self.directory.sweep()
        self.assertEqual({path.name for path in self.path.iterdir()}, {"key", *names})
        self.later(100)
        self.directory.sweep()
        self.assertEqual({path.name for path in self.path.iterdir()}, {"key", "other"})

    def test_many(self) -> None:
        """Of too many those go that expire first."""
        self.patch(module, "_LEFT", 5)
        for number in range(8):
            self.later(1)
            self.directory.add(bytes([number]), expiry(self.moment))
        self.directory.sweep()
        known = [self.directory.known(bytes([number])) for number in range(8)]
        self.assertEqual(known, [False] * 3 + [True] * 5)

    def test_between(self) -> None:
        """However many are granted at once, the process looks in time."""
        self.patch(module, "BETWEEN", 4)
        self.patch(module, "_LEFT", 5)
        for number in range(40):
            self.directory.add(bytes([number]), expiry(self.moment))
            self.assertLessEqual(len(self.files()), 5 + 4)

    def test_bound(self) -> None:
        """With sixteen processes at it there are no more than these."""
        self.assertEqual(MOST, 65_536)
        self.assertLessEqual(module._LEFT + 16 * BETWEEN, MOST)
        self.assertGreater(module._LEFT, 16_384)

    def test_others_sweep(self) -> None:
        """What another process removes meanwhile is no error."""
        self.add(self.grants)
        scandir = os.scandir

        class Removing:
            def __getattr__(self, name: str) -> Any:
                return removing if name == "scandir" else getattr(os, name)

        def removing(directory: int) -> Any:
            found = scandir(directory)
            for path in self.files():
                path.unlink()
            return found

        self.addCleanup(vars(module).__setitem__, "os", os)
        vars(module)["os"] = Removing()
        self.later(TTL)
        self.directory.sweep()
        self.assertEqual(self.files(), [])


class RaceTests(GrantsCase):
    """Two that begin at once, step by step."""

    def test_key(self) -> None:
        """Whoever is second to make a key uses the first one's, and leaves nothing of its own."""
        first, second = self.make(), self.make()

        class Late:
            def __getattr__(self, name: str) -> Any:
                return late if name == "link" else getattr(os, name)

        def late(*args: Any, **kwargs: Any) -> None:
            vars(module)["os"] = os
            self.add(first)
            os.link(*args, **kwargs)

        self.addCleanup(vars(module).__setitem__, "os", os)
        vars(module)["os"] = Late()
        self.add(second, Secret("other"))
        self.assertTrue(self.known(first, Secret("other")))
        self.assertTrue(self.known(second))
        self.assertEqual([path.name for path in self.path.iterdir() if len(path.name) < 64], ["key"])


ANOTHER = """
import sys
from pathlib import Path
from crcache.grammar.reference import DOCKER_IO, Repository
from crcache.grants.grants import Grants
from crcache.secret import Secret
from crcache.workers import Inline
from twisted.internet.task import Clock
grants = Grants(Path(sys.argv[1]), Inline(), Clock())
print("begun", flush=True)
for line in sys.stdin:
    what, text = line.split()
    if what == "known":
        found = []
        grants.known(Secret(text), DOCKER_IO, Repository("library/alpine")).addCallback(found.append)
        print(found[0], flush=True)
    else:
        getattr(grants, what)(Secret(text), DOCKER_IO, Repository("library/alpine"))
        print("done", flush=True)
"""


class ProcessTests(GrantsCase):
    """Real processes."""

    def _begin(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", ANOTHER, str(self.runtime)]
        process = subprocess.Popen(command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self._end, process)
        return process

    def _end(self, process: subprocess.Popen[str]) -> None:
        process.communicate()

    def _tell(self, process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()

    def _answer(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def test_processes(self) -> None:
        """Processes that start at once agree on a key, each time; then each knows what the others were told."""
        others = [self._begin(), self._begin()]
        for other in others:
            self.assertEqual(self._answer(other), "begun")
        for turn in range(20):
            shutil.rmtree(self.runtime, ignore_errors=True)
            for number, other in enumerate(others):
                self._tell(other, f"add {turn}-{number}")
            for other in others:
                self.assertEqual(self._answer(other), "done")
            for number, other in enumerate(others):
                self._tell(other, f"known {turn}-{1 - number}")
                self.assertEqual(self._answer(other), "True", turn)
            self.assertEqual([path.name for path in self.path.iterdir() if len(path.name) < 64], ["key"])
        here = Grants(self.runtime, self.make()._workers, self.timer)
        self.assertTrue(self.known(here, Secret("19-0")))
        self.drop(here, Secret("19-0"))
        for other in others:
            self._tell(other, "known 19-0")
            self.assertEqual(self._answer(other), "False")
