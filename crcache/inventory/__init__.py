"""A cache directory as its administrator sees it: read from outside, without a reactor, changing nothing."""
