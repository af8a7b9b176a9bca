"""Tests for what becomes of log events."""
