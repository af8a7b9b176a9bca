"""Nothing secret comes out of a whole daemon, wherever one may look, however it went in and whatever went wrong."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from crcache.testing.auth import Auth, Basic, Tokens, basic
from crcache.testing.certificates import Authority
from crcache.testing.content import noise
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from tests.clients.http import Answer, request, send
from tests.credentials.programs import Shelf
from tests.upstream.fakeproxy import FakeProxy
from tests.web.cases import AsyncTestCase, pause, reactor

ROOT = Path(__file__).resolve().parents[1]
#: Twistd as it is, but for where the journal is.
_TWISTD = (
    "import os, sys; from crcache.logs.service import Logs;"
    " Logs.__init__.__defaults__ = (os.environ, os.environ['TEST_JOURNAL']);"
    " from twisted.scripts.twistd import run; run()"
)
REPO = "team/app"
#: So many seconds something may take that is not to be waited for.
PATIENCE = 20


def secret(name: str) -> str:
    """Something secret, which looks another way in URLs."""
    return f"hunter2/{name}+&="


#: Everything that is secret, by the way it goes in.
SECRETS = {
    name: secret(name)
    for name in (
        "configuration",
        "file",
        "identity",
        "helper",
        "helper-error",
        "refused",
        "withheld",
        "tls",
        "text",
        "proxy",
        "client-basic",
        "client-bearer",
        "cookie",
        "query",
        "signed",
        "userinfo",
        "realm-answer",
        "mistake",
    )
}


def forms(text: str) -> Iterator[bytes]:
    """How a text may look: as it is, quoted for URLs and JSON, in hexadecimal, and in base64 at each of its offsets."""
    data = text.encode()
    yield from (data, quote(text).encode(), quote(text, safe="").encode(), quote_plus(text).encode())
    yield from (text.replace("/", "\\/").encode(), data.hex().encode())
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + data)
        # But for what is made of its neighbours' bits as well.
        middle = encoded[4 if offset else 0 :].rstrip(b"=")[:-1]
        yield from (middle, middle.translate(bytes.maketrans(b"+/", b"-_")))


def found(data: bytes, secrets: Mapping[str, str]) -> set[str]:
    """Which of the secrets are in there."""
    return {name for name, text in secrets.items() if any(form in data for form in forms(text))}


class SearchTests(SynchronousTestCase):
    """The search itself."""

    def test_forms(self) -> None:
        """A secret is found in each of the forms in which it could come out, and only there."""
        text = secret("x")
        for data in (
            f"password={text}",
            f"https://host/?sig={quote(text, safe='')}",
            json.dumps({"a": text}),
            basic("puller", text),
            basic("user", text),
            basic("me", text),
            base64.urlsafe_b64encode(f"u:{text}:more".encode()).decode(),
            repr(text.encode()),
            text.encode().hex(),
        ):
            self.assertEqual(found(b"before " + data.encode() + b" after", {"x": text}), {"x"}, data)
        self.assertEqual(found(b"hunter2/y+&= aHVudGVyMi", {"x": text}), set())


class Journal:
    """Takes what is written to a journal."""

    def __init__(self, path: Path) -> None:
        self.received: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while data := self._socket.recv(1 << 20):
            self.received.append(data)

    def stop(self) -> None:
        """Take no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


class DaemonTests(AsyncTestCase):
    """A daemon of its own process, at debug level, with all that is secret.

    @ivar told: what it has given away, by where that was.
    @ivar tokens: what realms gave out, which is as secret.
    """

    timeout = 90

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        for name in ("work", "run"):
            (self.directory / name).mkdir()
        self.shelf = Shelf(self.directory / "bin")
        self.shelf.add(
            "good",
            f"tr '\\0' ' ' </proc/$$/cmdline >>$0.ps; tr '\\0' ' ' </proc/$PPID/cmdline >>$0.ps\nenv >$0.env\n"
            f"echo '{SECRETS['helper-error']}' >&2\n"
            + self.shelf.said(json.dumps({"Username": "puller", "Secret": SECRETS["helper"]})),
        )
        self.shelf.add("bad", f"echo '{SECRETS['helper-error']}' >&2\n" + self.shelf.said(SECRETS["helper-error"], 1))
        self.journal = Journal(self.directory / "journal")
        self.addCleanup(self.journal.stop)
        self.proxy = FakeProxy()
        self.addCleanup(self.proxy.stop)
        self.told: dict[str, bytes] = {}
        self.issued: list[Tokens] = []
        self.origins: dict[str, FakeRegistry] = {}
        self.addCleanup(lambda: [origin.stop() for origin in self.origins.values()])

    # What there is

    def origin(self, name: str, auth: Auth | None = None, tls: Any = None) -> FakeRegistry:
        """A registry, with an image that a pull takes."""
        made = self.origins[name] = FakeRegistry(auth=auth)
        self.image = made.add_image(REPO, "1.0", [noise(3000, 1), noise(3000, 2), noise(3000, 3)])
        made.start(reactor, tls)
        if isinstance(auth, Tokens):
            self.issued.append(auth)
        return made

    def registries(self) -> None:
        """One for each way in which credentials are used, and in which that goes wrong."""
        self.origin("configured.test", Basic({"puller": SECRETS["configuration"]}))
        self.origin("file.test", Tokens(users={"puller": SECRETS["file"]}, anonymous=()))
        self.origin("identity.test", Tokens(anonymous=(), identity_tokens={SECRETS["identity"]: "puller"}))
        self.origin("helped.test", Basic({"puller": SECRETS["helper"]}))
        self.origin("unhelped.test", Tokens())
        self.origin("refused.test", Basic({"puller": "another"}))
        self.origin("refused-token.test", Tokens(users={"puller": "another"}))
        self.origin("text.test", Basic({"puller": SECRETS["text"]}))
        elsewhere = Tokens()
        thief = self.origin("thief.test", elsewhere)
        elsewhere.realm = thief.url.replace("127.0.0.1", "localhost") + "/token"
        self.origin("withheld.test", elsewhere)
        self.origin("tls.test", Basic({"puller": SECRETS["tls"]}), Authority().context())
        self.origin("client.test", Tokens(users={"alice": SECRETS["client-basic"]}, anonymous=()))
        self.origin("client-basic.test", Basic({"alice": SECRETS["client-basic"]}))
        answer = json.dumps({"tokn": SECRETS["realm-answer"]}).encode()
        faults = (
            Fault(body=answer),
            Fault(body=SECRETS["realm-answer"].encode()),
            Fault(status=500, body=answer),
            Fault(status=403, body=answer),
            Fault(body=b'{"token": "%s\\u0000"}' % SECRETS["realm-answer"].encode()),
            Fault(hold=True),
            Fault(redirect=f"/token?code={quote(SECRETS['signed'])}"),
            Fault(hang_up=True),
        )
        self.broken = [f"broken{number}.test" for number, _ in enumerate(faults)]
        for name, fault in zip(self.broken, faults, strict=True):
            self.origin(name, Tokens(users={"puller": SECRETS["file"]})).fault(fault, "token", times=None)
        self.origin("signed.test")

    def configuration(self) -> dict[str, Any]:
        """The configuration; the proxy is for one registry alone."""
        named: dict[str, dict[str, str]] = {name: {"url": origin.url} for name, origin in self.origins.items()}
        named["configured.test"] |= {"username": "puller", "password": SECRETS["configuration"]}
        named["proxied.test"] = {"url": "http://proxied.invalid"}
        return {
            "listen": "tcp:0:interface=127.0.0.1",
            "admin": "tcp:0:interface=127.0.0.1",
            "log-level": "debug",
            "drain-timeout": "1s",
            "cache": {"directory": str(self.directory / "cache"), "ignore": "^$"},
            "upstream": {"first-byte-timeout": "1s", "connect-timeout": "1s", "retries": 0},
            "registries": named,
        }

    def credentials(self) -> dict[str, Any]:
        """A docker C{config.json}."""
        passwords = {
            "refused.test": "refused",
            "refused-token.test": "refused",
            "withheld.test": "withheld",
            "tls.test": "tls",
            "file.test": "file",
            "proxied.test": "file",
            **dict.fromkeys(self.broken, "file"),
        }
        auths = {name: {"auth": basic("puller", SECRETS[which]).split()[1]} for name, which in passwords.items()}
        identity = {"auth": basic("<token>", "")[6:], "identitytoken": SECRETS["identity"]}
        return {
            "auths": {**auths, "identity.test": identity},
            "credHelpers": {"helped.test": "good", "unhelped.test": "bad"},
        }

    @property
    def environ(self) -> dict[str, str]:
        """That of the daemon: its flag wins over the text."""
        text = {"auths": {"text.test": {"auth": basic("puller", SECRETS["text"]).split()[1]}}}
        return {
            **self.shelf.environ,
            "PATH": f"{self.shelf.environ['PATH']}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.directory),
            "RUNTIME_DIRECTORY": str(self.directory / "run"),
            "CRCACHE_CREDENTIALS": json.dumps(text),
            "HTTP_PROXY": f"http://user:{quote(SECRETS['proxy'], safe='')}@127.0.0.1:{self.proxy.port}",
            "NO_PROXY": "127.0.0.1,localhost",
            "TEST_JOURNAL": str(self.directory / "journal"),
        }

    # The daemon

    def write(self, configuration: object = None, credentials: object = None) -> None:
        """The two files; text is written as it is."""
        for name, content in (
            ("crcache.yaml", configuration or self.configuration()),
            ("config.json", credentials or self.credentials()),
        ):
            path = self.directory / name
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            path.chmod(0o600)

    async def start(self, form: str, flags: tuple[str, ...]) -> None:
        """Start it, and find out where it listens."""
        self.output = self.directory / f"output-{form}"
        with self.output.open("wb") as output:
            self.child = subprocess.Popen(
                [
                    *("sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh"),
                    *(sys.executable, "-c", _TWISTD, "-n", "--pidfile=", "crcache"),
                    *("--config", str(self.directory / "crcache.yaml"), "--log-format", form, *flags),
                ],
                cwd=self.directory / "work",
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.addCleanup(self.child.wait)
        self.addCleanup(self.child.kill)
        ready = rb"is ready on 127\.0\.0\.1:(\d+), 127\.0\.0\.1:(\d+)"
        await self.until(lambda: re.search(ready, self.logged()))
        match = re.search(ready, self.logged())
        assert match is not None
        self.port, self.admin = int(match[1]), int(match[2])

    def logged(self) -> bytes:
        """All that it has written."""
        return self.output.read_bytes() + b"\n".join(self.journal.received)

    async def until(self, holds: Any) -> None:
        """Wait for something."""
        for _ in range(PATIENCE * 50):
            if holds():
                return
            self.assertIsNone(self.child.poll(), self.output.read_text())
            await pause(0.02)
        self.fail(self.logged().decode(errors="replace"))

    async def reload(self, configuration: object = None, credentials: object = None) -> None:
        """Have it read the files again, until it has said what it makes of them."""
        before = len(re.findall(rb"in force", self.logged()))
        self.write(configuration, credentials)
        self.child.send_signal(signal.SIGHUP)
        await self.until(lambda: len(re.findall(rb"in force", self.logged())) > before)

    async def stop(self) -> None:
        """End it."""
        self.child.send_signal(signal.SIGTERM)
        done: Deferred[int] = deferToThread(self.child.wait, PATIENCE)
        # twistd ends by the signal that it was sent.
        self.assertEqual(await done, -signal.SIGTERM)

    # What it is asked

    async def ask(self, name: str, target: str, *headers: tuple[str, str], more: str = "") -> Answer:
        """A client's question; what it is answered is kept."""
        path = f"/v2/{REPO}/{target}?ns={name}{more}"
        answer = await (await send(self.port, request(path, *headers))).end()
        self.told[f"answer {len(self.told)} to {name} {target}"] = repr(answer.lines).encode() + answer.raw
        return answer

    async def pull(self, name: str, *headers: tuple[str, str], more: str = "") -> list[int]:
        """A manifest and a layer; returns the statuses."""
        targets = "manifests/1.0", f"blobs/{self.image.layers[0]}"
        return [(await self.ask(name, target, *headers, more=more)).status for target in targets]

    async def pulls(self, text: bool) -> None:
        """All that a cluster does in a bad week."""
        good = [200, 200]
        if text:
            self.assertEqual(await self.pull("text.test"), good)
        else:
            for name in ("configured.test", "file.test", "identity.test", "helped.test", "unhelped.test"):
                self.assertEqual(await self.pull(name), good, name)
            self.assertEqual(await self.pull("refused.test"), [401, 401])
            self.assertEqual(await self.pull("refused-token.test"), good)
            self.assertEqual(await self.pull("withheld.test"), good)
            self.assertNotIn(200, await self.pull("tls.test"))
            await gatherResults(
                [Deferred.fromCoroutine(self.ask(name, "manifests/1.0")) for name in (*self.broken, "signed.test")]
            )
        await self.pull("proxied.test")
        self.proxy.answer = b"HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
        await self.ask("proxied.test", "manifests/2.0")
        self.proxy.answer = None
        await self.clients()
        await self.links()

    async def clients(self) -> None:
        """What clients bring, right and wrong."""
        tokens = self.origins["client.test"].auth
        assert isinstance(tokens, Tokens)
        bearer = tokens.issue("alice", [f"repository:{REPO}:pull"])
        self.bearers = [bearer]
        password = ("Authorization", basic("alice", SECRETS["client-basic"]))
        self.assertEqual(await self.pull("client.test", ("Authorization", f"Bearer {bearer}")), [200, 200])
        self.assertEqual(await self.pull("client-basic.test", password), [200, 200])
        for value in (f"Bearer {SECRETS['client-bearer']}", f"Digest {SECRETS['client-bearer']}", password[1]):
            await self.pull("client.test", ("Authorization", value))
        await self.pull("configured.test", password, ("Cookie", SECRETS["cookie"]))
        await self.pull("signed.test", ("Cookie", SECRETS["cookie"]), more=f"&token={quote(SECRETS['query'])}")

    async def links(self) -> None:
        """Signed links, followed, broken, and not to be followed."""
        origin = self.origins["signed.test"]
        bare = origin.url.removeprefix("http://")
        signed, user = quote(SECRETS["signed"], safe=""), quote(SECRETS["userinfo"], safe="")
        for layer, link in zip(
            self.image.layers * 2,
            (
                f"{origin.url}/cdn/{{digest}}?X-Amz-Signature={signed}",
                f"http://me:{user}@{bare}/cdn/{{digest}}?sig={signed}",
                f"http://127.0.0.1:1/cdn?sig={signed}",
                f"gopher://{bare}/?sig={signed}",
                f"/elsewhere?sig={signed}",
                f"https://{bare}/?sig={signed}",
            ),
            strict=True,
        ):
            origin.fault(Fault(redirect=link), "blob", times=1)
            await self.ask("signed.test", f"blobs/{layer}")

    async def mistakes(self) -> None:
        """Files that are saved with a mistake in, or beside, what is secret."""
        text = SECRETS["mistake"]
        entry = "registries: {{configured.test: {{username: puller, {}}}}}"
        for wrong in (
            f'registries: {{configured.test: {{username: puller, password: "{text}',
            entry.format(f"pasword: '{text}'"),
            entry.format(f"password: '{text}', {text}"),
            entry.format(f"password: [{text}]"),
            entry.format(f"password: '{text}\u0007'"),
            entry.format(f"password:{text}"),
            f"registries: {{configured.test: {{url: 'https://me:{quote(text)}@host'}}}}",
            f"upstream: {{proxy: 'http://me:{quote(text)}@host:1'}}",
        ):
            await self.reload(wrong)
        self.check_config(1)
        for wrong in (
            json.dumps({"auths": {"x.test": {"auth": text}}}),
            json.dumps({"auths": {"x.test": {"auth": base64.b64encode(text.encode()).decode()}}}),
            json.dumps({"auths": {"x.test": {"username": "a:b", "password": text}}}),
            json.dumps({"auths": {f"me:{quote(text, safe='')}@x.test": {"username": text}}}),
            json.dumps({"auths": {"x.test": text}})[:-3],
            json.dumps({"credsStore": text}),
        ):
            await self.reload(None, wrong)
        self.check_config(1)
        await self.reload()

    def check_config(self, expected: int) -> None:
        """What the administrator's tool says."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "crcache.cli", "check-config", "-c", str(self.directory / "crcache.yaml")),
                *("-f", str(self.directory / "config.json")),
            ],
            env=self.environ,
            capture_output=True,
            check=False,
            timeout=PATIENCE,
        )
        self.assertEqual(done.returncode, expected, done)
        self.told[f"check-config {len(self.told)}"] = done.stdout + done.stderr

    async def look(self) -> None:
        """At everything that operators can see."""
        for path in ("/", "/metrics", "/api/status", "/readyz", "/healthz", "/nothing"):
            answer = await (await send(self.admin, request(path))).end()
            self.told[path] = repr(answer.lines).encode() + answer.raw
        process = Path(f"/proc/{self.child.pid}")
        self.told["ps"] = (process / "cmdline").read_bytes()
        # It leaves no core file, whatever it was started with.
        self.assertRegex((process / "limits").read_text(), r"Max core file size +0 ")
        helper = self.shelf.directory / "docker-credential-good"
        for suffix in (".ps", ".env"):
            if Path(f"{helper}{suffix}").exists():
                self.told[f"helper{suffix}"] = Path(f"{helper}{suffix}").read_bytes()

    def nothing(self) -> None:
        """None of it is anywhere."""
        secrets = {**SECRETS, **{f"token {index}": text for index, text in enumerate(self.bearers)}}
        for tokens in self.issued:
            secrets.update({f"realm's token {text}": text for text in tokens._tokens})
        self.assertGreater(len(secrets), len(SECRETS) + 1)
        self.told["log"] = self.logged()
        for name, least in (("cache", 5), ("run", 1), ("work", 0)):
            files = [path for path in (self.directory / name).rglob("*") if path.is_file()]
            self.assertGreaterEqual(len(files), least, name)
            for path in files:
                self.told[str(path)] = str(path).encode() + path.read_bytes()
        # A helper needs the proxy of the environment, whose password is in that.
        self.told["helper.env"] = re.sub(b"(?m)^HTTP_PROXY=.*", b"", self.told.get("helper.env", b""))
        seen = {where: names for where, data in self.told.items() if (names := found(data, secrets))}
        self.assertEqual(seen, {})
        self.assertEqual(list((self.directory / "work").iterdir()), [])

    async def run_it(self, form: str, text: bool = False) -> None:
        """All of it, logged in this form."""
        self.registries()
        self.write()
        await self.start(form, () if text else ("--creds-file", str(self.directory / "config.json")))
        await self.pulls(text)
        if form == "text":
            await self.mistakes()
            self.check_config(0)
        await self.look()
        await self.stop()
        self.nothing()
        log = self.told["log"]
        for line in (
            (b"refuses the credentials of puller", b"gives no credentials for unhelped.test") if not text else ()
        ):
            self.assertIn(line, log)
        self.assertIn(b"client.test", log)
        self.assertIn(b"/cdn/sha256:", log)
        self.assertNotIn(b"Traceback", log)

    async def test_text(self) -> None:
        """In text: files, helpers and clients; everything that goes wrong, and mistakes in the files."""
        await self.run_it("text")

    async def test_journal(self) -> None:
        """The same in the journal."""
        await self.run_it("journal")

    async def test_json(self) -> None:
        """In JSON, with the text of the credentials in the environment."""
        await self.run_it("json", text=True)
