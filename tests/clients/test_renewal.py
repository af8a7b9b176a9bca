"""Credentials that change, and such as programs know, in a whole crcache: nobody tells it."""

from __future__ import annotations

import json
import os
from functools import partial

from crcache import events, tap
from crcache.testing.auth import Basic, Tokens
from crcache.testing.daemon import Instance
from crcache.watching import Watching
from tests.clients.case import NAME, eventually, manifest_path
from tests.clients.http import request, send
from tests.clients.test_reload import ReloadCase
from tests.credentials.programs import Shelf
from tests.web.cases import reactor


class RenewalTests(ReloadCase):
    """A crcache with a file of credentials, which looks at it all the time."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(Watching.__init__, "__defaults__", (0.01,))
        self.secrets = self.place / "credentials.yaml"
        self.shelf = Shelf(self.place / "bin")

    def begin_it(self) -> None:
        """Start it."""
        self.write(self.configuration())
        options = tap.Options({}, reactor, self.file)
        options.parseOptions(["--creds-file", str(self.secrets)])
        # Helpers are looked for in the process's own environment, which tests run without.
        environ = self.shelf.environ
        build = partial(tap.build, load=options.load, credentials=options.credentials, signals=self._hangups)
        self.cache = Instance(
            lambda *args, **further: build(*args, **{**further, "environ": environ}),
            reactor,
            options.config.cache_directory,
            {},
        )
        self.cache.config = options.config
        self.cache.start()
        self.addCleanup(self.cache.stop)

    def say(self, text: str) -> None:
        """Put another file in its place."""
        draft = self.secrets.with_name("draft")
        draft.write_text(text)
        draft.chmod(0o600)
        os.replace(draft, self.secrets)

    def entry(self, password: str) -> str:
        return f"{NAME}:\n  username: puller\n  password: {password}\n"

    def told(self, event: events.Event) -> int:
        """How often that was said."""
        return len([each for each in self.events if each.get("event") is event])

    async def status(self, tag: str = "1.0") -> int:
        return (await self.ask(manifest_path(tag))).status

    async def test_changed(self) -> None:
        """A new password is used, with nothing but the file's being replaced, on the connections that there are; a
        mistake leaves the one before in force; a reload reads the file, too."""
        self.origin.auth = Tokens(users={"puller": "hunter2"}, anonymous=())
        self.origin.add_image("library/app", "2.0", seed=7)
        self.say(self.entry("swordfish"))
        self.begin_it()
        self.assertEqual(await self.status(), 401)
        assert self.origin.listener is not None
        connections = self.origin.listener.accepted
        self.say(self.entry("hunter2"))
        await eventually(lambda: self.told(events.RELOADED))
        self.assertEqual(await self.status(), 200)
        self.assertEqual(self.origin.listener.accepted, connections)
        self.say(self.entry("[hunter2"))
        await eventually(lambda: self.told(events.RELOAD_REFUSED))
        self.assertEqual(await self.status("2.0"), 200)
        self.say(self.entry("wrong"))
        await eventually(lambda: self.told(events.RELOADED) == 2)
        self.assertEqual(self.told(events.RELOAD_REFUSED), 1)
        self.assertIs(await self.hang_up(), events.RELOADED)
        for secret in ("hunter2", "swordfish"):
            self.assertNotIn(secret, self.log())

    async def test_helper(self) -> None:
        """A helper's login opens a registry; one that has ended is renewed; and one of the file's after it is none."""
        self.shelf.add("cloud")
        passwords = {"puller": f"secret-of-{NAME}"}
        self.origin.auth = Basic(passwords)
        self.origin.add_image("library/app", "2.0", seed=7)
        self.say(json.dumps({"credHelpers": {NAME: "cloud"}}))
        self.begin_it()
        self.assertEqual(await self.status(), 200)
        self.assertEqual(await self.status(self.image.digest), 200)
        self.assertEqual(self.shelf.count, 1)
        passwords["puller"] = "renewed"
        self.shelf.add("cloud", self.shelf.said(json.dumps({"Username": "puller", "Secret": "renewed"})))
        self.assertEqual(await self.status("2.0"), 200)
        self.assertEqual(self.shelf.count, 2)
        self.assertNotIn("secret-of", self.log())

    async def test_stopped_meanwhile(self) -> None:
        """A helper that hangs keeps nobody: the daemon ends, and it with it."""
        self.shelf.add("cloud", "exec sleep 60\n")
        self.origin.auth = Basic({"puller": "x"})
        self.say(json.dumps({"credsStore": "cloud"}))
        self.begin_it()
        asking = await send(self.cache.port, request(manifest_path("1.0")))
        await eventually(lambda: self.shelf.count)
        began = reactor.seconds()
        await self.cache.stop()
        self.assertLess(reactor.seconds() - began, 5)
        asking.leave()
