"""JSON: manifests, token answers, the store's records."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from crcache.errors import OriginLied
from crcache.grammar.digest import Digest
from crcache.grammar.json_value import load_json
from crcache.grammar.manifest import KNOWN, MOST_CHILDREN, OCI_INDEX, OCI_MANIFEST, parse_manifest
from crcache.store.files import read_small
from crcache.store.records import membership_from, membership_record, tag_from, tag_record
from crcache.upstream.token import parse_token
from tests.fuzz.target import Target, near, one_line

DIGEST = Digest.of(b"x")
LARGEST = 2**63 - 1
MOST = 1000

WORDS = (
    *("mediaType", "config", "layers", "manifests", "blobs", "fsLayers", "blobSum", "digest", "size", "subject"),
    *("token", "access_token", "expires_in", "obtained", "since", "checked", "open", "private", "a", ""),
    *(
        str(DIGEST),
        "sha256:00",
        "../../etc/passwd",
        OCI_MANIFEST,
        OCI_INDEX,
        "application/x+json",
        "text/html",
        "a/b\r\nX: y",
    ),
)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.sampled_from([0, LARGEST, LARGEST + 1, 10**400, 1e308])
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(WORDS), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=3)), inner, max_size=6),
    ),
    max_leaves=25,
)
#: JSON as Python writes it: with C{NaN}, and surrogates alone.
JSON = VALUES.map(lambda value: json.dumps(value).encode())

IMAGE = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(DIGEST), "size": 7},
    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": str(Digest.of(b"y")), "size": 9}],
    "subject": {"digest": str(DIGEST), "size": 5},
}
INDEX = {"manifests": [{"digest": str(DIGEST), "size": 5, "platform": {"os": "linux"}}], "annotations": {"a": "b"}}
TOKEN = {"token": "abc.def", "access_token": "abc.def", "expires_in": 300, "issued_at": "2026-01-01T00:00:00Z"}
TAG = {"digest": str(DIGEST), "mediaType": OCI_MANIFEST, "size": 5, "checked": 1.7e9}
MEMBER = {"digest": str(DIGEST), "mediaType": OCI_MANIFEST, "size": 5, "obtained": "open", "since": 1.7e9}
SAMPLES = tuple(json.dumps(each).encode() for each in (IMAGE, INDEX, TOKEN, TAG, MEMBER))
BITS = (
    *(
        b"",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"\\u",
        b"\\ud800",
        b"\\udc00\\ud800",
        b"\0",
        b"\n",
        b"\xff",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-0",
        b"9" * 19,
        b"9" * 600,
        b"9" * 5000,
        b"1." + b"1" * 40,
    ),
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b"{" * 50,
        b"[" * 2000,
        b'{"a":' * 1500,
        "\U0001f600".encode(),
        b'"digest":',
        b'"a",' * 50,
    ),
)
BODIES = st.one_of(JSON, near(SAMPLES, BITS), st.binary(max_size=40))


def loaded(body: bytes) -> None:
    """What is read means what it meant: written again and read again it is the same, and it is not too much."""
    try:
        value = load_json(body, MOST)
    except ValueError:
        return
    assert _count(value) <= 2 * MOST + 2
    written = json.dumps(value, ensure_ascii=True).encode()
    if b"Infinity" not in written and b"\\u00" not in written and len(written) < 10_000:
        assert load_json(written, 10 * MOST) == value


def _count(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_count, inner))


def manifest(example: tuple[bytes, str | None]) -> None:
    """A manifest has a type that can stand in a head, and names few things, each once, of sizes that files can have."""
    body, content_type = example
    try:
        found = parse_manifest(body, content_type)
    except OriginLied as problem:
        one_line(problem.message)
        return
    assert found.media_type in KNOWN or found.media_type.endswith("+json")
    assert found.media_type.isascii() and found.media_type.isprintable()
    digests = [child.digest for child in found.children]
    assert len(digests) == len(set(digests)) <= MOST_CHILDREN
    for child in (*found.children, *([found.subject] if found.subject else [])):
        assert Digest.parse(str(child.digest)) == child.digest
        assert child.size is None or 0 <= child.size <= LARGEST
        assert child.media_type is None or (child.media_type.isascii() and child.media_type.isprintable())


def token(body: bytes) -> None:
    """A token can stand in a head, and has an end; what is said of an answer without one does not show it."""
    try:
        found = parse_token(body, 1000.0, "auth.example.com:443")
    except OriginLied as problem:
        one_line(problem.message)
        assert problem.message == "the token realm at auth.example.com:443 gave no token; ask its administrator"
        return
    text = found.text.reveal()
    assert text and text.isascii() and text.isprintable() and " " not in text and len(text) <= 65536
    assert text not in repr(found)
    assert math.isfinite(found.until) and 1000.0 <= found.until <= 1000.0 + 24 * 3600


def record(value: Any) -> None:
    """A file that somebody has written says a membership or a tag of this digest's grammar, or nothing."""
    given = value if isinstance(value, dict) else {"digest": value}
    member = membership_from(given, DIGEST)
    if member is not None:
        assert member.digest == DIGEST and member.open is (
            given["obtained"] == "open" if "obtained" in given else False
        )
        assert member.size is None or 0 <= member.size <= LARGEST
        assert member.since is None or 0 <= member.since < 1e12
        assert member.media_type is None or (member.media_type.isascii() and member.media_type.isprintable())
        assert membership_from(membership_record(member), DIGEST) == member
    tag = tag_from(given)
    if tag is not None:
        assert 0 <= tag.size <= LARGEST and 0 <= tag.checked < 1e12
        assert tag.media_type.isascii() and tag.media_type.isprintable()
        assert tag_from(tag_record(tag)) == tag


def record_file(body: bytes) -> None:
    """A record's file is an object, or as good as not there."""
    path = Path("record")
    path.write_bytes(body)
    found = read_small(path, 0.0)
    if found is not None:
        record(found)


NESTED = (b"[" * 400_000, b'{"layers":' * 400_000, b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")
BOMBS = (
    *(*NESTED, b"", b"null", b"[]", b'"x"', b"{", b"{}", b"{} {}", b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b"9" * 10**6),
    *(b'{"token":"' + b"a" * 10**6 + b'"}', b'{"token":"a b"}', b'{"token":"a\\r\\nX: y"}', b'{"token":"\\ud800"}'),
    *(
        b'{"token":"a","expires_in":' + each + b"}"
        for each in (b"1e999", b"-1e999", b"NaN", b"9" * 499, b"9" * 501, b"true")
    ),
    *(
        b'{"token":["a"]}',
        b'{"token":{"a":1},"access_token":"b"}',
        b'{"token":null,"access_token":"b"}',
        b'{"token":0}',
    ),
    b'{"layers":[' + b"{}," * 10**6 + b"{}]}",
    b'{"layers":[' + b'{"digest":"sha256:00"},' * 200_000 + b"{}]}",
    b'{"layers":[' + b",".join([b'{"digest":"%b"}' % str(DIGEST).encode()] * 20_000) + b"]}",
    b'{"layers":[],"x":"' + b"," * 200_000 + b'"}',
    b'{"layers":[],"layers":{},"layers":[{"digest":"%b","size":1e0}]}' % str(DIGEST).encode(),
    b'{"layers":[{"digest":"%b","size":9223372036854775808,"mediaType":"a/b\\nX: y"}]}' % str(DIGEST).encode(),
)
BAD: tuple[Any, ...] = (
    None,
    -1,
    True,
    "x",
    [],
    {},
    1e999,
    math.nan,
    2**63,
    10**400,
    "a/b\r\nX: y",
    "a/\u212a",
    "\ud800",
)
RECORDS: tuple[Any, ...] = (
    *({**TAG, key: bad} for key in TAG for bad in BAD),
    *({**MEMBER, key: bad} for key in MEMBER for bad in BAD),
)

TARGETS = (
    Target("json", BODIES, loaded, BOMBS),
    Target(
        "manifest",
        st.tuples(
            BODIES, st.sampled_from([None, "", OCI_INDEX, f"{OCI_MANIFEST.upper()} ; a=b", "text/html", "a/b\r\nc"])
        ),
        manifest,
        [(body, kind) for body in (*BOMBS, *SAMPLES) for kind in (None, OCI_MANIFEST)],
    ),
    Target("token", BODIES, token, BOMBS),
    Target(
        "record",
        st.one_of(
            VALUES,
            st.builds(
                lambda a, b: {**a, **b},
                st.sampled_from([TAG, MEMBER]),
                st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=2),
            ),
        ),
        record,
        RECORDS,
    ),
    Target("record's file", BODIES, record_file, [body[:100_000] for body in BOMBS]),
)
