"""Media types: what content is called.

https://www.rfc-editor.org/rfc/rfc6838.html#section-4.2 ::

    type-name       = restricted-name
    subtype-name    = restricted-name
    restricted-name = restricted-name-first *126restricted-name-chars
"""

from __future__ import annotations

import re

_RESTRICTED_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(rf"{_RESTRICTED_NAME}/{_RESTRICTED_NAME}")


def parse_media_type(value: object) -> str | None:
    """The media type in lower case, without parameters; C{None} if the value is anything else."""
    if not isinstance(value, str) or _MEDIA_TYPE.fullmatch(value) is None:
        return None
    return value.lower()
