"""Tests for L{crcache.policy.reach}."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.hosts import HostPattern, parse_pattern
from crcache.grammar.reference import Registry
from crcache.policy.reach import address_public, allowed, astray, misleading, refusal, spelled_public, trusted
from crcache.settings import Reach, RegistrySettings, default_urls

#: First and last of each family of IPv4 that strangers may not have us connect to.
CLOSED_IPV4 = {
    "this network": ("0.0.0.0", "0.0.0.1", "0.255.255.255"),
    "private": ("10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"),
    "carriers' NAT": ("100.64.0.0", "100.100.100.200", "100.127.255.255"),
    "loopback": ("127.0.0.0", "127.0.0.1", "127.255.255.255"),
    "metadata": ("169.254.169.254", "169.254.170.2", "168.63.129.16", "192.0.0.192"),
    "link-local": ("169.254.0.0", "169.254.255.255"),
    "protocol assignments": ("192.0.0.0", "192.0.0.255"),
    "documentation": ("192.0.2.0", "192.0.2.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255"),
    "relays": ("192.88.99.0", "192.88.99.255"),
    "benchmarking": ("198.18.0.0", "198.19.255.255"),
    "multicast": ("224.0.0.0", "224.0.0.251", "239.255.255.255"),
    "reserved": ("240.0.0.0", "255.255.255.254"),
    "broadcast": ("255.255.255.255",),
}
#: What lies right beside them, and registries' own.
OPEN_IPV4 = (
    *("1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
    *("168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0"),
    *("191.255.255.255", "192.0.1.0", "192.0.1.255", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255"),
    *("192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0"),
    *("223.255.255.255", "8.8.8.8", "44.194.82.202"),
)
CLOSED_IPV6 = {
    "unspecified": ("::",),
    "loopback": ("::1",),
    "link-local": ("fe80::", "fe80::1", "febf:ffff::1"),
    "site-local": ("fec0::1", "feff::1"),
    "unique local": ("fc00::1", "fd00:ec2::254", "fdff:ffff::1"),
    "multicast": ("ff00::", "ff02::1", "ffff::1"),
    "discard": ("100::1",),
    "IPv4-compatible": ("::127.0.0.1", "::8.8.8.8"),
    "IPv4-translated": ("::ffff:0:10.0.0.1",),
    "NAT64 for local use": ("64:ff9b:1::1", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff::1"),
    "protocol assignments": ("2001:1::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:1ff::1"),
    "documentation": ("2001:db8::1", "2001:db8:ffff::1", "3fff::1", "3fff:fff::1"),
    "not assigned": ("1fff::1", "4000::1", "5f00::1", "e000::1"),
}
OPEN_IPV6 = ("2000::1", "2001:200::1", "2001:db7::1", "2001:db9::1", "2606:4700::1", "2a00:1450:4001::1", "3ffe::1")


def inside(address: str) -> dict[str, str]:
    """The IPv6 addresses, by their kind, that lead to an IPv4 address."""
    number = int(IPv4Address(address))
    server = int(IPv4Address("65.54.227.120")) << 64
    return {
        "mapped": f"::ffff:{address}",
        "mapped, in hexadecimal": str(IPv6Address(0xFFFF << 32 | number)),
        "NAT64": f"64:ff9b::{address}",
        "6to4": str(IPv6Address(0x2002 << 112 | number << 80)),
        "6to4, with a host": str(IPv6Address(0x2002 << 112 | number << 80 | 0x1234)),
        "Teredo client": str(IPv6Address(0x20010000 << 96 | server | number ^ 0xFFFFFFFF)),
        "Teredo server": str(IPv6Address(0x20010000 << 96 | number << 64 | (0x08080808 ^ 0xFFFFFFFF))),
    }


class AddressTests(SynchronousTestCase):
    """L{address_public}."""

    def test_closed(self) -> None:
        """No address of any family that is not public is; neither as itself nor inside of one of IPv6."""
        for family, addresses in {**CLOSED_IPV4, **CLOSED_IPV6}.items():
            for address in addresses:
                self.assertFalse(address_public(address), (family, address))
        for family, addresses in CLOSED_IPV4.items():
            for address in addresses:
                for kind, wrapped in inside(address).items():
                    self.assertFalse(address_public(wrapped), (family, kind, wrapped))

    def test_open(self) -> None:
        """What lies right beside them is, and what leads there."""
        for address in (*OPEN_IPV4, *OPEN_IPV6):
            self.assertTrue(address_public(address), address)
        for address in OPEN_IPV4:
            for kind, wrapped in inside(address).items():
                self.assertTrue(address_public(wrapped), (address, kind, wrapped))

    def test_not_an_address(self) -> None:
        """What is not an address in the usual notation is not public: it would be looked up, or read in another way."""
        for text in ("", "a.example.com", "localhost", "8.8.8", "08.8.8.8", "0x08.8.8.8", "134744072", "8.8.8.8."):
            self.assertFalse(address_public(text), text)

    def test_zones(self) -> None:
        """Nor is one of a zone, whatever it is: only those of one link have some."""
        for text in ("fe80::1%eth0", "fe80::1%1", "2606:4700::1%eth0", "::ffff:8.8.8.8%1", "8.8.8.8%1"):
            self.assertFalse(address_public(text), text)

    @given(st.ip_addresses())
    def test_no_wider_than_python(self, address: IPv4Address | IPv6Address) -> None:
        """Nothing is public here that this Python knows not to be, as itself or by what it leads to."""
        if address_public(str(address)):
            inner = address
            if isinstance(address, IPv6Address):
                translated = address in IPv6Network("64:ff9b::/96")
                teredo = (address.teredo or (None, None))[1]
                inner = address.ipv4_mapped or address.sixtofour or teredo or address
                inner = IPv4Address(int(address) & 0xFFFFFFFF) if translated else inner
            self.assertFalse(
                inner.is_private or inner.is_loopback or inner.is_link_local or inner.is_multicast, (address, inner)
            )
            self.assertFalse(inner.is_unspecified or inner.is_reserved, (address, inner))


class SpellingTests(SynchronousTestCase):
    """L{spelled_public}."""

    def test_notations(self) -> None:
        """Addresses that are not public are refused in every notation that some resolver or proxy reads them from."""
        for text in (
            *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7F.0.0.1", "0x7f.1", "0177.0.0.1"),
            *("017700000001", "0177.1", "127.0.0.1.", "127.1.", "0", "0.0.0.0", "0x0", "00", "127.0.0.01"),
            "127.00.0.1",
            *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"),
            "0xA9.254.0xa9.254",
            *("4294967297", "256.0.0.1", "1.2.3.4.5", "08.8.8.8", "0x", "1e3.1"),
            *("::1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "64:ff9b::127.0.0.1", "fe80::1%eth0", "fe80::1%25eth0"),
            *("0:0:0:0:0:ffff:127.0.0.1", "0000:0000:0000:0000:0000:0000:0000:0001", "2002:7f00:1::", "fd00:ec2::254"),
        ):
            self.assertFalse(spelled_public(text), text)

    def test_ambiguous(self) -> None:
        """So are public ones in such a notation, of which nobody can know what is made of them."""
        for text in ("134744072", "0x08080808", "010.8.8.8", "8.8.2056", "8.8.8.8."):
            self.assertFalse(spelled_public(text), text)
        self.assertTrue(spelled_public("8.8.8.8"))
        self.assertTrue(spelled_public("2606:4700::1111"))

    def test_local_names(self) -> None:
        """This host's own names are refused, in any case, with a trailing dot, and all that is below C{localhost}."""
        for text in (
            *("localhost", "LOCALHOST", "localhost.", "a.localhost", "a.b.localhost.", "localhost.localdomain"),
            *("localhost4", "localhost6", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback", "loopback"),
        ):
            self.assertFalse(spelled_public(text), text)

    def test_no_host(self) -> None:
        """What is no host's name is refused: a proxy may make one of it."""
        for text in ("", "127%2e0.0.1", "a.example%00", "127.0.0.1\\.example.com", "a b", "\u2460.example", "a..b"):
            self.assertFalse(spelled_public(text), text)

    def test_names(self) -> None:
        """Names are let pass: what they mean is not known here."""
        for text in ("ghcr.io", "notlocalhost", "localhost.example.com", "my_minio", "127.0.0.1.nip.io", "GHCR.io."):
            self.assertTrue(spelled_public(text), text)


def patterns(*texts: str) -> tuple[HostPattern, ...]:
    parsed = [parse_pattern(text, wildcards=True) for text in texts]
    return tuple(each for each in parsed if each is not None)


class RefusalTests(SynchronousTestCase):
    """L{refusal}."""

    def ask(
        self, name: str, allow: tuple[str, ...] = (), deny: tuple[str, ...] = (), named: bool = False
    ) -> str | None:
        found = refusal(Reach(patterns(*allow), patterns(*deny)), Registry.parse(name), named)
        if found is not None:
            self.assertIn(str(Registry.parse(name)), found)
            self.assertNotIn("\n", found)
        return found

    def test_every_public_one(self) -> None:
        """Without lists every registry may be asked that is at 443 or 80 and not spelled as private."""
        for name in ("docker.io", "ghcr.io", "registry.example.com:443", "registry.example.com:80", "8.8.8.8"):
            self.assertIsNone(self.ask(name), name)

    def test_port(self) -> None:
        """Another port has to be named, whatever the lists say."""
        for allow in ((), ("*",), ("registry.example.com:5000",)):
            self.assertIn("name it under registries", self.ask("registry.example.com:5000", allow) or "")
            self.assertIsNone(self.ask("registry.example.com:5000", allow, named=True))

    def test_private(self) -> None:
        """What can be told from the name alone to be private has to be named."""
        for name in ("127.0.0.1", "10.0.0.1", "[::1]", "[fd00::1]", "localhost", "a.localhost", "169.254.169.254"):
            self.assertIn("name it under registries", self.ask(name) or "", name)
            self.assertIn("name it under registries", self.ask(name, ("*",)) or "", name)
            self.assertIsNone(self.ask(name, named=True), name)

    def test_allow(self) -> None:
        """With a list of those that may be asked, only they and the named ones may."""
        allow = ("docker.io", "*.example.com", "quay.io:443")
        for name in ("docker.io", "index.docker.io", "a.example.com", "A.b.Example.com.", "quay.io"):
            self.assertIsNone(self.ask(name, allow), name)
        for name in ("ghcr.io", "example.com", "quay.io:80", "docker.io.example.org"):
            self.assertIn("reach.allow", self.ask(name, allow) or "", name)
            self.assertIsNone(self.ask(name, allow, named=True), name)

    def test_deny(self) -> None:
        """What is denied is not asked, be it allowed or named."""
        deny = ("ghcr.io", "*.example.com", "quay.io:80")
        for name in (
            *("ghcr.io", "GHCR.io.", "ghcr.io:443", "ghcr.io:80", "a.example.com", "a.example.com:5000"),
            "quay.io:80",
        ):
            for named in (False, True):
                self.assertIn("reach.deny", self.ask(name, ("*",), deny, named) or "", name)
        for name in ("docker.io", "example.com", "quay.io"):
            self.assertIsNone(self.ask(name, (), deny), name)
        self.assertIn("reach.deny", self.ask("quay.io", deny=("*",), named=True) or "")

    def test_docker_hub(self) -> None:
        """Docker Hub is meant by each of its names, and by what stands for one of them."""
        for pattern in ("docker.io", "index.docker.io", "registry-1.docker.io", "*.docker.io", "*.io", "docker.io:443"):
            for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
                self.assertIsNone(self.ask(name, (pattern,)), pattern)
                self.assertIn("reach.deny", self.ask(name, deny=(pattern,)) or "", pattern)
        self.assertIn("reach.allow", self.ask("docker.io", ("hub.docker.com",)) or "")

    def test_by_name(self) -> None:
        """Those that are allowed by name are known, whichever name that is; who is allowed by a wildcard is not."""
        names = allowed(
            Reach(patterns("index.docker.io", "quay.io:443", "r.test:5000", "*.a.test", "*", "my_own", "::2"))
        )
        self.assertEqual({str(each) for each in names}, {"docker.io", "quay.io", "r.test:5000", "[::2]"})


class TrustTests(SynchronousTestCase):
    """L{trusted}, L{misleading} and L{astray}."""

    name = Registry.parse("registry.example.com")
    unnamed = RegistrySettings(name, default_urls(name), named=False)
    named = RegistrySettings(
        name,
        ("https://10.0.0.1:5000", "http://Inner.Example.com"),
        trusted_hosts=patterns("auth.example.com", "minio.example.com:9000", "10.0.0.9", "[fd00::9]:9000"),
    )

    def test_own(self) -> None:
        """A registry that is named may be at its own URLs, each with its port; without one, at its own name."""
        for host, port in (("10.0.0.1", 5000), ("inner.example.com", 80), ("INNER.example.com.", 80)):
            self.assertTrue(trusted(self.named, host, port), (host, port))
        for host, port in (("10.0.0.1", 443), ("10.0.0.2", 5000), ("inner.example.com", 443), (str(self.name), 443)):
            self.assertFalse(trusted(self.named, host, port), (host, port))
        self.assertTrue(trusted(RegistrySettings(self.name, default_urls(self.name)), str(self.name), 443))

    def test_trusted_hosts(self) -> None:
        """Besides, at its trusted hosts, with their port if they have one."""
        for host, port in (
            *(("auth.example.com", 443), ("auth.example.com", 8443), ("Minio.example.com", 9000)),
            *(("10.0.0.9", 1), ("fd00::9", 9000), ("fd00:0::9", 9000)),
        ):
            self.assertTrue(trusted(self.named, host, port), (host, port))
        for host, port in (("minio.example.com", 443), ("a.auth.example.com", 443), ("fd00::9", 443)):
            self.assertFalse(trusted(self.named, host, port), (host, port))

    def test_unnamed(self) -> None:
        """One that is not named may be nowhere but at public addresses, not even at its own name."""
        settings = RegistrySettings(self.name, self.named.urls, trusted_hosts=self.named.trusted_hosts, named=False)
        for host, port in (("10.0.0.1", 5000), ("auth.example.com", 443)):
            self.assertFalse(trusted(settings, host, port))
        self.assertFalse(trusted(self.unnamed, str(self.name), 443))

    def test_ports(self) -> None:
        """Only one that is named may lead to other ports than 443 and 80."""
        for port in (443, 80):
            self.assertIsNone(misleading(self.unnamed, "cdn.example.com", port))
        for port in (22, 6379, 8443):
            told = misleading(self.unnamed, "cdn.example.com", port)
            self.assertIn("name it under registries", told or "")
            self.assertIsNone(misleading(self.named, "cdn.example.com", port))

    def test_spelling(self) -> None:
        """Where it may not be told by the name, it is refused before anything is resolved; not where it is trusted."""
        for host in ("127.0.0.1", "0x7f.1", "::1", "localhost", "169.254.169.254"):
            for settings in (self.named, self.unnamed):
                self.assertIsNotNone(misleading(settings, host, 443), host)
        self.assertIsNone(misleading(self.named, "10.0.0.9", 443))
        self.assertIsNone(misleading(self.named, "10.0.0.1", 5000))

    def test_sentences(self) -> None:
        """The sentence names the key to change for the registry as it is, and shows a long host in part."""
        own = astray(self.unnamed, "registry.example.com", 443)
        self.assertEqual(
            own,
            "registry.example.com is not at a public address; name it under registries to have it asked all the same",
        )
        self.assertIn("add it to registries.registry.example.com.trusted-hosts", astray(self.named, "x.test", 443))
        led = astray(self.unnamed, "x.test", 80)
        self.assertIn("leads to x.test:80", led)
        self.assertIn("name registry.example.com under registries, with that host among its trusted-hosts", led)
        self.assertLess(len(astray(self.named, "x" * 100_000, 443)), 400)
        self.assertIn("[::1]:443", astray(self.named, "::1", 443))
