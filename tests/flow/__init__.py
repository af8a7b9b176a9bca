"""Bytes in motion."""
