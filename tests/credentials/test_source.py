"""Where credentials come from: one of several places, the first that there is."""

from __future__ import annotations

import json
from collections.abc import Mapping

from crcache.config import Loaded, Overrides, load
from crcache.credentials_source import CREDENTIAL, FILE_VARIABLE, TEXT_VARIABLE, Origin
from crcache.errors import ConfigError
from crcache.grammar.reference import DOCKER_IO, Registry, Repository
from crcache.secret import Secret
from crcache.settings import Credential
from tests.config_case import ConfigCase

GHCR = Registry("ghcr.io")


def entry(user: str) -> str:
    """A file with one user for one registry."""
    return f"ghcr.io: {{username: {user}, password: s3cret}}"


class SourceTests(ConfigCase):
    """A flag, two variables, and systemd."""

    def loaded(self, flag: str | None = None, text: str = "", **environ: str) -> Loaded:
        overrides = Overrides(credentials_file=None if flag is None else self.directory / flag)
        file = self.write(text)
        return load(file, overrides, {"HOME": "/home/somebody", **environ}, reactor=object())

    def users(self, flag: str | None = None, text: str = "", **environ: str) -> list[str]:
        """The users that are known for C{ghcr.io}."""
        entries = self.loaded(flag, text, **environ).config.credentials.entries
        return [each.username for (registry, _), each in entries.items() if registry == GHCR]

    def test_order(self) -> None:
        """A flag is before the environment, and that before systemd; those behind are not even read."""
        for name in ("flag", "variable", CREDENTIAL):
            self.write(entry(name), name=name)
        systemd: Mapping[str, str] = {"CREDENTIALS_DIRECTORY": str(self.directory)}
        file = {FILE_VARIABLE: str(self.directory / "variable")}
        text = {TEXT_VARIABLE: entry("text")}
        self.assertEqual(self.users("flag", **systemd, **file), ["flag"])
        self.assertEqual(self.users("flag", **systemd, **text), ["flag"])
        self.assertEqual(self.users(**systemd, **file), ["variable"])
        self.assertEqual(self.users(**systemd, **text), ["text"])
        self.assertEqual(self.users(**systemd), [CREDENTIAL])
        self.assertEqual(self.users(), [])
        self.write("[broken", name=CREDENTIAL)
        self.assertEqual(self.users(**systemd, **text), ["text"])
        empty = {FILE_VARIABLE: "", TEXT_VARIABLE: ""}
        self.assertRaises(ConfigError, self.users, **systemd, **empty)

    def test_configuration_wins(self) -> None:
        """What the configuration says of a registry wins over each of them, and over a helper for all registries."""
        own = "registries: {ghcr.io: {username: own, password: s3cret}}"
        config = json.dumps({"credsStore": "pass", "credHelpers": {"quay.io": "quay"}})
        for text in (entry("text"), config):
            self.assertEqual(self.users(None, own, **{TEXT_VARIABLE: text}), ["own"])
        found = self.loaded(None, own, **{TEXT_VARIABLE: config}).config.credentials
        for name, helper in (("ghcr.io", ""), ("quay.io", "quay"), ("docker.io", "pass")):
            self.assertEqual(found.helper(Registry(name), Repository("a/b")), helper)

    def test_text(self) -> None:
        """The text in the environment is YAML or a docker C{config.json}."""
        auths = json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}, indent="\t")
        found = self.loaded(**{TEXT_VARIABLE: auths})
        self.assertEqual(found.config.credentials.entries, {(DOCKER_IO, ()): Credential("u", Secret("p"))})
        self.assertIsNone(found.credentials)
        self.assertEqual(found.warnings, ())

    def test_mistakes(self) -> None:
        """A mistake names the variable, or the file, and its key, and shows nothing secret."""
        self.write(entry("u").replace("password", "pasword"), name="file.yaml")
        path = self.directory / "file.yaml"
        for environ, expected in (
            ({TEXT_VARIABLE: "ghcr.io: {username: u, pasword: s3cret}"}, f"{TEXT_VARIABLE}:1: ghcr.io: unknown key"),
            (
                {TEXT_VARIABLE: '{"auths": {"ghcr.io": {"auth": "s3cret!"}}}'},
                f"{TEXT_VARIABLE}: auths.ghcr.io: auth is",
            ),
            ({TEXT_VARIABLE: "[s3cret"}, f"{TEXT_VARIABLE}:1: is not YAML"),
            ({FILE_VARIABLE: str(path)}, f"{path}:1: ghcr.io: unknown key 'pasword'"),
            ({FILE_VARIABLE: "/no/s/uch"}, "/no/s/uch: cannot be read"),
            ({FILE_VARIABLE: "relative.yaml"}, f"{FILE_VARIABLE}: must be an absolute path"),
            ({FILE_VARIABLE: "/x", TEXT_VARIABLE: "s3cret"}, f"{TEXT_VARIABLE}: is set, and {FILE_VARIABLE} is too"),
        ):
            message = self.assertRaises(ConfigError, self.loaded, **environ).message
            self.assertTrue(message.startswith(expected), message)
            self.assertNotIn("s3cret", message)

    def test_again(self) -> None:
        """A file is read again alone: what the configuration says stays what it was, and wins as before."""
        own = "registries: {ghcr.io: {username: own, password: s3cret}}"
        path = self.write(entry("first"), name="file.yaml")
        found = self.loaded("file.yaml", own)
        assert found.credentials is not None
        self.assertEqual(found.credentials.path, path)
        self.write("registries: [broken")
        self.write(entry("second") + "\nquay.io: {username: new, password: s3cret}", 0o644, "file.yaml")
        credentials, warnings = found.credentials.again()
        self.assertEqual(sorted(each.username for each in credentials.entries.values()), ["new", "own"])
        self.assertIn("chmod", warnings[0])

    def test_shows_nothing(self) -> None:
        """Neither of what is handed about shows a secret when it is printed."""
        self.write(entry("u"), name="file.yaml")
        self.assertNotIn("s3cret", repr(self.loaded("file.yaml")))
        self.assertNotIn("s3cret", repr(Origin(None, entry("u"))))
