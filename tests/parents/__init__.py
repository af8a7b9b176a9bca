"""Tests for the parents."""
