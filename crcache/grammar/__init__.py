"""The registry protocol's grammar, without I/O: names, digests, ranges, challenges, manifests, routes."""
