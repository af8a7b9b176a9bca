"""crcache: a pull-through cache of container registries."""

__version__ = "0.1.0"
