"""L{crcache.host.systemd}."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from crcache.host.systemd import STATUS_EVERY, Manager

SOCKET = {"NOTIFY_SOCKET": "/run/systemd/notify"}


class ManagerTests(SynchronousTestCase):
    """L{Manager}, with a library that notes what it is told."""

    def setUp(self) -> None:
        self.told: list[str] = []
        self.loaded: list[str] = []

    def load(self, name: str) -> Any:
        self.loaded.append(name)
        return SimpleNamespace(notify=self.told.append)

    def manager(self, **environ: str) -> Manager:
        return Manager({**SOCKET, **environ}, 7, self.load)

    def test_nobody(self) -> None:
        """Without systemd nothing is loaded, said, warned of or timed."""
        manager = Manager({"WATCHDOG_USEC": "1000000"}, 7, self.load)
        clock = Clock()
        manager.begin(clock, lambda: "x")
        manager.ready("x")
        manager.reloading()
        manager.stopping(1)
        manager.end()
        self.assertEqual((self.loaded, self.told, manager.warning, clock.getDelayedCalls()), ([], [], None, []))

    def test_missing_library(self) -> None:
        """systemd without the library is one line that says what to install, and nothing else."""

        def load(name: str) -> Any:
            raise ImportError(name)

        manager = Manager(SOCKET, 7, load)
        self.assertIn("python3-systemd", str(manager.warning))
        manager.begin(Clock(), lambda: "x")
        manager.ready("x")

    def test_ready(self) -> None:
        """It is told once it is, with what it does."""
        self.manager().ready("serving")
        self.assertEqual((self.loaded, self.told), (["systemd.daemon"], ["READY=1", "STATUS=serving"]))

    def test_reload(self) -> None:
        """A reload is announced with its time, and its end; neither makes somebody ready who was not."""
        manager = self.manager()
        manager.reloading()
        manager.reloaded()
        self.assertEqual(self.told, [])
        manager.ready("x")
        self.told.clear()
        manager.reloading()
        self.assertRegex(self.told[0], r"\ARELOADING=1\nMONOTONIC_USEC=[0-9]{6,}\Z")
        manager.reloaded()
        self.assertEqual(self.told[1:], ["READY=1"])

    def test_reload_at_the_end(self) -> None:
        """A reload that ends after it was told to stop does not say that it is ready."""
        manager = self.manager()
        manager.ready("x")
        manager.reloading()
        manager.stopping(12.5)
        manager.reloaded()
        self.assertEqual(self.told[-1], "STOPPING=1\nEXTEND_TIMEOUT_USEC=12500000")

    def test_status(self) -> None:
        """The status is kept current, and said only when it has changed."""
        clock, says = Clock(), ["one"]
        manager = self.manager()
        manager.begin(clock, lambda: says[0])
        clock.pump([STATUS_EVERY] * 3)
        self.assertEqual(self.told, ["STATUS=one"])
        says[0] = "two"
        clock.advance(STATUS_EVERY)
        self.assertEqual(self.told, ["STATUS=one", "STATUS=two"])
        manager.end()
        manager.end()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_watchdog(self) -> None:
        """The watchdog is fed at once and twice in its time, by the reactor's clock and nothing else."""
        clock = Clock()
        manager = self.manager(WATCHDOG_USEC="2000000", WATCHDOG_PID="7")
        self.assertEqual(self.told, [])
        manager.begin(clock, lambda: "x")
        clock.pump([0.5] * 4)
        self.assertEqual(self.told.count("WATCHDOG=1"), 3)
        manager.status("y")
        manager.ready("z")
        self.assertEqual(self.told.count("WATCHDOG=1"), 3)
        manager.end()
        clock.advance(5)
        self.assertEqual(self.told.count("WATCHDOG=1"), 3)

    def test_no_watchdog(self) -> None:
        """Without one, or if it is meant for another process, or is no number, it is not fed."""
        for environ in ({}, {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, {"WATCHDOG_USEC": "x"},
                        {"WATCHDOG_USEC": "0"}):  # fmt: skip
            clock = Clock()
            manager = self.manager(**environ)
            manager.begin(clock, lambda: "x")
            clock.pump([1.0] * 10)
            self.assertNotIn("WATCHDOG=1", self.told, environ)

    def test_refused(self) -> None:
        """A word that does not get through is logged once, and keeps neither the watchdog nor the end from going on."""

        def refuse(message: str) -> None:
            self.told.append(message)
            raise OSError(111, "refused")

        self.load = lambda name: SimpleNamespace(notify=refuse)  # type: ignore[method-assign]
        clock = Clock()
        manager = self.manager(WATCHDOG_USEC="2000000", WATCHDOG_PID="7")
        manager.begin(clock, lambda: "x")
        clock.pump([1.0] * 3)
        manager.ready("x")
        manager.stopping(1)
        self.assertEqual(self.told.count("WATCHDOG=1"), 4)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_broken_status(self) -> None:
        """A status that cannot be composed stops neither the watchdog nor the end."""

        def broken() -> str:
            raise ValueError("no")

        clock = Clock()
        manager = self.manager(WATCHDOG_USEC="2000000")
        manager.begin(clock, broken)
        clock.pump([1.0] * 5)
        self.assertEqual(self.told, ["WATCHDOG=1"] * 6)
        manager.end()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
