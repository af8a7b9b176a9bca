"""Every mistake in the file is one line of L{crcache.config} or L{crcache.config_registries} that names its key."""

from __future__ import annotations

from tests.config_case import ConfigCase


class MistakeTests(ConfigCase):
    def test_values(self) -> None:
        """Each mistake is one line that names line and key and shows nothing secret."""
        for text, expected in [
            ("listen: 3000", "1: listen: '3000' is not an endpoint; tcp:3000 is"),
            ("listen: [tcp:1,\n foo:2]", "2: listen: 'foo:2' is not an endpoint such as tcp:3000"),
            ("listen: []", "1: listen: is an empty list"),
            ("listen:", "1: listen: has no value"),
            ("admin: on", "1: admin: 'on' is not an endpoint"),
            ("cache: {directory: ''}", "1: cache.directory: is empty"),
            ("cache:\n  manifests: maybe", "2: cache.manifests: must be yes or no, not 'maybe'"),
            ("cache:\n  ignore: (", "2: cache.ignore: '(' is not a regular expression"),
            ("cache:\n  tag-ttl: 60", "2: cache.tag-ttl: 60 needs a unit, as in 60s"),
            ("cache:\n  tag-ttl: -5s", "2: cache.tag-ttl: '-5s' is not a duration"),
            ("cache:\n  tag-ttl:", "2: cache.tag-ttl: has no value"),
            ("cache: 5", "1: cache: must be a mapping"),
            ("upstream: {stall-timeout: 0}", "1: upstream.stall-timeout: must be longer than 0s"),
            ("upstream: {connect-timeout: 0s}", "1: upstream.connect-timeout: must be longer than 0s"),
            ("upstream: {first-byte-timeout: 5}", "1: upstream.first-byte-timeout: 5 needs a unit"),
            ("upstream: {retries: -1}", "1: upstream.retries: must be a whole number, 0 or more"),
            ("upstream: {retries: yes}", "1: upstream.retries: must be a whole number"),
            ("upstream: {max-connections: 0}", "1: upstream.max-connections: must be a whole number, 1 or more"),
            ("upstream: {proxy: 'http://u:s3cret@proxy'}", "1: upstream.proxy: must not carry a user name"),
            ("upstream: {proxy: proxy:3128}", "1: upstream.proxy: must begin with http://"),
            ("reach: {default-registry: 'https://x'}", "1: reach.default-registry: must be a registry's name alone"),
            ("tls: {key: tls/client.key}", "1: tls: has no certificate; certificate and key come together"),
            ("tls: {certificate: tls/client.pem}", "1: tls: has no key"),
            ("tls: {certificate: none.pem, key: tls/client.key}", "1: tls.certificate: "),
            ("tls: {certificate: tls/client.pem,\n key: tls/ca.pem}", "2: tls.key: "),
            ("tls:\n certificate: tls/client.pem\n key: tls/client.key\n clients:", "4: tls.clients: has no ca"),
            (
                "tls: {certificate: tls/client.pem, key: tls/client.key, clients: {ca: tls/client.key}}",
                "1: tls.clients.ca: ",
            ),
            ("tls: {ca: tls/ca.pem}", "1: tls: unknown key 'ca'"),
            ("listen: tls:abc", "1: listen: 'tls:abc' is not tls:PORT or tls:PORT:interface=ADDRESS"),
            ("limits: {connections: 0}", "1: limits.connections: must be a whole number, 1 or more"),
            ("limits: {connections-per-peer: many}", "1: limits.connections-per-peer: must be a whole number"),
            ("limits: {requests: 1}", "1: limits: unknown key 'requests'"),
            ("reach: {allow: 'https://ghcr.io'}", "1: reach.allow: must be a registry's name alone"),
            ("reach: {deny: [ghcr.io/team]}", "1: reach.deny: must be a registry's name alone"),
            ("reach: {deny: ['u:s3cret@ghcr.io']}", "1: reach.deny: must be a registry's name alone"),
            ("reach:\n  allow:\n  - ghcr.io\n  - 'ghcr*'", "4: reach.allow: 'ghcr*' is none of the forms ghcr.io"),
            ("reach: {allow: ['a.*.example.com']}", "1: reach.allow: 'a.*.example.com' is none of the forms"),
            ("reach: {allow: ['*.']}", "1: reach.allow: '*.' is none of the forms"),
            ("reach: {allow: ['ghcr.io:99999']}", "1: reach.allow: 'ghcr.io:99999' is none of the forms"),
            ("reach: {deny: [127.1]}", "1: reach.deny: '127.1' is none of the forms"),
            ("reach: {deny: [10.0.0.0/8]}", "1: reach.deny: must be a registry's name alone"),
            ("reach: {allow: }", "1: reach.allow: has no value"),
            ("reach: {allow: {ghcr.io: }}", "1: reach.allow: must be a single value"),
            ("- listen", "1: must be a mapping with keys"),
        ]:
            message = self.refused(text)
            self.assertTrue(message.startswith(expected), (text, message))

    def test_registries(self) -> None:
        """The same below C{registries}, where the passwords are."""
        for text, expected in [
            ("ghcr.io/team: {}", "ghcr.io/team: must be a registry's name alone"),
            ("https://ghcr.io: {}", "https://ghcr.io: must be a registry's name alone"),
            ("Not_A_Host: {}", "Not_A_Host: 'Not_A_Host' is not a registry such as"),
            ("x.io: s3cret", "x.io: must be a mapping"),
            ("x.io: {username: u}", "x.io: has no password"),
            ("x.io: {password: s3cret}", "x.io: has no username"),
            ("x.io: {username: , password: s3cret}", "x.io.username: has no value"),
            ("x.io: {username: u, password: [s3cret]}", "x.io.password: must be a single value"),
            ("x.io: {username: 'u:v', password: s3cret}", "x.io: the username must not"),
            ("x.io: {url: 'https://u:s3cret@x.io'}", "x.io.url: must not carry"),
            ("x.io: {url: 'https://x.io/?s3cret'}", "x.io.url: must not have a ?"),
            ("x.io: {url: []}", "x.io.url: is an empty list"),
            ("x.io: {url: [ftp://x.io]}", "x.io.url: must begin with http:// or https://"),
            ("x.io: {ca: nope.pem}", "x.io.ca: "),
            ("x.io: {ca: tls/client.key}", "x.io.ca: "),
            ("x.io: {client-cert: tls/client.pem}", "x.io.client-cert: needs client-key too"),
            ("x.io: {client-key: tls/client.key}", "x.io.client-key: needs client-cert too"),
            ("x.io: {client-cert: tls/client.pem, client-key: tls/ca.pem}", "x.io.client-key: "),
            ("x.io: {ca: tls/ca.pem, insecure-skip-verify: yes}", "x.io.insecure-skip-verify: checks no certificate"),
            ("x.io: {insecure-skip-verify: perhaps}", "x.io.insecure-skip-verify: must be yes or no"),
            ("x.io: {access: everyone}", "x.io.access: must be verify or open"),
            ("x.io: {tag-ttl: 60}", "x.io.tag-ttl: 60 needs a unit"),
            ("x.io: {trusted-hosts: ['*.x.io']}", "x.io.trusted-hosts: '*.x.io' stands for many; name each host"),
            ("x.io: {trusted-hosts: [y.io, 'https://z.io']}", "x.io.trusted-hosts: must be a host alone"),
            ("x.io: {trusted-hosts: ['u:s3cret@y.io']}", "x.io.trusted-hosts: must be a host alone"),
            ("x.io: {trusted-hosts: ['y.io:0']}", "x.io.trusted-hosts: 'y.io:0' is not a host such as"),
            ("x.io: {trusted-hosts: ['y z']}", "x.io.trusted-hosts: 'y z' is not a host such as"),
            ("x.io: {trusted-hosts: ['0x7f.1']}", "x.io.trusted-hosts: '0x7f.1' is not a host such as"),
            ("x.io: {trusted-hosts: ['[::1%eth0]']}", "x.io.trusted-hosts: '[::1%eth0]' is not a host such as"),
        ]:
            message = self.refused(f"registries:\n  {text}\n")
            self.assertTrue(message.startswith(f"2: registries.{expected}"), (text, message))

    def test_insecure_off_with_ca(self) -> None:
        """C{ca} beside an C{insecure-skip-verify} that is off is no contradiction."""
        self.config("registries:\n  x.io: {ca: tls/ca.pem, insecure-skip-verify: no}")

    def test_one_registry_by_two_names(self) -> None:
        """Two of Docker Hub's names in one file are refused, naming both."""
        message = self.refused("registries:\n  docker.io: {}\n  index.docker.io: {}\n")
        self.assertTrue(message.startswith("3: registries.index.docker.io: is the same registry as docker.io"), message)

    def test_unknown_keys(self) -> None:
        """A key that nothing would honour is refused, wherever it stands."""
        for text, key in [
            ("parent: [http://x]", "parent"),
            ("trusted-hosts: []", "trusted-hosts"),
            ("reach: {trusted-hosts: []}", "trusted-hosts"),
            ("cache: {min-size: 5%}", "min-size"),
            ("cache: {s3: {access-key: x}}", "access-key"),
            ("access: verify", "access"),
            ("registries: {x.io: {allow: [y]}}", "allow"),
            ("registries: {x.io: {retries: 5}}", "retries"),
        ]:
            self.assertIn(f"unknown key '{key}'", self.refused(text))
        self.assertIn("not a key", self.refused("<<: {listen: tcp:1}"))

    def test_nearest_key(self) -> None:
        """A key that is nearly right is told what would be."""
        self.assertIn("did you mean registries?", self.refused("registry: {}"))
        self.assertIn("did you mean tag-ttl?", self.refused("cache: {tag_ttl: 5m}"))
