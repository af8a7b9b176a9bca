"""L{crcache.errors}."""

from __future__ import annotations

import ast
import inspect
import json
import sys

from twisted.trial.unittest import SynchronousTestCase

from crcache import errors
from crcache.errors import CrcacheError, Fault

# Distribution spec, "Error Codes", and the two of distribution's own.
SPECIFIED = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
    "UNSUPPORTED", "TOOMANYREQUESTS",
}  # fmt: skip
OTHERS = {"UNAVAILABLE", "RANGE_INVALID", "TAG_INVALID", "UNKNOWN"}

EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, CrcacheError)]


class ErrorTests(SynchronousTestCase):
    """What every error must be."""

    def test_codes(self) -> None:
        """Each has a code that clients know."""
        for kind in EVERY:
            self.assertIn(kind.code, SPECIFIED | OTHERS, kind)

    def test_statuses(self) -> None:
        """Each has a status of the right class: never 429, which clients retry even at a mirror, nor 408."""
        for kind in EVERY:
            self.assertIn(kind.status, (400, 401, 403, 404, 405, 416, 500, 502, 503, 504, 508), kind)

    def test_faults(self) -> None:
        """A 5xx is never the client's fault, and a client's mistake is a 4xx."""
        for kind in EVERY:
            if kind.fault is Fault.CLIENT:
                self.assertLess(kind.status, 500, kind)
            if kind.fault is Fault.OURS:
                self.assertGreaterEqual(kind.status, 500, kind)

    def test_carried(self) -> None:
        """An error carries its message, which is also its text, its detail and its header lines."""
        error = errors.Unauthorized("Log in.", detail={"a": 1}, headers=[("WWW-Authenticate", "Basic")])
        self.assertEqual((error.message, str(error)), ("Log in.", "Log in."))
        self.assertEqual(json.dumps(error.detail), '{"a": 1}')
        self.assertEqual(error.headers, (("WWW-Authenticate", "Basic"),))
        self.assertEqual((CrcacheError("x").detail, CrcacheError("x").headers), (None, ()))

    def test_origin(self) -> None:
        """All that origins do wrong can be caught as such, and nothing else is."""
        for kind in EVERY:
            self.assertEqual(issubclass(kind, errors.OriginError), kind.fault is Fault.ORIGIN, kind)

    def test_standard_library(self) -> None:
        """The module needs nothing but the standard library: the grammar uses it."""
        for node in ast.walk(ast.parse(inspect.getsource(errors))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
                for name in names:
                    self.assertIn((name or "").partition(".")[0], sys.stdlib_module_names)
