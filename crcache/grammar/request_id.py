"""`X-Request-Id`: the name under which a request is found in every log."""

from __future__ import annotations

import re

# No specification has it. What is taken here can't break a log line, a header or a query.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def parse_request_id(text: str | None) -> str | None:
    """The client's own id if it is well-formed (1 to 64 letters, digits, C{.}, C{_}, C{-}), else C{None}."""
    if text is None or _REQUEST_ID.fullmatch(text) is None:
        return None
    return text
