# Two environments, both with crcache installed from this directory so that edits take effect at once:
# .venv has the newest of everything crcache needs, and the development tools; .venv-oldest has Debian 12's versions;
# .venv-audit what asks for known weaknesses.
# PYTHON=... chooses the interpreter that they are made with, ARGS="..." goes to what is run.

# Any other editable mode hides the plugin from twistd; setuptools warns that this one may go, so it is pinned.
EDITABLE := --no-build-isolation --config-settings editable_mode=compat --editable .
PIP_INSTALL := -W ignore -m pip install --quiet --disable-pip-version-check
REAL := tests/real/packages.txt

# Everything but the tests against real components. One of them: make test TESTS=tests.test_imports
TESTS := $(sort $(filter-out tests.real,$(subst /,.,$(patsubst %/__init__.py,%,$(wildcard tests/*/__init__.py)) \
	$(patsubst %.py,%,$(wildcard tests/test_*.py)))))
# The schemas that manifests are held against, and what writes completion, are among the development tools only; policy
# needs nothing but Python.
TESTS_OLDEST := $(filter-out tests.policy tests.test_kubernetes tests.test_completion,$(TESTS))

.PHONY: help venv run test test-oldest check format pages test-real fuzz audit chaos bench dist deb rpm image clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

venv: .venv/made ## .venv, with crcache and its development tools

run: .venv/made ## the daemon, with ARGS="..." for its flags
	@exec .venv/bin/twistd -n --pidfile= crcache $(ARGS)

test: .venv/made ## the fast tests, on the newest versions of what crcache needs
	.venv/bin/trial $(ARGS) $(TESTS)

test-oldest: .venv-oldest/made ## the same, on Debian 12's versions
	.venv-oldest/bin/trial $(ARGS) $(TESTS_OLDEST)

check: .venv/made ## format, lint, types, security, and who may import whom
	.venv/bin/ruff format --check --quiet .
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy
	.venv/bin/bandit --quiet --recursive --configfile pyproject.toml crcache twisted setup.py
	.venv/bin/trial --reporter=text tests.test_imports

format: .venv/made ## put the code into shape
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

pages: .venv/made ## crcache(1) and shell completion, of what crcache --help says
	.venv/bin/python tools/pages.py

test-real: .venv/made ## against real registries and clients; as root, missing Debian packages are installed
	tools/install-packages.sh $(REAL)
	.venv/bin/trial $(ARGS) tests.real

fuzz: .venv/made ## say everything to all that reads: ten minutes, or ARGS="--minutes 60 --seed 7"
	.venv/bin/python -m tests.fuzz $(ARGS)

audit: .venv/made .venv-audit/made ## known weaknesses of what crcache runs with, asked of the package index
	tools/audit.sh

chaos: .venv/made ## pull while everything fails: ten minutes, or ARGS="--minutes 1 --seed 2"
	.venv/bin/python -m tests.chaos $(ARGS)

bench: .venv/made ## side by side with nginx and docker-registry
	tools/install-packages.sh $(REAL)
	.venv/bin/python -m benchmarks $(ARGS)

dist: .venv/made ## wheel and sdist, in dist/
	.venv/bin/python -m build --no-isolation

deb: ## package for Debian 12, in build/deb/; VERSION=... for another one than crcache's own
	packaging/deb/build.sh $(VERSION)

rpm: ## package for Fedora and its family, in build/rpm/; VERSION=... as for deb
	packaging/rpm/build.sh $(VERSION)

image: ## container image, with buildah: crcache:VERSION, or TAG=...; BASE=... for another Debian 12
	packaging/container/build.sh $(TAG)

clean: ## remove all that was made, the environments too
	rm -rf .venv .venv-oldest .venv-audit build dist *.egg-info _trial_temp* .hypothesis .mypy_cache .ruff_cache
	rm -f twisted/plugins/dropin.cache
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/made: setup.py requirements/build.txt requirements/dev.txt tools/make-venv.sh
	tools/make-venv.sh .venv requirements/build.txt
	.venv/bin/python $(PIP_INSTALL) --requirement requirements/dev.txt $(EDITABLE)
	touch $@

.venv-oldest/made: setup.py requirements/oldest-build.txt requirements/oldest.txt tools/make-venv.sh
	tools/make-venv.sh .venv-oldest requirements/oldest-build.txt
	.venv-oldest/bin/python $(PIP_INSTALL) --no-build-isolation --requirement requirements/oldest.txt
	.venv-oldest/bin/python $(PIP_INSTALL) --no-deps $(EDITABLE)
	.venv-oldest/bin/python -m pip check --disable-pip-version-check
	touch $@

.venv-audit/made: requirements/build.txt requirements/audit.txt tools/make-venv.sh
	tools/make-venv.sh .venv-audit requirements/build.txt
	.venv-audit/bin/python $(PIP_INSTALL) --requirement requirements/audit.txt
	touch $@
