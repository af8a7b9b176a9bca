"""What helpers have answered is kept, and each is asked once however many wait."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.credentials import helpers as module
from crcache.credentials.helper import HelperFailed
from crcache.credentials.helpers import FAILURE_KEPT, KEPT, NONE_KEPT, STRANGERS, Helpers
from crcache.credentials.keyring import Keyring, server_of
from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.secret import Secret
from crcache.settings import Credential, Credentials
from crcache.threads import HELPER_THREADS
from crcache.workers import Workers

GHCR = Registry("ghcr.io")
APP = Repository("team/app")


def password(text: str = "p") -> Credential:
    return Credential("u", Secret(text))


class Slow(Workers):
    """Threads whose work is done by hand."""

    def __init__(self) -> None:
        self.jobs: list[tuple[tuple[Any, ...], Deferred[Any]]] = []

    def run(self, work: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """As in the base class."""
        done: Deferred[Any] = Deferred()
        self.jobs.append((args, done))
        return done


class HelpersCase(SynchronousTestCase):
    """Helpers that answer what a test wants, when it wants.

    @ivar warnings: what was said about those that failed.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.slow = Slow()
        self.helpers = Helpers(self.slow, self.clock, lambda name, server: None)
        self.warnings: list[Any] = []
        observer: Any = lambda event: self.warnings.append(event) if event["log_level"].name == "warn" else None  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def answer(self, result: object) -> tuple[Any, ...]:
        """Have the helper that was asked first answer; returns what it was asked."""
        asked, done = self.slow.jobs.pop(0)
        if isinstance(result, Exception):
            done.errback(result)
        else:
            done.callback(result)
        return asked

    def known(self, result: object) -> Credential | None:
        """What is given after asking and this answer."""
        waiting = self.helpers.ask("x", "ghcr.io")
        self.answer(result)
        return self.successResultOf(waiting)


class Keeping(HelpersCase):
    """How often a helper is asked."""

    def test_once(self) -> None:
        """However many wait, one helper runs; whoever leaves takes nobody along, and not the helper either."""
        waiting = [self.helpers.ask("x", "ghcr.io") for _ in range(5)]
        self.assertEqual(len(self.slow.jobs), 1)
        for each in waiting[:2]:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertEqual(self.answer(password()), ("x", "ghcr.io"))
        for each in waiting[2:]:
            self.assertEqual(self.successResultOf(each), password())
        (last,) = [self.helpers.ask("x", "quay.io")]
        last.cancel()
        self.failureResultOf(last, CancelledError)
        self.answer(password("kept"))
        self.assertEqual(self.successResultOf(self.helpers.ask("x", "quay.io")), password("kept"))

    def test_kept(self) -> None:
        """Credentials are kept for minutes, that there are none for one, and a failure for half a minute."""
        failure = HelperFailed("why")
        for result, expected, kept in (
            (password(), password(), KEPT),
            (None, None, NONE_KEPT),
            (failure, None, FAILURE_KEPT),
        ):
            self.assertEqual(self.known(result), expected)
            self.clock.advance(kept - 1)
            self.assertEqual(self.successResultOf(self.helpers.ask("x", "ghcr.io")), expected)
            self.clock.advance(2)

    def test_others(self) -> None:
        """Another server, or another helper, is another question."""
        for name, server in (("x", "ghcr.io"), ("x", "quay.io"), ("y", "ghcr.io")):
            self.helpers.ask(name, server)
        self.assertEqual([asked for asked, _ in self.slow.jobs], [("x", "ghcr.io"), ("x", "quay.io"), ("y", "ghcr.io")])

    def test_refused(self) -> None:
        """Credentials that are refused are asked for anew at once, once: what is refused then stays until its time."""
        self.known(password("old"))
        self.helpers.refused("x", "ghcr.io", password("another"))
        self.assertEqual(self.successResultOf(self.helpers.ask("x", "ghcr.io")), password("old"))
        self.helpers.refused("x", "ghcr.io", password("old"))
        self.assertEqual(self.known(password("new")), password("new"))
        self.helpers.refused("x", "ghcr.io", password("new"))
        self.assertEqual(self.successResultOf(self.helpers.ask("x", "ghcr.io")), password("new"))
        self.clock.advance(KEPT + 1)
        self.known(password("newer"))
        self.helpers.refused("x", "ghcr.io", password("newer"))
        self.helpers.ask("x", "ghcr.io")
        self.assertEqual(len(self.slow.jobs), 1)

    def test_forgotten(self) -> None:
        """An administrator who has changed something need not wait, after a failure neither."""
        self.known(HelperFailed("why"))
        self.helpers.forget()
        self.assertEqual(self.known(password()), password())

    def test_forgotten_meanwhile(self) -> None:
        """What a helper says that was running when an administrator changed something is not kept."""
        waiting = self.helpers.ask("x", "ghcr.io")
        self.helpers.forget()
        self.answer(password("old"))
        self.assertEqual(self.successResultOf(waiting), password("old"))
        self.assertEqual(self.known(password("new")), password("new"))
        self.assertEqual(self.successResultOf(self.helpers.ask("x", "ghcr.io")), password("new"))

    def test_failure(self) -> None:
        """A failure is one warning, with the helper and the server; another exception is our own mistake."""
        for _ in range(3):
            self.helpers.ask("x", "ghcr.io")
        self.answer(HelperFailed("it is broken"))
        self.helpers.ask("x", "ghcr.io")
        (event,) = self.warnings
        self.assertIs(event["event"], events.HELPER_FAILED)
        self.assertEqual(
            formatEvent(event),
            "docker-credential-x gives no credentials for ghcr.io, which is asked without: it is broken",
        )
        self.clock.advance(FAILURE_KEPT + 1)
        self.assertIsNone(self.known(RuntimeError("oops")))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_ended(self) -> None:
        """When the daemon stops nobody waits any longer, and no other helper is asked; what one says then is not heard,
        and that it was killed is not told."""
        waiting = self.helpers.ask("x", "ghcr.io"), self.helpers.ask("x", "quay.io")
        self.helpers.end()
        for each in (*waiting, self.helpers.ask("x", "other.test")):
            self.assertIsNone(self.successResultOf(each))
        self.answer(HelperFailed("it was killed"))
        self.answer(password())
        self.assertEqual((self.warnings, self.slow.jobs), ([], []))

    def test_bounded(self) -> None:
        """Clients can name any registry: so many questions wait, the others are not asked; so many answers are kept."""
        self.patch(module, "_WAITING", 3)
        self.patch(module, "_MOST", 2)
        waiting = [self.helpers.ask("x", f"r{number}.test") for number in range(5)]
        self.assertEqual(len(self.slow.jobs), 3)
        for each in waiting[3:]:
            self.assertIsNone(self.successResultOf(each))
        for _ in range(3):
            self.answer(password())
        self.assertEqual(len(self.helpers._answers), 2)
        self.helpers.ask("x", "r0.test")
        self.assertEqual(len(self.slow.jobs), 1)

    def test_strangers_take_turns(self) -> None:
        """For registries that clients make up one thread fewer is used than there are; all are asked in the end."""
        waiting = [self.helpers.ask("x", f"r{number}.test") for number in range(8)]
        self.assertEqual(len(self.slow.jobs), STRANGERS)
        self.assertLess(STRANGERS, HELPER_THREADS)
        asked = [self.answer(HelperFailed("why") if number % 2 else None) for number in range(8)]
        self.assertEqual(asked, [("x", f"r{number}.test") for number in range(8)])
        for each in waiting:
            self.assertIsNone(self.successResultOf(each))
        self.assertEqual(self.slow.jobs, [])

    def test_named(self) -> None:
        """Whatever clients make up, a registry that the administrator has named is asked about at once."""
        self.patch(module, "_WAITING", 5)
        for number in range(9):
            self.helpers.ask("x", f"r{number}.test")
        waiting = self.helpers.ask("x", "ghcr.io", named=True)
        self.assertEqual([asked for asked, _ in self.slow.jobs][STRANGERS:], [("x", "ghcr.io")])
        self.slow.jobs.pop()[1].callback(password())
        self.assertEqual(self.successResultOf(waiting), password())

    def test_ended_in_the_queue(self) -> None:
        """Nobody's turn comes after the end."""
        waiting = [self.helpers.ask("x", f"r{number}.test") for number in range(5)]
        self.helpers.end()
        for each in waiting:
            self.assertIsNone(self.successResultOf(each))
        for _ in range(STRANGERS):
            self.answer(None)
        self.assertEqual(self.slow.jobs, [])


class Lookups(HelpersCase):
    """Files, and helpers behind them."""

    def keyring(self, **further: Any) -> Keyring:
        return Keyring(Credentials(**further), self.helpers)

    def test_written(self) -> None:
        """Without a helper what is written is known at once."""
        keyring = self.keyring(entries={(GHCR, ()): password()})
        self.assertEqual(self.successResultOf(keyring.lookup(GHCR, APP)), password())
        self.assertIsNone(self.successResultOf(keyring.lookup(DOCKER_IO, APP)))
        self.assertEqual([keyring.whose(GHCR, APP), keyring.whose(DOCKER_IO, APP)], ["user u", "nobody"])
        self.assertEqual(self.slow.jobs, [])

    def test_which(self) -> None:
        """A registry's own helper is asked before the one for all; Docker Hub goes by its old name there."""
        keyring = self.keyring(helpers={GHCR: "gh", Registry("quay.io"): ""}, store="all")
        for name in ("ghcr.io", "docker.io", "other.test:5000", "quay.io"):
            keyring.lookup(Registry(name), APP)
        asked = [asked for asked, _ in self.slow.jobs]
        self.assertEqual(asked, [("gh", "ghcr.io"), ("all", "https://index.docker.io/v1/"), ("all", "other.test:5000")])
        self.assertEqual(keyring.whose(GHCR, APP), "helper gh")
        self.assertEqual(server_of(GHCR), "ghcr.io")

    def test_named(self) -> None:
        """Registries that the administrator has named anywhere, or given a helper, do not queue with made-up ones."""
        quay = Registry("quay.io")
        keyring = Keyring(Credentials(helpers={GHCR: "gh"}, store="all"), self.helpers, lambda each: each == quay)
        for number in range(9):
            keyring.lookup(Registry(f"r{number}.test"), None)
        for registry in (GHCR, quay, DOCKER_IO):
            keyring.lookup(registry, APP)
        asked = [asked for asked, _ in self.slow.jobs]
        self.assertEqual(asked[STRANGERS:], [("gh", "ghcr.io"), ("all", "quay.io")])

    def test_nothing_known(self) -> None:
        """What is written is used if the helper knows nothing, or fails."""
        keyring = self.keyring(entries={(GHCR, ()): password("written")}, store="all")
        for result, expected in ((None, "written"), (HelperFailed("why"), "written"), (password("helped"), "helped")):
            self.helpers.forget()
            waiting = keyring.lookup(GHCR, APP)
            self.answer(result)
            self.assertEqual(self.successResultOf(waiting), password(expected))

    def test_path(self) -> None:
        """An entry with a path is for what is below it, without asking a helper; not for what is beside it."""
        keyring = self.keyring(entries={(GHCR, ("team",)): password("team")}, store="all")
        self.assertEqual(self.successResultOf(keyring.lookup(GHCR, APP)), password("team"))
        self.assertNoResult(keyring.lookup(GHCR, Repository("teams/app")))
        self.assertEqual(keyring.whose(GHCR, APP), "user u")

    def test_replaced(self) -> None:
        """Others are in force at once, for the next question."""
        keyring = self.keyring(entries={(GHCR, ()): password()})
        keyring.use(Credentials({(GHCR, ()): password("new")}))
        self.assertEqual(self.successResultOf(keyring.lookup(GHCR, APP)), password("new"))

    def test_refused(self) -> None:
        """A refusal has the helper asked again; of what is written there is nothing newer."""
        keyring = self.keyring(store="all", helpers={DOCKER_IO: ""}, entries={(DOCKER_IO, ()): password()})
        waiting = keyring.lookup(GHCR, APP)
        self.answer(password("old"))
        self.successResultOf(waiting)
        keyring.refused(GHCR, APP, password("old"))
        keyring.refused(DOCKER_IO, APP, password())
        self.assertNoResult(keyring.lookup(GHCR, APP))
        self.assertEqual(len(self.slow.jobs), 1)
