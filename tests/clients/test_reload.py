"""Configuration, credentials and certificates that change while clients pull."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ClientEndpoint
from twisted.internet.ssl import Certificate as Trusted
from twisted.internet.ssl import CertificateOptions
from twisted.logger import formatEvent

from crcache import events, tap
from crcache.testing.auth import Basic, Tokens, basic
from crcache.testing.certificates import Authority
from crcache.testing.content import noise
from crcache.testing.daemon import Instance
from crcache.testing.script import Fault
from tests.clients.case import NAME, REPO, ClientCase, blob_path, eventually, manifest_path
from tests.clients.http import Answer, request, send
from tests.web.cases import reactor

MIB = 1 << 20
DATA = noise(3 * MIB + 17)
#: What is asked of the origin each time.
LISTED = f"/v2/{REPO}/tags/list?ns={NAME}"
ROOT = Path(__file__).resolve().parents[2]


class Hangups:
    """In place of the process's own signals, which are trial's."""

    def __init__(self) -> None:
        self._calls: dict[int, Callable[[], object]] = {}

    def on(self, number: int, call: Callable[[], object]) -> None:
        self._calls[number] = call

    def restore(self) -> None:
        self._calls.clear()

    def send(self) -> None:
        """SIGHUP."""
        self._calls[signal.SIGHUP]()


class ReloadCase(ClientCase):
    """A crcache that has its configuration from a file.

    @ivar file: the file.
    """

    def setUp(self) -> None:
        super().setUp()
        self.place = self.directory()
        self.file = self.place / "crcache.yaml"
        self._hangups: Any = Hangups()
        self.image = self.origin.add_image(REPO, "1.0", [DATA])

    def configuration(self, *lines: str, cache: str = "", registry: tuple[str, ...] = (), url: str = "") -> str:
        """YAML.

        @param lines: further ones, of the top level.
        @param cache: a further line of that section.
        @param registry: further lines of the registry's section.
        """
        top = [] if any(line.startswith("listen:") for line in lines) else ["listen: tcp:0:interface=127.0.0.1"]
        document = [
            *top,
            "admin: tcp:0:interface=127.0.0.1",
            "drain-timeout: 0s",
            "cache:",
            f"  directory: {self.place}/cache",
            *([f"  {cache}"] if cache else []),
            "registries:",
            f"  {NAME}:",
            f"    url: {url or self.origin.url}",
            *(f"    {line}" for line in registry),
            *lines,
        ]
        return "\n".join([*document, ""])

    def write(self, text: str) -> None:
        self.file.write_text(text)
        self.file.chmod(0o600)

    def begin_with(self, text: str, *flags: str) -> None:
        """Start it."""
        self.write(text)
        options = tap.Options({}, reactor, self.file)
        options.parseOptions(list(flags))
        build = partial(tap.build, load=options.load, signals=self._hangups)
        self.cache = Instance(build, reactor, options.config.cache_directory, {})
        self.cache.config = options.config
        self.cache.start()
        self.addCleanup(self.cache.stop)

    async def hang_up(self) -> events.Event:
        """Have it read its files again; how that ended."""
        over = events.RELOADED, events.RELOAD_REFUSED

        def told() -> list[Any]:
            return [event["event"] for event in self.events if event.get("event") in over]

        before = len(told())
        self._hangups.send()
        await eventually(lambda: len(told()) > before)
        self.assertEqual(len(told()), before + 1)
        found: events.Event = told()[-1]
        return found

    async def reload(self, text: str) -> None:
        """Put another configuration in force."""
        self.write(text)
        self.assertIs(await self.hang_up(), events.RELOADED)

    def log(self) -> str:
        """What it has logged, with all that there is behind it."""
        return "\n".join(f"{formatEvent(event)} {event!r}" for event in self.events)


class ForceTests(ReloadCase):
    """What is in force after a reload."""

    async def test_credentials(self) -> None:
        """The new password is used, in the file's registries and in the credentials file; and none is logged."""
        self.origin.auth = Tokens(users={"puller": "hunter2"}, anonymous=())
        self.begin_with(self.configuration(registry=("username: puller", "password: swordfish")))
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 401)
        await self.reload(self.configuration(registry=("username: puller", "password: hunter2")))
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 200)
        for secret in ("hunter2", "swordfish"):
            self.assertNotIn(secret, self.log())

    async def test_credentials_file(self) -> None:
        """The file that a flag names is read again as well."""
        self.origin.auth = Basic({"puller": "hunter2"})
        secrets = self.place / "credentials.yaml"
        text = f"{NAME}:\n  username: puller\n  password: %s\n"
        secrets.write_text(text % "swordfish")
        self.begin_with(self.configuration(), "--creds-file", str(secrets))
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 401)
        secrets.write_text(text % "hunter2")
        self.assertIs(await self.hang_up(), events.RELOADED)
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 200)
        secrets.write_text(text % "[hunter2]")
        self.assertIs(await self.hang_up(), events.RELOAD_REFUSED)
        self.assertIn(f"{secrets}:3: ", self.log())
        self.assertNotIn("hunter2", self.log())

    async def test_registry(self) -> None:
        """A registry that is named now is pulled from, and counted under its own name; the others as before."""
        other = self.registry()
        image = other.add_image(REPO, "2.0", seed=7)
        name = "127.0.0.1:1"
        self.begin_with(self.configuration())
        self.assertEqual((await self.ask(manifest_path("2.0", ns=name))).status, 403)
        self.assertEqual(await self.metric("crcache_requests_total", registry="other"), 1)
        await self.reload(self.configuration().replace(f"  {NAME}:", f"  {name}:\n    url: {other.url}\n  {NAME}:"))
        self.assertEqual((await self.ask(manifest_path("2.0", ns=name))).body, image.manifest)
        self.assertEqual((await self.ask(manifest_path("1.0"))).body, self.image.manifest)
        self.assertEqual(await self.metric("crcache_requests_total", registry=name), 1)
        self.assertEqual(await self.metric("crcache_requests_total", registry=NAME), 1)
        self.assertEqual(await self.metric("crcache_requests_total", registry="other"), 1)

    async def test_urls(self) -> None:
        """A registry's other URL is asked from now on, on new connections; the idle ones of before are closed."""
        mirror = self.registry(self.origin.content)
        self.begin_with(self.configuration())
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 200)
        assert self.origin.listener is not None
        self.assertEqual(self.origin.listener.connections, 1)
        await self.reload(self.configuration(url=mirror.url))
        layer = await self.ask(blob_path(self.image.layers[0]))
        self.assertTrue(layer.body == DATA)
        self.assertEqual((len(mirror.asked("blob")), len(self.origin.asked("blob"))), (1, 0))
        await eventually(lambda: self.origin.listener is None or self.origin.listener.connections == 0)

    async def test_parents(self) -> None:
        """Parents are asked from a reload on, and not any more from the next one on; no connection to them is left."""
        parent = self.registry(self.origin.content)
        self.begin_with(self.configuration())
        self.assertEqual((await self.ask(manifest_path("1.0"))).status, 200)
        asked = len(self.origin.requests)
        await self.reload(self.configuration(f"parents: [{parent.url}]"))
        self.assertTrue((await self.ask(blob_path(self.image.layers[0]))).body == DATA)
        self.assertEqual((len(self.origin.requests), len(parent.asked("blob"))), (asked, 1))
        self.write(self.configuration("parents: [rack-cache]"))
        self.assertIs(await self.hang_up(), events.RELOAD_REFUSED)
        await self.reload(self.configuration("parents: []"))
        self.assertEqual((await self.ask(LISTED)).status, 200)
        self.assertEqual((len(self.origin.requests), len(parent.asked("tags"))), (asked + 1, 0))
        await eventually(lambda: parent.listener is None or parent.listener.connections == 0)

    async def test_times_and_tags(self) -> None:
        """How long tags live, and which are never kept, is as the new file says, for what is cached already too."""
        self.begin_with(self.configuration(cache="tag-ttl: 1h"))
        await self.ask(manifest_path("1.0"))
        self.assertHit(await self.ask(manifest_path("1.0")))
        await self.reload(self.configuration(cache="tag-ttl: 0s"))
        self.assertEqual((await self.ask(manifest_path("1.0"))).one("Cache-Status"), "crcache; fwd=stale")
        await self.reload(self.configuration(cache="tag-ttl: 1h"))
        self.assertHit(await self.ask(manifest_path("1.0")))
        await self.reload(self.configuration(cache='ignore: "^1[.]"'))
        self.assertEqual((await self.ask(manifest_path("1.0"))).one("Cache-Status"), "crcache; fwd=bypass")

    async def test_absent(self) -> None:
        """What was not there before is asked for again: it may have been for want of the right settings."""
        self.begin_with(self.configuration(cache="negative-ttl: 1h"))
        self.assertEqual((await self.ask(manifest_path("2.0"))).status, 404)
        image = self.origin.add_image(REPO, "2.0", seed=7)
        self.assertEqual((await self.ask(manifest_path("2.0"))).status, 404)
        self.assertIs(await self.hang_up(), events.RELOADED)
        self.assertEqual((await self.ask(manifest_path("2.0"))).body, image.manifest)

    async def test_default_registry(self) -> None:
        """A docker client, which can name no registry, gets the one that is the default now."""
        docker = "User-Agent", "docker/27.3.1 go/go1.22.7"
        self.begin_with(self.configuration("reach:", "  default-registry: 127.0.0.1:1"))
        self.assertEqual((await self.ask(manifest_path("1.0", ns=None), docker)).status, 403)
        await self.reload(self.configuration("reach:", f"  default-registry: {NAME}"))
        self.assertEqual((await self.ask(manifest_path("1.0", ns=None), docker)).body, self.image.manifest)

    async def test_authority(self) -> None:
        """A C{ca} whose file has changed is trusted, and the one that was in it before no longer, also where there is
        still a connection that was opened with it."""
        authority, other = Authority(), Authority("another")
        secure = self.registry(self.origin.content, tls=authority.context())
        ca = other.write(self.place)
        text = self.configuration(registry=(f"ca: {ca}",), url=secure.url)
        self.begin_with(text)
        for trusted, status in ((other, 502), (authority, 200), (other, 502), (authority, 200)):
            trusted.write(self.place)
            await self.reload(text)
            self.assertEqual((await self.ask(LISTED)).status, status)

    async def test_needs_restart(self) -> None:
        """What cannot change is told of, by its key; all else is in force."""
        self.begin_with(self.configuration(cache="tag-ttl: 1h"))
        await self.ask(manifest_path("1.0"))
        elsewhere = self.place / "elsewhere"
        text = self.configuration(cache="tag-ttl: 0s").replace(f"{self.place}/cache", str(elsewhere))
        await self.reload(text.replace("admin: tcp:0:interface=127.0.0.1", "admin: off"))
        self.assertEqual((await self.ask(manifest_path("1.0"))).one("Cache-Status"), "crcache; fwd=stale")
        self.assertFalse(elsewhere.exists())
        told = [formatEvent(event) for event in self.events if event.get("event") is events.RESTART_NEEDED]
        self.assertEqual(told, [f"{key} has changed, which needs a restart" for key in ("cache.directory", "admin")])


class FlightTests(ReloadCase):
    """What is under way when the configuration changes."""

    async def test_transfer(self) -> None:
        """A transfer goes on byte for byte on its connection, though its origin's URL is another one by now; and so
        does one that waits for its head."""
        rule = self.origin.fault(Fault(stall=MIB), "blob")
        held = self.origin.fault(Fault(hold=True), "manifest")
        self.begin_with(self.configuration())
        answer = await self.begin(blob_path(self.image.layers[0]))
        await answer.until(MIB // 2)
        waiting: Deferred[Answer] = Deferred.fromCoroutine(self.ask(manifest_path("1.0")))
        await eventually(lambda: held.used)
        await self.reload(self.configuration(url="http://127.0.0.1:1"))
        rule.release()
        held.release()
        await answer.end()
        self.assertTrue(answer.complete and answer.body == DATA)
        self.assertEqual((await waiting).body, self.image.manifest)
        self.assertEqual(len(self.origin.asked("blob")), 1)
        assert self.origin.listener is not None
        await eventually(lambda: self.origin.listener is not None and self.origin.listener.connections == 0)

    async def test_resumed(self) -> None:
        """A fetch that breaks off afterwards is resumed with the new credentials, and at the new URL."""
        mirror = self.registry(self.origin.content, Basic({"puller": "hunter2"}))
        self.origin.auth = Basic({"puller": "swordfish"})
        rule = self.origin.fault(Fault(stall=MIB, cut=2 * MIB), "blob", skip=1)
        self.begin_with(self.configuration(registry=("username: puller", "password: swordfish")))
        answer = await self.begin(blob_path(self.image.layers[0]))
        await answer.until(MIB // 2)
        await self.reload(self.configuration(registry=("username: puller", "password: hunter2"), url=mirror.url))
        rule.release()
        await answer.end()
        self.assertTrue(answer.complete and answer.body == DATA)
        last = mirror.asked("blob")[-1]
        self.assertEqual((last.status, last.header("Authorization")), (206, basic("puller", "hunter2")))
        self.assertEqual(len(self.origin.asked("blob")), 2)

    async def test_often(self) -> None:
        """Reloads in a row disturb nothing, and leave nothing: no connection, no thread, no upstream."""
        rule = self.origin.fault(Fault(stall=MIB), "blob")
        self.begin_with(self.configuration())
        answer = await self.begin(blob_path(self.image.layers[0]))
        await answer.until(MIB // 2)
        for _ in range(5):
            await self.reload(self.configuration())
            self.assertEqual((await self.ask(LISTED)).status, 200)
        await self.reload(self.configuration())
        assert self.origin.listener is not None
        await eventually(lambda: self.origin.listener is not None and self.origin.listener.connections == 1)
        rule.release()
        await answer.end()
        self.assertTrue(answer.body == DATA)
        await eventually(lambda: self.origin.listener is not None and self.origin.listener.connections == 0)


class MistakeTests(ReloadCase):
    """A mistake leaves everything as it was, and is told of in one line."""

    async def refused(self, *parts: str) -> None:
        """The reload is refused with a line that has these parts, and the old configuration is in force."""
        self.assertIs(await self.hang_up(), events.RELOAD_REFUSED)
        line = [formatEvent(event) for event in self.events if event.get("event") is events.RELOAD_REFUSED][-1]
        for part in (*parts, "what was in force before stays in force"):
            self.assertIn(part, line)
        self.assertNotIn("\n", line)
        self.assertEqual((await self.ask(LISTED)).status, 200)
        self.assertNotIn("hunter2", self.log())

    async def test_file(self) -> None:
        """Whatever is wrong in the file is told with its line and key; the next proper one is taken."""
        self.origin.auth = Basic({"puller": "hunter2"})
        own = "username: puller", "password: hunter2"
        good = self.configuration(registry=own)
        self.begin_with(good)
        lines = good.count("\n")
        garbage = self.place / "garbage.pem"
        garbage.write_text("hunter2")
        one, other = (Authority().client().write(self.place, name) for name in ("one", "other"))
        half = self.place / "half.pem"
        half.write_bytes(one[0].read_bytes()[:300])
        for further, where in (
            (("registry:", "  password: hunter2"), f":{lines + 1}: unknown key 'registry'; did you mean registries?"),
            (("upstream:", "  retries: many"), f":{lines + 2}: upstream.retries: must be a whole number"),
            (("upstream: [hunter2",), f":{lines + 2}: is not YAML"),
        ):
            self.write(self.configuration(*further, registry=own))
            await self.refused(f"{self.file}{where}")
        for line, why in (
            (f"ca: {self.place}/none.pem", "/none.pem cannot be read: No such file"),
            (f"ca: {garbage}", "/garbage.pem holds no certificate"),
            (f"ca: {half}", "/half.pem holds no certificate that can be used"),
            ("tag-ttl: soon", "registries."),
        ):
            self.write(self.configuration(registry=(*own, line)))
            key = line.partition(":")[0]
            await self.refused(f"{self.file}:{lines + 1}: registries.{NAME}.{key}: ", why)
        # As when a program that renews them has written the one and not yet the other.
        self.write(self.configuration(registry=(*own, f"client-cert: {one[0]}", f"client-key: {other[1]}")))
        await self.refused(f"{self.file}:{lines + 2}: registries.{NAME}.client-key: ", "/other.key is not the key of")
        await self.reload(good)

    async def test_all_or_nothing(self) -> None:
        """What is right in a file with a mistake is not in force either."""
        self.begin_with(self.configuration(cache="tag-ttl: 1h"))
        await self.ask(manifest_path("1.0"))
        self.write(self.configuration("mistake: yes", cache="tag-ttl: 0s"))
        await self.refused("unknown key 'mistake'")
        self.assertHit(await self.ask(manifest_path("1.0")))

    async def test_gone(self) -> None:
        """A file that is gone, or cannot be read, is a mistake, though at start it would not have been missed."""
        self.begin_with(self.configuration())
        self.file.unlink()
        await self.refused(f"{self.file}", "No such file")
        self.file.mkdir()
        await self.refused(f"{self.file}", "directory")


class ListenerTests(ReloadCase):
    """The certificate of a listener."""

    async def test_renewed(self) -> None:
        """New clients see the renewed one, on the same port; one that cannot be used is told of, and nothing of that
        reload is in force."""
        first, second = Authority("first"), Authority("second")
        certificate, key = first.server().write(self.place, "server")
        listen = f"listen: ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
        self.begin_with(self.configuration(listen, cache="tag-ttl: 1h"))
        port = self.cache.port

        async def through(authority: Authority) -> Answer:
            trusted = CertificateOptions(trustRoot=Trusted.loadPEM(authority.certificate))
            way = SSL4ClientEndpoint(reactor, "127.0.0.1", port, trusted)
            return await (await send(0, request(manifest_path("1.0")), way)).end()

        self.assertEqual((await through(first)).body, self.image.manifest)
        second.server().write(self.place, "server")
        self.assertIs(await self.hang_up(), events.RELOADED)
        self.assertEqual((await through(first)).status, 0)
        self.assertHit(await through(second))
        key.write_bytes(b"nothing")
        self.write(self.configuration(listen, cache="tag-ttl: 0s"))
        self.assertIs(await self.hang_up(), events.RELOAD_REFUSED)
        for part in (f"{self.file}:9: listen: ", str(key), "holds no private key"):
            self.assertIn(part, self.log())
        self.assertHit(await through(second))


class ProcessTests(ReloadCase):
    """The real thing: twistd, and SIGHUP."""

    async def test_sighup(self) -> None:
        """The signal does it, wherever twistd has gone meanwhile; a mistake does not end the process."""
        port = self.free_port()
        listen = f"listen: tcp:{port}:interface=127.0.0.1"
        text = self.configuration(listen).replace("admin: tcp:0:interface=127.0.0.1", "admin: off")
        self.write(text)
        run = "from twisted.scripts.twistd import run; run()"
        elsewhere = self.directory()
        command = [sys.executable, "-c", run, "-n", "--pidfile=", "--rundir", str(elsewhere)]
        with (self.place / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "crcache", "--config", self.file.name],
                cwd=self.place,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.place)},
                stdout=log,
                stderr=log,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        said = (self.place / "log").read_text
        await eventually(lambda: "is ready on" in said() or process.poll() is not None)
        self.write(text + "mistake: yes\n")
        process.send_signal(signal.SIGHUP)
        await eventually(lambda: f"{self.file}:{text.count(chr(10)) + 1}: unknown key 'mistake'" in said())
        self.assertEqual(await self.listed(port), 200)
        self.write(text.replace(self.origin.url, "http://127.0.0.1:1"))
        process.send_signal(signal.SIGHUP)
        await eventually(lambda: "was read again, and is in force" in said())
        self.assertEqual(await self.listed(port), 502)

    async def listed(self, port: int) -> int:
        """The status that a list of tags has."""
        return (await (await send(port, request(LISTED))).end()).status

    def free_port(self) -> int:
        """One that is free now."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port: int = listening.getsockname()[1]
            return port
