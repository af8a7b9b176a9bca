"""L{crcache.store.filesystem}."""

from __future__ import annotations

from tests.store import case, conformance


class FilesystemTests(case.DirectoryCase, conformance.Conformance):
    """The store in a directory, its work done at once."""


class ThreadedTests(case.ThreadedCase, conformance.Conformance):
    """The store in a directory, its work done in threads."""
