"""L{crcache.credentials_file}."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from crcache.credentials_file import Scope, load_credentials, parse_scope
from crcache.errors import ConfigError
from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.secret import Secret
from crcache.settings import Credential, Credentials

GHCR = Registry("ghcr.io")


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


class CredentialsFileCase(SynchronousTestCase):
    suffix = ""

    def write(self, text: str, mode: int = 0o600) -> Path:
        path = Path(self.mktemp() + self.suffix)
        path.write_text(text)
        path.chmod(mode)
        return path

    def load(self, text: str) -> dict[Scope, Credential]:
        return dict(self.loaded(text).entries)

    def loaded(self, text: str) -> Credentials:
        return load_credentials(self.write(text))[0]

    def refused(self, text: str) -> str:
        """The one line about a file with this mistake, after the file's name; it shows no C{s3cret}."""
        path = self.write(text)
        error = self.assertRaises(ConfigError, load_credentials, path)
        self.assertNotIn("\n", error.message)
        self.assertNotIn("s3cret", error.message)
        self.assertTrue(error.message.startswith(f"{path}:"), error.message)
        message: str = error.message
        return message.removeprefix(f"{path}:")


class ScopeTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """A scope is a registry, by any of its names, and perhaps the beginning of a repository's path."""
        for text, scope in [
            ("ghcr.io", (GHCR, ())),
            ("ghcr.io/", (GHCR, ())),
            ("GHCR.io/team", (GHCR, ("team",))),
            ("ghcr.io/team/project/", (GHCR, ("team", "project"))),
            ("localhost:5000/a", (Registry("localhost:5000"), ("a",))),
            ("registry-1.docker.io", (DOCKER_IO, ())),
            ("index.docker.io/library", (DOCKER_IO, ("library",))),
        ]:
            self.assertEqual(parse_scope(text), scope)

    def test_refused(self) -> None:
        """A URL and what is no name are refused."""
        for text in ["https://ghcr.io", "", "/team", "ghcr.io/Team", "ghcr.io//team", "ghcr.io/../x", "a b"]:
            self.assertRaises(ValueError, parse_scope, text)


class YamlTests(CredentialsFileCase):
    def test_longest_prefix_wins(self) -> None:
        """A registry's credential holds for all of it, except where a longer key knows better."""
        found = Credentials(
            self.load(
                "registry-1.docker.io:\n  username: puller\n  password: secret1\n"
                "ghcr.io:\n  username: all\n  password: secret2\n"
                "ghcr.io/team:\n  username: org-pull\n  password: secret3\n"
                "ghcr.io/team/deep:\n  username: deep\n  password: 0123\n"
            )
        )
        for registry, repository, username in [
            (DOCKER_IO, "library/alpine", "puller"),
            (GHCR, "team", "org-pull"),
            (GHCR, "team/app", "org-pull"),
            (GHCR, "team/deep/app", "deep"),
            (GHCR, "teams/app", "all"),
            (GHCR, "other", "all"),
        ]:
            credential = found.lookup(registry, Repository(repository))
            assert credential is not None
            self.assertEqual(credential.username, username, repository)
        self.assertEqual(found.entries[GHCR, ("team", "deep")].password, Secret("0123"))
        self.assertIsNone(found.lookup(Registry("quay.io"), Repository("x")))

    def test_empty(self) -> None:
        """A file without entries is no mistake."""
        for text in ["", "# none yet\n", "{}"]:
            self.assertEqual(self.load(text), {})

    def test_flow_style(self) -> None:
        """A file that begins with a brace may be YAML all the same, or JSON of the same shape, with tabs."""
        expected = {(GHCR, ()): Credential("u", Secret("p"))}
        self.assertEqual(self.load("{ghcr.io: {username: u, password: p}}"), expected)
        self.assertEqual(self.load('{\n\t"ghcr.io": {\n\t\t"username": "u",\n\t\t"password": "p"}}'), expected)

    def test_mistakes(self) -> None:
        """Each mistake is one line with its line and key, and without the password."""
        for text, expected in [
            ("ghcr.io: {username: u}", "1: ghcr.io: has no password"),
            ("\nghcr.io: {password: s3cret}", "2: ghcr.io: has no username"),
            ("ghcr.io:", "1: ghcr.io: has no username"),
            ("ghcr.io: s3cret", "1: ghcr.io: must be a mapping"),
            ("ghcr.io: {username: , password: s3cret}", "1: ghcr.io.username: has no value"),
            ("ghcr.io: {username: '', password: s3cret}", "1: ghcr.io: the username must not be empty"),
            ("ghcr.io: {username: 'a:b', password: s3cret}", "1: ghcr.io: the username must not"),
            ("ghcr.io: {username: u, password: ''}", "1: ghcr.io: the password is empty"),
            ("ghcr.io:\n  username: u\n  password: |\n    s3cret\n", "3: ghcr.io.password: has a line break"),
            (
                "ghcr.io:\n  username: u\n  passwort: s3cret\n",
                "3: ghcr.io: unknown key 'passwort'; did you mean password?",
            ),
            ("ghcr.io/Team: {username: u, password: s3cret}", "1: ghcr.io/Team: 'Team' is not the beginning"),
            ("https://ghcr.io: {username: u, password: s3cret}", "1: https://ghcr.io: must be a registry"),
            ("[s3cret]", "1: must be a mapping"),
            ("s3cret", "1: must be a mapping"),
            ("a: [\n", "2: is not YAML"),
        ]:
            self.assertIn(expected, f"{self.refused(text)}", text)

    def test_one_registry_by_two_names(self) -> None:
        """Two names of one registry are refused, naming both."""
        message = self.refused(
            "docker.io: {username: a, password: s3cret}\nindex.docker.io: {username: b, password: s3cret2}\n"
        )
        self.assertEqual(
            message, "2: index.docker.io: means the same as docker.io, which is there too; keep one of them"
        )

    def test_public(self) -> None:
        """A file with passwords that everybody can read is warned of; one without is not."""
        path = self.write("ghcr.io: {username: u, password: p}", 0o644)
        warnings = load_credentials(path)[1]
        self.assertEqual(len(warnings), 1)
        self.assertIn(str(path), warnings[0])
        self.assertEqual(load_credentials(self.write("", 0o644))[1], ())
        self.assertEqual(load_credentials(self.write("ghcr.io: {username: u, password: p}"))[1], ())


class DockerTests(CredentialsFileCase):
    suffix = ".json"

    def config(self, auths: object, **more: object) -> str:
        """As docker writes it: indented with tabs."""
        return json.dumps({"auths": auths, **more}, indent="\t")

    def test_keys(self) -> None:
        """Every form of key that clients write is understood."""
        for key, scope in [
            ("https://index.docker.io/v1/", (DOCKER_IO, ())),
            ("index.docker.io/v1/", (DOCKER_IO, ())),
            ("docker.io", (DOCKER_IO, ())),
            ("ghcr.io", (GHCR, ())),
            ("https://ghcr.io", (GHCR, ())),
            ("https://ghcr.io/v2/", (GHCR, ())),
            ("registry.example.com:5000", (Registry("registry.example.com:5000"), ())),
            ("http://registry.example.com:5000/v2", (Registry("registry.example.com:5000"), ())),
            ("ghcr.io/team", (GHCR, ("team",))),
        ]:
            found = self.load(self.config({key: auth("puller:secret1")}))
            self.assertEqual(found, {scope: Credential("puller", Secret("secret1"))}, key)

    def test_values(self) -> None:
        """A credential is C{auth}, or name and password, or an identity token in the password's place."""
        for value, expected in [
            (auth("u:p:with:colons"), Credential("u", Secret("p:with:colons"))),
            (auth("u:p\0\0"), Credential("u", Secret("p"))),
            ({"username": "u", "password": "p"}, Credential("u", Secret("p"))),
            ({"username": "x", "password": "x", **auth("u:p")}, Credential("u", Secret("p"))),
            ({**auth("u:"), "identitytoken": "t"}, Credential("u", Secret("t"), identity_token=True)),
            ({"identitytoken": "t"}, Credential("", Secret("t"), identity_token=True)),
        ]:
            self.assertEqual(self.load(self.config({"ghcr.io": value})), {(GHCR, ()): expected})

    def test_nothing_in_it(self) -> None:
        """Entries that a credential helper left empty, and files without any, hold no credentials."""
        for text in [
            self.config({"ghcr.io": {}, "quay.io": {"auth": "", "email": "x"}}),
            self.config({}),
            self.config(None, credsStore="", credHelpers={}),
            self.config({}, HttpHeaders={"User-Agent": "x"}),
        ]:
            self.assertEqual(self.load(text), {})

    def test_tokens_of_docker_desktop(self) -> None:
        """What Docker Desktop keeps for itself is not taken for a registry's credential."""
        found = self.load(
            self.config(
                {
                    "https://index.docker.io/v1/": auth("u:p"),
                    "https://index.docker.io/v1/access-token": auth("u:t1"),
                    "https://index.docker.io/v1/refresh-token": auth("u:t2"),
                }
            )
        )
        self.assertEqual(found, {(DOCKER_IO, ()): Credential("u", Secret("p"))})

    def test_helpers(self) -> None:
        """Which program is asked for whose credentials: one for a registry, an empty one, and one for all others; what
        stands in the file is there besides."""
        found = self.loaded(
            self.config(
                {"ghcr.io": auth("u:p")},
                credsStore="pass",
                credHelpers={"gcr.io": "gcloud", "https://index.docker.io/v1/": "secretservice", "quay.io": ""},
            )
        )
        self.assertEqual(found.entries, {(GHCR, ()): Credential("u", Secret("p"))})
        for name, helper in (
            ("gcr.io", "gcloud"),
            ("ghcr.io", "pass"),
            ("quay.io", ""),
            ("docker.io", "secretservice"),
        ):
            self.assertEqual(found.helper(Registry(name), Repository("a/b")), helper, name)

    def test_helpers_know_no_paths(self) -> None:
        """An entry with a path is not asked of the helper of its registry; the rest of the registry is."""
        found = self.loaded(self.config({"ghcr.io/team": auth("u:p"), "ghcr.io": auth("v:p")}, credsStore="pass"))
        self.assertEqual(found.helper(GHCR, Repository("team/app")), "")
        self.assertEqual(found.helper(GHCR, Repository("teams/app")), "pass")

    def test_helper_mistakes(self) -> None:
        """A helper's name is no path and no option, and each mistake names its key."""
        wrong = "must be what follows docker-credential-"
        cases: list[tuple[dict[str, object], str]] = [
            ({"credsStore": name}, f" credsStore: {wrong}")
            for name in ("../evil", "/bin/sh", "-x", "a b", "A", "", "x" * 65, "a\n", 5, ["a"], ".hidden")
            if name
        ]
        cases += [
            ({"credHelpers": {"ghcr.io": "../evil"}}, f" credHelpers.ghcr.io: {wrong}"),
            ({"credHelpers": {"ghcr.io/team": "x"}}, " credHelpers.ghcr.io/team: must be a registry without a path"),
            ({"credHelpers": ["ghcr.io"]}, " credHelpers: must be an object"),
            ({"credHelpers": {"a b": "x"}}, " credHelpers.a b: 'a b' is not a registry"),
            ({"credHelpers": {"docker.io": "x", "index.docker.io": "y"}}, " credHelpers.index.docker.io: is there"),
        ]
        for more, expected in cases:
            message = self.refused(self.config({"ghcr.io": auth("u:s3cret")}, **more))
            self.assertTrue(message.startswith(expected), message)

    def test_same_twice(self) -> None:
        """Two names with the same credential are fine; with different ones, both are named."""
        pair = {"docker.io": auth("u:p"), "https://index.docker.io/v1/": auth("u:p")}
        self.assertEqual(self.load(self.config(pair)), {(DOCKER_IO, ()): Credential("u", Secret("p"))})
        pair["docker.io"] = auth("u:s3cret")
        message = self.refused(self.config(pair))
        self.assertIn("https://index.docker.io/v1/", message)
        self.assertIn("same as docker.io", message)

    def test_mistakes(self) -> None:
        """Each mistake is one line with its key, and without what it holds."""
        for auths, expected in [
            (["s3cret"], " auths: must be an object"),
            ({"ghcr.io": "s3cret"}, " auths.ghcr.io: must be an object"),
            ({"ghcr.io": {"auth": "s3cret!"}}, " auths.ghcr.io: auth is not base64"),
            ({"ghcr.io": auth("s3cret")}, " auths.ghcr.io: auth is not the base64 of username:password"),
            ({"ghcr.io": {"auth": base64.b64encode(b"\xff:s3cret").decode()}}, " auths.ghcr.io: auth is not base64"),
            ({"ghcr.io": auth("u:s3cret\n")}, " auths.ghcr.io: auth is not the base64"),
            ({"ghcr.io": {"password": 5}}, " auths.ghcr.io: password must be text"),
            ({"ghcr.io": {"password": "s3cret"}}, " auths.ghcr.io: the username must not be empty"),
            ({"ghcr.io": {"registrytoken": "s3cret"}}, " auths.ghcr.io: registrytoken is not supported"),
            ({"https://u:s3cret@ghcr.io": auth("u:p")}, " auths.ghcr.io: must be a registry's name"),
            ({"a\nb": auth("u:p")}, " auths.a\\nb: "),
        ]:
            self.assertIn(expected, self.refused(self.config(auths)))

    def test_not_json(self) -> None:
        """A broken C{config.json} is told with its line, in the words of JSON."""
        self.assertTrue(self.refused('{\n\t"auths": {s3cret}\n}').startswith("2: is not JSON: "))
        self.assertIn("too deeply", self.refused('{"auths":' * 100000))
