# make run, make test: each sets up what it needs in .venv. Needs Python >= 3.11, git and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# More packages than the demo needs, by the names of pyproject.toml: make run EXTRAS="cloud tracking".
EXTRAS ?=
# TORCH=cpu: PyTorch's wheels for machines without an NVIDIA GPU (docs/getting-started.md).
TORCH ?=
SHELL := /bin/bash
# Each of a few hundred processes would compile PyTorch's 2,000 files anew: 5 core seconds a start.
unexport PYTHONDONTWRITEBYTECODE
# One more than there are cores, as some tests wait for servers and schedulers; 2 GB of memory each.
TESTS_AT_ONCE ?= $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); echo $$((n < 8 ? n + 1 : 8)))

.PHONY: help run test test-system lint docs clean setup setup-test lock deps

help:
	@echo "make run    make everything that params.yaml asks for; end with a table and a report"
	@echo "            (make run VERBOSE=1 shows all that Snakemake and the jobs print)"
	@echo "make test   check the code and run the tests; make test-system runs those of whole"
	@echo "            chains, several processes, Slurm, a browser, notebooks, kills and damaged files"
	@echo "make setup  make .venv only; EXTRAS=all for all that settings may need"
	@echo "make clean  remove results and what was derived from downloads, but no download"
	@echo "make lint   check the code only          make docs   make the site of docs/ in site/"
	@echo "make lock   renew requirements.lock      make deps   renew the settings in dvc.yaml"

run: setup
	@$(BIN)/python workflow/free_lock.py
	@$(BIN)/snakemake --cores all

PYTEST = $(BIN)/python -m pytest -n $(TESTS_AT_ONCE) --dist loadfile --no-loadscope-reorder

REPORTS := .pytest_cache/reports

test: lint
	$(PYTEST) -m "not system" --junitxml=$(REPORTS)/test.xml

# The table of attacks in docs/security.md counts what both have tried.
test-system: setup-test
	$(PYTEST) -m system --junitxml=$(REPORTS)/test-system.xml
	if [ -f $(REPORTS)/test.xml ]; \
	then $(BIN)/python workflow/attacks.py --write $(REPORTS)/*.xml; fi

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

docs: setup-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf results data logs .snakemake

# Installs only where .venv was made from another requirements.lock, or lacks one of the extras.
define installed
@for extra in $(1); do grep -qsx $$extra .venv/extras || lacks=yes; done; \
  [ -z "$$lacks" ] && cmp -s requirements.lock .venv/installed.lock \
  || $(MAKE) --no-print-directory .venv EXTRAS="$(1)"
endef

setup:
	$(call installed,$(EXTRAS))

setup-test:
	$(call installed,$(EXTRAS) test)

.PHONY: .venv
.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: Python 3.11 or later is needed; give one with: make run PYTHON=..."; exit 2; }
	@echo "setting up .venv (about 3 GB to download at the first time, nearly all of it PyTorch for GPUs)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@printf '%s\n' $(EXTRAS) | sort -u - $(wildcard .venv/extras) | sed '/^$$/d' > .venv/wanted
	@TORCH=$(TORCH) sh workflow/install.sh .venv $$(cat .venv/wanted)
	@mv .venv/wanted .venv/extras
	@cp requirements.lock .venv/installed.lock

lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra test --extra setup --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --custom-compile-command "make lock" --output-file requirements.lock

deps: setup
	$(BIN)/python workflow/mirror.py
