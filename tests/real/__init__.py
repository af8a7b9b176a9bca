"""crcache between real clients and real registries: `trial tests.real`, as root, with what packages.txt names.

Everything listens on 127.0.0.1, on ports that are free. What is missing is a failure, never a skipped test.
"""
