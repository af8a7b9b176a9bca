"""Tests of crcache.insight."""
