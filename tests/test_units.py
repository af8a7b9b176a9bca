"""L{crcache.units}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from crcache.units import format_duration, format_size, parse_duration, parse_size


class ParseDurationTests(SynchronousTestCase):
    def test_units(self) -> None:
        """Each unit counts as what it is called, fractions included, with or without a space."""
        for text, seconds in [
            ("500ms", 0.5),
            ("60s", 60.0),
            ("5m", 300.0),
            ("12h", 43200.0),
            ("7d", 604800.0),
            ("1.5h", 5400.0),
            ("20 s", 20.0),
            ("0s", 0.0),
            ("3650d", 315360000.0),
        ]:
            self.assertEqual(parse_duration(text), seconds, text)

    def test_zero_needs_no_unit(self) -> None:
        """Nothing is nothing in every unit."""
        self.assertEqual(parse_duration("0"), 0.0)
        self.assertEqual(parse_duration("0.0"), 0.0)

    def test_bare_number(self) -> None:
        """A number without a unit is refused, and the message shows how to write it."""
        error = self.assertRaises(ValueError, parse_duration, "60")
        self.assertIn("60s", str(error))
        self.assertIn("unit", str(error))

    def test_not_a_duration(self) -> None:
        """Anything else is refused with an example of what would be right."""
        for text in ["", "s", "-1s", "1w", "1h30m", "1e3s", "inf", "nans", "٣s", "1,5s", "60 seconds", "60S", "\n60s"]:
            error = self.assertRaises(ValueError, parse_duration, text)
            self.assertIn("such as", str(error), text)

    def test_too_long(self) -> None:
        """More than ten years is a mistake."""
        error = self.assertRaises(ValueError, parse_duration, "3651d")
        self.assertIn("3650d", str(error))


class FormatDurationTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """What is printed means the same when it is read."""
        for text in [
            "0s",
            "1ms",
            "0.001ms",
            "250ms",
            "1.5s",
            "61s",
            "90m",
            "36h",
            "7d",
            "3650d",
            "0.1s",
            "0.3s",
            "1.1h",
        ]:
            seconds = parse_duration(text)
            self.assertEqual(parse_duration(format_duration(seconds)), seconds, text)

    def test_largest_whole_unit(self) -> None:
        """The text is as an administrator would have written it."""
        self.assertEqual(
            [format_duration(seconds) for seconds in (0.0, 0.25, 20.0, 60.0, 90.0, 7200.0, 604800.0)],
            ["0s", "250ms", "20s", "1m", "90s", "2h", "7d"],
        )


class SizeTests(SynchronousTestCase):
    """Sizes."""

    def test_units(self) -> None:
        """Each unit counts as what it is called, fractions included, and is written as it is read."""
        for text, count in [
            ("512B", 512),
            ("4KiB", 4096),
            ("1.5 MiB", 3 << 19),
            ("20GiB", 20 << 30),
            ("2TiB", 2 << 40),
            ("0", 0),
        ]:
            self.assertEqual(parse_size(text), count, text)
            self.assertEqual(parse_size(format_size(count)), count, text)

    def test_mistakes(self) -> None:
        """Anything else is refused with an example of what would be right."""
        for text in ["", "5", "5GB", "-1GiB", "1e3MiB", "GiB", "5 gib", "10%", "٣GiB"]:
            error = self.assertRaises(ValueError, parse_size, text)
            self.assertIn("GiB", str(error), text)
        self.assertIn("more than", str(self.assertRaises(ValueError, parse_size, "99999999TiB")))
