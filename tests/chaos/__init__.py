"""A bad day on purpose: `python -m tests.chaos` (or `make chaos`).

Clients pull images through a crcache whose registry misbehaves on a fifth of its answers, while files vanish from the
cache directory and the daemon is killed again and again. No pull may fail, no byte may be wrong.
"""
