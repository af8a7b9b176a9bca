"""Asking a credential helper once: a real program, honest or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crcache.credentials.helper import LIMIT, HelperFailed, Programs, find
from crcache.secret import Secret
from crcache.settings import Credential
from tests.credentials.programs import Shelf


class HelperCase(SynchronousTestCase):
    """Some programs."""

    def setUp(self) -> None:
        self.shelf = Shelf(Path(self.mktemp()))

    def ask(self, script: str | None = None, server: str = "ghcr.io", timeout: float = 10.0) -> Credential | None:
        if script is not None:
            self.shelf.add("x", script)
        return Programs(self.shelf.environ, timeout).ask("x", server)

    def failed(self, script: str | None = None, timeout: float = 10.0) -> str:
        """Why there is no answer; that shows nothing of what the helper said."""
        problem = str(self.assertRaises(HelperFailed, self.ask, script, timeout=timeout))
        self.assertNotIn("s3cret", problem)
        return problem

    def gone(self, pid: int) -> bool:
        """Whether the process has ended; the last moments of a killed one are waited for."""
        for _ in range(200):
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                return True
            if state == "Z":
                return True
            time.sleep(0.01)
        return False


class Answers(HelperCase):
    """What honest helpers say."""

    def test_password(self) -> None:
        """It is run with C{get}, has the server's name on standard input, and its name and password are taken."""
        self.shelf.add("x")
        found = self.ask(server="https://index.docker.io/v1/")
        self.assertEqual(found, Credential("puller", Secret("secret-of-https://index.docker.io/v1/")))
        self.assertEqual(self.shelf.runs.read_text(), "x get\n")

    def test_identity_token(self) -> None:
        """The user C{<token>} means that the secret is an identity token."""
        answer = json.dumps({"Username": "<token>", "Secret": "idt"})
        self.assertEqual(self.ask(self.shelf.said(answer)), Credential("<token>", Secret("idt"), identity_token=True))

    def test_none(self) -> None:
        """One that says that it has none has none; that is no failure. Nor is an answer with nothing in it."""
        self.assertIsNone(self.ask(self.shelf.said("credentials not found in native keychain\n", 1)))
        self.assertIsNone(self.ask(self.shelf.said('{"Username":"","Secret":""}')))

    def test_left_behind(self) -> None:
        """What it has started and not waited for does not outlive its answer."""
        pid = self.shelf.directory / "pid"
        script = f'sleep 1000 >/dev/null & echo $! >{pid}\nprintf \'{{"Username":"u","Secret":"p"}}\''
        self.assertEqual(self.ask(script), Credential("u", Secret("p")))
        self.assertTrue(self.gone(int(pid.read_text())))

    def test_environment(self) -> None:
        """It has the daemon's environment, where a cloud's SDK finds its way, but not what is for the daemon alone."""
        own = ("CRCACHE_CREDENTIALS", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC")
        self.shelf.environ.update(dict.fromkeys(own, "s3cret"), AWS_REGION="eu-x-1", HOME="/nowhere")
        told = self.shelf.directory / "environment"
        self.shelf.add("x", f"env >{told}\npwd >>{told}\n" + self.shelf.said('{"Username":"u","Secret":"p"}'))
        self.ask()
        lines = told.read_text().splitlines()
        self.assertIn("AWS_REGION=eu-x-1", lines)
        self.assertIn("HOME=/nowhere", lines)
        self.assertEqual(lines[-1], "/")
        self.assertNotIn("s3cret", told.read_text())

    def test_no_descriptors(self) -> None:
        """It has its three standard descriptors, and none of the daemon's files and sockets."""
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        told = self.shelf.directory / "descriptors"
        self.shelf.add("x", f"ls -l /proc/$$/fd >{told}\n" + self.shelf.said('{"Username":"u","Secret":"p"}'))
        self.ask()
        self.assertIn("/dev/null", told.read_text())
        self.assertNotIn(f"pipe:[{os.fstat(writing).st_ino}]", told.read_text())


class Failures(HelperCase):
    """What others do."""

    def test_missing(self) -> None:
        """One that is not on C{PATH} is not looked for anywhere else, be C{PATH} what it may."""
        self.assertEqual(self.failed(), "there is no such program on PATH, or it may not be run")
        self.shelf.add("here")
        before = Path.cwd()
        os.chdir(self.shelf.directory)
        self.addCleanup(os.chdir, before)
        for path in ("", ".", ":", "../" + self.shelf.directory.name, "relative:"):
            self.assertIsNone(find("here", {"PATH": path}), path)
        self.assertEqual(find("here", self.shelf.environ), str(self.shelf.directory / "docker-credential-here"))

    def test_not_runnable(self) -> None:
        """One that cannot be run is a failure."""
        path = self.shelf.add("x")
        path.write_text("#!/no/such/interpreter\n")
        self.assertEqual(self.failed(), "it cannot be run: No such file or directory")

    def test_status(self) -> None:
        """So is another status than 0, whatever is said: also an answer, and also what it writes elsewhere."""
        answer = '{"Username":"u","Secret":"s3cret"}'
        self.assertEqual(
            self.failed("echo s3cret >&2\n" + self.shelf.said(answer, 3)),
            "it ended with status 3; run it by hand to see why",
        )
        self.assertIn("was ended by signal 9", self.failed("kill -9 $$\n"))

    def test_nonsense(self) -> None:
        """So is an answer that makes no sense, or that HTTP could not carry."""
        for answer in (
            "s3cret",
            "",
            "[" * 50_000,
            '["s3cret"]',
            "null",
            '{"Username":"u"}',
            '{"Username":5,"Secret":"s3cret"}',
            '{"Username":"u","Secret":["s3cret"]}',
            '{"Username":"u","Secret":"s3cret\\n"}',
            '{"Username":"u:v","Secret":"s3cret"}',
            '{"Username":"","Secret":"s3cret"}',
            '{"Username":"u","Secret":""}',
            '{"Username":"<token>","Secret":""}',
        ):
            self.assertIn("its answer", self.failed(self.shelf.said(answer)), answer[:50])

    def test_too_much(self) -> None:
        """One that never stops talking is killed."""
        began = time.monotonic()
        self.assertEqual(self.failed("echo $$ >$0.pid\nexec yes s3cret\n"), f"it said more than {LIMIT >> 10} KiB")
        self.assertLess(time.monotonic() - began, 5)
        self.assertTrue(self.gone(self.pid()))

    def pid(self, suffix: str = "pid") -> int:
        return int((self.shelf.directory / f"docker-credential-x.{suffix}").read_text())

    def test_too_late(self) -> None:
        """One that hangs is killed with all that it has started, also if only what it has started hangs."""
        for script in (
            "echo $$ >$0.pid\nsleep 60 &\necho $! >$0.child\nwait\n",
            "echo $$ >$0.pid\nsleep 60 &\necho $! >$0.child\nexit 0\n",
            "echo $$ >$0.pid\nsleep 60 <&- >&- 2>&- &\necho $! >$0.child\nexec >&-\nwait\n",
        ):
            self.assertEqual(self.failed(script, timeout=0.3), "it did not answer within 0.3 s")
            self.assertTrue(self.gone(self.pid()), script)
            self.assertTrue(self.gone(self.pid("child")), script)

    def test_deaf(self) -> None:
        """One that does not listen is asked all the same."""
        self.assertEqual(self.ask('exec <&-\nprintf \'{"Username":"u","Secret":"p"}\'\n'), Credential("u", Secret("p")))

    def test_ended(self) -> None:
        """The end of the daemon is the end of those that run, and no other one begins."""
        self.shelf.add("x", "echo $$ >$0.pid\nexec sleep 60\n")
        programs = Programs(self.shelf.environ)
        problems: list[str] = []

        def work() -> None:
            try:
                programs.ask("x", "ghcr.io")
            except HelperFailed as problem:
                problems.append(str(problem))

        thread = threading.Thread(target=work)
        thread.start()
        while not programs._running or not (self.shelf.directory / "docker-credential-x.pid").exists():
            time.sleep(0.01)
        programs.end()
        thread.join(5)
        self.assertEqual(problems, ["it was ended by signal 9; run it by hand to see why"])
        self.assertTrue(self.gone(self.pid()))
        self.assertRaises(HelperFailed, programs.ask, "x", "ghcr.io")
        self.assertEqual(self.shelf.count, 1)

    def test_ended_while_one_begins(self) -> None:
        """Nobody waits for a program that takes its time to begin; it ends with its first moment."""
        self.shelf.add("x", "echo $$ >$0.pid\nexec sleep 60\n")
        programs = Programs(self.shelf.environ)
        begin = subprocess.Popen

        def slow(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
            ending = threading.Thread(target=programs.end)
            ending.start()
            ending.join(5)
            self.assertFalse(ending.is_alive())
            self.child = begin(*args, **kwargs)
            return self.child

        self.patch(subprocess, "Popen", slow)
        problem = self.assertRaises(HelperFailed, programs.ask, "x", "ghcr.io")
        self.assertEqual(str(problem), "crcache is shutting down")
        self.assertEqual(self.child.returncode, -signal.SIGKILL)
        self.assertEqual(programs._running, set())
