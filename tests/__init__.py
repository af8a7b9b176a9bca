"""crcache's tests: run them with `make test`."""
