"""Private images, which only clients' own credentials open, pulled through crcache from real registries."""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.real.containerd import Containerd
from tests.real.daemon import Daemon
from tests.real.images import MIB, Image, make_image, make_naming
from tests.real.kubelet import Pull
from tests.real.library import MULTI, small
from tests.real.originlog import agents, fetches
from tests.real.processes import run, until
from tests.real.registries import PASSWORD, USERNAME, DockerRegistry
from tests.real.scene import CURL, Download, Scene, digest_of
from tests.real.statics import StaticOrigin
from tests.real.tokens import TokenServer

_NAME = "registry.test"
_REFERENCE = f"{_NAME}/{MULTI}:1.0"
_LOGIN = USERNAME, PASSWORD
_OTHER = "bob", "hunter2"
_BASIC = ("--user", ":".join(_LOGIN))
_WRONG = ("--user", f"{USERNAME}:wrong")
#: A refusal is told again for so long without asking, so that no question depends on how slow the machine is.
_UNHURRIED = {"cache": {"negative-ttl": "10m"}}


class Questions:
    """What an origin is asked from now on, by its own log."""

    def __init__(self, origin: DockerRegistry, *daemons: Daemon) -> None:
        """
        @param daemons: all that ask it.
        """
        self._origin = origin
        self._daemons = daemons
        self._seen = len(origin.served())
        self._before = self._put()

    def __call__(self) -> Counter[str]:
        """Since the last call: method, what for and the answer's status; and how often."""
        # A line is written after the answer's end.
        until("the origin's log", lambda: len(self._origin.served()) - self._seen >= self._put() - self._before)
        served = self._origin.served()[self._seen :]
        self._seen, self._before = self._seen + len(served), self._put()
        return Counter(f"{each.method} {'blob' if each.blob else 'manifest'} {each.status}" for each in served)

    def _put(self) -> float:
        """How often the daemons have asked, apart from tokens."""
        kinds = "manifest", "blob"
        name = "crcache_upstream_requests_total"
        return sum(daemon.metrics(name, kind=kind) for daemon in self._daemons for kind in kinds)


class PrivateScene(Scene):
    """A registry's storage with one image in it."""

    def setUp(self) -> None:
        """Make what every test needs."""
        super().setUp()
        self.storage, self.image = small()
        self.runtime = self.place("runtime")
        self.runtime.chmod(0o700)

    def registry(self, name: str = "origin", **how: Any) -> DockerRegistry:
        """One that holds the image; see L{DockerRegistry}."""
        return self.ending(DockerRegistry(self.place(name), self.storage, **how))

    def daemon(self, *origins: DockerRegistry | StaticOrigin, name: str = "crcache", **settings: Any) -> Daemon:
        """A crcache without credentials of its own, for the registry C{_NAME} and the others that attack it."""
        names = [_NAME, "attacker.test", "liar.test"]
        # The token server is there.
        trusted = {"trusted-hosts": ["127.0.0.1"]}
        registries = {
            name: {"url": origin.url, **trusted, **({"ca": str(origin.ca)} if origin.ca else {})}
            for name, origin in zip(names, origins, strict=False)
        }
        settings.setdefault("settings", _UNHURRIED)
        return self.crcache(self.directory / name, registries, runtime=self.runtime, **settings)

    def objects(self, image: Image | None = None) -> list[str]:
        """The paths of a whole image's objects: all manifests, then all blobs; the tag first."""
        image = image or self.image
        return [
            f"/v2/{MULTI}/manifests/{image.tag}",
            *(
                f"/v2/{MULTI}/manifests/{digest}"
                for digest in sorted(image.manifests, key=lambda each: each != image.top)
            ),
            *(f"/v2/{MULTI}/blobs/{digest}" for digest in image.blobs),
        ]

    def answers(self, base: str, *flags: str, name: str = _NAME, paths: Sequence[str] = ()) -> list[tuple[str, str]]:
        """What each of the image's objects is answered with: status, and challenge."""
        command = [*CURL, *flags, "--write-out", "%{http_code} %header{www-authenticate}\n"]
        for path in paths or self.objects():
            command += ["--output", "/dev/null", f"{base}{path}?ns={name}"]
        lines = [line.partition(" ") for line in run(command).splitlines()]
        return [(status, challenge) for status, _, challenge in lines]

    def statuses(self, base: str, *flags: str, **how: Any) -> set[str]:
        """The statuses alone."""
        return {status for status, _ in self.answers(base, *flags, **how)}


class NamedElsewhereTests(PrivateScene):
    """
    Two registries of attackers' own: one that has every manifest and no bytes, and one whose manifest names a digest
    that it says it has, of the right size; but the bytes are others.
    """

    def setUp(self) -> None:
        """Begin them."""
        super().setUp()
        self.layer, size = self.image.largest, self.image.blobs[self.image.largest]
        storage = self.directory / "attacker-storage"
        run(["cp", "-al", str(self.storage), str(storage)])
        for digest in self.image.blobs:
            algorithm, hexadecimal = digest.split(":")
            shutil.rmtree(storage / "docker/registry/v2/blobs" / algorithm / hexadecimal[:2] / hexadecimal)
        self.attacker = self.ending(DockerRegistry(self.place("attacker"), storage))
        self.liar = self.ending(StaticOrigin(self.directory / "liar"))
        self.lie = make_naming(self.directory / "lie", "1.0", {self.layer: size})
        self.liar.publish(self.lie, MULTI)
        other = self.directory / "zeros"
        other.write_bytes(bytes(size))
        self.liar.publish_blob(other, MULTI, self.layer)
        self.liar.start()

    def opens_nothing(self, daemon: Daemon) -> None:
        """Both name the private layer to crcache; neither gets its bytes out."""
        manifests, blobs = ([path for path in self.objects() if kind in path] for kind in ("/manifests/", "/blobs/"))
        self.assertEqual(self.statuses(daemon.url, name="attacker.test", paths=manifests), {"200"})
        self.assertEqual(self.statuses(daemon.url, name="attacker.test", paths=blobs), {"404"})
        named = [path for path in self.objects(self.lie) if "/manifests/" in path]
        self.assertEqual(self.statuses(daemon.url, name="liar.test", paths=named), {"200"})
        url = f"{daemon.url}/v2/{MULTI}/blobs/{self.layer}?ns=liar.test"
        self.assertEqual(self.head(url)[":status"], "200")
        stolen = Download(url, self.directory / "stolen")
        self.assertNotEqual(stolen.wait(), 0)

    def test_private(self) -> None:
        """A layer that was never open, on disk."""
        daemon = self.daemon(self.registry(tls=True, password=True), self.attacker, self.liar)
        self.assertEqual(self.statuses(daemon.url, *_BASIC), {"200"})
        self.opens_nothing(daemon)


class TurnedPrivateTests(PrivateScene):
    """A registry with open repositories is started again with passwords, on the same content."""

    def test_turned_private(self) -> None:
        """
        After the tags' time the next pull of one notes it; then all that was open wants credentials, and comes from
        disk to who has them. When it is open again, that is noticed as well.
        """
        origin = self.registry()
        daemon = self.daemon(origin, settings={"cache": {"tag-ttl": "1s", "negative-ttl": "1s"}})
        self.assertEqual(self.statuses(daemon.url), {"200"})
        origin.stop()
        closed = self.registry("closed", password=True, port=origin.port)
        tag = self.objects()[:1]
        until("it is noted", lambda: self.statuses(daemon.url, paths=tag) == {"401"})
        self.assertEqual(set(self.answers(daemon.url)), {("401", 'Basic realm="test"')})
        self.assertEqual(self.statuses(daemon.url, *_WRONG), {"401"})
        self.assertEqual(self.statuses(daemon.url, *_BASIC), {"200"})
        self.assertEqual([each for each in closed.served() if each.method == "GET" and each.status == 200], [])

        closed.stop()
        self.registry("opened", port=origin.port)
        until("it is noted", lambda: self.statuses(daemon.url) == {"200"})


class KubeletTests(PrivateScene):
    """Pulls with an imagePullSecret, through containerd's CRI; crcache has no credentials of its own."""

    def begin(self, tokens: TokenServer | None = None) -> None:
        """Begin a registry, crcache and containerd, which cannot pull from the registry itself: it trusts nobody's
        certificates."""
        how = {"password": True} if tokens is None else {"tokens": tokens}
        self.origin = self.registry(tls=True, **how)
        self.crcached = self.daemon(self.origin)
        self.containerd = self.ending(Containerd(self.place("containerd"), cri=True))
        self.containerd.mirror(_NAME, self.origin.url, self.crcached.url)
        self.questions = Questions(self.origin, self.crcached)

    def pull(self) -> None:
        """Pull as a kubelet does, with nothing in containerd before, and see that it is whole."""
        if self.containerd.digests():
            self.containerd.forget()
        self.assertEqual(Pull(self.containerd.socket, _REFERENCE, _LOGIN).wait(), "")
        self.assertEqual(self.containerd.damaged(), [])
        # An index, one platform's manifest and configuration, and two layers.
        self.theirs = self.containerd.digests()
        self.assertEqual(len(self.theirs & self.image.digests), 5)

    def forget_grants(self) -> None:
        """As if the minutes were over for which the registry's word counts."""
        shutil.rmtree(self.runtime / "grants")

    def refused(self, *flags: str) -> None:
        """Every object is refused as by the registry itself; nothing of it comes from disk."""
        theirs = self.challenges(self.origin.url, "--cacert", str(self.origin.ca), *flags)
        self.assertEqual({status for status, _ in theirs}, {"401"})
        self.assertEqual(self.challenges(self.crcached.url, *flags), theirs)

    def challenges(self, base: str, *flags: str) -> list[tuple[str, str]]:
        """What each object is answered with, but for what was wrong with a token (crcache shows anonymous ones)."""
        return [(status, challenge.partition(",error=")[0]) for status, challenge in self.answers(base, *flags)]

    def test_password(self) -> None:
        """
        The first pull fetches each object once; the next asks nothing while the registry's word is fresh, and then one
        HEAD. C{ctr} is served alike; other passwords, and none, are refused. With the registry stopped, all that comes
        again, and the others are still refused.
        """
        self.begin()
        self.pull()
        cold = {"HEAD manifest 401": 1, "HEAD manifest 200": 1, "GET manifest 200": 2, "GET blob 200": 3}
        self.assertEqual(self.questions(), cold)
        self.assertEqual(agents(self.origin.served()), {"crcache"})

        self.pull()
        self.assertEqual(self.questions(), {})
        self.forget_grants()
        self.pull()
        self.assertEqual(self.questions(), {"HEAD manifest 200": 1})
        self.containerd.forget()
        self.containerd.pull(_REFERENCE, *_BASIC)
        self.assertEqual(self.questions(), {})

        for login in (None, (USERNAME, "wrong")):
            self.containerd.forget()
            self.assertIn("401 Unauthorized", Pull(self.containerd.socket, _REFERENCE, login).wait())
            self.assertEqual(self.containerd.digests(), set())
        self.refused()
        self.refused(*_WRONG)

        challenges = self.answers(self.crcached.url)
        self.origin.stop()
        self.pull()
        self.assertEqual(self.digests(*_BASIC), self.theirs)
        self.assertEqual(self.answers(self.crcached.url), challenges)
        self.assertEqual(self.answers(self.crcached.url, *_WRONG), challenges)
        self.assertIn("cannot be asked whether the client may read", self.crcached.said())
        self.assertNotIn(PASSWORD, self.crcached.said())

    def test_token(self) -> None:
        """
        The same with tokens, which are new with every pull: each costs one HEAD, and no body. A token for another
        repository, a false one and none are refused. With the registry stopped, one that it has accepted is still good.
        """
        tokens = self.ending(TokenServer(USERNAME, PASSWORD))
        self.begin(tokens)
        self.pull()
        # crcache's own way is to try without a token, then with an anonymous one.
        cold = {"HEAD manifest 401": 2, "HEAD manifest 200": 1, "GET manifest 200": 2, "GET blob 200": 3}
        self.assertEqual(self.questions(), cold)
        self.assertEqual(agents(self.origin.served()), {"crcache"})

        for pull in (self.pull, lambda: self.containerd.pull(_REFERENCE, *_BASIC)):
            self.containerd.forget()
            given = len(tokens.granted)
            pull()
            new = tokens.granted[given:]
            self.assertEqual(set(new), {(USERNAME, f"repository:{MULTI}:pull")})
            self.assertEqual(self.questions(), {"HEAD manifest 200": len(new)})
            # One to know what the tag means, one to fetch it.
            self.assertLessEqual(len(new), 2)

        for login in (None, (USERNAME, "wrong")):
            self.containerd.forget()
            self.assertRegex(Pull(self.containerd.socket, _REFERENCE, login).wait(), "insufficient_scope|401")
            self.assertEqual(self.containerd.digests(), set())
        other = self.token(tokens, "team/other")
        for flags in ((), ("--header", "Authorization: Bearer false"), other):
            self.refused(*flags)

        known, unknown = self.token(tokens, MULTI), self.token(tokens, MULTI)
        self.assertEqual(self.digests(*known), self.theirs)
        challenges = self.answers(self.crcached.url)
        self.origin.stop()
        self.assertEqual(self.digests(*known), self.theirs)
        for flags in ((), unknown, other):
            self.assertEqual(self.answers(self.crcached.url, *flags), challenges)
        self.assertIn("cannot be asked whether the client may read", self.crcached.said())

    def token(self, tokens: TokenServer, repository: str) -> tuple[str, str]:
        """What has curl show a new token for a repository."""
        query = f"service=registry.test&scope=repository:{repository}:pull"
        answer = json.loads(run([*CURL, *_BASIC, f"{tokens.realm}?{query}"]))
        return "--header", f"Authorization: Bearer {answer['token']}"

    def digests(self, *flags: str) -> set[str]:
        """Of the objects that containerd has pulled, as crcache serves them."""
        paths = [f"/v2/{MULTI}/{self.kind(digest)}/{digest}" for digest in sorted(self.theirs)]
        return {self.get(f"{self.crcached.url}{path}?ns={_NAME}", *flags) for path in paths}

    def kind(self, digest: str) -> str:
        """What part of the distribution API serves it."""
        return "blobs" if digest in self.image.blobs else "manifests"


_MIRRORED = """\
[[registry]]
prefix = "{name}"
location = "127.0.0.1:{origin}"
insecure = true
[[registry.mirror]]
location = "127.0.0.1:{mirror}/{name}"
insecure = true
"""


class WithoutCredentialsTests(PrivateScene):
    """Clients that show their credentials to the registry itself alone."""

    def setUp(self) -> None:
        """Begin a registry and a crcache that has all of the image on disk; write what the clients are told."""
        super().setUp()
        self.origin = self.registry(password=True)
        self.mirror = self.daemon(self.origin)
        self.assertEqual(self.statuses(self.mirror.url, *_BASIC), {"200"})
        self.conf, self.login, self.nobody = (self.directory / name for name in ("conf", "auth.json", "nobody.json"))
        self.conf.write_text(_MIRRORED.format(name=_NAME, origin=self.origin.port, mirror=self.mirror.port))
        auth = base64.b64encode(":".join(_LOGIN).encode()).decode()
        self.login.write_text(json.dumps({"auths": {f"127.0.0.1:{self.origin.port}": {"auth": auth}}}))
        self.nobody.write_text('{"auths": {}}')

    def served(self, status: str) -> float:
        """How many requests for content crcache has answered so."""
        name = "crcache_requests_total"
        return sum(self.mirror.metrics(name, kind=kind, status=status) for kind in ("manifest", "blob"))

    def check(self, client: str, blobs: int, *command: str) -> None:
        """Refused at the manifest, the client goes to the registry; without a login it gets nothing there either.

        @param command: with C{{login}} where the credentials' file goes.
        """
        good, refused, since = self.served("200"), self.served("401"), len(self.origin.served())
        with self.assertRaisesRegex(AssertionError, "authentication required|unauthorized"):
            run([word.format(login=self.nobody) for word in command])
        self.assertEqual((self.served("200") - good, self.served("401") - refused), (0, 1))
        run([word.format(login=self.login) for word in command])
        self.assertEqual((self.served("200") - good, self.served("401") - refused), (0, 2))
        until("the origin's log", lambda: len(fetches(self.origin.served()[since:])) == blobs)
        self.assertEqual(agents(self.origin.served()[since:]), {client})

    def test_skopeo(self) -> None:
        """skopeo copies the image with all its platforms."""
        command = ["skopeo", "copy", "--all", "--insecure-policy", f"--registries-conf={self.conf}"]
        target = self.place("copy")
        self.check(
            "skopeo", len(self.image.blobs), *command, "--authfile={login}", f"docker://{_REFERENCE}", f"dir:{target}"
        )
        digests = {digest_of(path) for path in target.iterdir() if path.name != "version"}
        self.assertEqual(digests, self.image.digests)

    def test_podman(self) -> None:
        """podman pulls the image for this machine."""
        storage = self.place("storage")
        command = ["env", f"CONTAINERS_REGISTRIES_CONF={self.conf}"]
        command += ["podman", "--root", f"{storage}/root", "--runroot", f"{storage}/run", "--storage-driver", "vfs"]
        self.check("containers", 3, *command, "--cgroup-manager", "cgroupfs", "pull", "--authfile={login}", _REFERENCE)


class SharingTests(PrivateScene):
    """Two processes on one cache directory, with one runtime directory."""

    def test_grants(self) -> None:
        """
        Whom one has let in, the other serves without a question; what one has noted of who may read, the other knows.
        With another runtime directory it asks. What is in the directory tells nobody's password.
        """
        origin = self.registry(password=True)
        cache = self.place("cache")
        one = self.daemon(origin, name="one", cache=cache)
        two = self.daemon(origin, name="two", cache=cache)
        self.assertEqual(self.statuses(one.url, *_BASIC), {"200"})
        both = Questions(origin, one, two)
        self.assertEqual(self.statuses(two.url, *_BASIC), {"200"})
        self.assertEqual(set(self.answers(two.url)), {("401", 'Basic realm="test"')})
        self.assertEqual(both(), {})
        self.assertEqual(two.metrics("crcache_upstream_requests_total"), 0)
        self.assertEqual(self.statuses(two.url, *_WRONG), {"401"})

        self.runtime = self.place("elsewhere")
        self.runtime.chmod(0o700)
        three = self.daemon(origin, name="three", cache=cache)
        alone = Questions(origin, three)
        self.assertEqual(self.statuses(three.url, *_BASIC), {"200"})
        self.assertEqual(alone(), {"HEAD manifest 200": 1})

        names = [path.name for path in (self.directory / "runtime" / "grants").iterdir()]
        self.assertGreaterEqual(len(names), 2)
        for path in [*cache.rglob("*"), *(self.directory / "runtime").rglob("*")]:
            if path.is_file():
                self.assertNotIn(PASSWORD.encode(), path.read_bytes())


class FillingTests(PrivateScene):
    """A layer from a registry that takes seconds over it, and lets two users in."""

    def setUp(self) -> None:
        """Make an image of one layer."""
        super().setUp()
        self.image = make_image(self.directory / "layout", "1.0", [24 * MIB])
        self.layer = self.image.largest
        self.size = self.image.blobs[self.layer]
        self.cache = self.place("cache")

    def nginx(self, name: str, **how: Any) -> StaticOrigin:
        """The registry; see L{StaticOrigin}."""
        origin = self.ending(StaticOrigin(self.directory / name, users=dict([_LOGIN, _OTHER]), **how))
        origin.publish(self.image, MULTI)
        origin.start()
        return origin

    def node(self, name: str, daemon: Daemon) -> Containerd:
        """A containerd that gets nothing but through crcache."""
        containerd = self.ending(Containerd(self.place(name), cri=True))
        containerd.mirror(_NAME, "http://127.0.0.1:9", daemon.url)
        return containerd

    def test_two_nodes(self) -> None:
        """Two nodes pull at once, as different users, through two processes: both get all of it, it is fetched once."""
        origin = self.nginx("origin", rate=16 * MIB)
        daemons = [self.daemon(origin, name=name, cache=self.cache) for name in ("one", "two")]
        nodes = [self.node(f"node-{daemon.port}", daemon) for daemon in daemons]
        pulls = [
            self.ending(Pull(node.socket, _REFERENCE, login))
            for node, login in zip(nodes, (_LOGIN, _OTHER), strict=True)
        ]
        self.assertEqual([pull.wait() for pull in pulls], ["", ""])
        for node in nodes:
            self.assertEqual((node.digests(), node.damaged()), (self.image.digests, []))
        until("the registry's log", lambda: fetches(origin.served())[self.layer] > 0)
        self.assertEqual(origin.sent(self.layer), self.size)

    def test_resumed(self) -> None:
        """
        containerd is killed in mid-pull: seconds later crcache has nobody's credentials any more, lets go of the
        registry, and keeps what it has of the layer. The next pull, as another user, goes on from there.
        """
        slow = self.nginx("slow", rate=2 * MIB)
        daemon = self.daemon(slow, cache=self.cache)
        first = self.node("first", daemon)
        cut = self.ending(Pull(first.socket, _REFERENCE, _LOGIN))
        until("some of it", lambda: daemon.metrics("crcache_upstream_bytes_total") > 2 * MIB)
        first.kill()
        self.assertNotEqual(cut.wait(), "")
        until("the fill pauses", lambda: daemon.metrics("crcache_fills") == 0)
        [part] = (self.cache / "ingest").glob(f"*{self.layer.partition(':')[2]}")
        there = part.stat().st_size
        self.assertTrue(2 * MIB < there < self.size, there)
        until("the registry's log", lambda: slow.sent(self.layer) > 0)
        self.assertLess(slow.sent(self.layer), self.size)
        slow.stop()

        fast = self.nginx("fast", port=slow.port)
        second = self.node("second", daemon)
        self.assertEqual(Pull(second.socket, _REFERENCE, _OTHER).wait(), "")
        self.assertEqual((second.digests(), second.damaged()), (self.image.digests, []))
        until("the registry's log", lambda: fetches(fast.served())[self.layer] > 0)
        [rest] = [each for each in fast.served() if each.blob == self.layer]
        self.assertEqual(rest.status, 206)
        self.assertLessEqual(rest.sent, self.size - there + MIB)
