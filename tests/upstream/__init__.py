"""Tests of how origins are spoken to."""
