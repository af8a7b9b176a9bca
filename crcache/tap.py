"""The composition root: puts the rooms together. Nobody imports it but twistd, by way of the plugin."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from crcache import events
from crcache.config import Loaded
from crcache.credentials.renewal import Renewal
from crcache.credentials_source import Reading
from crcache.daemon import Daemon, Listener, Parts
from crcache.ending import CannotStart, give_up, tell_why
from crcache.engine import Engine
from crcache.errors import ConfigError, StoreError
from crcache.host import descriptors, sockets
from crcache.host.dumps import refuse_dumps
from crcache.host.memory import keep_buffers
from crcache.host.signals import Signals
from crcache.host.systemd import Manager
from crcache.identity import Tls
from crcache.insight import admin, oneline
from crcache.insight.status import Status
from crcache.listening import Listening
from crcache.logs.service import Logs
from crcache.options import Options as Options
from crcache.reload import Reloader
from crcache.renewal import Certificates
from crcache.settings import Config
from crcache.upstream import resolver
from crcache.web.peers import Admission
from crcache.web.site import Site

log = Logger()

#: Twisted itself would listen on IPv4 alone.
_EVERYWHERE = re.compile("tcp:([0-9]+)")
#: Connections that the admin listener takes. It has them for itself, as clients have theirs.
_OPERATORS = 64
#: For each connection of a client there may be so many descriptors: itself, up to two files, and one to an origin.
_DESCRIPTORS = 4
_MODELESS = re.compile("unix:(?!.*:mode=)", re.DOTALL)


def makeService(options: Options) -> IService:
    """What twistd runs."""
    from twisted.internet import reactor

    sys.excepthook = tell_why
    refuse_dumps()
    try:
        handed = sockets.handed_over(sockets.first_environ(), os.getpid())
        config = options.config
        descriptors.allow(config.limits.connections * _DESCRIPTORS)
        service: IService = build(
            config,
            reactor,
            warnings=options.warnings,
            handed=handed,
            manager=Manager(os.environ, os.getpid()),
            load=options.load,
            credentials=options.credentials,
            signals=Signals(reactor),
            relevel=lambda level: logs.use(level),  # noqa: PLW0108
        )
        logs = Logs(service, reactor, options.parent or {}, config.log_format, config.log_level)
    except (ConfigError, ValueError) as problem:
        # Of what the options cannot see: the environment's proxies, and systemd's sockets.
        raise CannotStart(str(problem)) from problem
    return logs


def build(
    config: Config,
    reactor: Any,
    *,
    warnings: tuple[str, ...] = (),
    environ: Mapping[str, str] = os.environ,
    handed: Sequence[sockets.Handed] = (),
    manager: Manager | None = None,
    load: Callable[[], Loaded] | None = None,
    credentials: Reading | None = None,
    signals: Signals | None = None,
    relevel: Callable[[str], None] = lambda level: None,
    day: Callable[[], float] = time.time,
) -> Daemon:
    """A daemon for one configuration. Nothing is opened or started yet.

    @param reactor: TCP, time, threads, names.
    @param environ: says where the proxies are, if the configuration does not.
    @param handed: the sockets that systemd opened for it.
    @param manager: who wants to know how it does.
    @param load: reads the configuration again; by default it stays what it is.
    @param credentials: how those in the configuration were read; they are when their file changes.
    @param signals: its process's, if it is alone there.
    @param relevel: has the log kept at another level from now on.
    @param day: the time of day, in seconds since the epoch.
    """
    manager = Manager({}, 0) if manager is None else manager
    engine = Engine(config, reactor, environ, lambda: daemon.waiting or "the cache opens", day)
    renewal = Renewal(
        reactor, engine.reading_config, lambda: engine.config.now.credentials, engine.use_credentials, credentials
    )

    def listener(description: str, site: Site, private: bool = False) -> Listener:
        everywhere = _EVERYWHERE.fullmatch(description)
        if everywhere is not None:
            return Listener(description, partial(sockets.Everywhere, reactor, int(everywhere[1])), site, private)
        listening = Listening(reactor, _private(description) if private else description, tls)
        renewable.append(listening)
        return Listener(description, lambda: listening, site, private)

    def adopted(each: sockets.Handed) -> Listener:
        return Listener(str(each), partial(sockets.Adopted, reactor, each), clients)

    renewable: list[Listening] = []
    tls = Tls(config.tls)
    clients = Site(engine.v2, reactor, _admission(engine))
    listeners = [adopted(each) for each in handed if config.handed_over != "no"]
    if not listeners or config.handed_over != "instead":
        served = {f"tcp:{each.everywhere}" for each in handed if listeners}
        listeners += [listener(each, clients) for each in config.listen if each not in served]

    def readiness() -> Deferred[list[str]]:
        if daemon.draining or daemon.waiting is not None:
            return succeed(["draining" if daemon.draining else str(daemon.waiting)])
        return engine.store.ready().addCallbacks(lambda _: [], _reason)

    status = Status(
        reactor,
        engine.meter,
        str(config.cache_directory),
        list(config.registries),
        lambda: daemon.addresses(),  # noqa: PLW0108
        engine.fills.describe,
        lambda: {
            "draining": daemon.draining,
            "waiting_for": daemon.waiting,
            "connections": clients.connections,
            "requests_in_flight": clients.busy,
            "failing": engine.failing(),
            "s3": engine.tier.describe(),
            "parents": engine.parents.describe(engine.names_registry),
            "cache_bytes": engine.evictor.content,
            "cache_max_bytes": engine.evictor.bound,
        },
    )
    engine.meter.watch_clients(lambda: clients.connections, lambda: clients.busy, lambda: daemon.draining)
    operators = Site(admin.root(engine.meter.collectors, readiness, status, reactor), reactor, _few())
    if config.admin is not None:
        listeners.append(listener(config.admin, operators, True))

    def read_again() -> tuple[Loaded, list[Callable[[], None]]]:
        loaded = Loaded(config, None) if load is None else load()
        return loaded, [tls.prepare(loaded.config.tls), *(each.prepare() for each in renewable)]

    def use(read: tuple[Loaded, list[Callable[[], None]]]) -> None:
        loaded, renewals = read
        engine.use(loaded.config)
        renewal.follow(loaded.credentials)
        status.configured(list(loaded.config.registries))
        for renew in renewals:
            renew()
        certificates.reloaded()
        relevel(loaded.config.log_level)
        for line in loaded.warnings:
            log.warn("{line}", event=events.WARNING, line=line)
        for line in _stays(config, loaded.config):
            log.warn("{line}", event=events.RESTART_NEEDED, line=line)

    def line() -> str:
        if daemon.draining:
            return oneline.draining(clients.busy)
        if daemon.waiting is not None:
            return oneline.waiting(daemon.waiting)
        return oneline.serving(daemon.addresses(admin=False), clients.connections, engine.meter.summary())

    certificates = Certificates(reactor, engine.reading_config, [tls, *renewable])
    told = [*warnings, *([manager.warning] if manager.warning else [])]
    if handed and config.handed_over == "no" and not any(each.startswith("systemd:") for each in config.listen):
        told.append("flags say where to listen: the sockets that systemd opened are not served")
    daemon = Daemon(
        Parts(
            clock=reactor,
            listeners=listeners,
            workers=engine.workers,
            name=f"cache directory {config.cache_directory}",
            store=engine.store,
            fills=engine.fills,
            close_upstream=engine.close_upstream,
            on_start=partial(_on_start, reactor, engine, renewal, certificates),
            on_open=engine.open,
            fail=partial(give_up, reactor),
            manager=manager,
            status=line,
            drain_timeout=lambda: engine.config.now.drain_timeout,
            reload=Reloader(engine.reading_config, read_again, use).reload,
            sites=([clients], [operators]),
            signals=signals,
            warnings=told,
        )
    )
    return daemon


def _private(description: str) -> str:
    """A socket for operators is not for everybody, unless its C{mode} says so."""
    return f"{description}:mode=660" if _MODELESS.match(description) else description


def _stays(begun: Config, now: Config) -> list[str]:
    """What a reload cannot change, a line each."""
    changed = {
        "cache.directory": begun.cache_directory != now.cache_directory,
        "listen": (begun.listen, begun.handed_over) != (now.listen, now.handed_over),
        "admin": begun.admin != now.admin,
        "log-format": begun.log_format != now.log_format,
    }
    return [f"{key} has changed, which needs a restart" for key, differs in changed.items() if differs]


def _admission(engine: Engine) -> Admission:
    """Half of the descriptors are left to files and origins."""
    limits = engine.config
    return Admission(
        lambda: min(limits.now.limits.connections, descriptors.allowed() // 2),
        lambda: limits.now.limits.connections_per_peer,
        engine.meter.refused,
    )


def _few() -> Admission:
    return Admission(lambda: _OPERATORS, lambda: _OPERATORS)


def _on_start(reactor: Any, engine: Engine, renewal: Renewal, certificates: Certificates) -> Callable[[], None]:
    keep_buffers()
    names = resolver.install(reactor, engine.names.pool, engine.names_host)
    renewal.start()
    certificates.start()

    def undo() -> None:
        renewal.stop()
        certificates.stop()
        engine.evictor.stop()
        engine.scrub.stop()
        engine.grants.stop()
        names.retire()

    return undo


def _reason(failure: Any) -> list[str]:
    failure.trap(StoreError)
    return [failure.value.message]
