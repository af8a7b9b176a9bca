"""Challenges: how an origin asks for credentials in `WWW-Authenticate`.

https://www.rfc-editor.org/rfc/rfc9110.html#section-11.6.1 and 11.2 to 11.5 ::

    WWW-Authenticate = #challenge
    challenge        = auth-scheme [ 1*SP ( token68 / #auth-param ) ]
    auth-param       = token BWS "=" BWS ( token / quoted-string )
    token68          = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="

The comma parts parameters as well as challenges; what follows the next word, C{=} or not, tells which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[ \t]+([0-9A-Za-z._~+/-]+=*)[ \t]*(?=,|\Z)")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_DELIMITED = re.compile(r"[ \t,]|\Z")
_SEPARATORS = re.compile(r"[ \t,]*")
_END = re.compile(r"[ \t]*(?=,|\Z)")
# Unrolled, so that it takes each character once. Neither part may hold a control character but the tab.
_QUOTED = re.compile(r'"([^"\\\x00-\x08\x0a-\x1f\x7f]*(?:\\[^\x00-\x08\x0a-\x1f\x7f][^"\\\x00-\x08\x0a-\x1f\x7f]*)*)"')
_ESCAPE = re.compile(r"\\(.)")
# Wider than a token: URLs are found without their quotes.
_UNQUOTED = re.compile(r'[^\s,"\\\x00-\x1f\x7f]+')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way that an origin offers to authenticate.

    @ivar scheme: in lower case: C{bearer}, C{basic}, ….
    @ivar parameters: by their names in lower case; of one given twice the first counts.
    @ivar token68: what some schemes have in place of parameters.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    token68: str | None = None


def parse_challenges(lines: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of the `WWW-Authenticate` lines, in their order.

    Never raises. From where a line is malformed on, the rest of that line counts for nothing; a challenge that broke
    off there has the parameters that came before. Takes time linear in the lines' length.
    """
    return tuple(challenge for line in lines for challenge in _parse_line(line))


def _parse_line(line: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    position = _after(_SEPARATORS, line, 0)
    while position < len(line):
        scheme = _TOKEN.match(line, position)
        if scheme is None or _DELIMITED.match(line, scheme.end()) is None:
            break
        name = scheme.group().lower()
        token68 = _TOKEN68.match(line, scheme.end())
        if token68 is not None:
            challenges.append(Challenge(name, token68=token68.group(1)))
            position = _after(_SEPARATORS, line, token68.end())
        else:
            parameters, position = _parameters(line, scheme.end())
            challenges.append(Challenge(name, MappingProxyType(parameters)))
    return challenges


def _parameters(line: str, position: int) -> tuple[dict[str, str], int]:
    """The parameters from here on, and where the next challenge begins: the line's end if what follows is malformed."""
    parameters: dict[str, str] = {}
    while True:
        begin = _after(_SEPARATORS, line, position)
        name = _TOKEN.match(line, begin)
        if name is None:
            return parameters, len(line)
        equals = _EQUALS.match(line, name.end())
        if equals is None:
            return parameters, begin if "," in line[position:begin] else len(line)
        value, end = _value(line, equals.end())
        if value is None:
            return parameters, len(line)
        parameters.setdefault(name.group().lower(), value)
        closed = _END.match(line, end)
        if closed is None:
            return parameters, len(line)
        position = closed.end()


def _value(line: str, position: int) -> tuple[str | None, int]:
    quoted = _QUOTED.match(line, position)
    if quoted is not None:
        return _ESCAPE.sub(r"\1", quoted.group(1)), quoted.end()
    plain = _UNQUOTED.match(line, position)
    if plain is not None:
        return plain.group(), plain.end()
    return None, position


def _after(pattern: re.Pattern[str], line: str, position: int) -> int:
    """The end of what the pattern, which may be empty, matches here."""
    matched = pattern.match(line, position)
    return position if matched is None else matched.end()
