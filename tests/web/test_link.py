"""Links to next pages."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.web.link import next_page

PATH = "/v2/library/alpine/tags/list"
HERE = ("n", "last")


class NextPageTests(SynchronousTestCase):
    """L{next_page}."""

    def _next(self, *values: str, ns: str | None = None) -> str | None:
        return next_page(values, PATH, ns, HERE)

    def test_relative(self) -> None:
        """A path, or a query alone, goes on at the client's own path."""
        expected = '</v2/library/alpine/tags/list?n=2&last=b>; rel="next"'
        for target in ("/v2/other/tags/list?n=2&last=b", "?n=2&last=b", "tags/list?n=2&last=b"):
            self.assertEqual(self._next(f'<{target}>; rel="next"'), expected, target)

    def test_absolute(self) -> None:
        """The origin's host is left behind."""
        expected = '</v2/library/alpine/tags/list?n=2&last=b>; rel="next"'
        self.assertEqual(self._next('<https://o.example.com:5000/v2/x/tags/list?n=2&last=b>; rel="next"'), expected)

    def test_ns(self) -> None:
        """A client that says ns finds its own again, once, escaped where need be."""
        self.assertEqual(
            self._next("</v2/x/tags/list?ns=theirs&last=b>; rel=next", ns="localhost:5000"),
            '</v2/library/alpine/tags/list?last=b&ns=localhost:5000>; rel="next"',
        )
        self.assertIn("ns=%5B::1%5D:5000>", self._next("<?last=b>; rel=next", ns="[::1]:5000") or "")

    def test_escapes_kept(self) -> None:
        """What the origin escaped stays as it is."""
        self.assertIn("?last=a%2Bb%26c>", self._next("<?last=a%2Bb%26c>; rel=next") or "")

    def test_semicolons(self) -> None:
        """A semicolon is escaped, since a parameter of ours would end there."""
        self.assertIn("?n=2&last=a%3Bb%3Bc>", self._next("<?n=2&last=a;b;c>; rel=next") or "")

    def test_relations(self) -> None:
        """Only a next page counts, in any of the forms that name one, in any line."""
        for params in ('; rel="next"', ";rel=next", '; title="a, b"; rel="prev next"', "; REL=NEXT; x=y"):
            self.assertIsNotNone(self._next(f"<?last=b>{params}"), params)
        for params in ('; rel="prev"', "", '; rel="nextish"', '; title="rel=next"', "; xrel=next"):
            self.assertIsNone(self._next(f"<?last=b>{params}"), params)
        self.assertIn("last=c>", self._next('<?last=a>; rel="first", <?last=c>; rel="next"') or "")
        self.assertIn("last=c>", self._next('<?last=a>; rel="first"', '<?last=c>; rel="next"') or "")

    def test_dead_ends(self) -> None:
        """A link that could not be followed here is left out: no query, another list, or parameters unheard of."""
        for target in ("", PATH, "/v2/_catalog?last=b", "?last=b&token=x", "?last=a b", "http://[?last=b"):
            self.assertIsNone(self._next(f"<{target}>; rel=next"), target)
        self.assertIsNone(self._next("no link at all", ""))
