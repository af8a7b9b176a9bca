"""Whole images asked for as clients would, for the sake of what stays in the cache."""
