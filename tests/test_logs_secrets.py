"""What must be in no log, at any level and in any form: credentials, tokens, signed links."""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.logger import LogPublisher

from crcache.grammar.reference import Registry
from crcache.host.journal import Entry, encode
from crcache.logs.observers import JournalObserver, json_observer, text_observer
from crcache.secret import Secret
from crcache.settings import Credential, Credentials
from crcache.testing.auth import Basic, Tokens, basic
from crcache.testing.content import noise
from crcache.testing.script import Fault
from tests.clients.case import NAME, REPO, ClientCase, blob_path, eventually, manifest_path

#: Marks what is secret; nothing else here has it in it.
MARK = "hunter2"


class SecretTests(ClientCase):
    """Whole pulls, with everything logged in all three forms."""

    def setUp(self) -> None:
        super().setUp()
        self.text, self.json, self.journal = io.StringIO(), io.StringIO(), io.BytesIO()
        journal: Any = self
        self._observe(LogPublisher(text_observer(self.text), json_observer(self.json), JournalObserver(journal)))

    def send(self, entry: Entry) -> None:
        """As a journal."""
        self.journal.write(encode(entry))

    def nothing_secret(self, *secrets: str) -> None:
        """No form has any of these in it, and each of them has said a lot."""
        for told in (self.text.getvalue(), self.json.getvalue(), self.journal.getvalue().decode()):
            self.assertIn(NAME, told)
            self.assertIn(REPO, told)
            for secret in secrets:
                self.assertNotIn(secret, told)

    async def test_clients(self) -> None:
        """A client's own credentials and token, right and wrong ones, and what it puts into queries."""
        tokens = Tokens(users={"alice": MARK}, anonymous=())
        self.origin.auth = tokens
        image = self.origin.add_image(REPO, "1.0")
        token = tokens.issue("alice", [f"repository:{REPO}:pull"])
        wrong = f"wrong-{MARK}-token"
        password = basic("alice", MARK)
        for value in (f"Bearer {token}", f"Bearer {wrong}", password, f"Digest {MARK}"):
            for target in (manifest_path("1.0"), blob_path(image.layers[0])):
                await self.ask(target, ("Authorization", value))
                await self.ask(f"{target}&password={MARK}", ("Authorization", value), ("Cookie", MARK))
        self.nothing_secret(token, MARK, password.partition(" ")[2])

    async def test_administrators(self) -> None:
        """The administrator's, whether taken or refused, with tokens and without."""
        credentials = Credentials({(Registry(NAME), ()): Credential("puller", Secret(MARK))})
        self.cache = self.instance(credentials=credentials)
        encoded = basic("puller", MARK).partition(" ")[2]
        for number, users in enumerate(({"puller": MARK}, {"puller": "another"})):
            for auth in (Tokens(users=users, anonymous=()), Basic(users)):
                self.origin.auth = auth
                image = self.origin.add_image(REPO, f"1.{number}", seed=100 * number)
                await self.ask(manifest_path(f"1.{number}"))
                await self.ask(blob_path(image.layers[0]))
        self.assertIn("refuse", self.text.getvalue())
        self.nothing_secret(MARK, encoded)

    async def test_signed_links(self) -> None:
        """Links that open something by themselves, followed, broken, and not to be followed."""
        cdn = self.registry(self.origin.content)
        image = self.origin.add_image(REPO, "1.0", [noise(5000, 1), noise(5000, 2), noise(5000, 3), noise(5000, 4)])
        bare = cdn.url.removeprefix("http://")
        for layer, link in zip(
            image.layers,
            (
                f"{cdn.url}/cdn/{{digest}}?X-Amz-Signature={MARK}",
                f"http://me:{MARK}@{bare}/cdn/{{digest}}?sig={MARK}",
                f"http://127.0.0.1:1/cdn?sig={MARK}",
                f"gopher://{bare}/?sig={MARK}",
            ),
            strict=True,
        ):
            self.origin.fault(Fault(redirect=link), "blob", times=1)
            await self.ask(blob_path(layer))
        self.nothing_secret(MARK)

    async def test_something_is_logged(self) -> None:
        """The forms have seen what happened, down to single questions to the origin."""
        image = self.origin.add_image(REPO, "1.0")
        await self.ask(blob_path(image.layers[0]))
        # It is told of a moment after clients have it, and files are in their place.
        await eventually(lambda: {"request", "fetched"} <= self.said("event"))
        self.assertTrue({"debug", "info"} <= self.said("level"))

    def said(self, field: str) -> set[object]:
        """What the lines of JSON have in a field."""
        return {json.loads(line).get(field) for line in self.json.getvalue().splitlines()}
