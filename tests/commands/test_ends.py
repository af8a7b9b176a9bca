"""How commands end: readers that leave, Ctrl-C, from a shell."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import time

from crcache import cli
from tests.commands.tree import TreeCase


class EndTests(TreeCase):
    """C{crcache} as a process."""

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command on this directory."""
        place = ("-c", str(self.file), "-d", str(self.tree.layout.root))
        begun = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "crcache.cli", arguments[0], *place, *arguments[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert begun.stdout is not None
        # The rest has to wait in the process itself.
        fcntl.fcntl(begun.stdout, fcntl.F_SETPIPE_SZ, 4096)
        self.addCleanup(begun.communicate)
        self.addCleanup(begun.kill)
        return begun

    def test_reader_leaves(self) -> None:
        """Whoever reads the first line alone gets it, and no traceback; whether much is left or little."""
        for number in range(40):
            self.tree.image(f"r.example/{'x' * 100}/{'y' * 100}:{number}", [b"%d" % number])
        for flags in (["--json", "--no-trunc"], ["--quiet"]):
            begun = self.begin("ls", *flags)
            assert begun.stdout is not None and begun.stderr is not None
            if flags == ["--quiet"]:
                # Nobody has read anything: even what is in the buffer has nowhere to go.
                begun.stdout.close()
            else:
                self.assertEqual(begun.stdout.readline(), b"[\n")
                begun.stdout.close()
            self.assertEqual(begun.stderr.read(), b"")
            self.assertEqual(begun.wait(30), 141)

    def test_interrupt(self) -> None:
        """Ctrl-C is status 130, without a traceback."""
        # It waits for somebody to write to the list.
        path = self.file.parent / "list"
        os.mkfifo(path)
        begun = self.begin("pin", "--file", str(path))
        held = os.open(path, os.O_WRONLY)
        self.addCleanup(os.close, held)
        time.sleep(0.2)
        begun.send_signal(signal.SIGINT)
        _, err = begun.communicate(timeout=30)
        self.assertEqual((begun.returncode, err.strip()), (130, b""))

    def test_ended(self) -> None:
        """Ended, or left by its terminal, in the middle of an archive, a command leaves nothing behind either."""
        self.tree.image("a.example/x:1", [b"layer"])
        out = self.file.parent / "out"
        out.mkdir()
        archive = self.file.parent / "in.tar"
        self.done("export", "-o", str(archive), "a.example/x:1")
        before = self.kept()
        for module, name, arguments in (
            ("exporting", "Exporter.write", ("export", "-o", str(out / "a.tar"), "a.example/x:1")),
            ("intake", "Intake.take", ("import", str(archive))),
        ):
            for number in ("SIGTERM", "SIGHUP", "SIGINT"):
                code = (
                    "import os, signal, sys, time\n"
                    f"from crcache.images import {module}\n"
                    "from crcache.cli import main\n"
                    f"{module}.{name} = lambda *_: (os.kill(os.getpid(), signal.{number}), time.sleep(30))\n"
                    "sys.exit(main())\n"
                )
                place = ("-c", str(self.file), "-d", str(self.tree.layout.root))
                done = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", code, arguments[0], *place, *arguments[1:]],
                    check=False,
                    capture_output=True,
                    timeout=30,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                )
                self.assertEqual((done.returncode, done.stderr.strip()), (130, b""), (name, number))
                self.assertEqual(os.listdir(out), [])
                self.assertEqual(self.kept(), before)

    def kept(self) -> dict[str, int]:
        """What the cache has, without how much of it has been counted."""
        return {name: size for name, size in self.tree.files().items() if not name.startswith("eviction/")}

    def test_every_command(self) -> None:
        """Every command that works on a cache has the same flags for it, and C{--json}."""
        for command in cli.COMMANDS:
            parser = argparse.ArgumentParser()
            command.add_arguments(parser)
            flags = {flag for action in parser._actions for flag in action.option_strings}
            self.assertIn("--json", flags, command.NAME)
            if command.NAME not in ("check-config", "hosts"):
                self.assertLessEqual({"-c", "--config", "-d", "--cache-dir"}, flags, command.NAME)

    def test_other_release(self) -> None:
        """A directory of another release is refused by every command in the same line."""
        self.tree.layout.version.write_text("7\n")
        for arguments in (["ls"], ["du"], ["show", "a"], ["pin"], ["unpin", "a"], ["prune", "--fills"], ["verify"]):
            status, out, err = self.run_main(*arguments)
            told = "its layout is '7', this release knows '1': take the later release, or an empty directory"
            expected = f"crcache: cache directory {self.tree.layout.root}: {told}\n"
            self.assertEqual((status, out, err), (1, "", expected), arguments)
