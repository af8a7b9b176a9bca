"""One bucket: signed questions over crcache's own connections, each with its time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer

from crcache import __version__
from crcache.errors import CrcacheError
from crcache.grammar.reference import DOCKER_IO
from crcache.settings import RegistrySettings, S3Settings, UpstreamSettings
from crcache.tier.bytes import Bytes
from crcache.tier.problems import Failed, Wrong
from crcache.tier.signing import Signer
from crcache.upstream.deadline import within
from crcache.upstream.exchange import Exchange, Exchanger
from crcache.upstream.reading import read
from crcache.workers import Workers

#: Seconds for what nobody waits for: what is uploaded is told to be there.
PATIENCE = 60.0
_SMALL = 64 << 10
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
#: What the service says of objects that it does not have, and of whoever may not know whether it has.
_MISSING = frozenset({"NoSuchKey", "NoSuchVersion", "AccessDenied"})
_STORED = "InvalidObjectState"
#: What says nothing of anybody's keys or rights, but of this one upload.
_PASSING = frozenset(
    {"NoSuchUpload", "BadDigest", "InvalidPart", "InvalidPartOrder", "IncompleteBody", "RequestTimeout"}
)


@dataclass(frozen=True)
class Reply:
    """An answer that has been read.

    @ivar code: what the service calls its error; empty if it is none, or has no name.
    """

    status: int
    headers: Headers
    body: bytes
    code: str = ""

    @classmethod
    def of(cls, exchange: Exchange, body: bytes) -> Reply:
        """Of an answer whose body has been read."""
        named = _CODE.search(body) if exchange.status >= 300 else None
        return cls(exchange.status, exchange.headers, body, "" if named is None else named[1].decode())


class Bucket:
    """Asks, and says in one kind of error what is wrong. It neither repeats nor remembers anything.

    @ivar name: where it is, for people.
    @ivar settings: what was configured.
    """

    def __init__(
        self,
        reactor: Any,
        settings: S3Settings,
        upstream: UpstreamSettings,
        environ: Mapping[str, str],
        signing: Workers,
        signer: Signer | None = None,
    ) -> None:
        """
        @param signing: threads that sign.
        @raise crcache.errors.ConfigError: if a proxy is not one.
        """
        parts = urlsplit(settings.endpoint)
        base = settings.endpoint if settings.path_style else f"{parts.scheme}://{settings.bucket}.{parts.netloc}"
        self.settings = settings
        self.name = f"the bucket {settings.bucket} at {parts.netloc}"
        self._root = f"{base}/{settings.bucket}/" if settings.path_style else f"{base}/"
        # Named by the administrator, it may be at any address.
        self._place = RegistrySettings(DOCKER_IO, (base,), ca=settings.ca)
        connecting = UpstreamSettings(
            connect_timeout=max(settings.timeout, 1.0),
            max_connections=upstream.max_connections,
            proxy=upstream.proxy,
        )
        self._clock = reactor
        self._exchanger = Exchanger(reactor, reactor, connecting, environ)
        self._signing = signing
        self._asking: set[Deferred[Exchange]] = set()
        self._closed = False
        self._signer = Signer(settings.region) if signer is None else signer

    async def ask(
        self,
        method: str,
        key: str,
        *,
        headers: Mapping[str, str] | None = None,
        parameters: Sequence[tuple[str, str]] = (),
        body: IBodyProducer | None = None,
        seconds: float | None = None,
    ) -> Exchange:
        """The head of an answer, whatever its status.

        @param key: the object's; empty: the bucket's own.
        @param seconds: in which it has to begin; C{None}: those that are configured.
        @raise Failed: if there is none.
        """
        seconds = self.settings.timeout if seconds is None else seconds
        if self._closed:
            raise Failed(f"{self.name} is not asked any more")
        asking = Deferred.fromCoroutine(self._ask(method, key, headers or {}, parameters, body))
        self._asking.add(asking)

        def late() -> Exception:
            return Failed(f"{self.name} did not answer within {seconds:g} s", silent=True)

        try:
            return await within(asking, seconds, self._clock, late)
        except CancelledError:
            if self._closed:
                raise Failed(f"{self.name} is not asked any more") from None
            raise
        except Failed:
            raise
        except CrcacheError as problem:
            raise Failed(f"{self.name}: {problem.message}") from None
        finally:
            self._asking.discard(asking)

    async def _ask(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        parameters: Sequence[tuple[str, str]],
        body: IBodyProducer | None,
    ) -> Exchange:
        url = self._root + quote(key, safe="/")
        if parameters:
            url += "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in parameters)
        signed = await self._signing.run(self._signer.sign, method, url, headers)
        lines = Headers({name: [value] for name, value in headers.items()})
        lines.setRawHeaders("User-Agent", [f"crcache/{__version__}"])
        lines.setRawHeaders("Accept-Encoding", ["identity"])
        return await self._exchanger.exchange(method, signed, lines, self._place, body)

    async def reply(
        self,
        method: str,
        key: str,
        *,
        headers: Mapping[str, str] | None = None,
        parameters: Sequence[tuple[str, str]] = (),
        data: bytes | None = None,
        body: IBodyProducer | None = None,
        seconds: float | None = None,
        limit: int = _SMALL,
    ) -> Reply:
        """A whole answer, whatever its status.

        @param data: a small body.
        @param limit: how long the answer may be, in bytes.
        @raise Failed: if there is none, or it breaks off.
        @raise Wrong: if it is too long.
        """
        body = Bytes(data) if data is not None else body
        exchange = await self.ask(method, key, headers=headers, parameters=parameters, body=body, seconds=seconds)
        if method == "HEAD":
            limit = 0
        length = exchange.response.length
        sized = length is not UNKNOWN_LENGTH
        if method != "HEAD" and sized and length > limit:
            exchange.lease.abort()
            raise Wrong(f"has {length} bytes, where at most {limit} are taken")
        seconds = self.settings.timeout if seconds is None else seconds

        def late() -> Exception:
            return Failed(f"{self.name} did not send its answer within {seconds:g} s", silent=True)

        found = await within(read(exchange, limit), seconds, self._clock, late)
        if found is None and not sized:
            raise Wrong(f"has more than {limit} bytes, or no end")
        if found is None:
            raise Failed(f"{self.name} broke its answer off")
        return Reply.of(exchange, found)

    def judge(self, reply: Reply) -> bool:
        """Whether an answer has what was asked for; otherwise it is not there.

        @raise Failed: if the answer is neither.
        """
        if 200 <= reply.status < 300:
            return True
        code = reply.code
        if reply.status in (404, 403) and (code in _MISSING or not code):
            return False
        if code == _STORED:
            # Moved to where reading it takes hours.
            return False
        raise self.failure(reply)

    def failure(self, reply: Reply) -> Failed:
        """What an answer that is no success says."""
        told = f"{self.name} answered {reply.status}" + (f" {reply.code}" if reply.code else "")
        refused = reply.status in (301, 307, 400, 401, 403, 404, 405) and reply.code not in _PASSING
        hint = "; check the keys, their rights, region and the bucket's name" if refused else ""
        return Failed(told + hint, refused=refused, status=reply.status)

    def close(self) -> Deferred[None]:
        """Abort all connections, and ask nothing more. Fires when the last is gone."""
        self._closed = True
        for asking in list(self._asking):
            asking.cancel()
        return self._exchanger.close()

    def retire(self) -> Deferred[None]:
        """Keep no connection that is idle; what is being sent goes on. Fires when the last is gone."""
        self._exchanger.retire()
        return self._exchanger.gone()
