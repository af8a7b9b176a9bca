"""What is installed, and what it needs; the tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "crcache/__init__.py").read_text(), re.MULTILINE)[1]

setup(
    name="crcache",
    version=VERSION,
    description="A pull-through cache of container registries",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The crcache authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Internet :: Proxy Servers",
        "Typing :: Typed",
    ],
    # A directory without __init__.py, in which Twisted looks for plugins; find_packages does not see it.
    packages=[*find_packages(include=["crcache", "crcache.*"]), "twisted.plugins"],
    package_data={"crcache": ["py.typed"]},
    include_package_data=False,
    entry_points={"console_scripts": ["crcache = crcache.cli:main"]},
    python_requires=">=3.11",
    # The lower bounds are Debian 12's versions, with which the tests are run too: see docs/dependencies.md.
    install_requires=[
        "Twisted >= 22.4",
        "treq >= 22.2",
        "zope.interface >= 5.5.2",
        "pyOpenSSL >= 23.0",
        "cryptography >= 38.0",
        "service-identity >= 18.1",
        "idna >= 3.3",
        "PyYAML >= 6.0",
        "prometheus-client >= 0.16",
        "tqdm >= 4.64.1",
    ],
    # Only where systemd is, whose headers it is built with; distributions have it ready-made. And only where there is a
    # bucket.
    extras_require={"systemd": ["systemd-python >= 234"], "s3": ["botocore >= 1.29"]},
    zip_safe=False,
)
