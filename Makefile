# `make serve` and `make test` are all one needs; `make help` lists the rest. CI calls the same targets.
PORT    ?= 8080
MINUTES ?= 5
# one more than cores: the tests wait for timeouts as often as for a processor
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTHON  ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14 python; do \
	$$p -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP      = .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt
EDITABLE = --config-settings editable_mode=compat
ALONE    = .venv/bin/python -m piptools compile --quiet --generate-hashes --strip-extras --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-options --annotation-style line
LOCK     = $(ALONE) --constraint constraints.txt
LOCKED   = sklearn xgboost lightgbm catboost images arrow zstd signatures grpc otel
# pip compiles what it installs, but not an editable package; a start would do it each time where Python may not write
BYTECODE = .venv/bin/python -m compileall -q runtime adapters
# One process has the tests that import frameworks, which takes seconds, beside WORKERS that have the others. A module
# is one worker's, so that its servers start once.
PYTEST   = .venv/bin/python -m pytest --ignore tests/image
SPREAD   = --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# each target's output on its own, but for that of the tests, which shows how far they are
BESIDE   = $(MAKE) --no-print-directory --jobs --output-sync
# where this is set, each of the hundreds of processes of a test run would compile again what was edited
unexport PYTHONDONTWRITEBYTECODE
PROGRAMS = docker-registry skopeo promtool curl node chromium
PACKAGES = docker-registry skopeo prometheus curl nodejs chromium

ENGINE   = $(shell command -v podman || echo docker)
EXTRAS  ?=
CAMPAIGN ?=
BUILD   ?=
PEERS   ?=
BENCH   ?=
SOAK    ?=
comma   := ,

.PHONY: serve help test campaigns test-fast trust fuzz venv lint bench soak picture format programs clients lock image test-image
.DELETE_ON_ERROR:

serve: .venv/.core  ## Serves the example kit on port 8080, or PORT.
	@.venv/bin/python -m runtime --kit oci:examples/iris-onnx:v1 --port $(PORT) --log-format text

help:  ## This list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

test: venv programs clients  ## All tests but those of the image, and lint, as CI runs them.
	@$(BYTECODE)
	@.venv/bin/python -m tests.measured.probes
	+@PYTHONPATH="$(CURDIR)/tests/measured" $(BESIDE) .tests .tests-of-frameworks lint
	.venv/bin/python -m tests.measured

campaigns: venv clients  ## The tests of random cases, with as many as CI tries; CAMPAIGN=--long takes hours.
	@$(BYTECODE)
	$(PYTEST) $(SPREAD) -m campaign --timeout 0 $(or $(CAMPAIGN),--ci)

test-fast: venv  ## The tests that take less than a quarter of a second each: after every edit.
	@$(BYTECODE)
	+@$(BESIDE) .tests .tests-of-frameworks CHOSEN='-m "not slow" --quiet'

.tests:
	+$(PYTEST) $(SPREAD) --frameworks never $(CHOSEN)

.tests-of-frameworks:
	$(PYTEST) --frameworks only $(CHOSEN)

fuzz: venv  ## Looks for bytes that readers of kits fail on: atheris, MINUTES for each of them (5), in an environment of its own.
	@test -x build/fuzz/bin/python || .venv/bin/python -m venv build/fuzz
	@build/fuzz/bin/python -m pip install --quiet --disable-pip-version-check "atheris>=3" pyyaml
	build/fuzz/bin/python -m tests.kit.fuzz

trust: venv  ## Measures each promise of docs/security.md, with LONG=--long for hours: build/trust-report.md.
	.venv/bin/python -m tests.trust $(LONG)

lint: venv  ## Style and types: ruff, mypy.
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check --quiet .
	.venv/bin/python -m mypy

bench: venv  ## Measures predictions beside the least server, and beside PEERS=mlserver,… (docs/benchmarks.md); BENCH="--only W1".
	$(if $(PEERS),.venv/bin/python -m loadtests.peers $(subst $(comma), ,$(PEERS)))
	.venv/bin/python -m loadtests.bench --page docs/benchmarks.md $(if $(PEERS),--peers $(PEERS)) $(BENCH)

soak: venv  ## Ten minutes of mixed load, killed workers and leaving clients: nothing grows. SOAK=--long is an hour.
	.venv/bin/python -m loadtests.soak $(SOAK)

picture: venv  ## Draws who imports whom into docs/architecture.md.
	.venv/bin/python docs/draw_imports.py

format: venv  ## Puts every file into the project's style.
	.venv/bin/python -m ruff check --fix .
	.venv/bin/python -m ruff format .

venv: .venv/.all  ## Makes .venv with every extra, at the versions of constraints.txt.

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing the runtime into .venv: about a minute, once."
	@$(PIP) $(EDITABLE) --editable .
	@$(BYTECODE)
	@touch $@

.venv/.all: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing the runtime with all extras into .venv: a few minutes, once."
	@$(PIP) $(EDITABLE) --editable '.[dev]'
	@$(BYTECODE)
	@touch .venv/.core $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv on PATH: install one, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

image:  ## Builds the container image, with EXTRAS=sklearn,… if wanted, and its bill of materials (docs/deploy.md).
	$(ENGINE) build --tag runtime --build-arg EXTRAS=$(EXTRAS) $(if $(findstring podman,$(ENGINE)),--format docker) $(BUILD) .
	mkdir -p build
	$(ENGINE) run --rm --network none --entrypoint cat runtime /opt/venv/sbom.cdx.json > build/sbom.cdx.json

test-image: venv programs  ## Builds and runs the image for real, with podman and with a Docker daemon, as root.
	@./.ci/packages "podman buildah runc mmdebstrap catatonit dockerd" "podman buildah runc crun mmdebstrap catatonit docker.io"
	.venv/bin/python -m pytest tests/image

programs:  ## Installs what the tests run beside Python: a registry, skopeo, promtool, clients.
	@./.ci/packages "$(PROGRAMS)" "$(PACKAGES)"

clients: venv  ## Makes an environment for each of the real clients (docs/clients.md), and one of real models.
	@.venv/bin/python -m tests.clients.environments

lock: venv  ## Writes requirements/: all that the core and each extra need, with the hashes of every platform's files.
	$(LOCK) --allow-unsafe --output-file requirements/core.txt pyproject.toml
	$(LOCK) --allow-unsafe --output-file requirements/build.txt requirements/build.in
	for extra in $(LOCKED); do $(LOCK) --allow-unsafe --extra $$extra --output-file requirements/$$extra.txt pyproject.toml || exit 1; done
	for extra in pytorch transformers; do \
		$(LOCK) --extra $$extra --unsafe-package torch --output-file requirements/$$extra.txt pyproject.toml || exit 1; done
	for client in triton kserve mlserver drayage; do \
		$(ALONE) --allow-unsafe --output-file tests/clients/requirements/$$client.txt tests/clients/requirements/$$client.in || exit 1; done
	sed -i '/^# WARNING/,$$d' requirements/pytorch.txt requirements/transformers.txt  # torch comes from a wheel folder: docs/deploy.md
