"""What reading costs: time that grows with the text and no faster, memory that has a bound, whatever is in it."""

from __future__ import annotations

import contextlib
import gc
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crcache.errors import CrcacheError, OriginLied
from crcache.grammar.accept import accepts
from crcache.grammar.challenge import parse_challenges
from crcache.grammar.digest import Digest
from crcache.grammar.manifest import LIMIT, MOST_CHILDREN, OCI_MANIFEST, parse_manifest
from crcache.grammar.media_type import parse_media_type
from crcache.grammar.ranges import parse_content_range, parse_range
from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.grammar.request_id import parse_request_id
from crcache.grammar.retry_after import parse_retry_after
from crcache.grammar.route import parse_path, which_registry
from crcache.logs.fields import clean, clean_lines
from crcache.upstream.token import parse_token
from crcache.web.conditions import not_modified
from crcache.web.link import next_page
from crcache.web.requestlog import printable

#: As long as the headers of a request or an answer can be, all together, and more; and times as long.
SHORT, TIMES = 2_000, 32
#: So many times as long may a text take that is L{TIMES} times as long: memory is slower the more of it there is. That
#: is far from the square still.
SLOWER = 6 * TIMES
#: Seconds below which nobody minds, and no clock tells.
NOTHING = 0.02

MIB = 1 << 20
#: As much as a thread may take for one document: far more than it does, far less than anyone would notice.
SECONDS = 2.0

DIGEST = b"sha256:" + b"a" * 64

#: What texts are made of, a piece after another, that readers go back and forth in: an opening, and what is repeated.
PIECES = (
    *(
        ("", "a"),
        ("", "-"),
        ("", "."),
        ("", "a."),
        ("", "a-"),
        ("", "__"),
        ("", "a/"),
        ("", "%41"),
        ("", "1"),
        ("", "0"),
    ),
    *(
        ("", " "),
        ("", "\t"),
        ("", ","),
        ("", ", "),
        ("", ";"),
        ("", "="),
        ("", '"'),
        ("", "\\"),
        ("", '\\"'),
        ("", "<"),
    ),
    *(
        ("", "<>"),
        ("", "<>;"),
        ("", ":"),
        ("", "("),
        ("", "://"),
        ("", "http://"),
        ("", "http://a@"),
        ("", "a?"),
        ("", "\n"),
    ),
    *(
        ("", "bearer "),
        ("", "bearer a"),
        ("", "a=b,"),
        ("", 'a="b",'),
        ("", ";rel="),
        ("", ';rel="'),
        ("", ' rel="next'),
    ),
    *(
        ('"', "a"),
        ('"', "\\"),
        ('"', "\\\\"),
        ("<", "a"),
        ('<?a>; rel="', " "),
        ('<?a>; rel="', "next"),
        ("<?a>;", " rel"),
    ),
    *(
        ('<?last=a>; rel="', "a "),
        ("bytes=", "0-0,"),
        ("bytes=", "-"),
        ("bytes=", "0"),
        ("bytes ", " "),
        ("bytes 0-", "9"),
    ),
    *(
        ("Bearer ", "a"),
        ("Bearer ", "a="),
        ('Bearer a="', "\\"),
        ("Bearer a=", " "),
        ("a/b;", "q=0;"),
        ("*/*;q", " "),
        ("a/b;q=", "0"),
    ),
    *(
        ("W/", '"'),
        ('"', "\x80"),
        ("http://", "a"),
        ("http://", "@"),
        ("http://a", "?"),
        ("Mon, ", "1 "),
        ("1 Jan ", "0"),
        ("1 ", ":1"),
    ),
    *(
        ("/v2/", "a/"),
        ("/v2/", "%2e/"),
        ("/v2/", "manifests/"),
        ("/v2/", "blobs/a/"),
        ("/v2/a/manifests/", "a"),
        ("a", ".a"),
        ("[", ":"),
    ),
)

#: Everything that takes text of any length from strangers.
READERS: dict[str, Callable[[str], Any]] = {
    "accept": lambda text: accepts([text], OCI_MANIFEST),
    "challenges": lambda text: parse_challenges([text]),
    "content range": parse_content_range,
    "digest": Digest.parse,
    "if-none-match": lambda text: not_modified([text], '"sha256:00"'),
    "link": lambda text: next_page([text], "/v2/a/tags/list", "docker.io", ("n", "last")),
    "log line": printable,
    "log lines": clean_lines,
    "log sentence": lambda text: clean(text, 100_000),
    "media type": parse_media_type,
    "ns": lambda text: which_registry("a", [text], None, DOCKER_IO),
    "name": lambda text: which_registry(text, [], "docker/1", DOCKER_IO),
    "path": lambda text: parse_path(text.encode()),
    "range": parse_range,
    "registry": Registry.parse,
    "repository": Repository.parse,
    "request id": parse_request_id,
    "retry-after": lambda text: parse_retry_after(text, text),
}


def cost(read: Callable[[str], Any], text: str, times: int = 3) -> float:
    """Seconds of this thread's own time, however busy the machine is; the least of a few."""
    took = []
    for _ in range(times):
        with alone(), contextlib.suppress(CrcacheError):
            begun = time.thread_time()
            try:
                read(text)
            finally:
                took.append(time.thread_time() - begun)
    return min(took)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Without the collection of garbage, which takes as long as all that other tests have left behind."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class TimeTests(SynchronousTestCase):
    """Time, by the thread's own clock."""

    def test_linear(self) -> None:
        """A text that is many times as long takes so many times as long, whatever it repeats and who reads it."""
        slow = []
        for name, read in READERS.items():
            for opening, piece in PIECES:
                short = opening + piece * (SHORT // len(piece))
                long = opening + piece * (SHORT * TIMES // len(piece))
                if cost(read, long, 1) > NOTHING and (took := cost(read, long)) > SLOWER * cost(read, short):
                    slow.append(f"{name}: {opening + piece!a} takes {took:.3f} s")
        self.assertEqual(slow, [])

    def test_would_be_seen(self) -> None:
        """A reader that takes the square of a text's length is seen to."""

        def square(text: str) -> None:
            for _ in text[::32]:
                text.count("b")

        text = "a" * SHORT
        self.assertGreater(cost(square, text * TIMES), max(SLOWER * cost(square, text), NOTHING))


def objects(value: bytes, count: int) -> bytes:
    """A manifest of so many layers."""
    return b'{"layers":[' + b",".join([value] * count) + b"]}"


def filled(opening: bytes, piece: bytes, closing: bytes, size: int) -> bytes:
    """As many pieces as fit into a document of that size."""
    return opening + piece * ((size - len(opening) - len(closing)) // len(piece)) + closing


def worst(size: int) -> dict[str, bytes]:
    """Documents of no more bytes than that, each made to cost as much as it can, by what they are called."""
    member = b'{"digest":"' + DIGEST + b'"},'
    opening = b'{"token":"a","layers":['
    made = {
        "a million objects": filled(opening, b"{},", b"{}]}", size),
        "a million lists": filled(opening, b"[],", b"[]]}", size),
        "descriptors": filled(opening, member, b"{}]}", size),
        "numbers": filled(opening, b"1,", b"1]}", size),
        "fractions": filled(opening, b"1.1111111111111111e-300,", b"1]}", size),
        "long fractions": filled(opening, b"1" * 75 + b"e-300,", b"1]}", size),
        "long numbers": filled(opening, b"9" * 4299 + b",", b"1]}", size),
        "numbers as long as may be": filled(opening, b"9" * 499 + b",", b"1]}", size),
        "one number": filled(b'{"layers":[],"x":', b"9", b"}", size),
        "keys": b'{"layers":[],' + b",".join(b'"%d":1' % number for number in range(size // 12)) + b"}",
        "depth": filled(b'{"layers":', b"[", b"", size),
        "depth of objects": filled(b"", b'{"layers":', b"", size),
        "escapes": filled(opening + b'"', b"\\n", b'"]}', size),
        "large characters": filled(opening + b'"\\ud83d\\ude00', b"x", b'"]}', size),
        "one large character": filled(opening + b'"\xf0\x9f\x98\x80', b"x", b'"]}', size),
        "spaces": filled(opening, b" ", b"]}", size),
        "nothing of it JSON": b"\xff" * size,
    }
    # As many values as are read at all.
    for name, piece in (("objects", b"{},"), ("lists", b"[[]],"), ("descriptors", member), ("fractions", b"1.5e-300,")):
        for count in (3_000, 25_000):
            body = opening + piece * count + b"1]}"
            if len(body) <= size:
                made[f"{count} {name}"] = body
    return made


class DocumentTests(SynchronousTestCase):
    """Documents of origins and realms."""

    def assertCheap(self, read: Callable[[bytes], Any], size: int, memory: int) -> None:
        """None of the worst documents costs more time, or more memory beside its own bytes."""
        for name, body in worst(size).items():
            self.assertLessEqual(len(body), size)
            with alone():
                tracemalloc.start()
                try:
                    begun = time.thread_time()
                    with contextlib.suppress(OriginLied):
                        read(body)
                    took = time.thread_time() - begun
                    _, peak = tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()
            self.assertLess(took, SECONDS, name)
            self.assertLess(peak, memory, f"{name}: {peak / MIB:.1f} MiB")

    def test_manifest(self) -> None:
        """Of the largest manifest that is taken, some six times its bytes, if a character of it is a large one."""
        self.assertCheap(lambda body: parse_manifest(body, OCI_MANIFEST), LIMIT, 6 * LIMIT + MIB)

    def test_token(self) -> None:
        """A realm's answer, which is read in the reactor's thread."""
        self.assertCheap(lambda body: parse_token(body, 0.0, "realm"), MIB, 7 * MIB)

    def test_most_values(self) -> None:
        """A million-entry manifest is refused before anything is made of it, and so is a token answer; what is as large
        as manifests become is not."""
        body = objects(b"{}", 10**6)
        answer = body[:MIB]
        for read in (lambda: parse_manifest(body, OCI_MANIFEST), lambda: parse_token(answer, 0.0, "realm")):
            tracemalloc.start()
            try:
                self.assertRaises(OriginLied, read)
                self.assertLess(tracemalloc.get_traced_memory()[1], MIB // 8)
            finally:
                tracemalloc.stop()
        platform = {"architecture": "arm64", "os": "linux", "os.version": "1.2", "variant": "v8", "os.features": ["a"]}
        child = {
            "mediaType": OCI_MANIFEST,
            "size": 1234,
            "platform": platform,
            "annotations": {f"org.example.{number}": "value" for number in range(5)},
        }
        manifests = [{**child, "digest": f"sha256:{number:064x}"} for number in range(MOST_CHILDREN)]
        body = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
        self.assertLess(len(body), LIMIT)
        self.assertEqual(len(parse_manifest(body, None).children), MOST_CHILDREN)
