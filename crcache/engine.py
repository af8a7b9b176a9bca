"""What answers clients, put together: what lives as long as the process, and what a reload replaces."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from crcache import named
from crcache.access import Access
from crcache.blobs import Blobs
from crcache.cache import Cache
from crcache.confirming import Confirming
from crcache.credentials.helper import Programs
from crcache.credentials.helpers import Helpers
from crcache.credentials.keyring import Keyring
from crcache.evictor import Evictor
from crcache.flow.carry import Means
from crcache.flow.fills import Fills
from crcache.flow.sender import Sender
from crcache.flow.tools import Room, Tools
from crcache.gatekeeper import Gatekeeper
from crcache.grammar.reference import Registry
from crcache.grants.grants import Grants
from crcache.grants.place import runtime_directory
from crcache.host.memory import give_back
from crcache.insight.metrics import Meter
from crcache.insight.parents import ParentMeter
from crcache.interfaces import ICache
from crcache.live import Switched, SwitchedCache, SwitchedUpstream
from crcache.manifests import Manifests
from crcache.opening import Closed
from crcache.origin import Origin
from crcache.parents.ancestry import Ancestry
from crcache.parents.loops import Loops
from crcache.policy.retry import pause
from crcache.privacies import Privacies
from crcache.provenance import Provenance
from crcache.rules import Rules
from crcache.scrub import Scrub
from crcache.settings import Config, Credentials
from crcache.sources import Sources
from crcache.store.checker import Checker
from crcache.store.filesystem import Filesystem
from crcache.store.layout import Layout
from crcache.store.marks import boot_id
from crcache.threads import Threads
from crcache.tier.tier import Tier
from crcache.upstream.client import Upstream
from crcache.upstream.health import Health
from crcache.web.v2 import V2
from crcache.witness import Witness


class Engine:
    """Everything between the listeners, the cache directory and the registries.

    @ivar config: the one in force.
    @ivar v2: what clients' listeners answer with. Before L{open} that is 503.
    @ivar reading_config: the thread that reads configuration; a thread of its own, as its disk may be another one.
    @ivar workers: all the threads.
    @ivar evictor: keeps the cache within its bounds; it begins with L{open}, and has to be stopped.
    @ivar scrub: checks content again; likewise.
    @ivar grants: who may read private content; likewise.
    """

    def __init__(
        self,
        config: Config,
        reactor: Any,
        environ: Mapping[str, str],
        waiting: Callable[[], str],
        day: Callable[[], float] = time.time,
    ) -> None:
        """
        @param environ: says where the proxies are, if the configuration does not, and where grants are shared.
        @param waiting: why the store is not open.
        @param day: the time of day, in seconds since the epoch.
        @raise crcache.errors.ConfigError: if a proxy is not one.
        """
        self._reactor = reactor
        self._environ = environ
        self._day = day
        threads = self._threads = Threads(reactor)
        self.workers = threads.all
        self.names, self.reading_config = threads.names, threads.config

        self.config = Switched(config)
        self._names, self._hosts = named.registries(config), named.hosts(config, self._environ)
        self.meter = Meter(self._names)
        self.evictor = Evictor(
            config.cache_directory,
            lambda: self.config.now.bounds,
            threads.evicting,
            reactor,
            day,
            times=lambda registry: self.config.now.registry(registry).times,
            evicted=self.meter.evicted,
            over=give_back,
        )
        self.meter.watch_cache(lambda: self.evictor.content, lambda: self.evictor.bound)
        self.tier = Tier(
            reactor,
            environ,
            Layout(config.cache_directory).uploads,
            threads,
            lambda *known: self._privacies.newest(*known),  # noqa: PLW0108
            day,
        )
        self.store = Filesystem(
            config.cache_directory,
            threads.disk,
            day,
            threads.syncing,
            hashing=threads.doubting,
            noting=threads.noting,
            parents=config.make_parents,
            making=threads.making,
            changed=self.evictor.tally.changed,
            space=self.evictor.space,
            noted=self.tier.noted,
            timer=reactor,
        )
        checker = Checker(self.store.contents)
        self.scrub = Scrub(checker, threads.checking, reactor, time.time, lambda: self.evictor.content)
        # Another daemon's registries may be others by the same names, and so may its cache be.
        scope = str(config.cache_directory)
        self.grants = Grants(runtime_directory(environ), threads.granting, reactor, scope=scope)
        self._health = Health(reactor)
        self._programs = Programs(environ)
        self._helpers = Helpers(threads.helping, reactor, self._programs.ask)
        self._keys = Keyring(config.credentials, self._helpers, self.names_registry)
        self.upstream = SwitchedUpstream(self._upstream(config, self._keys))
        self._kept = self.tier.over(self.store, self.grants)
        self.tier.use(config)
        self.meter.watch_bucket(self.tier.describe)
        self._privacies = Privacies(self._kept, day, self._refusal_ttl)
        self._witness = Witness(self.upstream, self.grants, self._privacies)
        self.parents = Ancestry(reactor, lambda: ParentMeter(self.meter), environ, self._tag_ttl)
        self.parents.prepare(config)()
        self._sources = Sources(lambda: (*self.tier.near, *self.parents.sources), self._witness)
        # Half of the connections are left to those who fetch in their turn.
        room = Room(lambda: self.config.now.upstream.max_connections // 2)
        tools = Tools(
            reactor,
            self._kept,
            self._sources,
            threads.hashing,
            self.meter,
            self._retry,
            urls=self._urls,
            room=room,
            stall=self._stall,
            opening=self._opening,
            near=lambda: bool(self.tier.near),
            lied=self.tier.lied,
        )
        self.fills = Fills(tools)
        self._cache = SwitchedCache(Closed(waiting))
        self._opened = False
        sender = Sender(Means(threads.reading, threads.hashing, reactor, self._retry))
        self.v2 = V2(
            self._cache, sender, self.meter, reactor, config.default_registry, self._most_each, self.parents.pseudonym
        )

    def open(self) -> None:
        """The store is open: serve, and look after it."""
        self.open_alone()
        self.evictor.start()
        self.scrub.start()
        self.grants.start()
        self.tier.start()

    def open_alone(self) -> ICache:
        """The store is open: answer. Looking after it is left to others."""
        self._opened = True
        self.parents.begin(self._threads.disk, self.config.now.cache_directory, boot_id)
        self._cache.use(self._story(self.config.now))
        return self._cache

    def use(self, config: Config) -> None:
        """Put another configuration in force, for every request and every question to an origin from now on.

        What is being sent or fetched goes on. The cache directory, and where it is listened, stay as they are.

        @raise crcache.errors.ConfigError: if a proxy is not one; nothing has changed then.
        """
        # What is still asked of a retired upstream is asked with what that one had.
        keys = Keyring(config.credentials, self._helpers, self.names_registry)
        upstream, use_parents = self._upstream(config, keys), self.parents.prepare(config)
        self.tier.use(config)
        self._keys = keys
        use_parents()
        self._adopt(config)
        self.upstream.use(upstream)
        self.v2.default_registry = config.default_registry
        if self._opened:
            self._cache.use(self._story(config))

    def names_registry(self, registry: Registry) -> bool:
        """Whether the configuration in force names this registry."""
        return registry in self._names

    def names_host(self, host: str) -> bool:
        """Whether the configuration in force says that something is at this host."""
        return host in self._hosts

    def use_credentials(self, credentials: Credentials) -> None:
        """Put others in force. Connections stay, and tokens that were had with such as have not changed."""
        self._keys.use(credentials)
        self._adopt(replace(self.config.now, credentials=credentials))

    def _adopt(self, config: Config) -> None:
        """This one is in force; what its credentials open is found out anew."""
        self.config.use(config)
        self._names, self._hosts = named.registries(config), named.hosts(config, self._environ)
        self._helpers.forget()
        self._privacies.try_again()
        self.meter.name(self._names)

    def close_upstream(self) -> Deferred[None]:
        """Abort all connections to origins and bucket, and end credential helpers. Fires when the last one is gone."""
        self._programs.end()
        self._helpers.end()
        return DeferredList([self.parents.close(), self.upstream.close(), self.tier.stop()]).addCallback(lambda _: None)

    def failing(self) -> list[dict[str, object]]:
        """The registries that fail at the moment, as JSON can carry it; all that nobody has named are C{other}."""
        found: dict[str, dict[str, object]] = {}
        for registry, (seconds, problem) in self._health.failing().items():
            name = str(registry) if self.names_registry(registry) else "other"
            if name not in found:
                found[name] = {"registry": name, "seconds": round(seconds, 3)}
                if name != "other":
                    found[name]["problem"] = problem
        return sorted(found.values(), key=lambda each: str(each["registry"]))

    def _upstream(self, config: Config, keys: Keyring) -> Upstream:
        return Upstream(
            self._reactor,
            config.upstream,
            config.registry,
            keys,
            self.meter,
            self._environ,
            health=self._health,
            named=named.registries(config).__contains__,
        )

    def _story(self, config: Config) -> ICache:
        store, hashing, clock = self._kept, self._threads.hashing, self._day
        origin = Origin(self._sources, self._privacies)
        keep = config.cache_manifests
        patience = config.upstream.first_byte_timeout + config.upstream.stall_timeout / 2
        privacies = self._privacies
        provenance = Provenance(store, origin, privacies, hashing, clock, keep, self._reactor, self._urls, patience)
        rules = Rules(config.cache_manifests, config.ignore, lambda registry: config.registry(registry).times)
        access = Access(store, self._witness, self.grants, privacies, lambda registry: config.registry(registry).access)
        manifests = Manifests(store, provenance, access, rules, clock)
        confirming = Confirming(store, origin, self._threads.doubting, clock)
        blobs = Blobs(store, origin, access, self.fills, confirming, clock)
        story = Gatekeeper(Cache(origin, access, manifests, blobs), config)
        return Loops(story, self.parents.pseudonym, self.parents.crossed)

    def _most_each(self) -> int:
        return self.config.now.limits.requests_per_peer

    def _urls(self, registry: Registry) -> int:
        return len(self.config.now.registry(registry).urls) + self._sources.turns

    def _tag_ttl(self, registry: Registry) -> float:
        return self.config.now.registry(registry).times.tag_ttl

    def _refusal_ttl(self, registry: Registry) -> float:
        return self.config.now.registry(registry).times.negative_ttl

    def _retry(self, failures: int) -> float | None:
        # Spreads retries over time; nobody gains by guessing it.
        return pause(failures, self.config.now.upstream.retries, random.random())  # noqa: S311 # nosec B311

    def _stall(self) -> float:
        return self.config.now.upstream.stall_timeout

    def _opening(self) -> float:
        upstream = self.config.now.upstream
        return upstream.first_byte_timeout + upstream.stall_timeout
