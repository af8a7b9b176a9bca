"""A client of a chaos run: pulls images as containerd does, believes nothing, and puts up with very little."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from crcache.testing.content import Image
from tests.chaos.images import NAME, Wanted

#: Bytes at a body's end that crcache withholds until all are verified: what is no larger is never cut for a lie.
WITHHELD = 64 << 10
#: What containerd puts up with: resumptions of a body in a row that brought nothing.
RESUMPTIONS = 3
#: How often a body is begun anew of which the registry lied when some of it had left already.
ANEW = 3
#: Seconds without a byte after which a client has had enough.
PATIENCE = 30.0
#: Seconds that a lie may have been under way before a client joined those who heard it.
_LINGERS = 15.0
#: What a failure is called if an answer that looked whole had wrong bytes.
WRONG = "wrong bytes"
_PIECE = 64 << 10
_ACCEPT = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "*/*",
    )
)


class World(Protocol):
    """What a client can be told of what has been done on purpose."""

    def killed(self, since: float) -> bool:
        """Whether the daemon was killed after that time of the monotonic clock."""
        ...

    def lied(self, reference: str, since: float) -> bool:
        """Whether the registry has lied about this reference after that time of the monotonic clock."""
        ...


class Trouble(Exception):
    """A request that must not have gone as it did.

    @ivar kind: in a word or two, to be counted: a status, or L{WRONG}, for one.
    @ivar ids: the ids of the requests that it took, the last one last.
    """

    def __init__(self, kind: str, what: str, ids: tuple[str, ...]) -> None:
        super().__init__(what)
        self.kind = kind
        self.ids = ids


@dataclass
class Tally:
    """What all clients have done so far.

    @ivar failed: pulls that failed, as (image, time of day, why).
    """

    counts: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[Wanted, float, Trouble]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        """Count."""
        with self.lock:
            self.counts.update(counts)


@dataclass
class Body:
    """What has come of one body, in however many answers.

    @ivar since: when it was begun, of the monotonic clock.
    @ivar asked: when it was asked for last.
    """

    since: float
    asked: float = 0.0
    data: bytearray = field(default_factory=bytearray)
    ids: tuple[str, ...] = ()
    answers: int = 0


class Cut(Exception):
    """An answer that ended before its time."""


class Puller:
    """One client, with one connection that it keeps. Retries nothing.

    Like Go's client it puts a request once more if a connection that had been used before brings no answer at all.
    Like containerd it asks for the rest of a body that was cut, but only if the daemon was killed meanwhile. What was
    cut although it was not must have been a lie of the registry, of which some had left before it came out.
    """

    def __init__(self, name: str, port: int, world: World, tally: Tally) -> None:
        """
        @param name: what its requests' ids begin with.
        @param port: of 127.0.0.1, where crcache is.
        """
        self._name = name
        self._port = port
        self._world = world
        self._tally = tally
        self._numbers = itertools.count(1)
        self._connection: http.client.HTTPConnection | None = None

    def pull(self, wanted: Wanted, head: bool) -> None:
        """Pull an image; a failure is put into the tally.

        @param head: whether its tag is looked up with HEAD, as containerd does, or with GET.
        """
        try:
            self._pull(wanted.image, wanted.tag, head)
        except Trouble as trouble:
            with self._tally.lock:
                self._tally.failed.append((wanted, time.time(), trouble))
            self.close()
        self._tally.add(pulls=1)

    def close(self) -> None:
        """Close its connection. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _pull(self, image: Image, tag: str, head: bool) -> None:
        self._tag(image, tag, head)
        manifest = json.loads(self._content(image, "manifests", image.digest, len(image.manifest)))
        for descriptor in (manifest["config"], *manifest["layers"]):
            self._content(image, "blobs", descriptor["digest"], descriptor["size"])

    def _tag(self, image: Image, tag: str, head: bool) -> None:
        if not head:
            self._content(image, "manifests", tag, len(image.manifest), image.digest)
            return
        body = Body(time.monotonic())
        target = _target(image, "manifests", tag)
        while True:
            try:
                answer = self._ask(body, "HEAD", target)
                break
            except Cut as problem:
                self._excuse(body, target, problem)
        answer.read()
        found = answer.headers["Docker-Content-Digest"], answer.headers["Content-Length"]
        if found != (image.digest, str(len(image.manifest))):
            raise Trouble(WRONG, f"HEAD {target} answered {found}: {_said(answer)}", body.ids)

    def _content(self, image: Image, kind: str, reference: str, size: int, digest: str = "") -> bytes:
        """A body, verified.

        @param digest: what it must be, if that is not the reference.
        """
        target = _target(image, kind, reference)
        for _ in range(ANEW):
            body = Body(time.monotonic())
            try:
                self._fetch(body, target)
                problem = None
            except _Lied as lie:
                problem = lie
            if problem is None and _is(body.data, digest or reference):
                self._tally.add(bytes=len(body.data))
                return bytes(body.data)
            lied = self._world.lied(reference, body.since - _LINGERS)
            if problem is None and (body.answers == 1 or not lied):
                what = f"GET {target} answered {len(body.data)} wrong bytes in {body.answers} answers"
                raise Trouble(WRONG, what, body.ids)
            if not lied or size <= WITHHELD:
                why = "without a lie" if not lied else f"for a lie of which nothing had to leave (of {size} bytes)"
                raise Trouble(
                    "cut for a small lie" if lied else "cut",
                    f"GET {target} was cut {why}, after {len(body.data)} bytes: {problem}",
                    body.ids,
                )
            self._tally.add(anew=1)
        raise Trouble("lies", f"GET {target} was cut for a lie {ANEW} times", body.ids)

    def _fetch(self, body: Body, target: str) -> None:
        stuck = 0
        while True:
            before = len(body.data)
            try:
                self._read(body, self._ask(body, "GET", target))
                return
            except Cut as problem:
                stuck = stuck + 1 if len(body.data) == before else 0
                self._excuse(body, target, problem)
                if stuck > RESUMPTIONS:
                    raise Trouble(
                        "cut", f"GET {target}: {stuck} answers brought nothing: {problem}", body.ids
                    ) from None

    def _excuse(self, body: Body, target: str, problem: Cut) -> None:
        """An answer was cut: go on if the daemon was killed."""
        self.close()
        if not self._world.killed(body.asked):
            if body.answers:
                raise _Lied(str(problem))
            raise Trouble("no answer", f"{target}: no answer: {problem}", body.ids)
        self._tally.add(resumed=1)

    def _ask(self, body: Body, method: str, target: str) -> http.client.HTTPResponse:
        """The head of an answer that is as it should be.

        @raise Cut: if there was none.
        """
        request_id = f"{self._name}-{next(self._numbers)}"
        body.ids += (request_id,)
        body.asked = time.monotonic()
        self._tally.add(requests=1)
        headers = {"Accept": _ACCEPT, "X-Request-Id": request_id}
        if body.data:
            headers["Range"] = f"bytes={len(body.data)}-"
        answer = self._send(method, target, headers)
        content_range = answer.headers.get("Content-Range", "")
        good = answer.status == 200 and not content_range
        if body.data:
            good = answer.status == 206 and content_range.startswith(f"bytes {len(body.data)}-")
        if not good:
            error = b""
            with contextlib.suppress(OSError, http.client.HTTPException):
                error = answer.read(2000)
            asked = f"{method} {target} {headers.get('Range', '')}".strip()
            raise Trouble(f"{answer.status} to {method}", f"{asked}: {_said(answer)}: {error!r}", body.ids)
        return answer

    def _send(self, method: str, target: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        used = self._connection
        if used is not None:
            try:
                return _exchange(used, method, target, headers)
            except Cut:
                self.close()
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        return _exchange(self._connection, method, target, headers)

    def _read(self, body: Body, answer: http.client.HTTPResponse) -> None:
        """Take an answer's body.

        @raise Cut: if it is not all of it.
        """
        body.answers += 1
        wanted = answer.headers.get("Content-Length")
        stop = None if wanted is None else len(body.data) + int(wanted)
        try:
            while piece := answer.read1(_PIECE):
                body.data += piece
        except (OSError, http.client.HTTPException) as error:
            raise Cut(f"{type(error).__name__}: {error}") from None
        if stop is not None and len(body.data) < stop:
            raise Cut(f"its end came {stop - len(body.data)} bytes too soon")
        # Otherwise the connection could not be used again.
        answer.close()


class _Lied(Exception):
    """A body was cut, and not by a kill."""


def _exchange(
    connection: http.client.HTTPConnection, method: str, target: str, headers: dict[str, str]
) -> http.client.HTTPResponse:
    try:
        connection.request(method, target, headers=headers)
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise Cut(f"{type(error).__name__}: {error}") from None


def _target(image: Image, kind: str, reference: str) -> str:
    return f"/v2/{image.name}/{kind}/{reference}?ns={NAME}"


def _is(data: bytes | bytearray, digest: str) -> bool:
    return f"sha256:{hashlib.sha256(data).hexdigest()}" == digest


def _said(answer: http.client.HTTPResponse) -> str:
    names = ("Content-Type", "Content-Length", "Content-Range", "Cache-Status", "Docker-Content-Digest")
    lines = [f"{name}: {answer.headers[name]}" for name in names if name in answer.headers]
    return "; ".join([str(answer.status), *lines])
