"""Tests for L{crcache.logs.repeats}."""

from __future__ import annotations

from typing import cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.logs.repeats import MOST, PERIOD, Repeats


class RepeatsTests(SynchronousTestCase):
    """L{Repeats}."""

    def setUp(self) -> None:
        self.passed: list[LogEvent] = []
        self.clock = Clock()
        self.repeats = Repeats(cast(ILogObserver, self.passed.append), self.clock.seconds)
        self.log = Logger("crcache.test", observer=LogPublisher(self.repeats))

    def fails(self, registry: str = "a.test", problem: str = "refused", times: int = 1) -> None:
        """Log that a registry fails."""
        for number in range(times):
            self.log.warn(
                "{registry} fails: {problem} ({request_id})",
                event=events.ORIGIN_FAILING,
                registry=registry,
                problem=problem,
                request_id=str(number),
            )

    def told(self) -> list[tuple[str, int]]:
        """What was said of repeats: about which registry, and how many."""
        return [(event["registry"], event["count"]) for event in self.passed if event["event"] is events.REPEATED]

    def test_few(self) -> None:
        """What is said now and then is always said."""
        self.fails(times=MOST)
        self.clock.advance(PERIOD)
        self.repeats.sweep()
        self.fails(times=MOST)
        self.assertEqual((len(self.passed), self.told()), (2 * MOST, []))

    def test_many(self) -> None:
        """More than that is counted, and told in one line when the minute is over, once."""
        self.fails(times=MOST + 7)
        self.assertEqual(len(self.passed), MOST)
        self.clock.advance(PERIOD - 1)
        self.repeats.sweep()
        self.assertEqual(self.told(), [])
        self.clock.advance(1)
        self.repeats.sweep()
        self.repeats.sweep()
        self.assertEqual(self.told(), [("a.test", 7)])
        last = self.passed[-1]
        self.assertEqual(formatEvent(last), f"7 times more in the same minute: a.test fails: refused ({MOST + 6})")
        self.assertEqual((last["repeated"], last["log_level"]), ("origin-failing", LogLevel.warn))

    def test_goes_on(self) -> None:
        """The line comes, too, with the first that is said after the minute."""
        self.fails(times=MOST + 2)
        self.clock.advance(PERIOD)
        self.fails()
        self.assertEqual(self.told(), [("a.test", 2)])
        self.assertEqual(len(self.passed), MOST + 2)

    def test_apart(self) -> None:
        """Other registries, problems and events are counted by themselves."""
        for registry in ("a.test", "b.test"):
            for problem in ("refused", "too slow"):
                self.fails(registry, problem, times=MOST)
        for _ in range(MOST):
            self.log.warn("x", event=events.CONTENT_WRONG, registry="a.test", problem="refused")
        self.assertEqual(len(self.passed), 5 * MOST)

    def test_files(self) -> None:
        """The same problem of many files is one."""
        for number in range(MOST + 3):
            self.fails(problem=f"/cache/ingest/{number}.marks: No space left on device")
        self.assertEqual(len(self.passed), MOST)
        self.fails(problem="/cache/ingest/1.marks: Read-only file system")
        self.assertEqual(len(self.passed), MOST + 1)

    def test_disk(self) -> None:
        """What a failing disk has crcache say for each pull is said once a minute, and then how often."""
        for kind in (events.CACHE_FAILED, events.NOT_KEPT, events.CARRIED_ON, events.FETCH_FAILED):
            self.passed.clear()
            for number in range(20):
                self.log.warn("{problem}", event=kind, registry="a.test", digest=f"sha256:{number}", problem="full")
            self.assertEqual([event["event"] for event in self.passed], [kind])
            self.clock.advance(PERIOD)
            self.repeats.sweep()
            self.assertEqual(self.told(), [("a.test", 19)])

    def test_damaged(self) -> None:
        """Each damaged file has its line, however many there are; one that is found again and again does not."""
        for number in range(4 * MOST):
            path, digest = f"/cache/blobs/sha256/{number}", f"sha256:{number}"
            for _ in range(MOST + 1):
                problem = f"{path} is damaged"
                self.log.warn("{problem}", event=events.CONTENT_DAMAGED, problem=problem, path=path, digest=digest)
        self.assertEqual(len(self.passed), 4 * MOST * MOST)

    def test_details(self) -> None:
        """Without a problem it is the words that count, not what is said in them of one request; nor its id."""
        for words in ("a file ends at byte {offset} (request {request_id})", "wrong bytes (request {request_id})"):
            for number in range(50):
                self.log.error(words, event=events.CONTENT_DAMAGED, offset=number, request_id=f"r{number}")
        self.assertEqual(len(self.passed), 2 * MOST)
        self.repeats.sweep(all_of_them=True)
        counts = [event["count"] for event in self.passed if event["event"] is events.REPEATED]
        self.assertEqual(counts, [50 - MOST] * 2)

    def test_lines(self) -> None:
        """Different sentences of the configuration's are all said, although each is said as a `line`."""
        for number in range(3 * MOST):
            self.log.warn("{line}", event=events.WARNING, line=f"key {number} is odd")
        self.assertEqual(len(self.passed), 3 * MOST)

    def test_requests(self) -> None:
        """A request's own line is never kept back, nor information, nor what is critical."""
        for _ in range(3 * MOST):
            self.log.warn("x", event=events.REQUEST, registry="a.test")
            self.log.info("x", event=events.FETCH_RESUMED, registry="a.test")
            self.log.critical("x", event=events.INTERNAL_ERROR)
        self.assertEqual(len(self.passed), 9 * MOST)

    def test_others(self) -> None:
        """Warnings of other libraries are the same if their words are."""
        log = Logger("elsewhere", observer=LogPublisher(self.repeats))
        for _ in range(2 * MOST):
            log.warn("{a}", a=1)
        log.warn("{a}", a=2)
        self.assertEqual(len(self.passed), MOST + 1)

    def test_at_the_end(self) -> None:
        """When the daemon stops, what was kept back is told of at once."""
        self.fails(times=MOST + 1)
        self.repeats.sweep(all_of_them=True)
        self.assertEqual(self.told(), [("a.test", 1)])

    def test_bounded(self) -> None:
        """Of too many different things the oldest is told of early."""
        self.fails(times=MOST + 3)
        for number in range(1024):
            self.fails(f"r{number}.test")
        self.assertEqual(self.told(), [("a.test", 3)])
