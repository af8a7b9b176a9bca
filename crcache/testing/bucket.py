"""An S3 service over real sockets with one bucket in memory, which misbehaves as it is told.

It takes any signature: whether those are right, only a real service can say.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from twisted.web.server import Request

from crcache.testing.records import Record
from crcache.testing.registry import FakeRegistry, _Reply
from crcache.testing.script import Fault

_KINDS = (
    ("content", re.compile(r"/[^/]+/(?:.*/)?blobs/[^/]+/[^/]+")),
    ("given", re.compile(r"/[^/]+/(?:.*/)?openly/[^/]+/[^/]+")),
    ("tag", re.compile(r"/[^/]+/.*/_tags/[^/]+")),
    ("member", re.compile(r"/[^/]+/.*/_digests/[^/]+")),
    ("private", re.compile(r"/[^/]+/.*/_private")),
)


class FakeBucket(FakeRegistry):
    """Objects by name, in path style. Faults are given as to a L{FakeRegistry}; the kinds are C{content}, C{given},
    C{tag}, C{member}, C{private}, and C{other}.

    @ivar bucket: what it is called.
    @ivar objects: what is in it.
    @ivar uploads: multipart uploads that have been begun and not ended: their parts, by their ids.
    @ivar begun: of which object each is, and since when, in seconds since the epoch.
    @ivar conditional: whether it knows C{If-None-Match} of a PUT.
    """

    def __init__(self, bucket: str = "cache") -> None:
        super().__init__()
        self.bucket = bucket
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.begun: dict[str, tuple[str, float]] = {}
        self.conditional = True
        self._count_uploads = 0

    def keys(self, part: str) -> list[str]:
        """The names of objects with this in them."""
        return sorted(key for key in self.objects if part in key)

    def _route(self, path: str) -> tuple[str, dict[str, str]]:
        for kind, expression in _KINDS:
            if expression.fullmatch(path):
                return kind, {}
        return "other", {}

    def _reply(self, request: Request, record: Record, parts: dict[str, str], fault: Fault) -> Any:
        query = parse_qs(record.query, keep_blank_values=True)
        if "X-Amz-Signature" not in query:
            return _error(403, "AccessDenied")
        bucket, _, key = record.path.lstrip("/").partition("/")
        if bucket != self.bucket:
            return _error(404, "NoSuchBucket")
        method = record.method
        body = b"" if request.content is None else request.content.read()
        if "uploads" in query or "uploadId" in query:
            return self._multipart(method, key, query, request, body)
        if method in ("GET", "HEAD"):
            return self._ranged(request, self.objects.get(key), "NoSuchKey", fault)
        if method == "DELETE":
            self.objects.pop(key, None)
            return _Reply(204, b"")
        if not _sound(request, body):
            return _error(400, "BadDigest")
        if self.conditional and request.getHeader("if-none-match") == "*" and key in self.objects:
            return _error(412, "PreconditionFailed")
        self.objects[key] = body
        return _Reply(200, b"", {"ETag": _tag(body)})

    def _multipart(self, method: str, key: str, query: dict[str, list[str]], request: Request, body: bytes) -> _Reply:
        if "uploads" in query and method == "GET":
            return self._listed(query["prefix"][0])
        if "uploads" in query:
            self.begun[f"upload-{self._count_uploads + 1}"] = key, time.time()
            self._count_uploads += 1
            upload = f"upload-{self._count_uploads}"
            self.uploads[upload] = {}
            return _Reply(200, f"<Upload><UploadId>{upload}</UploadId></Upload>".encode())
        parts = self.uploads.get(query["uploadId"][0])
        if parts is None:
            return _error(404, "NoSuchUpload")
        if method == "DELETE":
            del self.uploads[query["uploadId"][0]]
            return _Reply(204, b"")
        if method == "PUT":
            if not _sound(request, body):
                return _error(400, "BadDigest")
            parts[int(query["partNumber"][0])] = body
            return _Reply(200, b"", {"ETag": _tag(body)})
        tags = re.findall(rb"<ETag>&quot;([0-9a-f]+)&quot;</ETag>", body)
        if [_tag(parts[number]) for number in sorted(parts)] != [f'"{tag.decode()}"' for tag in tags]:
            return _error(400, "InvalidPart")
        self.objects[key] = b"".join(parts[number] for number in sorted(parts))
        del self.uploads[query["uploadId"][0]]
        return _Reply(200, b"<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")

    def _listed(self, prefix: str) -> _Reply:
        found = "".join(
            f"<Upload><Key>{key}</Key><UploadId>{upload}</UploadId>"
            f"<Initiated>{datetime.fromtimestamp(when, UTC).isoformat()}</Initiated></Upload>"
            for upload, (key, when) in self.begun.items()
            if upload in self.uploads and key.startswith(prefix)
        )
        return _Reply(200, f"<ListMultipartUploadsResult>{found}</ListMultipartUploadsResult>".encode())

    def _ranged(self, request: Request, data: bytes | None, code: str, fault: Fault) -> _Reply:
        return _error(404, code) if data is None else super()._ranged(request, data, code, fault)


def _sound(request: Request, body: bytes) -> bool:
    said = request.getHeader("content-md5")
    return said is None or said == base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _error(status: int, code: str) -> _Reply:
    return _Reply(status, f"<Error><Code>{code}</Code></Error>".encode(), {"Content-Type": "application/xml"})
