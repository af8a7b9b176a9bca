"""What clients send beyond what they ask for: it reaches no origin, and changes nothing for anybody else."""

from __future__ import annotations

import io
import json
import re

from crcache.logs.observers import json_observer, text_observer
from crcache.testing.content import OCI_MANIFEST, Image, digest_of, noise
from crcache.testing.daemon import Instance
from crcache.testing.registry import FakeRegistry
from crcache.testing.script import Fault
from tests.clients.case import IMPATIENT, MANIFEST_TYPES, NAME, REPO, ClientCase, blob_path, manifest_path
from tests.clients.http import Answer, request, send

TAKING = ("Accept", ", ".join(MANIFEST_TYPES))
MARK = "s3cr3tm4rk"
AUTHORIZATION = ("Authorization", f"Basic {MARK}")

#: What a request to an origin may carry, in lower case; the first three are the connection's and crcache's own.
ALLOWED = {"host", "connection", "accept-encoding", "accept", "authorization", "range", "user-agent", "x-request-id"}

#: Header lines that mean something to somebody, with values that are not crcache's to pass on.
HOSTILE: tuple[tuple[str, str], ...] = (
    *(
        (name, MARK)
        for name in ("Cookie", "Cookie2", "Origin", "Referer", "From", "Via", "Forwarded", "DNT", "TE", "Trailer")
    ),
    *(
        (name, f"{MARK}.test")
        for name in ("X-Forwarded-Host", "X-Host", "X-Original-Host", "X-HTTP-Host-Override", "X-Real-IP")
    ),
    *((name, "http") for name in ("X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Url-Scheme", "Front-End-Https")),
    *(
        (name, "1")
        for name in ("X-Forwarded-Port", "X-Forwarded-For", "X-Client-IP", "Max-Forwards", "Upgrade-Insecure-Requests")
    ),
    *(
        (name, f"/{MARK}")
        for name in ("X-Forwarded-Prefix", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path", "Destination")
    ),
    *((name, "DELETE") for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")),
    *(
        (name, f"Basic {MARK}")
        for name in ("Proxy-Authorization", "X-Registry-Auth", "X-Authorization", "Authentication-Info")
    ),
    ("Proxy", f"http://{MARK}.test:3128"),
    ("Proxy-Connection", "keep-alive"),
    ("Keep-Alive", MARK),
    ("Accept-Language", MARK),
    ("Accept-Charset", MARK),
    ("Accept-Encoding", "gzip, zstd, br"),
    ("Cache-Control", f"no-store, max-age=0, {MARK}"),
    ("Pragma", f"no-cache, {MARK}"),
    ("If-Match", f'"{MARK}"'),
    ("If-Modified-Since", "Sun, 06 Nov 2094 08:49:37 GMT"),
    ("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("If-None-Match", f'"{MARK}"'),
    ("If-Range", f'"{MARK}"'),
    ("Expect", MARK),
    ("Upgrade", "h2c, websocket"),
    ("HTTP2-Settings", MARK),
    ("Content-Type", "text/html"),
    ("Content-Encoding", "gzip"),
    ("Content-Location", f"/{MARK}"),
    ("Docker-Content-Digest", digest_of(b"x")),
    ("Docker-Distribution-Api-Version", MARK),
    ("OCI-Namespace", f"{MARK}.test"),
    ("Transfer-Encoding-", "chunked"),
    ("Content_Length", "5"),
    ("X-Accel-Redirect", f"/{MARK}"),
    ("X-Sendfile", f"/{MARK}"),
    ("Surrogate-Capability", MARK),
    ("CDN-Loop", MARK),
    ("Traceparent", MARK),
    ("Baggage", MARK),
    ("Sec-Fetch-Mode", "cors"),
    ("Access-Control-Request-Method", "DELETE"),
)

#: Whole sets of lines that may change what their own sender gets, but nobody else's.
SELFISH: dict[str, tuple[tuple[str, str], ...]] = {
    "all that is hostile": HOSTILE,
    "accepts nothing that there is": (("Accept", "text/html"),),
    "accepts nothing at all": (("Accept", "*/*;q=0"),),
    "accepts nonsense": (("Accept", '"'), ("Accept", ";;;=,,,"), ("Accept", "a/b/c")),
    "credentials": (AUTHORIZATION,),
    "a token": (("Authorization", f"Bearer {MARK}"),),
    "a range": (("Range", "bytes=5-9"),),
    "ranges": (("Range", "bytes=5-9,1-2"),),
    "the last bytes": (("Range", "bytes=-3"),),
    "beyond the end": (("Range", "bytes=99999999-"),),
    "a range of another unit": (("Range", "lines=1-2"),),
    "has it": (("If-None-Match", "*"),),
    "hop by hop": (("Connection", "Authorization, Accept, Host, Range, X-Request-Id"), AUTHORIZATION),
    "a request id of its own": (("X-Request-Id", MARK),),
    "a request id that is none": (("X-Request-Id", "a b<script>"),),
    "as Docker": (("User-Agent", "docker/24.0"),),
    "a user agent with controls": (("User-Agent", "a\x1b[31m\x7fb"),),
    "HTTP/1.0 and no host": (),
}


class UnkeyedCase(ClientCase):
    """One origin with an image, a blob that no manifest names, tags and a referrer."""

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.image = self.filled(self.origin)

    @staticmethod
    def filled(registry: FakeRegistry) -> Image:
        """The same for each."""
        image = registry.add_image(REPO, "1.0")
        registry.content.tags[REPO]["latest"] = image.digest
        registry.content.add_blob(REPO, noise(4000, 9))
        return image

    def targets(self) -> list[str]:
        """One of each kind."""
        return [
            "/v2/",
            manifest_path("1.0"),
            manifest_path("latest"),
            manifest_path("2.0"),
            manifest_path(self.image.digest),
            blob_path(self.image.layers[0]),
            blob_path(self.image.layers[1]),
            blob_path(digest_of(noise(4000, 9))),
            blob_path(digest_of(b"nobody's")),
            f"/v2/{REPO}/tags/list?ns={NAME}",
            f"/v2/{REPO}/tags/list?ns={NAME}&n=1",
            f"/v2/{REPO}/referrers/{self.image.digest}?ns={NAME}",
        ]


class OriginTests(UnkeyedCase):
    """What an origin sees."""

    async def test_headers(self) -> None:
        """Of all that a client sends only a short list reaches an origin, each line once, and none of it as its sender
        chose but `Accept` (where a client's own is asked with), `Authorization`, and a well-formed request id."""
        for challenge in (False, True):
            if challenge:
                self.origin.fault(Fault(status=401, headers=(("WWW-Authenticate", 'Basic realm="x"'),)), times=None)
            for method in ("GET", "HEAD"):
                for target in self.targets():
                    for more in ((), (("Range", "bytes=5-9"),), (("Accept", "text/html"),)):
                        await self.ask(target, *HOSTILE, AUTHORIZATION, ("X-Request-Id", "mine"), *more, method=method)
        self.assertGreater(len(self.origin.requests), 60)
        authorized = 0
        for record in self.origin.requests:
            names = {name.decode().lower() for name, _ in record.headers.getAllRawHeaders()}
            self.assertLessEqual(names, ALLOWED, record.path)
            for name, values in record.headers.getAllRawHeaders():
                self.assertTrue(name.lower() == b"accept" or len(values) == 1, (name, values))
                if MARK.encode() in b"".join(values):
                    self.assertEqual((name.lower(), values), (b"authorization", [AUTHORIZATION[1].encode()]))
                    authorized += 1
            self.assertEqual(record.header("Host"), self.origin.url.removeprefix("http://"))
            self.assertEqual(record.header("Accept-Encoding"), "identity")
            self.assertEqual(record.header("X-Request-Id"), "mine")
            self.assertRegex(record.header("User-Agent") or "", r"\Acrcache/[0-9a-z.+]+\Z")
            self.assertIn(record.header("Range"), (None, "bytes=5-9", "bytes=5-"))
            self.assertIn(record.method, ("GET", "HEAD"))
            self.assertEqual(record.header("Content-Length"), None)
        self.assertGreater(authorized, 10)

    async def test_not_before_it_is_asked_for(self) -> None:
        """Credentials that a client sends unasked stay here as long as the origin does without."""
        for target in self.targets():
            await self.ask(target, AUTHORIZATION)
        self.assertGreater(len(self.origin.requests), 5)
        self.assertEqual([record.path for record in self.origin.requests if record.header("Authorization")], [])

    async def test_queries(self) -> None:
        """Of the query an origin sees what the specification has for lists, and nothing for anything else."""
        evil = (
            "service=evil&scope=x&token=x&access_token=x&url=http://evil.test/&_method=DELETE&from=x&mount=x&digest=x"
        )
        for target in self.targets():
            mark = "&" if "?" in target else "?"
            await self.ask(f"{target}{mark}{evil}&n=1&last=a%26evil%3D1&artifactType=a/b%26evil%3D2&next_page=%0d%0aX")
            await self.ask(f"{target}{mark}{evil}&last=a%26evil%3D1%23&artifactType=a/b%26evil%3D2")
        for record in self.origin.requests:
            names = {pair.partition("=")[0] for pair in record.query.split("&") if pair}
            allowed = {"tags": {"n", "last"}, "referrers": {"artifactType", "n", "last"}}
            self.assertLessEqual(names, allowed.get(record.kind, set()), record.query)
        self.assertTrue(self.origin.asked("tags"))


def seen(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """What a client goes by: without what differs from one answer to the next of itself."""
    once = ("date", "x-request-id", "age", "cache-status")
    return answer.status, sorted(line for line in answer.lines if line[0].lower() not in once), answer.body


class OthersTests(UnkeyedCase):
    """What others get."""

    def questions(self) -> list[tuple[str, str]]:
        """All that there is, by GET, and some of it by HEAD."""
        heads = [manifest_path("1.0"), manifest_path(self.image.digest), blob_path(self.image.layers[0])]
        return [*(("GET", target) for target in self.targets()), *(("HEAD", target) for target in heads)]

    async def everything(self, cache: Instance) -> list[tuple[int, list[tuple[str, str]], bytes]]:
        """What a plain client sees."""
        answers = []
        for method, target in self.questions():
            headers = (TAKING,) if "manifests" in target else ()
            answers.append(seen(await self.ask(target, *headers, method=method, to=cache)))
        return answers

    async def test_after_the_selfish(self) -> None:
        """Whatever the first client sends with its requests, the second one gets status, headers and body as if it had
        been the first."""
        expected = await self.everything(self.instance())
        self.assertEqual([status for status, _, _ in expected].count(200), 13)
        for what, lines in SELFISH.items():
            cache = self.instance()
            for method, target in reversed(self.questions()):
                if lines:
                    await self.ask(target, *lines, method=method, to=cache)
                else:
                    await (await send(cache.port, f"{method} {target} HTTP/1.0\r\n\r\n".encode())).end()
            got = await self.everything(cache)
            for question, one, other in zip(self.questions(), got, expected, strict=True):
                self.assertEqual(one, other, f"{what}: {question}")
            await cache.stop()

    async def test_after_odd_queries(self) -> None:
        """So it is after a client whose queries say more than C{ns}."""
        expected = await self.everything(self.instance())
        cache = self.instance()
        for method, target in self.questions():
            mark = "&" if "?" in target else "?"
            for odd in (
                "n=1",
                "last=zzz&artifactType=a/b",
                "service=x&_method=DELETE&digest=x",
                "NS=evil.test",
                "%6es2=x",
                ";",
            ):
                await self.ask(f"{target}{mark}{odd}", method=method, to=cache)
        self.assertEqual(await self.everything(cache), expected)

    async def test_refused_to_one(self) -> None:
        """An origin's no to a client's credentials, or `Accept`, is that client's own."""
        self.origin.fault(Fault(status=401, headers=(("WWW-Authenticate", 'Basic realm="x"'),)), times=2)
        self.assertEqual((await self.ask(manifest_path("1.0"), AUTHORIZATION)).status, 401)
        self.assertEqual((await self.ask(manifest_path("1.0"), TAKING)).status, 200)
        self.origin.fault(Fault(status=406), "manifest", times=2)
        self.assertNotEqual((await self.ask(manifest_path("latest"), ("Accept", "text/html"))).status, 200)
        self.assertEqual((await self.ask(manifest_path("latest"), TAKING)).status, 200)

    async def test_tag_means_the_same(self) -> None:
        """An origin that has something else for another `Accept` cannot be made to give it to all: a tag means what
        crcache's own `Accept` got."""
        other = noise(50)
        content = self.origin.content
        body = json.dumps(
            {"schemaVersion": 2, "config": {"digest": content.add_blob(REPO, other), "size": 50}, "layers": []}
        )
        docker = "application/vnd.docker.distribution.manifest.v1+json"

        for first in ((("Accept", docker),), (("Accept", f"{docker}, */*;q=0"),)):
            self.cache = self.instance()
            rule = self.origin.fault(
                Fault(body=body.encode(), headers=(("Content-Type", docker), ("Docker-Content-Digest", None))),
                "manifest",
                skip=1,
            )
            answer = await self.ask(manifest_path("1.0"), *first)
            self.assertEqual((rule.used, answer.one("Content-Type"), answer.body), (1, docker, body.encode()))
            for _ in range(2):
                answer = await self.ask(manifest_path("1.0"), TAKING)
                self.assertEqual((answer.one("Content-Type"), answer.body), (OCI_MANIFEST, self.image.manifest))
            await self.cache.stop()


#: What must never be asked of anybody.
SMUGGLED = f"/v2/smuggled/{MARK}/manifests/1.0?ns={NAME}"
INNER = f"GET {SMUGGLED} HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = f"0\r\n\r\n{INNER}"


def smugglers() -> dict[str, bytes]:
    """Requests in which something that reads otherwise would see a second one."""
    start = f"GET {manifest_path('1.0')} HTTP/1.1\r\nHost: x\r\n"
    length = len(INNER)
    heads = {
        "length": f"Content-Length: {length}\r\n\r\n{INNER}",
        "length and chunks": f"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{CHUNKED}",
        "chunks and length": f"Transfer-Encoding: chunked\r\nContent-Length: {len(CHUNKED)}\r\n\r\n{CHUNKED}",
        "chunks": f"Transfer-Encoding: chunked\r\n\r\n{CHUNKED}",
        "chunks, otherwise written": f"transfer-encoding:\tCHUNKED\r\n\r\n{CHUNKED}",
        "chunks, with a space": f"Transfer-Encoding : chunked\r\n\r\n{CHUNKED}",
        "chunks, folded": f"Transfer-Encoding:\r\n chunked\r\n\r\n{CHUNKED}",
        "chunks, of another kind": f"Transfer-Encoding: xchunked\r\n\r\n{CHUNKED}",
        "chunks, twice": f"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{CHUNKED}",
        "chunks, in a list": f"Transfer-Encoding: identity, chunked\r\n\r\n{CHUNKED}",
        "chunks, quoted": f'Transfer-Encoding: "chunked"\r\n\r\n{CHUNKED}',
        "chunks, with a tab": f"Transfer-Encoding: \x0bchunked\r\n\r\n{CHUNKED}",
        "two lengths": f"Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{INNER}",
        "two lengths in one": f"Content-Length: {length}, {length}\r\n\r\n{INNER}",
        "a length with a sign": f"Content-Length: +{length}\r\n\r\n{INNER}",
        "a negative length": f"Content-Length: -1\r\n\r\n{INNER}",
        "a length in hexadecimal": f"Content-Length: 0x{length:x}\r\n\r\n{INNER}",
        "a length with blanks": f"Content-Length: {length} {length}\r\n\r\n{INNER}",
        "a length with underscores": f"Content-Length: 1_0\r\n\r\n{INNER}",
        "a length beyond all bounds": f"Content-Length: {'9' * 400}\r\n\r\n{INNER}",
        "bare line feeds": f"X: y\n\n{INNER}",
        "a bare return": f"X: y\r\r{INNER}",
        "a NUL": f"X: \0\r\n\r\n{INNER}",
        "a folded line": f"X: y\r\n {INNER}",
        "a name with a blank": f"X y: z\r\n\r\n{INNER}",
        "no name": f": z\r\n\r\n{INNER}",
        "no colon": f"GET {SMUGGLED} HTTP/1.1\r\n\r\n",
        "a name with a return": f"X\r: y\r\n\r\n{INNER}",
        "upgrade": f"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\nContent-Length: 9\r\n\r\n{INNER}",
        "expect": f"Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n{INNER}",
    }
    return {name: (start + rest).encode("latin-1") for name, rest in heads.items()}


class SmugglingTests(UnkeyedCase):
    """Requests that others may understand in another way."""

    async def test_one_answer(self) -> None:
        """There is one answer, behind which the connection ends, and what was hidden is asked of nobody: neither here
        nor of the origin, whatever the proxy before crcache made of it."""
        for name, data in smugglers().items():
            answer = await send(self.cache.port, data)
            await answer.end()
            self.assertIn(answer.status, (200, 400, 405, 417), name)
            self.assertNotRegex(answer.raw, rb"HTTP/1\.1 \d", name)
            if answer.status != 200:
                self.assertEqual(answer.code, "UNSUPPORTED", name)
            self.assertEqual((await self.ask("/v2/")).status, 200)
        self.assertEqual([record.path for record in self.origin.requests if "smuggled" in record.path], [])
        asked = [event for event in self.events if "smuggled" in str(event.get("repository"))]
        self.assertEqual(asked, [])

    async def test_targets(self) -> None:
        """A request-target of another form asks for the same path here, or for nothing; its host is nobody's."""
        path = manifest_path("1.0")
        for target, status in (
            (f"http://evil.test{path}", 200),
            (f"HTTPS://evil.test:99{path}", 200),
            (f"http://user:pass@evil.test{path}", 200),
            ("http://evil.test", 404),
            (f"//evil.test{path}", 404),
            (f"ftp://evil.test{path}", 404),
            ("evil.test:443", 404),
            ("*", 404),
            (f"{path}#fragment", None),
            (path.replace("/v2/", "/v2/../v2/"), None),
            (path.replace("/v2/", "//v2/"), 404),
            (path.replace("/v2/", "/v2//"), 400),
            (path.replace("/v2/", "/V2/"), 404),
            (path.replace("/v2/", "/%762/"), 200),
            (path.replace("/manifests/", "%2fmanifests/"), None),
        ):
            answer = await self.ask(target, TAKING)
            if status is None:
                self.assertIn(answer.status, (400, 404), target)
            else:
                self.assertEqual(answer.status, status, target)
        for method in ("CONNECT", "OPTIONS", "TRACE", "PURGE", "get", "GET\x0b"):
            for target in ("evil.test:443", "*", path):
                answer = await self.ask(target, ("Max-Forwards", "0"), AUTHORIZATION, method=method)
                self.assertIn(answer.status, (400, 405), method)
                self.assertNotIn(MARK.encode(), answer.raw)
        self.assertEqual(
            {record.header("Host") for record in self.origin.requests}, {self.origin.url.removeprefix("http://")}
        )

    async def test_pipelined(self) -> None:
        """Requests one behind the other get each its own answer, in their order, whatever the first one's was."""
        for first in (
            manifest_path("1.0"),
            manifest_path("9.9"),
            blob_path(self.image.layers[0]),
            "/v2/a//b/tags/list",
        ):
            for second in (blob_path(self.image.layers[1]), "/v2/nothing"):
                single = [await self.ask(target, TAKING) for target in (first, second)]
                both = request(first, TAKING).replace(b"Connection: close\r\n", b"") + request(second, TAKING)
                answer = await (await send(self.cache.port, both)).end()
                self.assertEqual(answer.status, single[0].status)
                body, _, rest = answer.raw.partition(b"HTTP/1.1 ")
                self.assertEqual(body, single[0].body)
                self.assertTrue(rest.startswith(str(single[1].status).encode()), rest[:100])
                self.assertTrue(rest.endswith(single[1].body))


#: What would do something if it were shown as it is.
NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\x1b[2Jx",
    "a\r\nb: c",
    "a\nFAKE",
    "\u202eevil",
    "\x9b31m",
    "{0}%s{log}",
)
TEXT_LINE = re.compile(r"(?:\d{4}-\d\d-\d\dT\S+ \[[^]]*\] .*|\t.*|)\Z")


class ReflectionTests(UnkeyedCase):
    """What clients and origins say, said back, or written down."""

    def escaped(self, text: str) -> str:
        """As it is in a URL."""
        return "".join(f"%{byte:02x}" for byte in text.encode())

    async def provoke(self) -> list[Answer]:
        """All errors that have something of the request in them, each with everything nasty."""
        answers = []
        for nasty in NASTY:
            bad = self.escaped(nasty)
            raw = "".join(c if "!" <= c <= "~" else f"%{ord(c) & 255:02x}" for c in nasty)
            for target in (
                f"/{bad}",
                f"/v2/{bad}",
                f"/v2/{raw}/manifests/1.0?ns={NAME}",
                f"/v2/{REPO}/manifests/{bad}?ns={NAME}",
                f"/v2/{REPO}/manifests/{raw}?ns={NAME}",
                f"/v2/{REPO}/manifests/sha256:{raw}?ns={NAME}",
                f"/v2/{REPO}/blobs/{raw}:{raw}?ns={NAME}",
                f"/v2/{REPO}/blobs/{bad}?ns={NAME}",
                f"/v2/{REPO}/manifests/1.0?ns={bad}",
                f"/v2/{REPO}/tags/list?ns={NAME}&n={bad}",
                f"/v2/{REPO}/tags/list?ns={NAME}&last={bad}",
            ):
                answers.append(await self.ask(target))
                answers.append(await self.ask(target, method="HEAD"))
            for name in ("User-Agent", "Accept", "Authorization", "X-Request-Id", "Range", "If-None-Match", "Host"):
                line = f"GET {manifest_path('9.9')} HTTP/1.1\r\nConnection: close\r\n{name}: ".encode()
                host = b"" if name == "Host" else b"\r\nHost: x"
                # What would end a line is left out: a line is all that there is to a value.
                value = re.sub(r"[\r\n]", "", nasty).encode()
                answers.append(await (await send(self.cache.port, line + value + host + b"\r\n\r\n")).end())
            method = re.sub(r"[\s]", "", nasty).encode()
            answers.append(
                await (
                    await send(
                        self.cache.port, b"X" + method + b" /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                    )
                ).end()
            )
        return answers

    async def test_answers(self) -> None:
        """Errors are JSON in ASCII that no browser takes for a page, whatever was asked."""
        answers = await self.provoke()
        self.assertGreater(len(answers), 100)
        for answer in answers:
            self.assertEqual(answer.one("X-Content-Type-Options"), "nosniff")
            self.assertEqual(answer.one("Content-Type"), "application/json", answer.lines)
            if answer.body:
                json.loads(answer.body)
                self.assertTrue(answer.body.isascii() and answer.body.decode().isprintable(), answer.body)
            for name, value in answer.lines:
                self.assertTrue((name + value).isascii() and (name + value).isprintable(), (name, value))
                self.assertNotIn("<", value, name)

    async def test_logs(self) -> None:
        """Nothing that is said makes a second line in the log, or a character that a terminal acts on; neither what a
        client says, nor what an origin does, at debug level too."""
        await self.provoke()
        self.cache = self.instance(upstream=IMPATIENT)
        wild = ("a\x1b[31mb", "a\x9bb", "<script>", "\xe2\x80\xa8", "x" * 5000)
        for nasty in wild:
            lines = tuple(
                (name, nasty)
                for name in (
                    "Location",
                    "WWW-Authenticate",
                    "Docker-Content-Digest",
                    "Content-Type",
                    "Link",
                    "Retry-After",
                    "Date",
                    "ETag",
                )
            )
            for status in (None, 200, 301, 401, 403, 404, 429, 500, 503):
                rule = self.origin.fault(Fault(status=status, headers=lines, body=nasty.encode()), times=None)
                for target in self.targets()[1:]:
                    if status in (None, 401) or target == manifest_path("1.0"):
                        await self.ask(target, AUTHORIZATION)
                self.origin.script.rules.remove(rule)
        self.assertGreater(len(self.events), 500)
        text, lines_of_json = io.StringIO(), io.StringIO()
        as_text, as_json = text_observer(text), json_observer(lines_of_json)
        for event in self.events:
            as_text(event)
            as_json(event)
        for line in text.getvalue().split("\n"):
            self.assertRegex(line, TEXT_LINE)
            self.assertTrue(line.replace("\t", "").replace("\u202e", "").isprintable(), ascii(line))
        for line in lines_of_json.getvalue().splitlines():
            self.assertTrue(line.isascii() and line.isprintable())
            json.loads(line)
        self.assertNotIn(MARK, text.getvalue())
        self.assertNotIn(MARK, lines_of_json.getvalue())
        self.flushLoggedErrors()
