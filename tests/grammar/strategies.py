"""What the grammar takes, and what it should not fall for, for hypothesis."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import strategies as st

from crcache.grammar.digest import Digest

LABELS = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOSTS = st.builds(
    lambda labels, last: ".".join([*labels, last]),
    st.lists(LABELS, max_size=4),
    st.from_regex(r"[a-z](?:[a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True),
)
ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.integers(2**48, 2**128 - 1).map(lambda number: f"[{IPv6Address(number)}]"),
)
PORTS = st.one_of(st.just(""), st.integers(1, 65535).map(lambda port: f":{port}"))
REGISTRIES = st.builds(lambda host, port: host + port, st.one_of(HOSTS, ADDRESSES), PORTS)

COMPONENTS = st.from_regex(r"[a-z0-9]{1,6}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,6}){0,3}", fullmatch=True)
REPOSITORIES = st.lists(COMPONENTS, min_size=1, max_size=6).map("/".join)
TAGS = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", fullmatch=True)
DIGESTS = st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"]))

#: Text near enough to names to be taken for one, and anything else.
HOSTILE = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="aA0._-:/@[]%\\ \n\r\t\x00\u00e9\u0661", max_size=20),
    st.builds(
        lambda good, bad, at: good[: at % (len(good) + 1)] + bad + good[at % (len(good) + 1) :],
        st.one_of(REGISTRIES, REPOSITORIES, TAGS, DIGESTS.map(str)),
        st.sampled_from(["\n", "\x00", "/", "//", "..", ".", "_", "\u00e9", "\u0661", "\u212a", " ", "@", "%2f", "\\"]),
        st.integers(0, 400),
    ),
)
