"""crcache side by side with what else would be put in its place: `python -m benchmarks`."""
