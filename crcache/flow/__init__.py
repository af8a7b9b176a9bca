"""Bytes in motion: fills, streams, hashers, sends, relays."""
