"""Tests for L{crcache.logs.observers}: the same events in each form."""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.host.journal import Entry
from crcache.logs.observers import LEVELS, JournalObserver, json_observer, lost_entry, text_observer
from crcache.settings import LOG_LEVELS

DIGEST = "sha256:" + "0" * 64


class Journal:
    """A journal that remembers."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str]] = []

    def send(self, entry: Entry) -> None:
        """As L{crcache.host.journal.Journal.send}."""
        self.entries.append(dict(entry))


class ObserverTests(SynchronousTestCase):
    """One line in three forms."""

    def setUp(self) -> None:
        self.text, self.json, self.journal = io.StringIO(), io.StringIO(), Journal()
        journal: Any = self.journal
        publisher = LogPublisher(text_observer(self.text), json_observer(self.json), JournalObserver(journal))
        self.log = Logger("crcache.test", observer=publisher)

    def test_event(self) -> None:
        """An event's name, id, level and fields are in the machine's forms, its sentence in all."""
        self.log.info(
            "{registry} gave {bytes}", event=events.FETCHED, registry="docker.io", digest=DIGEST, bytes=7, seconds=0.5
        )
        (line,) = self.text.getvalue().splitlines()
        self.assertRegex(line, r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[crcache\.test#info\] docker\.io gave 7\Z")
        members = json.loads(self.json.getvalue())
        self.assertRegex(members.pop("time"), r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")
        expected = {
            "level": "info",
            "message": "docker.io gave 7",
            "event": "fetched",
            "message_id": events.FETCHED.id,
            "registry": "docker.io",
            "digest": DIGEST,
            "bytes": 7,
            "seconds": 0.5,
            "logger": "crcache.test",
        }
        self.assertEqual(members, expected)
        (entry,) = self.journal.entries
        self.assertEqual(entry.pop("CODE_FILE"), __file__)
        self.assertTrue(entry.pop("CODE_LINE").isdigit())
        expected_fields = {
            "MESSAGE": "docker.io gave 7",
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": "crcache",
            "CODE_FUNC": "ObserverTests.test_event",
            "MESSAGE_ID": events.FETCHED.id,
            "CRCACHE_EVENT": "fetched",
            "CRCACHE_REGISTRY": "docker.io",
            "CRCACHE_DIGEST": DIGEST,
            "CRCACHE_BYTES": "7",
            "CRCACHE_SECONDS": "0.5",
            "CRCACHE_LOGGER": "crcache.test",
        }
        self.assertEqual(entry, expected_fields)

    def test_levels(self) -> None:
        """Levels become the journal's priorities; every level that can be configured is one."""
        for say in (self.log.debug, self.log.info, self.log.warn, self.log.error, self.log.critical):
            say("x")
        self.assertEqual([each["PRIORITY"] for each in self.journal.entries], ["7", "6", "4", "3", "2"])
        self.assertEqual(tuple(LEVELS), LOG_LEVELS)

    def test_failure(self) -> None:
        """A traceback is below the sentence in text and journal, and a member or field of its own."""
        try:
            raise ZeroDivisionError("so it is")
        except ZeroDivisionError:
            self.log.failure("it failed", event=events.INTERNAL_ERROR)
        self.assertIn("it failed", self.text.getvalue())
        self.assertIn("Traceback", self.text.getvalue())
        (line,) = self.json.getvalue().splitlines()
        members = json.loads(line)
        self.assertEqual((members["level"], members["message"]), ("critical", "it failed"))
        self.assertIn("so it is", members["traceback"])
        (entry,) = self.journal.entries
        self.assertEqual(entry["MESSAGE"].partition("\n")[::2], ("it failed", entry["CRCACHE_TRACEBACK"]))
        self.assertIn("so it is", entry["CRCACHE_TRACEBACK"])
        self.assertEqual(entry["CODE_FUNC"], "ObserverTests.test_failure")

    def test_one_line(self) -> None:
        """JSON is one line whatever the sentence is, and ASCII."""
        self.log.info("a\nb\u2028ü")
        self.assertEqual(len(self.json.getvalue().splitlines()), 1)
        self.assertTrue(self.json.getvalue().isascii())
        self.assertEqual(json.loads(self.json.getvalue())["message"], "a\nb?ü")

    def test_controls(self) -> None:
        """In no form can a line colour a terminal or look like another; in text, tabs and further lines are kept."""
        self.log.info("a\x1b[31m\tb\rc\u2028d\x85e\n2013 [-] f", event=events.FETCHED)
        first, second, end = self.text.getvalue().split("\n")
        self.assertTrue(first.endswith("] a?[31m\tb?c?d?e"), first)
        self.assertEqual((second, end), ("\t2013 [-] f", ""))
        expected = "a?[31m?b?c?d?e\n2013 [-] f"
        self.assertEqual(json.loads(self.json.getvalue())["message"], expected)
        self.assertEqual(self.journal.entries[0]["MESSAGE"], expected)
        try:
            raise ValueError("x\x1b[31m\ry")
        except ValueError:
            self.log.failure("it failed", event=events.INTERNAL_ERROR)
        for told in (self.text.getvalue(), self.json.getvalue(), self.journal.entries[1]["MESSAGE"]):
            self.assertNotIn("\x1b", told)
            self.assertIn("ValueError: x?[31m?y", told)

    def test_secrets(self) -> None:
        """In no form is there a secret that somebody else's exception has in it, nor in text a line without end."""
        password = "hunter" + "2"
        try:
            raise ValueError(f"https://me:{password * 3000}@x.test/?{password}")
        except ValueError:
            self.log.failure("it failed", event=events.INTERNAL_ERROR)
        for told in (self.text.getvalue(), self.json.getvalue(), self.journal.entries[0]["MESSAGE"]):
            self.assertNotIn(password, told)
        self.log.info("x" * 100_000, event=events.FETCHED)
        self.assertLess(len(self.text.getvalue().splitlines()[-1]), 5000)

    def test_cannot_be_formatted(self) -> None:
        """A line whose sentence cannot be made is said all the same."""
        self.log.warn("{missing.thing}")
        self.assertIn("missing", json.loads(self.json.getvalue())["message"])

    def test_lost(self) -> None:
        """Lost lines are an event as any other."""
        entry = dict(lost_entry(3))
        self.assertEqual((entry["MESSAGE_ID"], entry["CRCACHE_COUNT"]), (events.LINES_LOST.id, "3"))
        self.assertTrue(entry["MESSAGE"].startswith("3 "))
