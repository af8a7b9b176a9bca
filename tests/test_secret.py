"""L{crcache.secret}."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from dataclasses import dataclass

from twisted.logger import formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from crcache.secret import Secret

TEXT = "hünter2"


@dataclass(frozen=True)
class Holder:
    """Something with a secret in it."""

    name: str
    password: Secret


class SecretTests(SynchronousTestCase):
    """A value that is shown nowhere."""

    def setUp(self) -> None:
        """Have one."""
        self.secret = Secret(TEXT)

    def test_revealed(self) -> None:
        """Whoever needs the text gets it by asking for it."""
        self.assertEqual(self.secret.reveal(), TEXT)

    def test_hidden(self) -> None:
        """No way of writing it, or what holds it, shows the text."""
        holder = Holder("a", self.secret)
        shown = [
            str(self.secret),
            repr(self.secret),
            f"{self.secret}",
            f"{self.secret!a}",
            format(self.secret),
            "%s %r" % (self.secret, self.secret),  # noqa: UP031
            repr(holder),
            repr([self.secret]),
            repr({self.secret: self.secret}),
            formatEvent({"log_format": "{secret} {holder!r}", "secret": self.secret, "holder": holder}),
        ]
        for text in shown:
            self.assertNotIn("nter2", text)

    def test_tracebacks(self) -> None:
        """Nor do tracebacks, even those that show values."""
        secret = self.secret
        try:
            raise ValueError(secret)
        except ValueError as error:
            self.assertNotIn("nter2", "".join(traceback.format_exception(error)))
            self.assertIn(" secret : Secret(…)\n", Failure(captureVars=True).getTraceback(detail="verbose"))

    def test_not_serialised(self) -> None:
        """It goes into no file: neither pickled nor in JSON."""
        self.assertRaises(TypeError, pickle.dumps, self.secret)
        self.assertRaises(TypeError, copy.copy, self.secret)
        self.assertRaises(TypeError, json.dumps, {"secret": self.secret})
        self.assertFalse(hasattr(self.secret, "__dict__"))

    def test_equality(self) -> None:
        """Equal texts make equal secrets, which are one dictionary key; a text is not equal to a secret."""
        self.assertEqual(self.secret, Secret(TEXT))
        self.assertNotEqual(self.secret, Secret(TEXT + "x"))
        self.assertNotEqual(self.secret, TEXT)
        self.assertEqual({self.secret: 1}[Secret(TEXT)], 1)
        self.assertEqual(len({Secret("a"), Secret("a"), Secret("b")}), 2)
