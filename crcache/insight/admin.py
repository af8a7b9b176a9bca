"""What the admin listener answers: health, readiness, metrics, status."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from crcache import events

log = Logger()

#: Seconds after which a readiness that has not answered counts as a no.
PATIENCE = 5.0

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"

_INDEX = """crcache

/healthz     200 while the reactor turns
/readyz      200 while the cache can serve, 503 with reasons otherwise
/metrics     for Prometheus
/api/status  what runs here, as JSON
"""


@dataclass(frozen=True)
class Page:
    """What a page says now."""

    body: bytes
    content_type: str = _TEXT
    status: int = 200


def root(
    collectors: CollectorRegistry,
    readiness: Callable[[], Deferred[list[str]]],
    status: Callable[[], Mapping[str, object]],
    clock: IReactorTime,
) -> Resource:
    """The resource tree of the admin listener.

    @param readiness: the reasons why the cache cannot serve; none if it can.
    @param status: what `/api/status` shows, as JSON can carry it.
    """

    async def index(request: IRequest) -> Page:
        return Page(_INDEX.encode())

    async def health(request: IRequest) -> Page:
        return Page(b"ok\n")

    async def ready(request: IRequest) -> Page:
        try:
            reasons = list(await readiness().addTimeout(PATIENCE, clock))
        except TimeoutError:
            reasons = [f"the cache directory did not answer within {PATIENCE:.0f} s"]
        body = {"ready": not reasons, "reasons": reasons}
        return Page(_dump(body), _JSON, 503 if reasons else 200)

    async def metrics(request: IRequest) -> Page:
        accept = request.requestHeaders.getRawHeaders(b"Accept", [])
        encode, content_type = choose_encoder(b",".join(accept).decode("latin-1"))
        return Page(encode(collectors), content_type)

    async def show_status(request: IRequest) -> Page:
        return Page(_dump(status()), _JSON)

    tree = _Page(None)
    api = _Page(None)
    tree.putChild(b"", _Page(index))
    tree.putChild(b"healthz", _Page(health))
    tree.putChild(b"readyz", _Page(ready))
    tree.putChild(b"metrics", _Page(metrics))
    tree.putChild(b"api", api)
    api.putChild(b"status", _Page(show_status))
    return tree


class _Page(Resource):
    """A page that a coroutine function composes for each request; without one, and below, there is nothing."""

    def __init__(self, compose: Callable[[IRequest], Awaitable[Page]] | None) -> None:
        super().__init__()
        self._compose = compose

    def getChild(self, path: bytes, request: IRequest) -> Resource:
        return _Page(None)

    def render(self, request: IRequest) -> int:
        present = [request]
        cast(Request, request).notifyFinish().addErrback(lambda _: present.clear())
        answering = Deferred.fromCoroutine(self._answer(request, present))
        answering.addErrback(_cancelled)
        return NOT_DONE_YET

    async def _answer(self, request: IRequest, present: Sequence[IRequest]) -> None:
        page = Page(b"internal error; the log has it\n", status=500)
        try:
            page = await self._page(request)
        except CancelledError:
            raise
        except Exception:
            log.failure("the admin listener failed", Failure(), event=events.INTERNAL_ERROR)
        finally:
            if present:
                _write(request, page)

    async def _page(self, request: IRequest) -> Page:
        if request.method not in (b"GET", b"HEAD"):
            request.responseHeaders.setRawHeaders(b"Allow", [b"GET, HEAD"])
            return Page(b"use GET or HEAD\n", status=405)
        if self._compose is None:
            return Page(b"there is nothing here; / says what there is\n", status=404)
        return await self._compose(request)


def _write(request: IRequest, page: Page) -> None:
    request.setResponseCode(page.status, RESPONSES[page.status])
    headers = request.responseHeaders
    headers.setRawHeaders(b"Content-Type", [page.content_type.encode()])
    headers.setRawHeaders(b"Content-Length", [b"%d" % len(page.body)])
    headers.setRawHeaders(b"Cache-Control", [b"no-store"])
    if request.method != b"HEAD":
        request.write(page.body)
    request.finish()


def _cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)


def _dump(value: object) -> bytes:
    return json.dumps(value, indent=2, default=str).encode() + b"\n"
