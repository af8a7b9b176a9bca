"""Tests of the fakes that users test with."""
