"""Content on its way into the bucket: in one piece, or in parts, and never other bytes than its name says."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from threading import Event
from typing import BinaryIO

from crcache.grammar.digest import Digest
from crcache.tier.bucket import PATIENCE, Bucket, Reply
from crcache.tier.bytes import FilePart
from crcache.tier.problems import Elsewhere, Failed, Wrong
from crcache.workers import Workers

#: Bytes from which on content goes in parts, and those of each.
LARGE = 64 << 20
PART = 32 << 20
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_MOST_PARTS = 10_000
#: Bytes a second: what takes longer is given up, and tried again later.
_SLOWEST = 64 << 10
_PIECE = 1 << 20
#: Seconds for calling an upload off: whoever stops is waited for.
_GOODBYE = 2.0
_UPLOAD = re.compile(rb"<UploadId>([^<]{1,1024})</UploadId>")
_BEGUN = re.compile(rb"<Upload>(.{1,4096}?)</Upload>", re.DOTALL)
_FIELD = re.compile(rb"<(Key|UploadId|Initiated)>([^<]{1,1024})</")
#: Seconds after which an upload that somebody else has begun is not waited for.
_ABANDONED = 3600.0
_DONE = b"<CompleteMultipartUploadResult"


class Sending:
    """Uploads files.

    The bytes are hashed first, and each piece is sent with its MD5, which the service checks: what somebody changes in
    between is refused there.
    """

    def __init__(self, bucket: Bucket, workers: Workers, large: int = LARGE, part: int = PART) -> None:
        """
        @param workers: threads that read and hash.
        """
        self._bucket = bucket
        self._workers = workers
        self._large = large
        self._part = part

    async def put(
        self,
        key: str,
        file: BinaryIO,
        digest: Digest,
        began: Callable[[str], Awaitable[None]],
        *,
        over: bool = False,
    ) -> int | None:
        """Upload a whole file.

        @param began: told of a multipart upload that somebody will have to abort if this does not end; and of C{""}.
        @param over: replace what is there.
        @return: how many bytes; C{None} if somebody else was faster.
        @raise Elsewhere: if somebody else has begun to upload it in parts.
        @raise Wrong: if the file is not what its name says; nothing is there then.
        @raise Failed: if the bucket does not take it.
        """
        size = (await self._workers.run(os.fstat, file.fileno())).st_size
        part = size if size < self._large else max(self._part, -(-size // _MOST_PARTS))
        stop = Event()
        try:
            sums = await self._workers.run(_sums, file, digest, max(part, 1), stop)
        finally:
            # Nobody waits for a thread that hashes what nobody wants any more.
            stop.set()
        if sums is None:
            raise Wrong("holds other bytes than its name says")
        if size < self._large:
            return await self._whole(key, file, size, sums[0], over)
        return await self._parts(key, file, size, part, sums, began, over)

    async def _whole(self, key: str, file: BinaryIO, size: int, md5: str, over: bool) -> int | None:
        headers = {"Content-MD5": md5, **({} if over else {"If-None-Match": "*"})}
        reply = await self._send("PUT", key, file, 0, size, headers)
        if reply.status == 501 and not over:
            # Who does not know the condition has been asked with a HEAD.
            return await self._whole(key, file, size, md5, True)
        if reply.status in (409, 412) and not over:
            return None
        if not self._bucket.judge(reply):
            raise self._bucket.failure(reply)
        return size

    async def _parts(
        self,
        key: str,
        file: BinaryIO,
        size: int,
        part: int,
        sums: list[str],
        began: Callable[[str], Awaitable[None]],
        over: bool,
    ) -> int | None:
        begun = await self._bucket.reply("POST", key, parameters=[("uploads", "")], seconds=PATIENCE)
        found = _UPLOAD.search(begun.body)
        if not self._bucket.judge(begun) or found is None:
            raise self._bucket.failure(begun)
        upload = found[1].decode("latin-1")
        await began(upload)
        done = False
        try:
            if not over and not await self._first(key, upload):
                raise Elsewhere
            # Behind that: whoever is not among them any more may have come to an end while this was hashed.
            if not over and await self._there(key):
                return None
            tags: list[str] = []
            for number, md5 in enumerate(sums):
                start = number * part
                where = [("partNumber", str(number + 1)), ("uploadId", upload)]
                reply = await self._send(
                    "PUT", key, file, start, min(part, size - start), {"Content-MD5": md5}, parameters=where
                )
                (tag,) = reply.headers.getRawHeaders(b"ETag", [b""])[:1] or [b""]
                if not self._bucket.judge(reply) or not tag:
                    raise self._bucket.failure(reply)
                tags.append(tag.decode("latin-1"))
            body = _complete(tags)
            # The answer may begin at once, and say later that it has failed.
            reply = await self._bucket.reply(
                "POST", key, parameters=[("uploadId", upload)], data=body, seconds=5 * PATIENCE
            )
            if not self._bucket.judge(reply) or _DONE not in reply.body:
                raise self._bucket.failure(reply)
            done = True
        finally:
            if not done and await self.abort(key, upload):
                await began("")
        await began("")
        return size

    async def _first(self, key: str, upload: str) -> bool:
        """Whether nobody has begun to upload it before, as far as the service tells: of many one goes on.

        What was begun long before has been left by somebody who died.
        """
        try:
            reply = await self._bucket.reply("GET", "", parameters=[("prefix", key), ("uploads", "")], seconds=PATIENCE)
        except (Failed, Wrong):
            return True
        found: dict[str, float] = {}
        for text in _BEGUN.findall(reply.body):
            said = dict(_FIELD.findall(text))
            if said.get(b"Key") == key.encode() and b"UploadId" in said:
                found[said[b"UploadId"].decode("latin-1")] = _time(said.get(b"Initiated", b""))
        own = found.get(upload)
        if own is None:
            return True
        _, first = min((when, each) for each, when in found.items() if own - when < _ABANDONED)
        return first == upload

    async def _there(self, key: str) -> bool:
        return (await self._bucket.reply("HEAD", key, seconds=PATIENCE)).status == 200

    async def abort(self, key: str, upload: str) -> bool:
        """End a multipart upload that came to nothing, so that nobody pays for its parts; whether that was heard.
        Idempotent."""
        try:
            await self._bucket.reply("DELETE", key, parameters=[("uploadId", upload)], seconds=_GOODBYE)
        except (Failed, Wrong):
            # The next one who works at it does, or a lifecycle rule some day.
            return False
        return True

    async def _send(
        self,
        method: str,
        key: str,
        file: BinaryIO,
        offset: int,
        length: int,
        headers: dict[str, str],
        parameters: list[tuple[str, str]] | None = None,
    ) -> Reply:
        body = FilePart(file, offset, length, self._workers)
        return await self._bucket.reply(
            method,
            key,
            headers=headers,
            parameters=parameters or [],
            body=body,
            seconds=PATIENCE + length / _SLOWEST,
        )


def _sums(file: BinaryIO, digest: Digest, part: int, stop: Event) -> list[str] | None:
    """The MD5 of each part, as headers carry it; C{None} if the digest says otherwise of the whole, or when stopped."""
    whole, sums = digest.hasher(), []
    piece = hashlib.md5(usedforsecurity=False)
    at = filled = 0
    buffer = memoryview(bytearray(min(_PIECE, part)))
    while count := 0 if stop.is_set() else os.preadv(file.fileno(), [buffer[: min(len(buffer), part - filled)]], at):
        whole.update(buffer[:count])
        piece.update(buffer[:count])
        at += count
        filled += count
        if filled == part:
            sums.append(base64.b64encode(piece.digest()).decode())
            piece, filled = hashlib.md5(usedforsecurity=False), 0
    if filled or not sums:
        sums.append(base64.b64encode(piece.digest()).decode())
    return sums if whole.hexdigest() == digest.hex else None


def _time(text: bytes) -> float:
    """In seconds since the epoch; 0 if it is none."""
    try:
        return datetime.fromisoformat(text.decode("ascii")).timestamp()
    except ValueError:
        return 0.0


def _complete(tags: list[str]) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{_escaped(tag)}</ETag></Part>"
        for number, tag in enumerate(tags, 1)
    )
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode("latin-1")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
