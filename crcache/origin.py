"""Asking an origin: in crcache's own way first, then with what the client brought."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crcache.asks import Client
from crcache.errors import (
    Astray,
    BodyCut,
    OriginBusy,
    OriginError,
    OriginFailed,
    OriginLied,
    OriginTimeout,
    OriginUnreachable,
    RangeNotSatisfiable,
    Unauthorized,
)
from crcache.facts import Privacy, Query
from crcache.flow.answers import first, refusal
from crcache.flow.collect import dismiss
from crcache.grammar.reference import Registry, Repository
from crcache.interfaces import IAnswer, IUpstream
from crcache.privacies import Privacies

#: The origin says nothing, or nobody has asked it.
SILENT = (OriginUnreachable, OriginBusy, OriginTimeout)
#: The origin cannot be asked for now.
AWAY = (*SILENT, OriginFailed)
#: The origin could not do what it should have: what is cached may be served instead.
FAILING = (*AWAY, OriginLied, BodyCut, Astray)


@dataclass(frozen=True)
class Granted:
    """A 2xx.

    @ivar open: whether crcache's own way got it; otherwise only the client's `Authorization` did, so it is for that
        client alone.
    """

    answer: IAnswer
    open: bool


class Origin:
    """Turns what is not 2xx into errors."""

    def __init__(self, upstream: IUpstream, privacies: Privacies) -> None:
        """
        @param privacies: which repositories have refused crcache's own way; just now it is not tried again.
        """
        self._upstream = upstream
        self._privacies = privacies

    async def ask(self, query: Query, client: Client | None) -> Granted:
        """Ask in crcache's own way; if that is refused, with the client's own `Authorization`, if it brought one.

        @param query: one that has an C{authorization} is put with that alone, and what it gets is for that client.
        @param client: C{None}: crcache's own way only.
        @raise crcache.errors.RangeNotSatisfiable: if the range that was asked for begins past the end.
        @raise crcache.errors.OriginError: for whatever else is not 2xx, and as L{IUpstream.ask}.
        """
        own = query.authorization is None
        theirs = None if client is None else client.authorization
        kept = self._privacies.lately(query.registry, query.repository) if own else None
        if kept is not None and theirs is None:
            raise remembered_refusal(query.registry, query.repository, kept)
        answer = None if kept is not None else await self._upstream.ask(query)
        if own and theirs is not None and (answer is None or answer.status in (401, 403)):
            if answer is not None:
                dismiss(answer, head=query.method == "HEAD")
            answer = await self._upstream.ask(replace(query, authorization=theirs))
            own = False
        assert answer is not None
        if not 200 <= answer.status < 300:
            try:
                problem = _beyond(answer) if answer.status == 416 and query.span is not None else refusal(answer, query)
            except BaseException:
                answer.abort()
                raise
            dismiss(answer, head=query.method == "HEAD")
            if isinstance(problem, OriginError):
                problem.settled = not own
            raise problem
        return Granted(answer, own)

    def check(self, query: Query) -> None:
        """Go no further if the repository has refused crcache's own way just now.

        @raise Unauthorized: with its challenge.
        """
        privacy = self._privacies.lately(query.registry, query.repository)
        if privacy is not None:
            raise remembered_refusal(query.registry, query.repository, privacy)


def remembered_refusal(registry: Registry, repository: Repository, privacy: Privacy) -> Unauthorized:
    """What clients are told of a refusal that has been kept."""
    return Unauthorized(
        f"{registry} asks for credentials for {repository}",
        headers=[("WWW-Authenticate", line) for line in privacy.challenges],
    )


def _beyond(answer: IAnswer) -> RangeNotSatisfiable:
    """The client's own range is at fault, and C{Content-Range} tells it the size."""
    line = first(answer, "Content-Range")
    return RangeNotSatisfiable(
        "Ask for a range that begins before the blob's end.", headers=() if line is None else [("Content-Range", line)]
    )
