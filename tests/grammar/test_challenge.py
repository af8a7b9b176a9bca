"""Tests for L{crcache.grammar.challenge}."""

from __future__ import annotations

import operator

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from crcache.grammar.challenge import Challenge, parse_challenges

TOKENS = st.text(alphabet="abzABZ019!#$%&'*+.^_`|~-", min_size=1, max_size=8)
SPACE = st.sampled_from(["", " ", "\t", "  "])
VALUES = st.text(
    alphabet=st.one_of(st.sampled_from('",\\= \tabc:/'), st.characters(min_codepoint=0x20, max_codepoint=0x7E)),
    max_size=12,
)


@st.composite
def parameters(draw: st.DrawFn) -> tuple[str, str, str]:
    """A parameter: its name, its value, and one way of writing it."""
    name, value = draw(TOKENS), draw(st.one_of(VALUES, TOKENS))
    quoted = not value or not set(value) <= set("abzABZ019!#$%&'*+.^_`|~-") or draw(st.booleans())
    text = value
    if quoted:
        escape = st.booleans()
        text = "".join("\\" + char if char in '"\\' or draw(escape) else char for char in value)
        text = f'"{text}"'
    return name, value, f"{name}{draw(SPACE)}={draw(SPACE)}{text}"


@st.composite
def challenges(draw: st.DrawFn) -> tuple[Challenge, str]:
    """A challenge, and one way of writing it."""
    scheme = draw(TOKENS)
    kind = draw(st.sampled_from(["alone", "token68", "parameters"]))
    if kind == "alone":
        return Challenge(scheme.lower()), scheme
    if kind == "token68":
        token68 = draw(st.from_regex(r"[A-Za-z0-9._~+/-]{1,8}={0,2}", fullmatch=True))
        return Challenge(scheme.lower(), token68=token68), f"{scheme} {token68}"
    drawn = draw(st.lists(parameters(), min_size=1, max_size=4))
    expected: dict[str, str] = {}
    for name, value, _ in drawn:
        expected.setdefault(name.lower(), value)
    comma = draw(st.sampled_from([",", ", ", " ,\t", ",,", " , ,"]))
    return Challenge(scheme.lower(), expected), f"{scheme} {comma.join(text for _, _, text in drawn)}"


class ParseChallengesTests(SynchronousTestCase):
    """L{parse_challenges}."""

    @given(st.lists(st.tuples(challenges(), st.booleans()), max_size=4), st.sampled_from([",", ", ", " ,\t", ",,"]))
    def test_round_trip(self, drawn: list[tuple[tuple[Challenge, str], bool]], comma: str) -> None:
        """Challenges are read back however they are quoted, spaced, and spread over lines."""
        lines: list[str] = []
        for (_, text), same_line in drawn:
            if same_line and lines:
                lines[-1] += comma + text
            else:
                lines.append(text)
        self.assertEqual(parse_challenges(lines), tuple(challenge for (challenge, _), _ in drawn))

    @given(st.lists(st.one_of(st.text(), st.text(alphabet='Ba="\\, \t=r68+/\x00\u0661')), max_size=3))
    def test_any_text(self, lines: list[str]) -> None:
        """Any text gives challenges whose names are lower-case; nothing raises."""
        for challenge in parse_challenges(lines):
            self.assertTrue(challenge.scheme)
            self.assertEqual(challenge.scheme, challenge.scheme.lower())
            for name in challenge.parameters:
                self.assertEqual(name, name.lower())

    def test_registry(self) -> None:
        """A registry's Bearer challenge keeps the comma in its scope."""
        (challenge,) = parse_challenges(
            ['Bearer realm="https://auth.example.com/token",service="reg",scope="repository:a/b:pull,push"']
        )
        self.assertEqual(challenge.scheme, "bearer")
        self.assertEqual(
            dict(challenge.parameters),
            {"realm": "https://auth.example.com/token", "service": "reg", "scope": "repository:a/b:pull,push"},
        )

    def test_several(self) -> None:
        """Several challenges on a line are told apart, also after a scheme alone or with a token."""
        self.assertEqual(
            [
                (challenge.scheme, dict(challenge.parameters), challenge.token68)
                for challenge in parse_challenges(
                    [
                        'Negotiate, NTLM TlRMTVNTUAAC==, basic realm="a \\"b\\"", charset=UTF-8 , BEARER Realm=x',
                        "",
                        "Foo",
                    ]
                )
            ],
            [
                ("negotiate", {}, None),
                ("ntlm", {}, "TlRMTVNTUAAC=="),
                ("basic", {"realm": 'a "b"', "charset": "UTF-8"}, None),
                ("bearer", {"realm": "x"}, None),
                ("foo", {}, None),
            ],
        )

    def test_lenient(self) -> None:
        """An unquoted URL, and a comma or spaces too many after the scheme, are forgiven."""
        expected = (Challenge("bearer", {"realm": "https://a/token", "service": "s"}),)
        for line in (
            "Bearer realm=https://a/token,service=s",
            'Bearer   realm = "https://a/token" ,, service = s',
            ',Bearer , realm="https://a/token", service="s",',
        ):
            self.assertEqual(parse_challenges([line]), expected)

    def test_repeated(self) -> None:
        """Of a parameter given twice, in whatever case, the first counts."""
        self.assertEqual(parse_challenges(['Basic realm="1", Realm="2"']), (Challenge("basic", {"realm": "1"}),))

    def test_no_comma(self) -> None:
        """A word without a comma before it begins no challenge."""
        self.assertEqual(parse_challenges(["Basic Bearer x"]), (Challenge("basic"),))

    def test_malformed_tail(self) -> None:
        """What follows a mistake is dropped, what came before it and other lines are not."""
        basic = Challenge("basic", {"realm": "r"})
        for tail in (
            ', Bearer realm="never closed',
            ', Bearer realm="never closed\\"',
            ', Bearer realm="control\x00"',
            ', Bearer realm= "',
            ', Bearer "realm"',
        ):
            self.assertEqual(
                parse_challenges([f'Basic realm="r"{tail}', 'Basic realm="r"']), (basic, Challenge("bearer"), basic)
            )
        for tail in (', "x"', ", =x", " x", ' x="y"', ', x="y"z', ", a/b", ", \u00e9=1", ", a=b c=d"):
            parsed = parse_challenges([f'Basic realm="r"{tail}, Bearer realm="x"'])
            self.assertEqual([challenge.scheme for challenge in parsed], ["basic"], tail)
            self.assertEqual(parsed[0].parameters["realm"], "r")

    def test_immutable(self) -> None:
        """A challenge's parameters can't be changed."""
        (challenge,) = parse_challenges(["Basic realm=r"])
        self.assertRaises(TypeError, operator.setitem, challenge.parameters, "realm", "other")

    def test_large(self) -> None:
        """Long lines that invite going back over what was read are done with: time is linear."""
        size = 200_000
        for line in (
            "a" * size,
            "a " * (size // 2),
            "a, " * (size // 3),
            "Basic " + "a" * size + " b",
            "Basic a" + "=" * size + "x",
            "Basic a" + " " * size + "x",
            "Basic " + "a=b, " * (size // 5) + '"',
            "Basic " + ", " * (size // 2) + "a=",
            'Basic realm="' + "a" * size,
            'Basic realm="' + "\\" * (size // 2),
            'Basic realm="' + '"' * (size // 2),
            "Basic a=b" + (", c" + " " * 50 + "d=e") * (size // 57),
            "Basic a" + " " * (size // 2) + "=" + " " * (size // 2),
        ):
            self.assertLess(len(parse_challenges([line])), size)
