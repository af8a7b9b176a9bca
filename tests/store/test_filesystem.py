"""L{crcache.store.filesystem}."""

from __future__ import annotations

from tests.store import case, conformance


class FilesystemTests(case.DirectoryCase, conformance.Conformance):
    """The store in a directory, its work done at once."""


class ThreadedTests(case.ThreadedCase, conformance.Conformance):
    """The store in a directory, its work done in threads."""


class PrivateTests(case.DirectoryCase, conformance.Private):
    """Fills in a directory for one repository's clients."""


class PrivateThreadedTests(case.ThreadedCase, conformance.Private):
    """The same, their work done in threads."""
