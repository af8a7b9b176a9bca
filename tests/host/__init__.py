"""Tests for L{crcache.host}."""
