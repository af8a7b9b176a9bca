"""L{crcache.scrub}: content is checked in the background, gently, and the log tells what came of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.policy.scrub import DAY, EVERY, LEAST, Round
from crcache.scrub import FIRST, NOTED, PATIENCE, Scrub
from crcache.store.checker import Piece
from crcache.workers import Inline

NOW = 1_700_000_000.0
MIB = 1 << 20


def name_of(number: int) -> str:
    """Names in order."""
    return f"sha256/{number:064x}"


class Checks:
    """Content that is no more than numbers.

    @ivar pieces: how many pieces of 1 MiB each file has, by its number.
    @ivar damaged: the numbers of those that are.
    @ivar read: the numbers of those checked, in order; one that is being read stands there once for each piece.
    """

    def __init__(self) -> None:
        self.pieces: dict[int, int] = {}
        self.damaged: set[int] = set()
        self.read: list[int] = []
        self.closed = 0
        self.held = True
        self.holding = False
        self.record: Mapping[str, Any] | None = None
        self.before_piece: Callable[[], object] = lambda: None

    def hold(self) -> bool:
        self.holding = self.held
        return self.held

    def release(self) -> None:
        self.holding = False

    def load(self, now: float) -> Mapping[str, Any] | None:
        return self.record

    def save(self, record: Mapping[str, Any]) -> None:
        self.record = record

    def walk(self, after: str) -> Generator[Piece, None, None]:
        try:
            for number, pieces in sorted(self.pieces.items()):
                if name_of(number) <= after:
                    continue
                for left in range(pieces, 0, -1):
                    self.before_piece()
                    self.read.append(number)
                    ended = left == 1
                    yield Piece(MIB, name_of(number) if ended else None, pieces * MIB, number in self.damaged and ended)
        finally:
            self.closed += 1


class ScrubTests(SynchronousTestCase):
    """With a clock that stands still, and work done at once."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.checks = Checks()
        self.total: int | None = None
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.scrub = self.made()

    def made(self) -> Scrub:
        """One more, as another process has it, or this one after a restart."""
        scrub = Scrub(self.checks, Inline(), self.clock, self.now, lambda: self.total, self.clock.seconds)
        self.addCleanup(scrub.stop)
        return scrub

    def now(self) -> float:
        """The time of day."""
        return NOW + self.clock.seconds()

    def pass_(self, seconds: float) -> None:
        """Have time pass, second by second."""
        self.clock.pump([1.0] * int(seconds))

    def told(self) -> list[str]:
        """The summaries in the log."""
        return [formatEvent(event) for event in self.logged if event["event"] is events.CONTENT_CHECKED]

    def test_later(self) -> None:
        """It leaves the start to others."""
        self.checks.pieces = {1: 1}
        self.scrub.start()
        self.pass_(FIRST - 1)
        self.assertEqual(self.checks.read, [])
        self.pass_(1)
        self.assertEqual(self.checks.read, [1])

    def test_round(self) -> None:
        """All of it is checked once, and the log says how much it was; the next round comes a week after the first."""
        self.checks.pieces = dict.fromkeys(range(100), 2)
        self.checks.damaged = {7, 9}
        self.scrub.start()
        self.pass_(FIRST + 300)
        expected = [number for number in range(100) for _ in range(2)]
        self.assertEqual(self.checks.read, expected)
        self.assertEqual(self.told(), [f"all content has been checked: 100 files, {200 * MIB} bytes, 2 damaged"])
        event = next(event for event in self.logged if event["event"] is events.CONTENT_CHECKED)
        self.assertEqual((event["count"], event["bytes"]), (100, 200 * MIB))
        self.checks.damaged = set()
        self.clock.pump([PATIENCE] * int(EVERY / PATIENCE - 2))
        self.assertEqual(self.checks.read, expected)
        self.clock.pump([PATIENCE] * 2 + [1.0] * 300)
        self.assertEqual(self.checks.read, 2 * expected)
        self.assertIn(" 0 damaged", self.told()[1])
        self.assertEqual(len(self.told()), 2)

    def test_pace(self) -> None:
        """A small cache is checked at the least pace; a large one so fast that it is done in time."""
        self.checks.pieces = dict.fromkeys(range(100000), 1)
        self.scrub.start()
        self.pass_(FIRST + 100)
        least = len(self.checks.read)
        self.assertLess(abs(least * MIB - 100 * LEAST), 2 * LEAST)
        self.total = int(6 * DAY * 5 * LEAST)
        self.clock.pump([0.05] * 2000)
        self.assertLess(abs((len(self.checks.read) - least) * MIB - 500 * LEAST), 12 * LEAST)

    def test_slow_disk(self) -> None:
        """On a disk that is slower than the pace it rests for as long as it works."""
        self.checks.pieces = dict.fromkeys(range(1000), 1)
        # A piece takes a second: in a thread, while the reactor's time does not stand still.
        spent = [0.0]
        slow = Scrub(self.checks, Inline(), self.clock, self.now, lambda: None, lambda: spent[0])
        self.addCleanup(slow.stop)

        def piece() -> None:
            spent[0] += 1.0

        self.checks.before_piece = piece
        slow.start()
        self.pass_(FIRST)
        self.assertEqual(len(self.checks.read), 4)
        self.pass_(3)
        self.assertEqual(len(self.checks.read), 4)
        self.pass_(1)
        self.assertEqual(len(self.checks.read), 8)

    def test_noted(self) -> None:
        """How far it has come is noted every minute, so that after a crash no more than that is done again."""
        self.checks.pieces = dict.fromkeys(range(10000), 1)
        self.scrub.start()
        self.pass_(FIRST + NOTED + 2)
        assert self.checks.record is not None
        self.assertGreater(self.checks.record["files"], NOTED * LEAST / MIB * 0.9)
        done = len(self.checks.read)
        other = self.made()
        other.start()
        self.pass_(FIRST)
        self.assertLess(self.checks.read[done:].index(done), NOTED * LEAST / MIB)

    def test_restarted(self) -> None:
        """Started again it goes on where it was, with the counts of before; a file half read is read anew."""
        self.checks.pieces = dict.fromkeys(range(20), 3)
        self.checks.damaged = {0}
        self.scrub.start()
        self.pass_(FIRST + 1)
        read = len(self.checks.read)
        self.assertEqual(read, 8)
        self.scrub.stop()
        self.assertEqual((self.checks.holding, self.checks.closed), (False, 1))
        self.pass_(1000)
        self.assertEqual(len(self.checks.read), read)
        other = self.made()
        other.start()
        self.pass_(FIRST + 100)
        expected = [number for number in range(20) for _ in range(3)]
        self.assertEqual(self.checks.read, expected[:8] + expected[6:])
        self.assertEqual(self.told(), [f"all content has been checked: 20 files, {60 * MIB} bytes, 1 damaged"])

    def test_garbage(self) -> None:
        """A note that makes no sense is a new round; one of a round that is over is believed."""
        for record, reads in (({"began": "x"}, [1]), (asdict(Round(NOW, name_of(5), over=True)), [])):
            self.checks.pieces, self.checks.read, self.checks.record = {1: 1}, [], record
            scrub = self.made()
            scrub.start()
            self.pass_(FIRST + 1)
            self.assertEqual(self.checks.read, reads)
            scrub.stop()

    def test_another_process(self) -> None:
        """While another process checks, this one looks every ten minutes whether it still does."""
        self.checks.pieces = {1: 1}
        self.checks.held = False
        self.scrub.start()
        self.pass_(FIRST + 3 * PATIENCE)
        self.assertEqual(self.checks.read, [])
        self.checks.held = True
        self.pass_(PATIENCE)
        self.assertEqual(self.checks.read, [1])

    def test_lost_to_another(self) -> None:
        """If another process has taken over, what that one has noted counts."""
        self.checks.pieces = dict.fromkeys(range(100), 1)
        self.scrub.start()
        self.pass_(FIRST + 1)
        done = len(self.checks.read)
        self.checks.held = False
        self.pass_(2)
        self.checks.record = asdict(Round(NOW, name_of(97), 98))
        self.checks.held = True
        self.pass_(PATIENCE)
        self.assertEqual(self.checks.read[done:], [98, 99])

    def test_daily(self) -> None:
        """While a round lasts the log has a line a day."""
        self.checks.pieces = {1: 10**9}
        self.scrub.start()
        self.clock.pump([30.0] * int(3.1 * DAY / 30))
        self.assertEqual(len(self.told()), 3)
        self.assertIn("content is being checked: 0 files", self.told()[0])

    def test_failing(self) -> None:
        """Whatever goes wrong is told, lets the lock go, and is tried again in a while."""
        self.checks.pieces = dict.fromkeys(range(6), 1)
        for error, event in ((OSError(5, "Input/output error"), events.CACHE_FAILED), (KeyError("x"), None)):
            calls = iter([None, error])

            def fail(calls: Any = calls) -> None:
                problem = next(calls, None)
                if problem is not None:
                    raise problem

            self.checks.before_piece = fail
            self.checks.read, self.checks.record = [], None
            self.logged.clear()
            scrub = self.made()
            scrub.start()
            self.pass_(FIRST)
            self.assertFalse(self.checks.holding)
            (line,) = self.logged
            self.assertIs(line["event"], event or events.INTERNAL_ERROR)
            self.assertIn("cannot be checked", formatEvent(line))
            self.pass_(PATIENCE + 10)
            self.assertEqual(self.checks.read, list(range(6)))
            scrub.stop()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_stopped_in_a_piece(self) -> None:
        """Told to stop while its thread works it ends with the piece, and begins no other."""

        class OneThread(Inline):
            """What is told to do while it works, it does afterwards."""

            waiting: ClassVar[list[Callable[[], object]]] = []
            busy = False

            def run(self, work: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
                done: Deferred[Any] = Deferred()
                self.waiting.append(lambda: super(OneThread, self).run(work, *args, **kwargs).chainDeferred(done))
                while self.waiting and not self.busy:
                    self.busy = True
                    self.waiting.pop(0)()
                    self.busy = False
                return done

        self.scrub = Scrub(self.checks, OneThread(), self.clock, self.now, lambda: None, self.clock.seconds)
        self.checks.pieces = {1: 100}
        self.checks.before_piece = lambda: self.scrub.stop() if len(self.checks.read) == 2 else None
        self.scrub.start()
        self.pass_(FIRST)
        self.assertEqual(self.checks.read, [1, 1, 1])
        self.pass_(1000)
        self.assertEqual(self.checks.read, [1, 1, 1])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.checks.holding, self.checks.closed), (False, 1))

    def test_never_started(self) -> None:
        """Without a start there is nothing to stop, and stopping twice is once."""

        class Never(Inline):
            def run(self, work: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
                raise AssertionError("there is nothing to do")

        Scrub(self.checks, Never(), self.clock, self.now, lambda: None).stop()
        self.scrub.start()
        self.scrub.stop()
        self.scrub.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
