"""Headers: of requests, and of origins' answers."""

from __future__ import annotations

import math
import re
from urllib.parse import unquote_plus

from hypothesis import strategies as st

from crcache.errors import OriginLied, RangeNotSatisfiable
from crcache.grammar.accept import accepts
from crcache.grammar.challenge import parse_challenges
from crcache.grammar.length import parse_length
from crcache.grammar.ranges import MOST_RANGES, parse_content_range, parse_range
from crcache.grammar.retry_after import LONGEST, SHORTEST, parse_retry_after, rest
from crcache.grammar.via import MOST, caches, parse_via
from crcache.logs.fields import clean
from crcache.upstream.urls import origin_of, redirected
from crcache.web.conditions import not_modified
from crcache.web.link import next_page
from crcache.web.requestlog import printable
from tests.fuzz.target import Target, near, one_line

LARGEST = 2**63 - 1

BITS = (
    *(
        ",",
        ", ,",
        ";",
        "=",
        '"',
        "\\",
        "\\\\",
        '\\"',
        " ",
        "\t",
        "-",
        "--",
        "/",
        "*",
        ":",
        "<",
        ">",
        "&",
        "%",
        "%0d%0a",
    ),
    *("\n", "\r\n ", "\0", "\x7f", "\xff", "\u0661", "\u2028", "\ud800", "0", "9" * 19, "9" * 5000, "1e9", "-1", "+1"),
    *("bytes", "BYTES ", "Bearer ", "basic", "next", "rel", "q=0", "NaN", "a" * 300),
)

VIAS = ("1.0 fred, 1.1 p.example.net:80 (x)", "HTTP/1.1 [::1]:3000, 2 crcache-0123456789abcdef")

CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def ranges(header: str) -> None:
    """Ranges are within what a file can have, in order, and few; of a body they are parts, or none."""
    found = parse_range(header)
    if found is None:
        return
    assert 1 <= len(found) <= MOST_RANGES
    for spec in found:
        assert spec.first is None or 0 <= spec.first <= LARGEST
        assert spec.last is None or 0 <= spec.last <= LARGEST
        assert spec.first is not None or spec.last is not None
        for size in (0, 1, 1000, LARGEST):
            try:
                span = spec.resolve(size)
            except RangeNotSatisfiable as problem:
                assert problem.headers == (("Content-Range", f"bytes */{size}"),)
                continue
            assert 0 <= span.start < span.stop <= size


def via(headers: list[str]) -> None:
    """What goes on of hops is few, on one line, and means the same to the next who reads it."""
    found = parse_via(headers)
    assert len(found) <= MOST
    assert parse_via([", ".join(found)]) == found
    assert all(each.isascii() and each.isprintable() for each in found)
    assert len(caches(found)) <= len(found)


def content_range(header: str) -> None:
    """A part that an origin names begins before it ends, and ends within the whole and what a file can have."""
    found = parse_content_range(header)
    if found is not None:
        assert 0 <= found.start < found.stop <= (LARGEST if found.total is None else found.total) <= LARGEST


def length(text: str) -> None:
    """A length is one that a file can have."""
    found = parse_length(text)
    assert found is None or (0 <= found <= LARGEST and int(text) == found)


def challenges(lines: list[str]) -> None:
    """Challenges have schemes and names that are tokens, and nothing in them that ends a line."""
    for found in parse_challenges(lines):
        for name in (found.scheme, *found.parameters):
            assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name), ascii(name)
        for value in (*found.parameters.values(), found.token68 or ""):
            assert not CONTROLS.search(value), ascii(value)
        assert not (found.parameters and found.token68)


def accept(lines: list[str]) -> None:
    """`Accept` decides, whatever it is; what everything else excludes is let in by naming it."""
    assert accepts(lines, "a/b") in (True, False)
    assert accepts([*lines, "a/b"], "A/B") is True


def retry_after(example: tuple[str | None, str | None]) -> None:
    """A wait is a number of seconds that a timer can be set to."""
    said = parse_retry_after(*example)
    assert said is None or (0 <= said <= float(LARGEST) and math.isfinite(said))
    assert SHORTEST <= rest(said) <= LONGEST


def link(values: list[str]) -> None:
    """A next page is asked of us: at the client's own path, with parameters that we know, in one line."""
    path, known = "/v2/library/alpine/tags/list", ("n", "last")
    found = next_page(values, path, "localhost:5000", known)
    if found is None:
        return
    one_line(found)
    matched = re.fullmatch(rf'<{path}\?([^<>"\s]*)>; rel="next"', found)
    assert matched is not None and found.isascii(), ascii(found)
    pairs = [pair.partition("=") for pair in matched[1].split("&")]
    assert pairs[-1] == ("ns", "=", "localhost:5000")
    assert {unquote_plus(name) for name, _, _ in pairs[:-1]} <= set(known), found


def condition(values: list[str]) -> None:
    """`If-None-Match` says yes only if the tag is there, or a star."""
    tag = '"sha256:00"'
    if not_modified(values, tag):
        assert any(tag in value or value.strip() == "*" for value in values)


def url(example: tuple[str, str]) -> None:
    """A `Location` leads to a host by http or https, and from https to http only if that is allowed."""
    here, location = example
    try:
        target = redirected(here, location, downgrade=False)
    except OriginLied as problem:
        one_line(problem.message)
        return
    there = origin_of(target)
    one_line(target)
    assert there.host and "@" not in there.host and not set(there.host) & set("/?# "), target
    assert (origin_of(here).scheme, there.scheme) != ("https", "http"), target
    assert "#" not in target and 0 <= there.port <= 65535 and len(there.host) <= 253


def log_line(text: str) -> None:
    """What is logged of a request is one word. A sentence has no controls but ends of lines, behind which the log puts
    a tab. Both have an end."""
    word = printable(text)
    assert word and word.isprintable() and " " not in word and len(word) <= 200
    said = clean(text, 512)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", said) and len(said) <= 513


RANGES = ("bytes=0-", "bytes=0-99", "bytes=-100", "bytes=5-9,20-", f"bytes=0-{LARGEST}")
CONTENT_RANGES = ("bytes 0-99/100", "bytes 5-9/*", "bytes */100", f"bytes 0-{LARGEST - 1}/{LARGEST}")
CHALLENGES = (
    'Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull"',
    'Basic realm="fake"',
    'Digest a=b, Negotiate YII=, Bearer realm=x, basic realm="y, \\"z\\""',
)
LINKS = ('</v2/a/tags/list?n=2&last=b>; rel="next"', '<?last=a%2Bb&ns=x>; rel="prev next", <x>; rel=first')
DATES = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "120", "0")
LOCATIONS = (
    *("https://cdn.example.com/a?b=c", "/v2/other", "//cdn.example.com", "http://cdn.example.com", "?x", "../x", "#x"),
    *("https://[2001:db8::1]:5000/x", "ftp://x/", "https://user:pass@x/"),
)
TEXT = st.text(max_size=60)

TARGETS: tuple[Target, ...] = (
    Target(
        "range",
        st.one_of(TEXT, near(RANGES, BITS)),
        ranges,
        (
            *RANGES,
            "bytes=" + "0-0," * 100_000,
            "bytes=" + "-" * 100_000,
            "bytes=0-" + "9" * 100_000,
            "bytes=" + "," * 9**6,
        ),
    ),
    Target(
        "content range",
        st.one_of(TEXT, near(CONTENT_RANGES, BITS)),
        content_range,
        (
            *CONTENT_RANGES,
            f"bytes 0-{LARGEST}/*",
            f"bytes 0-{LARGEST}/{LARGEST}",
            "bytes 0-0/0",
            "bytes 1-0/5",
            "bytes 0-" + "9" * 9999,
        ),
    ),
    Target(
        "length",
        st.one_of(TEXT, near(("0", "100", str(LARGEST)), BITS)),
        length,
        ("", str(LARGEST), str(LARGEST + 1), "9" * 19, "9" * 20, "\u0661", "1_0", "+1", " 1", "9" * 100_000),
    ),
    Target(
        "challenges",
        st.lists(st.one_of(TEXT, near(CHALLENGES, BITS)), max_size=3),
        challenges,
        [
            [each]
            for each in (*CHALLENGES, '"' * 50_000, "a=" * 50_000, "Bearer " + 'a="\\' * 20_000, "a b=c," * 20_000)
        ],
    ),
    Target(
        "accept",
        st.lists(st.one_of(TEXT, near(('application/json;q=0.5, */*, a/b; x="y,z"', "text/*;q=0"), BITS)), max_size=3),
        accept,
        [
            [each]
            for each in (
                "",
                ",",
                '"',
                '"\\',
                "," * 50_000,
                '"' * 50_001,
                ";q=0" * 20_000,
                "a/b;" * 20_000,
                "*/*;q=" + "0" * 99_999,
            )
        ],
    ),
    Target(
        "retry-after",
        st.tuples(*[st.one_of(st.none(), TEXT, near(DATES, BITS))] * 2),
        retry_after,
        [
            *[(date, other) for date in DATES for other in DATES],
            ("Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359"),
            ("Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359"),
            ("Fri, 31 Dec 9999 23:59:59 -9999", DATES[0]),
            ("9" * 19, None),
            ("9" * 100_000, None),
            ("1 Jan " + "9" * 5000, DATES[0]),
            (" " * 100_000, DATES[0]),
            ("(" * 50_000, DATES[0]),
            ("1:" * 20_000, DATES[0]),
        ],
    ),
    Target(
        "link",
        st.lists(st.one_of(TEXT, near(LINKS, BITS)), max_size=3),
        link,
        [
            [each]
            for each in (
                *LINKS,
                "<?last=a\r\nX: y>; rel=next",
                "<?last=a%0d%0aX>; rel=next",
                "<?%6Cast=a&%6es=evil>; rel=next",
                '<?last="><script>>; rel=next',
                "<" * 50_000,
                "<>" * 50_000,
                "<>;" + '"' * 50_001,
                "<>" + ";rel=" * 20_000,
                "<?" + "last=a&" * 20_000 + ">; rel=next",
                '<?last=a>; rel="' + " " * 50_000 + "prev",
                "<//[>; rel=next",
            )
        ],
    ),
    Target(
        "if-none-match",
        st.lists(st.one_of(TEXT, near(('"sha256:00"', 'W/"x", "sha256:00"', "*"), BITS)), max_size=3),
        condition,
        [[each] for each in ("*", '"' * 50_001, 'W/"' * 20_000, '"sha256:00', 'sha256:00"')],
    ),
    Target(
        "location",
        st.tuples(
            st.sampled_from(["https://r.example.com/v2/", "http://r.example.com:5000/x"]),
            st.one_of(TEXT, near(LOCATIONS, (*BITS, "@", "[", "]", "\\", "\uff0f", "?", "#", "http://", "https:"))),
        ),
        url,
        [
            ("https://r.example.com/", each)
            for each in (
                *LOCATIONS,
                "https://a\\@b/",
                "https://a:99999/",
                "https://a:x/",
                "https://[::1",
                "https:///x",
                "\thttps://a/",
                "ht\ntps://a/",
                "https://a\uff0fb/",
                "javascript:alert(1)",
                "//",
                "https://" + "a" * 100_000,
                "https://xn--" + "a" * 60_000 + "/",
                "../" * 20_000,
            )
        ],
    ),
    Target(
        "via",
        st.lists(st.one_of(TEXT, near(VIAS, (*BITS, "(", ")", "[", "]", "crcache-"))), max_size=3),
        via,
        [[each] for each in (*VIAS, "1.1 a (" + "(" * 100_000, "1.1 a," * 100_000, "a/" * 2000, "1.1" + " " * 4000)],
    ),
    Target(
        "log line",
        st.one_of(TEXT, near(("a/b c", "http://user:pass@h/?q", "Bearer abcdefghijklmnopqrstuvwxyz"), BITS)),
        log_line,
        (
            "",
            " ",
            "\n",
            "a\r\nb",
            "\x1b[2J",
            "\x9b31m",
            "\u202e",
            "\u2028",
            "\ud800",
            "http://" * 20_000,
            "bearer " * 20_000,
        ),
    ),
)
