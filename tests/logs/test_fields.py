"""Tests for L{crcache.logs.fields}: what may be said of an event, and what never is."""

from __future__ import annotations

import time
from typing import Any

from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crcache import events
from crcache.logs.fields import (
    LONGEST_FIELD,
    LONGEST_MESSAGE,
    LONGEST_TRACEBACK,
    clean,
    fields_of,
    level_of,
    message_of,
    reaches,
    traceback_of,
)


def failure(error: Exception) -> Failure:
    """One that has a traceback."""
    try:
        raise error
    except Exception:
        return Failure()


class LevelTests(SynchronousTestCase):
    """L{level_of} and L{reaches}."""

    def level(self, **event: Any) -> Any:
        """The level of an event at C{info}."""
        return level_of({"log_level": LogLevel.info, **event})

    def test_own(self) -> None:
        """crcache's own lines, and what somebody prints, have the level that they say."""
        self.assertIs(self.level(log_namespace="crcache.daemon"), LogLevel.info)
        self.assertIs(self.level(log_namespace="stdout"), LogLevel.info)

    def test_twisted(self) -> None:
        """Twisted's chatter is for those who look for bugs; its warnings and errors are for everybody."""
        for namespace in ("twisted.application.app.AppLogger", "log_legacy", "-"):
            self.assertIs(self.level(log_namespace=namespace), LogLevel.debug)
            self.assertIs(self.level(log_namespace=namespace, log_level=LogLevel.error), LogLevel.error)

    def test_python_warning(self) -> None:
        """A warning of Python's is one, in whichever form Twisted passes it on."""
        self.assertIs(self.level(log_namespace="log_legacy", warning="x", category="y"), LogLevel.warn)

    def test_none(self) -> None:
        """What has no level is not lost."""
        self.assertIs(level_of({}), LogLevel.warn)

    def test_reaches(self) -> None:
        """A level is reached by itself and by what is more serious."""
        event = {"log_level": LogLevel.warn}
        levels = [LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical]
        self.assertEqual([reaches(event, each) for each in levels], [True, True, True, False, False])


class FieldTests(SynchronousTestCase):
    """L{fields_of}."""

    def test_fields(self) -> None:
        """Numbers stay numbers, all else is text; what has no value is left out, and so is what is no field."""
        event = {
            "event": events.REQUEST,
            "registry": "docker.io",
            "repository": "-",
            "status": 200,
            "seconds": 0.12345678,
            "problem": ValueError("x\ry"),
            "digest": None,
            "password": "hunter2",
        }
        expected = {"registry": "docker.io", "status": 200, "seconds": 0.123457, "problem": "x?y"}
        self.assertEqual(fields_of(event), expected)

    def test_others(self) -> None:
        """Events of other programs have fields of their own, which are none of ours."""
        self.assertEqual(fields_of({"status": 200, "url": "x"}), {})

    def test_bounded(self) -> None:
        """No field, sentence or traceback is longer than it may be."""
        event = {"event": events.REQUEST, "reference": "x" * 10_000, "log_format": "{reference}"}
        self.assertEqual(len(str(fields_of(event)["reference"])), LONGEST_FIELD + 1)
        self.assertEqual(len(message_of(event)), LONGEST_MESSAGE + 1)
        for error in (ValueError("x" * 100_000), ValueError("\n".join(map(str, range(10_000))))):
            long = traceback_of({"log_failure": failure(error)}) or ""
            self.assertLess(len(long), LONGEST_TRACEBACK)
            self.assertGreater(len(long), LONGEST_MESSAGE)
        self.assertTrue(long.endswith("\n9999"), "the end says most")


class TextTests(SynchronousTestCase):
    """L{message_of}, L{traceback_of}, L{clean}."""

    def test_failure(self) -> None:
        """Of a failure alone its own words are the sentence; the traceback is apart."""
        event = {"log_failure": failure(ZeroDivisionError("so it is")), "log_format": ""}
        self.assertEqual(message_of(event), "so it is")
        text = traceback_of(event)
        assert text is not None
        self.assertIn("in failure", text)
        self.assertTrue(text.endswith("so it is"))
        self.assertIsNone(traceback_of({}))

    def test_controls(self) -> None:
        """Nothing in a line can colour it, or look like the beginning of another; ends of lines stay for the form."""
        self.assertEqual(clean("a\x1b[31m\x00\r\u2028\x85b\nc", 99), "a?[31m????b\nc")

    def test_secrets_of_others(self) -> None:
        """What an exception of somebody else's says of a URL or a token has nothing secret left."""
        for text, left in (
            ("https://me:hunter2@x.test/v2/", "https://x.test/v2/"),
            ("HTTPS://me:hunt@er2@x.test/v2/", "HTTPS://x.test/v2/"),
            ("http://a:hunter2@x.test,http://b:hunter2@y.test", "http://x.test,http://y.test"),
            ("at https://cdn.test/b?X-Amz-Signature=hunter2&x=1 now", "at https://cdn.test/b?… now"),
            ("Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.hunter2", "Authorization: Bearer …"),
            ("b'authorization': [b'Basic aHVudGVyMjpodW50ZXIy']", "b'authorization': [b'Basic …']"),
            ("Basic authentication at http://x.test/a", "Basic authentication at http://x.test/a"),
        ):
            self.assertEqual(clean(text, 999), left)
            told = traceback_of({"log_failure": failure(ValueError(text))})
            assert told is not None
            self.assertTrue(told.endswith(left), told)

    def test_secrets_at_a_cut(self) -> None:
        """Wherever a text is cut, no part of a secret is left whose other part was what gave it away."""
        for secret in (
            "https://me:hunter2@x.test/v2/",
            f"https://me:{'hunter2' * 3000}@x.test/v2/",
            "https://x.test/a?b=hunter2&c=hunter2",
            "Bearer hunter2hunter2hunter2",
            f"Basic {'hunter2' * 3000}",
        ):
            for longest in range(1, 40):
                # Cut within what is kept, and within what is looked at.
                for before in ("", "-" * 4090, "y " * 2045, "https://x.test/?" + "q" * 4070 + " "):
                    told = clean(f"{before} {secret} {'z' * 9000}", longest)
                    self.assertNotIn("hun", told)
                    self.assertLessEqual(len(told), longest + 1)
            for lines in range(3):
                long = f"{secret}\n{'x' * (LONGEST_MESSAGE - 10)}\n" * 4 + "end\n" * lines
                for shift in range(0, 60, 3):
                    told = traceback_of({"log_failure": failure(ValueError(long + "z" * shift))}) or ""
                    self.assertNotIn("hunter2", told)
                    self.assertNotIn("ter2@", told)

    def test_cheap(self) -> None:
        """What others say costs time for its beginning alone, and that in proportion, whatever it looks like."""
        for piece in ("http://", "https://a@", "bearer ", "basic  basic", "x", "http://?"):
            began = time.process_time()
            for _ in range(20):
                clean(piece * 1_000_000, LONGEST_MESSAGE)
            self.assertLess(time.process_time() - began, 1, piece)
