"""Fakes for tests, shipped so that users can test against them."""
