"""JSON that strangers send: read within bounds of time and memory, or not at all.

https://www.rfc-editor.org/rfc/rfc8259 (section 9 lets a parser limit size, depth, and the range of numbers).
"""

from __future__ import annotations

import json

# What it takes to make a number of digits grows with their square, and jumps where a fraction has an exponent besides.
_LONGEST_INTEGER = 500
_LONGEST_FRACTION = 30


def load_json(body: bytes, most: int) -> object:
    """What a document in UTF-8 says. Of a key given twice the last counts; C{NaN} and the infinities are
    C{None}. What strings have beyond ASCII comes as its bytes, a character each (latin-1).

    Time and memory grow with the body's length, and with C{most}: a value costs ten to a hundred times what a plain
    byte does, and none of it lets other threads of this process run.

    @param most: values that there may be at most, counted roughly: commas and brackets within strings count as well.
    @raise ValueError: if it is not JSON, is nested too deeply for the interpreter, or has more values, or an integer
        of more than 500 or a fraction of more than 30 characters.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > most:
        raise ValueError(f"more than {most} values")
    if not body.isascii():
        # Only to know that it is UTF-8. A single emoji makes a text four times as large as its bytes, and the strings
        # that are taken from it as well.
        body.decode()
    try:
        return json.loads(body.decode("latin-1"), parse_int=_integer, parse_float=_fraction, parse_constant=_nothing)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _integer(text: str) -> int:
    return int(_short(text, _LONGEST_INTEGER))


def _fraction(text: str) -> float:
    return float(_short(text, _LONGEST_FRACTION))


def _short(text: str, longest: int) -> str:
    if len(text) > longest:
        raise ValueError(f"a number of {len(text)} characters")
    return text


def _nothing(_: str) -> None:
    """C{NaN} and the infinities are no JSON, but some write them."""
