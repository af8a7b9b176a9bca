"""Letting clients in to what repositories hold privately."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.logger import Logger

from crcache import events
from crcache.asks import PullBlob, PullManifest
from crcache.errors import AccessUnknown, CrcacheError, OriginError, Unauthorized
from crcache.facts import Holding, Privacy, Query, TagEntry
from crcache.flow.answers import first, refusal
from crcache.flow.collect import dismiss
from crcache.flow.shared import Shared
from crcache.grammar.digest import Digest
from crcache.grammar.reference import Registry, Repository, Tag
from crcache.granting import IGrants
from crcache.interfaces import IStore, IUpstream
from crcache.origin import AWAY, SILENT, remembered_refusal
from crcache.policy import access
from crcache.policy.access import Right, lets_in
from crcache.privacies import Privacies
from crcache.secret import Secret

log = Logger()

#: What came of a HEAD: what was asked for, and whether that let the client in, or else why not; C{None} says nothing.
_Proof = tuple[Tag | Digest | None, "bool | OriginError | None"]


class Access:
    """Policy, applied to what disk, grants and origins say."""

    def __init__(
        self,
        store: IStore,
        upstream: IUpstream,
        grants: IGrants,
        privacies: Privacies,
        configured: Callable[[Registry], str],
    ) -> None:
        """
        @param upstream: one whose answers are overheard: a HEAD that lets a client in is its grant.
        @param configured: a registry's C{access}: C{verify} or C{open}.
        """
        self._store = store
        self._upstream = upstream
        self._grants = grants
        self._privacies = privacies
        self._configured = configured
        self._proofs: Shared[_Proof] = Shared()

    async def holding(self, ask: PullManifest | PullBlob, digest: Digest) -> Holding:
        """All that is known of what is asked for.

        @raise StoreError: if the disk cannot be read.
        """
        found = await self._store.holding(ask.registry, ask.repository, digest)
        return replace(found, privacy=self._privacies.newest(ask.registry, ask.repository, found.privacy))

    def anyone(self, ask: PullManifest | PullBlob) -> bool:
        """Whether the registry is configured so that what one client's credentials open is for all."""
        return access.anyone(self._configured(ask.registry))

    def content(self, ask: PullManifest | PullBlob, holding: Holding) -> Right:
        """Who may read the content."""
        return access.content(holding, self._configured(ask.registry))

    def fetched_openly(self, ask: PullBlob, holding: Holding) -> Right:
        """Who may read what crcache's own way is fetching through the repository."""
        return access.readers(holding.privacy, True, self._configured(ask.registry))

    def tag(self, ask: PullManifest, entry: TagEntry) -> Right:
        """Who may know what a tag means. What is noted of its repository is in the entry, which saves a look."""
        privacy = self._privacies.newest(ask.registry, ask.repository, None)
        return access.tag(entry, privacy, self._configured(ask.registry))

    async def refused(self, ask: PullManifest | PullBlob) -> bool:
        """Whether the repository is private as far as is known, so that the client's own credentials are asked for."""
        return await self._privacies.find(ask.registry, ask.repository) is not None

    async def known(self, ask: PullManifest | PullBlob) -> bool:
        """Whether the client has been let in lately."""
        authorization = ask.client.authorization
        if authorization is None:
            return False
        return await self._grants.known(authorization, ask.registry, ask.repository)

    async def admits(self, ask: PullManifest | PullBlob, query: Query) -> bool:
        """Whether the client may read what the repository has privately; asks the origin with a HEAD if nobody knows.

        @param query: asks for what the client wants.
        @return: C{False} if a HEAD does not tell: the client has no credentials, or the origin takes no HEAD, or it
            refuses them, but may let crcache's own way in by now. What it says to a GET counts then.
        @raise OriginError: as the origin refuses the client, or with what is known if it cannot be asked.
        """
        authorization = ask.client.authorization
        if authorization is None:
            return False
        if await self._grants.known(authorization, ask.registry, ask.repository):
            return True
        head = replace(query, method="HEAD", span=None, authorization=authorization, follows=False)
        found = await self._proved(head, authorization)
        if found is None or isinstance(found, bool):
            return bool(found)
        if isinstance(found, AWAY):
            raise await self.instead(ask, found)
        if self._privacies.lately(ask.registry, ask.repository) is None:
            return False
        raise found

    async def _proved(self, head: Query, authorization: Secret) -> bool | OriginError | None:
        key = authorization, head.registry, head.repository
        while True:
            reference, found = await self._proofs.join(key, lambda: self._prove(head))
            # What one object is refused for need not be true of the others. That there is no answer is: asked one after
            # another, each would wait as long as the first.
            if found is True or isinstance(found, SILENT) or reference == head.reference:
                return found

    async def _prove(self, head: Query) -> _Proof:
        try:
            answer = await self._upstream.ask(head)
        except OriginError as problem:
            problem.__traceback__ = None
            return head.reference, problem
        dismiss(answer, head=True)
        said = lets_in(answer.status, first(answer, "Content-Type"))
        if said:
            return head.reference, True
        refused = refusal(answer, head)
        refused.settled = said is False
        return head.reference, refused if said is False or isinstance(refused, AWAY) else None

    async def instead(self, ask: PullManifest | PullBlob, problem: CrcacheError) -> CrcacheError:
        """What a client is told when its origin fails: of a private repository nothing but how to get in, unless it is
        known to the client already."""
        privacy = await self._privacies.find(ask.registry, ask.repository)
        if privacy is None or await self.known(ask):
            return problem
        log.info(
            "{registry} cannot be asked whether the client may read {repository}: {problem} (request {request_id})",
            event=events.ACCESS_UNKNOWN,
            problem=problem.message,
            **events.about(ask),
        )
        return _kept(ask.registry, ask.repository, privacy, problem)


def _kept(registry: Registry, repository: Repository, privacy: Privacy, problem: CrcacheError) -> OriginError:
    """The refusal that was kept; without a challenge, that nobody knows."""
    if not privacy.challenges:
        return AccessUnknown(f"{registry} cannot be asked who may read {repository}: {problem.message}")
    told: Unauthorized = remembered_refusal(registry, repository, privacy)
    told.settled = True
    return told
