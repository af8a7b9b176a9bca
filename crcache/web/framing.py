"""What tells where requests begin, what their heads are made of, and where answers end (RFC 9112)."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.web.http import Request

#: What a request can begin with: a method, or the empty lines that some send before it (RFC 9112, 2.2).
BEGINNINGS = frozenset(bytes([byte]) for byte in b"\r" + string.ascii_letters.encode())

#: What is in no line of a head: controls but the tab (RFC 9112, 2.2; RFC 9110, 5.5).
NEVER = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")

#: How a header begins (RFC 9110, 5.1 and 5.6.2). A name that others take for another one hides from them what the
#: request is.
NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:")


def measured(request: Request) -> bool:
    """Whether the end of an answer can be told from its head."""
    return bool(request.chunked) or request.responseHeaders.hasHeader(b"Content-Length")
