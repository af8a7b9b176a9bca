"""Manifests as origins give them: verified, and written down with what they say of their repository."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from crcache import events
from crcache.asks import Client
from crcache.errors import BodyCut, CrcacheError, OriginLied, OriginRefused, OriginTimeout, StoreError
from crcache.facts import Fetched, Membership, Query, TagEntry
from crcache.flow.answers import first
from crcache.flow.collect import collect, dismiss
from crcache.grammar.digest import Digest
from crcache.grammar.length import parse_length
from crcache.grammar.manifest import KNOWN, LIMIT, Descriptor, parse_manifest
from crcache.grammar.reference import Registry, Tag
from crcache.interfaces import IAnswer, IStore
from crcache.origin import Granted, Origin
from crcache.outcomes import CacheStatus, Manifest
from crcache.privacies import Privacies
from crcache.sources import IAged
from crcache.telling import cache_failed
from crcache.workers import Workers

log = Logger()

T = TypeVar("T")

#: Seconds for all the questions and bodies that a manifest takes, if nothing else is said.
PATIENCE = 30.0
#: So often a manifest is asked for whose body breaks off, as long as others may wait for a body.
_TRIES = 5

#: A manifest's digest, media type and children.
_Examined = tuple[Digest, str, tuple[Descriptor, ...]]


class Provenance:
    """Asks an origin for manifests, and notes in whose way it got them: its own, or with a client's credentials."""

    def __init__(
        self,
        store: IStore,
        origin: Origin,
        privacies: Privacies,
        parsing: Workers,
        clock: Callable[[], float],
        keep: bool,
        timer: IReactorTime | None = None,
        urls: Callable[[Registry], int] = lambda _: 1,
        patience: float = PATIENCE,
    ) -> None:
        """
        @param parsing: threads that hash and parse: a manifest may have megabytes.
        @param clock: the time of day, in seconds since the epoch.
        @param keep: whether manifests are kept at all; what they name is noted in any case.
        @param timer: for the time that a manifest may take to come; C{None}: as long as it comes at all.
        @param urls: how many URLs a registry has.
        @param patience: seconds that it may take, however often it is asked for.
        """
        self._store = store
        self._origin = origin
        self._privacies = privacies
        self._parsing = parsing
        self._clock = clock
        self._keep = keep
        self._timer = timer
        self._urls = urls
        self._patience = patience

    async def head(self, query: Query, tag: Tag | None, client: Client | None) -> Manifest | None:
        """A HEAD at the origin; C{None} if it is refused as such, or does not say what clients need.

        @param tag: the tag that is to be noted.
        @param client: whose `Authorization` may be used.
        """
        try:
            granted, head = await self._heard(query, client)
        except OriginRefused as problem:
            if problem.detail == {"status": 405}:
                return None
            raise
        if head is not None and self._keep:
            member = Membership(head.digest, head.media_type, head.size, granted.open)
            await self._note(query, [member], tag, head, granted.open)
        return head

    async def _heard(self, query: Query, client: Client | None) -> tuple[Granted, Manifest | None]:
        """What a HEAD says. One that speaks of something else is put to the registry's other URLs, if it has any."""
        urls, tries = self._urls(query.registry), 0
        while True:
            granted = await self._origin.ask(replace(query, turn=query.turn + tries, resumes=tries > 0), client)
            dismiss(granted.answer, head=True)
            try:
                return granted, self._said(granted.answer, query)
            except OriginLied:
                tries += 1
                if tries >= urls:
                    raise

    @staticmethod
    def _said(answer: IAnswer, query: Query) -> Manifest | None:
        asked = query.reference if isinstance(query.reference, Digest) else None
        digest = _digest_header(answer) or asked
        media_type, length = first(answer, "Content-Type"), parse_length(first(answer, "Content-Length") or "")
        media_type = (media_type or "").partition(";")[0].strip().lower()
        if digest is None or media_type not in KNOWN or length is None:
            return None
        if asked is not None and digest != asked:
            raise OriginLied(f"{query.registry} answered {digest} to a request for {asked}")
        return Manifest(digest, media_type, length, None, CacheStatus.MISS, _age(answer))

    async def fetch(self, query: Query, tag: Tag | None, client: Client | None) -> Manifest:
        """A GET at the origin, verified.

        @param tag: the tag that is to be noted.
        @param client: whose `Authorization` may be used.
        """
        granted, body, (digest, kind, children) = await self._received(query, client)
        found = Manifest(digest, kind, len(body), body, CacheStatus.BYPASS, _age(granted.answer))
        openly = granted.open
        members = [Membership(child.digest, child.media_type, child.size, openly, named=True) for child in children]
        if not self._keep:
            await self._note(query, members, None, found, openly)
            return found
        try:
            await self._store.put(digest, body)
        except StoreError as problem:
            log.warn(
                "{digest} is not kept: {problem} (request {request_id})",
                event=events.NOT_KEPT,
                **{**events.about(query), "digest": str(digest)},
                problem=problem.message,
            )
            return found
        fetched = Fetched.OPENLY if openly else Fetched.PRIVATELY
        itself = Membership(digest, kind, len(body), openly, fetched=fetched)
        await self._note(query, [itself, *members], tag, found, openly)
        return replace(found, cache=CacheStatus.STORED)

    async def _received(self, query: Query, client: Client | None) -> tuple[Granted, bytes, _Examined]:
        """A body that is a manifest, and the one that was asked for. What is not is asked for at the registry's other
        URLs, if it has any; what is cut short is asked for again in any case."""
        urls, tries, wrong, until = self._urls(query.registry), 0, 0, self._seconds() + self._patience
        while True:
            asking = self._origin.ask(replace(query, turn=query.turn + tries, resumes=tries > 0), client)
            granted = await self._in_time(asking, query, until)
            answer = granted.answer
            claimed = query.reference if isinstance(query.reference, Digest) else _digest_header(answer)
            try:
                body = await self._in_time(collect(answer, LIMIT), query, until)
                return granted, body, await self._parsing.run(_examine, body, claimed, first(answer, "Content-Type"))
            except (OriginLied, OriginTimeout, BodyCut) as problem:
                tries += 1
                wrong += not isinstance(problem, BodyCut)
                if wrong >= urls or tries >= max(urls, _TRIES) or self._seconds() >= until:
                    raise
                lied = isinstance(problem, OriginLied)
                log.emit(
                    LogLevel.warn if lied else LogLevel.info,
                    "{registry} is asked again for {reference}: {problem} (request {request_id})",
                    event=events.CONTENT_WRONG if lied else events.FETCH_RESUMED,
                    problem=problem.message,
                    **{**({} if claimed is None else {"digest": str(claimed)}), **events.about(query)},
                )

    def _in_time(self, work: Coroutine[Any, Any, T], query: Query, until: float) -> Deferred[T]:
        """It is cancelled, and fails with L{OriginTimeout}, when the time that everything has together is over."""

        def late(result: Any, _: float) -> Any:
            if isinstance(result, Failure):
                raise OriginTimeout(f"{query.registry} did not send it within {self._patience:.3g} s; try again")
            return result

        doing = Deferred.fromCoroutine(work)
        left = max(until - self._seconds(), 0.0)
        return doing if self._timer is None else doing.addTimeout(left, self._timer, late)

    def _seconds(self) -> float:
        return 0.0 if self._timer is None else self._timer.seconds()

    async def declared(self, body: bytes, media_type: str) -> bool:
        """Whether a body says of itself that it is a manifest of this media type, for types that crcache doesn't know:
        a config, which was noted with its type as well, does not."""
        return await self._parsing.run(_declares, body, media_type)

    async def retag(self, query: Query, tag: Tag, entry: TagEntry) -> None:
        """Note what a tag means; a disk that fails fails no pull."""
        try:
            await self._store.set_tag(query.registry, query.repository, tag, entry)
        except StoreError as problem:
            cache_failed(log, f"noting the tag {tag}", query, problem, reference=str(tag))

    async def _note(
        self, query: Query, members: list[Membership], tag: Tag | None, found: Manifest, openly: bool
    ) -> None:
        try:
            await self._store.enrol(query.registry, query.repository, members)
        except StoreError as problem:
            cache_failed(log, f"noting {found.digest}", query, problem, digest=str(found.digest))
            # A disk that hangs is not waited for once more: nobody has been answered yet.
            return
        if not openly:
            self._privacies.kept(query)
        if tag is not None:
            checked = self._clock() - (found.age or 0.0)
            entry = TagEntry(found.digest, found.media_type, found.size, checked, openly)
            await self.retag(query, tag, entry)


def _examine(body: bytes, claimed: Digest | None, content_type: str | None) -> _Examined:
    """A body's digest, media type and children. For a worker thread.

    @raise OriginLied: if the digest is not the one claimed, or the body is no manifest.
    """
    digest = Digest.of(body, "sha256" if claimed is None else claimed.algorithm)
    if claimed is not None and digest != claimed:
        raise OriginLied(f"the origin sent {digest} for {claimed}")
    manifest = parse_manifest(body, content_type)
    return digest, manifest.media_type, manifest.children


def _declares(body: bytes, media_type: str) -> bool:
    """For a worker thread."""
    try:
        return parse_manifest(body, None).media_type == media_type
    except OriginLied:
        return False


def _age(answer: IAnswer) -> float | None:
    """Of a parent's answer; what an origin says is true now."""
    return cast(IAged, answer).age or None if IAged.providedBy(answer) else None


def _digest_header(answer: IAnswer) -> Digest | None:
    try:
        return Digest.parse(first(answer, "Docker-Content-Digest") or "")
    except CrcacheError:
        return None
