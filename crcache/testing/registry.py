"""A registry over real sockets that holds what it is given, and misbehaves as it is told."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from crcache.testing.auth import Auth, Open, Tokens
from crcache.testing.content import Content, Image
from crcache.testing.listener import Listener
from crcache.testing.records import Record
from crcache.testing.script import Fault, Rule, Script
from crcache.testing.sending import BodySender

_ROUTES = (
    ("ping", re.compile("/v2/?")),
    ("manifest", re.compile("/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")),
    ("blob", re.compile("/v2/(?P<name>.+)/blobs/(?P<reference>[^/]+)")),
    ("tags", re.compile("/v2/(?P<name>.+)/tags/list")),
    ("referrers", re.compile("/v2/(?P<name>.+)/referrers/(?P<reference>[^/]+)")),
    ("token", re.compile("/token")),
    ("cdn", re.compile("/cdn/(?P<reference>[^/]+)")),
)
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class _Reply:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def _error(status: int, code: str) -> _Reply:
    body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
    return _Reply(status, body, {"Content-Type": "application/json"})


class FakeRegistry(Resource):
    """The pull half of the distribution API, on C{127.0.0.1}.

    C{/cdn/<digest>} gives any blob, unasked for credentials: let another instance with the same content be the place
    that blobs are redirected to.

    @ivar content: what it holds; may be shared and changed.
    @ivar auth: L{Open<crcache.testing.auth.Open>}, L{Basic<crcache.testing.auth.Basic>} or
        L{Tokens<crcache.testing.auth.Tokens>}.
    @ivar requests: every request so far, in order.
    @ivar running: answers that are under way now, by kind; C{peak}: the most there have been at once.
    @ivar url: the base URL once it has been started.
    """

    isLeaf = True

    def __init__(self, content: Content | None = None, auth: Auth | None = None) -> None:
        super().__init__()
        self.content = Content() if content is None else content
        self.auth: Auth = Open() if auth is None else auth
        self.script = Script()
        self.requests: list[Record] = []
        self.running: dict[str, int] = {}
        self.peak: dict[str, int] = {}
        self.url = ""
        self.listener: Listener | None = None
        self._reactor: Any = None

    # Set up

    def start(self, reactor: Any, tls: Any = None, port: int = 0) -> str:
        """Listen, and return the URL (without a trailing slash).

        @param tls: C{None}, or a context factory for HTTPS, as L{crcache.testing.certificates} makes.
        """
        self._reactor = reactor
        self.listener = Listener(reactor, self, tls, port)
        self.url = self.listener.url
        return self.url

    def stop(self) -> Deferred[None]:
        """Stop listening, abort all connections, forget all faults."""
        if self.listener is None:
            raise RuntimeError("start the registry before stopping it")
        listener, self.listener = self.listener, None
        stopped = listener.stop()
        self.script.clear()
        return stopped

    def add_image(
        self, name: str, tag: str | None = None, layers: Sequence[int | bytes] = (1000, 2000), seed: int = 0
    ) -> Image:
        """As L{Content.add_image}."""
        return self.content.add_image(name, tag, layers, seed)

    def fault(
        self,
        fault: Fault,
        kind: str | None = None,
        *,
        path: str | None = None,
        method: str | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> Rule:
        """Misbehave at requests that match (see L{Rule}): the next one only, unless C{times} says otherwise."""
        return self.script.add(Rule(fault, kind, path, method, times, skip))

    def asked(self, kind: str | None = None, method: str | None = None) -> list[Record]:
        """The requests so far of that kind and method."""
        return [record for record in self.requests if kind in (None, record.kind) and method in (None, record.method)]

    # Requests

    def render(self, request: Request) -> int:
        """Record the request, and answer it as the script says."""
        path = unquote(request.path.decode("latin-1"))
        kind, parts = self._route(path)
        query = request.uri.decode("latin-1").partition("?")[2]
        record = Record(request.method.decode(), path, query, kind, request.requestHeaders.copy())
        self.requests.append(record)
        self._count(record, request)
        rule = self.script.match(kind, path, record.method)
        if rule.fault.hang_up:
            transport: Any = request.channel.transport
            transport.unregisterProducer()
            (transport.abortConnection if rule.fault.reset else transport.loseConnection)()
        elif rule.fault.hold:
            rule.wait(lambda: None if record.done else self._answer(request, record, parts, rule))
        else:
            self._answer(request, record, parts, rule)
        return NOT_DONE_YET

    def _route(self, path: str) -> tuple[str, dict[str, str]]:
        for kind, expression in _ROUTES:
            match = expression.fullmatch(path)
            if match is not None:
                return kind, match.groupdict()
        return "other", {}

    def _count(self, record: Record, request: Request) -> None:
        kind = record.kind
        self.running[kind] = self.running.get(kind, 0) + 1
        self.peak[kind] = max(self.peak.get(kind, 0), self.running[kind])

        def ended(_: object) -> None:
            record.done = True
            self.running[kind] -= 1

        request.notifyFinish().addBoth(ended)

    def _answer(self, request: Request, record: Record, parts: dict[str, str], rule: Rule) -> None:
        fault = rule.fault
        if fault.redirect is not None:
            location = fault.redirect.format(path=record.path, digest=parts.get("reference", ""))
            reply = _Reply(fault.status or 307, b"", {"Location": location})
        elif fault.status is not None:
            reply = _Reply(fault.status, b"")
        else:
            reply = self._reply(request, record, parts, fault)
        if fault.body is not None:
            reply.body = fault.body
        if fault.wrong:
            reply.body = bytes(byte ^ 0x55 for byte in reply.body[:64]) + reply.body[64:]
        reply.body += fault.extra
        if fault.gzip:
            reply.body = gzip.compress(reply.body, 1)
            reply.headers["Content-Encoding"] = "gzip"
        if fault.undigested:
            reply.headers.pop("Docker-Content-Digest", None)
        self._send(request, record, reply, rule)

    def _send(self, request: Request, record: Record, reply: _Reply, rule: Rule) -> None:
        fault = rule.fault
        record.status = reply.status
        request.setResponseCode(reply.status)
        for name, value in (*reply.headers.items(), *fault.headers):
            if value is None:
                request.responseHeaders.removeHeader(name)
            else:
                request.setHeader(name, value)
        close = fault.claim is not None
        if fault.unsized == "close":
            # twisted.web would send chunks to a client of HTTP/1.1.
            request.clientproto = b"HTTP/1.0"
            close = True
        elif fault.unsized is None:
            request.setHeader("Content-Length", str(len(reply.body) if fault.claim is None else fault.claim))
        if record.method == "HEAD":
            request.finish()
        else:
            BodySender(self._reactor, request, record, reply.body, rule, close).start()

    # Answers as they should be

    def _reply(self, request: Request, record: Record, parts: dict[str, str], fault: Fault) -> _Reply:
        name, reference = parts.get("name"), parts.get("reference", "")
        if record.kind == "token" and isinstance(self.auth, Tokens):
            status, body = self.auth.answer(request)
            return _Reply(status, body, {"Content-Type": "application/json"})
        if record.kind == "cdn":
            return self._ranged(request, self.content.blobs.get(reference), "BLOB_UNKNOWN", fault)
        if record.kind in ("token", "other"):
            return _error(404, "NAME_UNKNOWN")
        challenge = self.auth.challenge(request.getHeader("authorization"), name, self.url)
        if challenge is not None:
            reply = _error(401, "UNAUTHORIZED")
            reply.headers["WWW-Authenticate"] = challenge
            return reply
        if name is None:
            return _Reply(200, b"{}", {"Docker-Distribution-Api-Version": "registry/2.0"})
        return self._of_repository(request, record, name, reference, fault)

    def _of_repository(self, request: Request, record: Record, name: str, reference: str, fault: Fault) -> _Reply:
        if record.kind == "blob":
            reply = self._ranged(request, self.content.blob(name, reference), "BLOB_UNKNOWN", fault)
            reply.headers["Docker-Content-Digest"] = reference
            return reply
        if record.kind == "manifest":
            found = self.content.manifest(name, reference)
            if found is None:
                return _error(404, "MANIFEST_UNKNOWN")
            digest, media_type, data = found
            return _Reply(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest})
        if record.kind == "referrers":
            body = self.content.referrers(name, reference)
            return _Reply(200, body, {"Content-Type": "application/vnd.oci.image.index.v1+json"})
        return self._tags(name, record.query)

    def _tags(self, name: str, query: str) -> _Reply:
        if name not in self.content.tags:
            return _error(404, "NAME_UNKNOWN")
        values = parse_qs(query)
        last = values.get("last", [""])[0]
        tags = sorted(tag for tag in self.content.tags[name] if tag > last)
        headers = {"Content-Type": "application/json"}
        count = values.get("n", [""])[0]
        if count.isdigit() and len(tags) > int(count):
            tags = tags[: int(count)]
            headers["Link"] = f'</v2/{name}/tags/list?n={count}&last={tags[-1] if tags else last}>; rel="next"'
        return _Reply(200, json.dumps({"name": name, "tags": tags}).encode(), headers)

    def _ranged(self, request: Request, data: bytes | None, code: str, fault: Fault) -> _Reply:
        if data is None:
            return _error(404, code)
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        match = None if fault.ignore_range else _RANGE.fullmatch(request.getHeader("range") or "")
        if match is None:
            return _Reply(200, data, headers)
        start, stop = int(match[1]), min(int(match[2]) + 1 if match[2] else len(data), len(data))
        if start >= len(data):
            reply = _error(416, "RANGE_INVALID")
            reply.headers["Content-Range"] = f"bytes */{len(data)}"
            return reply
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return _Reply(206, data[start:stop], headers)
