"""All there is to fuzz."""

from __future__ import annotations

from tests.fuzz import archives, documents, files, headers, names
from tests.fuzz.target import Target

TARGETS: tuple[Target, ...] = (*names.TARGETS, *headers.TARGETS, *documents.TARGETS, *files.TARGETS, *archives.TARGETS)
