"""L{crcache.config}."""

from __future__ import annotations

import re
from pathlib import Path

from crcache.config import Loaded, Overrides, default_cache_directory, load
from crcache.errors import ConfigError
from crcache.grammar.hosts import HostPattern
from crcache.grammar.reference import DOCKER_IO, Registry
from crcache.secret import Secret
from crcache.settings import (
    Bounds,
    ClientLimits,
    Config,
    Credential,
    Credentials,
    Reach,
    RegistrySettings,
    S3Settings,
    Share,
    Times,
    TlsSettings,
    UpstreamSettings,
)
from tests.config_case import FULL, ConfigCase


class LoadTests(ConfigCase):
    def test_defaults(self) -> None:
        """An empty file and no file are the defaults that the settings have."""
        expected = Config(cache_directory=Path("/home/somebody/.cache/crcache"))
        self.assertEqual(self.config(""), expected)
        self.assertEqual(self.config("cache:\nupstream:\nregistries:\nreach:\ntls:\nlimits:\n"), expected)
        loaded = load(None, Overrides(), {"HOME": "/home/somebody"}, reactor=object(), default=self.directory / "none")
        self.assertEqual(loaded, Loaded(expected, None))

    def test_every_key(self) -> None:
        """Each key goes where it belongs."""
        times = Times(tag_ttl=120.0, stale_if_error=86400.0, negative_ttl=0.0)
        harbor = Registry("harbor.example.com")
        loaded = self.load(FULL)
        self.assertEqual(
            loaded.config,
            Config(
                cache_directory=Path("/srv/cache"),
                listen=("tcp:3000", "tls:3443:interface=127.0.0.1"),
                drain_timeout=60.0,
                admin="unix:/run/crcache/admin.sock",
                cache_manifests=False,
                ignore=re.compile("^(latest|edge)$"),
                times=times,
                bounds=Bounds(3 << 39, Share(10), 0.9, 0.75),
                upstream=UpstreamSettings(
                    connect_timeout=1.0,
                    first_byte_timeout=2.0,
                    stall_timeout=0.5,
                    retries=0,
                    max_connections=8,
                    proxy="http://proxy:3128",
                ),
                s3=S3Settings(
                    bucket="kept",
                    endpoint="https://s3.example.com:9000",
                    region="r1",
                    prefix="a/b/",
                    path_style=False,
                    ca=self.directory / "tls/ca.pem",
                    timeout=1.0,
                ),
                tls=TlsSettings(
                    self.directory / "tls/client.pem", self.directory / "tls/client.key", self.directory / "tls/ca.pem"
                ),
                limits=ClientLimits(connections=100, connections_per_peer=10, requests_per_peer=5),
                default_registry=harbor,
                reach=Reach(
                    allow=(HostPattern("docker.io"), HostPattern("*.example.com"), HostPattern("quay.io", 443)),
                    deny=(HostPattern("2001:db8::1"),),
                ),
                registries={
                    DOCKER_IO: RegistrySettings(DOCKER_IO, ("https://registry-1.docker.io",), times=times),
                    Registry("127.0.0.1:5001"): RegistrySettings(
                        Registry("127.0.0.1:5001"), ("http://127.0.0.1:5001",), times=times
                    ),
                    Registry("quay.io"): RegistrySettings(Registry("quay.io"), ("https://quay.io",), times=times),
                    harbor: RegistrySettings(
                        harbor,
                        ("https://harbor-a.example.com", "https://harbor-b.example.com/path"),
                        ca=self.directory / "tls/ca.pem",
                        client_cert=self.directory / "tls/client.pem",
                        client_key=self.directory / "tls/client.key",
                        times=Times(tag_ttl=300.0, stale_if_error=86400.0, negative_ttl=1.0),
                        access="open",
                        trusted_hosts=(
                            HostPattern("auth.example.com"),
                            HostPattern("minio.example.com", 9000),
                            HostPattern("10.0.0.7"),
                        ),
                    ),
                },
                credentials=Credentials({(DOCKER_IO, ()): Credential("puller", Secret("secret1"))}),
            ),
        )
        self.assertEqual(loaded.file, self.directory / "crcache.yaml")
        self.assertEqual(loaded.warnings, ())

    def test_default_file(self) -> None:
        """The default file is read if it is there; another one that is named must be there."""
        default = self.write("cache: {directory: /srv/default}")
        loaded = load(None, Overrides(), {}, reactor=object(), default=default)
        self.assertEqual((loaded.file, loaded.config.cache_directory), (default, Path("/srv/default")))
        missing = self.directory / "missing.yaml"
        error = self.assertRaises(ConfigError, load, missing, Overrides(), {}, reactor=object(), default=default)
        self.assertEqual(error.message, f"{missing}: cannot be read: No such file or directory")

    def test_default_file_unreadable(self) -> None:
        """A default file that is there but cannot be read is a mistake, not the defaults."""
        error = self.assertRaises(ConfigError, load, None, Overrides(), {}, reactor=object(), default=self.directory)
        self.assertIn("Is a directory", error.message)

    def test_one_listener(self) -> None:
        """C{listen} may be a single endpoint; the same one twice is one."""
        self.assertEqual(self.config("listen: tcp:4000").listen, ("tcp:4000",))
        self.assertEqual(self.config("listen: [tcp:4000, tcp:4000]").listen, ("tcp:4000",))

    def test_tls(self) -> None:
        """Where TLS is to be spoken there must be something to show; without C{clients} anyone is served."""
        section = "tls: {certificate: tls/client.pem, key: tls/client.key}\n"
        found = self.config(f"{section}listen: [tcp:3000, tls:3443]\nadmin: tls:3444").tls
        assert found is not None
        self.assertIsNone(found.clients_ca)
        flags = Overrides(listen=("tls:3443",))
        for text, overrides, endpoint in [
            ("listen: [tcp:3000, tls:3443]", None, "tls:3443"),
            ("admin: tls:3444:interface=127.0.0.1", None, "tls:3444:interface=127.0.0.1"),
            ("tls:\n", flags, "tls:3443"),
            ("", Overrides(admin="tls:3443"), "tls:3443"),
        ]:
            error = self.assertRaises(ConfigError, self.load, text, overrides)
            self.assertIn(": tls: is missing", error.message)
            self.assertIn(repr(endpoint), error.message)
        self.assertEqual(self.config(section, flags).listen, ("tls:3443",))
        error = self.assertRaises(ConfigError, load, None, flags, {"HOME": "/"}, reactor=object(), default=Path("none"))
        self.assertTrue(error.message.startswith("tls: is missing"), error.message)

    def test_no_admin(self) -> None:
        """C{off} is no admin listener, although YAML takes it for false."""
        for text in ["off", "'off'", "false", "no", "OFF"]:
            self.assertIsNone(self.config(f"admin: {text}").admin, text)

    def test_flags_win(self) -> None:
        """What flags say holds, and the rest of the file stays in force."""
        config = self.config(
            FULL,
            Overrides(
                cache_directory=Path("/srv/flag"),
                cache_manifests=True,
                ignore=re.compile("flag"),
                listen=("tcp:1", "tcp:2", "tcp:1"),
                admin="off",
            ),
        )
        self.assertEqual(config.cache_directory, Path("/srv/flag"))
        self.assertTrue(config.cache_manifests)
        self.assertEqual(config.ignore.pattern, "flag")
        self.assertEqual(config.listen, ("tcp:1", "tcp:2"))
        self.assertIsNone(config.admin)
        self.assertEqual(config.times.tag_ttl, 120.0)

    def test_flag_turns_off(self) -> None:
        """C{--cache-manifests no} is a flag that was given."""
        self.assertFalse(self.config("cache: {manifests: yes}", Overrides(cache_manifests=False)).cache_manifests)

    def test_flags_hide_no_mistake(self) -> None:
        """A mistake in the file is told even where a flag takes its place."""
        self.assertRaises(ConfigError, self.load, "listen: foo:1", Overrides(listen=("tcp:1",)))

    def test_inherited_sockets(self) -> None:
        """A socket of systemd's must be there, except for a mere check or when a flag says where to listen."""
        text = "listen: systemd:domain=INET:index=0"
        self.assertIn("1: listen: ", self.refused(text))
        self.load(text, inherited=False)
        self.load(text, Overrides(listen=("tcp:1",)))

    def test_handed_over(self) -> None:
        """Sockets of systemd's stand for the default, go beside what the file says, and are what it names if it does;
        flags know none."""
        flag = Overrides(listen=("tcp:1",))
        named = "listen: [tcp:1, systemd:domain=INET:index=0]"
        for text, overrides, expected in (
            ("", Overrides(), "instead"),
            ("listen: tcp:3000", Overrides(), "beside"),
            (named, Overrides(), "no"),
            ("", flag, "no"),
            ("listen: tcp:2", flag, "no"),
        ):
            self.assertEqual(self.load(text, overrides, inherited=False).config.handed_over, expected, text)

    def test_drain_timeout(self) -> None:
        """How long a stop may take can be nothing; a flag wins over the file, whose mistakes are told all the same."""
        self.assertEqual(self.config("drain-timeout: 0").drain_timeout, 0.0)
        self.assertEqual(self.config("drain-timeout: 1m", Overrides(drain_timeout=0.5)).drain_timeout, 0.5)
        self.assertIn("1: drain-timeout: 10 needs a unit", self.refused("drain-timeout: 10"))

    def test_parents(self) -> None:
        """Only the user's own directory has what is above it made; what somebody names may be a mount that is late."""
        for text, overrides, expected in (
            ("", Overrides(), True),
            ("cache: {directory: /srv/cache}", Overrides(), False),
            ("", Overrides(cache_directory=Path("/srv/cache")), False),
        ):
            self.assertIs(self.config(text, overrides).make_parents, expected)


class CacheDirectoryTests(ConfigCase):
    def test_order(self) -> None:
        """systemd's directory comes before the user's, and a relative $XDG_CACHE_HOME is ignored."""
        home = {"HOME": "/home/somebody"}
        for environ, expected in [
            (
                {"CACHE_DIRECTORY": "/var/cache/crcache:/var/cache/other", "XDG_CACHE_HOME": "/x", **home},
                "/var/cache/crcache",
            ),
            ({"CACHE_DIRECTORY": "", "XDG_CACHE_HOME": "/x", **home}, "/x/crcache"),
            ({"XDG_CACHE_HOME": "x", **home}, "/home/somebody/.cache/crcache"),
            (home, "/home/somebody/.cache/crcache"),
        ]:
            self.assertEqual(default_cache_directory(environ), Path(expected))

    def test_file_wins(self) -> None:
        """The environment counts only if neither flag nor file names a directory."""
        environ = {"CACHE_DIRECTORY": "/var/cache/crcache"}
        self.assertEqual(
            self.load("cache: {directory: here}", environ=environ).config.cache_directory, self.directory / "here"
        )
        self.assertEqual(self.load("", environ=environ).config.cache_directory, Path("/var/cache/crcache"))


class CredentialsTests(ConfigCase):
    def test_merged(self) -> None:
        """Both files count; for the same registry the configuration file's credential wins."""
        credentials = self.write(
            "index.docker.io: {username: other, password: secret2}\n"
            "docker.io/team: {username: team, password: secret3}\n"
            "ghcr.io: {username: gh, password: secret4}\n",
            name="credentials.yaml",
        )
        found = self.config(
            "registries:\n  docker.io: {username: main, password: secret1}\n",
            Overrides(credentials_file=credentials),
        ).credentials.entries
        self.assertEqual(
            {(str(registry), prefix): each.username for (registry, prefix), each in found.items()},
            {("docker.io", ()): "main", ("docker.io", ("team",)): "team", ("ghcr.io", ()): "gh"},
        )

    def test_mistake_there(self) -> None:
        """A mistake in the credentials file names that file."""
        path = self.write("ghcr.io: {username: u}", name="credentials.yaml")
        error = self.assertRaises(ConfigError, self.load, "", Overrides(credentials_file=path))
        self.assertEqual(error.message, f"{path}:1: ghcr.io: has no password")

    def test_public(self) -> None:
        """Either file is warned of if it holds passwords that everybody can read."""
        main = self.write("registries: {x.io: {username: u, password: p}}", 0o644)
        credentials = self.write("ghcr.io: {username: u, password: p}", 0o644, "credentials.yaml")
        loaded = load(main, Overrides(credentials_file=credentials), {"HOME": "/"}, reactor=object())
        self.assertEqual([warning.split(":")[0] for warning in loaded.warnings], [str(main), str(credentials)])
        harmless = self.write("registries: {x.io: {}}", 0o644)
        self.assertEqual(load(harmless, Overrides(), {"HOME": "/"}, reactor=object()).warnings, ())

    def test_not_shown(self) -> None:
        """A configuration can be logged: its passwords are not in its C{repr}."""
        self.assertNotIn("secret1", repr(self.load(FULL)))
