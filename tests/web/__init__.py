"""Tests of crcache.web."""
