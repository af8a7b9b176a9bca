"""Credentials while the daemon runs."""
