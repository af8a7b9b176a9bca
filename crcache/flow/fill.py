"""A fill: one digest on its way from one registry into the store, for however many clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from crcache import events
from crcache.errors import CrcacheError, GivenUp, OriginLied, OriginTimeout, ShuttingDown, StoreError
from crcache.facts import Fetched, Query, Verdict
from crcache.flow.demand import Demands
from crcache.flow.failing import log_failure
from crcache.flow.fetch import Fetch
from crcache.flow.follow import Follow
from crcache.flow.lender import Lender
from crcache.flow.lending import Lending
from crcache.flow.openers import Openers
from crcache.flow.tools import Tools
from crcache.flow.window import HELD
from crcache.grammar.reference import Repository
from crcache.interfaces import IBody, IIngest, IWatcher
from crcache.secret import Secret

log = Logger()

_TURNS = 5


@implementer(IBody)
class Fill:
    """One body on its way into the store. A client that leaves cancels nothing; without any a private one pauses.

    @ivar size: as L{IBody.size<crcache.interfaces.IBody>}.
    @ivar verdict: as L{IBody.verdict<crcache.interfaces.IBody>}.
    @ivar confirmed: the repositories whose origin has agreed to send this body.
    @ivar lied: whether it has failed because the origin sent something else.
    @ivar key: which of the fills it is.
    @ivar lending: whose credentials a private one uses; C{None} for an open one.
    @ivar found: whether the content was there already, so that nobody has shown it for this fill's sake.
    @ivar paused: whether it has been left, resumable, since nobody is there whose credentials could be used.
    """

    def __init__(self, tools: Tools, query: Query, expected: int | None, ended: Callable[[Fill], None]) -> None:
        """
        @param query: asks for the whole blob. With an C{authorization} the fill is private to that repository, and uses
            this and what else is lent to it; it keeps none of them.
        @param expected: the size that a descriptor gave, for an origin that does not say.
        @param ended: called when the fill is over, well or not, and its content (if any) is in its place.
        """
        self.size: int | None = None
        self.verdict = Verdict.FILLING
        self.confirmed: set[Repository] = set()
        self.query = replace(query, authorization=None)
        self.key = tools.key(query)
        self.lied = False
        self.found = False
        self.paused = False
        self._lies = 0
        self.lending: Lending | None = None
        if query.authorization is not None:
            self.lending = Lending(tools.upstream, tools.clock, lambda: self._openers.waiting, self._pause)
            self.lending.offer(query.authorization)
            tools = replace(tools, upstream=self.lending)
        self._tools = tools
        self._expected = expected
        self._ended = ended
        self._source: IBody | IIngest | None = None
        self._watchers: dict[int, IWatcher] = {}
        self._demands = Demands(tools.clock.seconds)
        self._openers = Openers()
        self._problem: CrcacheError | None = None
        self._driver: Deferred[None] | None = None

    def start(self) -> None:
        """Begin, resume or follow."""
        self._tools.meter.filling(1)
        self._openers.within(self._tools.clock, self._tools.opening(), self._late)
        self._driver = Deferred.fromCoroutine(self._drive())

    @property
    def problem(self) -> CrcacheError | None:
        """As L{IBody.problem<crcache.interfaces.IBody>}."""
        return self._problem

    @property
    def follows(self) -> bool:
        """Whether it is another process that fetches."""
        return self.verdict is Verdict.FILLING and IIngest.providedBy(self._source) and not self._source.owner

    def stop(self) -> Deferred[None]:
        """Let the fill be, resumable; one just being committed is. Fires when its descriptors and lock are free."""
        driver = self._driver
        if driver is None:
            return succeed(None)
        over: Deferred[None] = Deferred()
        driver.addBoth(lambda _: over.callback(None))
        if self.verdict is not Verdict.VERIFIED:
            driver.cancel()
        return over

    def opened(self) -> Deferred[None]:
        """Fires when the head of an answer can be written: the origin (or an earlier fill) agreed to send the body.
        Fails with a L{CrcacheError} that says why there will be none."""
        return self._openers.wait(self._problem)

    def lend(self, authorization: Secret) -> IBody:
        """The body for one client: as long as that is watched, a private fill goes on for its sake, and may put its
        questions with this credential, which the origin has accepted for the repository."""
        return self if self.lending is None else Lender(self, self.lending, authorization)

    # IBody

    def open(self) -> int:
        """As L{IBody.open<crcache.interfaces.IBody>}."""
        if self._source is None:
            raise StoreError("the fill has not begun")
        return self._source.open()

    def readable(self, offset: int) -> int:
        """As L{IBody.readable<crcache.interfaces.IBody>}."""
        if self.verdict is Verdict.VERIFIED and self.size is not None:
            return max(offset, self.size)
        return offset if self._source is None else self._source.readable(offset)

    def front(self) -> int:
        """The end of the unbroken run of bytes from the beginning."""
        front, further = 0, self.readable(0)
        while further > front:
            front, further = further, self.readable(further)
        return front

    def watch(self, watcher: IWatcher, span: tuple[int, int | None] | None = None) -> None:
        """As L{IBody.watch<crcache.interfaces.IBody>}."""
        self._watchers[id(watcher)] = watcher
        if span is not None:
            self._demands.add(id(watcher), span)

    def unwatch(self, watcher: IWatcher) -> None:
        """As L{IBody.unwatch<crcache.interfaces.IBody>}."""
        self._watchers.pop(id(watcher), None)
        self._demands.remove(id(watcher))
        if self.verdict is Verdict.FAILED and not self._watchers:
            # Removed from the directory, its files would take room on the disk as long as the last client is served.
            self._source = None

    # What the fetching and the following side report

    def doubted(self) -> None:
        """Somebody near sends it: whoever waits is not let in before the verdict, unless that takes long."""
        self._openers.doubt(self._tools.clock, self._tools.doubt)

    def answered(self, size: int | None, repository: Repository | None) -> None:
        """The origin agreed to send the body, through that repository if it was this process that asked."""
        if repository is not None:
            self.confirmed.add(repository)
        if size is not None and size <= HELD and self.verdict is Verdict.FILLING:
            # Nothing of such a body goes to anybody before the verdict. Without its head, an error can still be told.
            return
        if size is not None:
            self.size = size
        if not self._openers.open:
            self._openers.let_in()
        self.moved()

    def moved(self) -> None:
        """There may be more to read."""
        for watcher in tuple(self._watchers.values()):
            watcher.moved()

    def verified(self, size: int) -> None:
        """All of it is there and right."""
        self.size = size
        self.verdict = Verdict.VERIFIED
        self._openers.believe()
        if self.lending is not None:
            self.lending.close()
        self.answered(size, None)

    def _failed(self, problem: CrcacheError) -> None:
        if self.verdict is not Verdict.FILLING:
            return
        # A traceback would keep the descriptors of whatever it passed through.
        problem.__cause__ = problem.__context__ = None
        self._problem = problem.with_traceback(None)
        self.verdict = Verdict.FAILED
        self.lied = isinstance(problem, OriginLied)
        if self.lending is not None:
            self.lending.close()
        self._openers.turn_away(problem)
        self.moved()

    def _late(self, seconds: float) -> None:
        """Those who wait have waited for long enough to ask elsewhere. What came stays for the next ask."""
        late = OriginTimeout(f"{self.query.registry} did not send what was asked for within {seconds:.3g} s; try again")
        log_failure(late, self.query)
        self._failed(late)
        if self._driver is not None:
            self._driver.cancel()

    def _pause(self) -> bool:
        """Nobody who lends is left. What came stays for the next ask; false if nothing more has to be asked for."""
        source = self._source
        if IIngest.providedBy(source) and source.size is not None and source.hole(0) is None:
            return False
        told = "fetching {digest} from {registry} pauses: none of its clients is left (request {request_id})"
        log.debug(told, **events.about(self.query))
        self.paused = True
        self._failed(GivenUp("nobody was left to fetch this for; try again"))
        if self._driver is not None:
            self._driver.cancel()
        return True

    # The story

    async def _drive(self) -> None:
        try:
            await self._run()
        except CancelledError:
            self._failed(ShuttingDown("crcache is shutting down"))
        except CrcacheError as problem:
            log_failure(problem, self.query)
            self._failed(problem)
        except Exception:
            log.failure(
                "fetching {digest} from {registry} failed (request {request_id})",
                event=events.INTERNAL_ERROR,
                **events.about(self.query),
            )
            self._failed(StoreError("internal error while fetching"))
        finally:
            self._tools.meter.filling(-1)
            self._ended(self)

    async def _run(self) -> None:
        for _ in range(_TURNS):
            # What was promised in an earlier turn has come to nothing; by now there may be others' content.
            self.confirmed.clear()
            self._openers.believe()
            found = await self._tools.store.ingest(*self.key)
            self._source = found
            if not IIngest.providedBy(found):
                self.found = True
                self.verified(_size(found))
                return
            ingest = found
            try:
                verdict = None if ingest.owner else await Follow(self._tools, self.key, ingest, self).run()
                if verdict is None:
                    if await self._fetched(ingest):
                        return
                    continue
                if verdict is Verdict.VERIFIED:
                    self.verified(_size(ingest))
                    return
                if self._openers.open:
                    raise GivenUp("another process has given the fill up")
            finally:
                ingest.close()
        raise StoreError("other processes keep failing to fetch this")

    async def _fetched(self, ingest: IIngest) -> bool:
        """Whether the fill is over; if not, what an earlier one had left was of no use and has been removed."""
        resumed = ingest.hole(0) != (0, ingest.size)
        fetch = Fetch(
            self._tools,
            self.query,
            ingest,
            self,
            demands=self._demands,
            expected=self._expected,
            patient=self._openers.open,
            fetched=Fetched.OPENLY if self.lending is None else Fetched.PRIVATELY,
        )
        try:
            await fetch.run()
        except OriginLied:
            if self._openers.doubted and not resumed:
                self._tools.lied(self.query)
            if self._openers.open or not (resumed or self._elsewhere()):
                raise
            return False
        return True

    def _elsewhere(self) -> bool:
        """Begin at the registry's next URL; false if each has had its turn."""
        self._lies += 1
        more = self._lies < self._tools.urls(self.query.registry)
        self.query = replace(self.query, turn=self.query.turn + more)
        return more


def _size(found: IBody | IIngest) -> int:
    """The size of what is verified, and so has one."""
    if found.size is None:
        raise StoreError("the fill's marks are damaged")
    return found.size
