# make demo   sets everything up, annotates a task with the embedded model, prints the report
# make test   sets everything up, passes all tests
# make check  format, lint, types      make notebooks  run every lesson      make bench  measurements
# make docs   the documentation as a site, warnings are errors
# make lowest tests on the lowest versions of our dependencies (needs uv)
# make dist   builds wheel and sdist, checks both, and runs the installed wheel in an empty environment

VENV    := .venv
BIN     := $(VENV)/bin
PYTHON  ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12 || echo python3)
# In variables, because make would take a comma for the end of an argument.
FOR_USE := local,decide
FOR_TESTS := local,decide,dev
UV      := $(shell command -v uv 2>/dev/null)
say      = @printf '\n\033[1m== %s\033[0m\n'

.PHONY: demo test check notebooks lowest docs dist bench browser clean

demo: $(VENV)/.for-use
	$(say) "A scored run in a second: a decision model answers the closed questions about 64 texts"
	$(BIN)/nbannot run policy-sentiment --model decide/sparrow
	$(say) "The same texts with the embedded language model (fetched once, 98 MB), which also writes and quotes"
	$(BIN)/nbannot run policy-sentiment --model local
	@printf '\nOpen the same thing as a notebook: %s\n' "$(BIN)/pip install notebook && $(BIN)/jupyter notebook notebooks/01_quickstart.ipynb"

test: $(VENV)/.for-tests browser
	$(say) "Running the tests"
	$(BIN)/python -m pytest -n 2 --dist loadgroup --ignore=tests/browser
	$(say) "Running the tests in a browser (a process of their own: the browser keeps an event loop running)"
	$(BIN)/python -m pytest tests/browser

check: $(VENV)/.for-tests
	$(say) "Format, lint, types"
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

notebooks: $(VENV)/.for-tests
	$(say) "Running every lesson from top to bottom"
	$(BIN)/python -m pytest tests/test_notebooks.py

lowest:
	$(say) "Running the tests on the lowest versions that pyproject.toml admits"
	rm -rf build/lowest && uv venv -q --seed --python $(PYTHON) build/lowest
	uv pip install -q --python build/lowest/bin/python --resolution lowest-direct -e '.[$(FOR_TESTS)]'
	build/lowest/bin/python -m pytest -n 2 --dist loadgroup --ignore=tests/browser

docs: $(VENV)/.for-docs
	$(say) "Building the documentation"
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	$(BIN)/python -m sphinx -b linkcheck -W --keep-going -q docs docs/_build/links
	@echo "docs/_build/html/index.html"

dist: $(VENV)/.for-release
	$(say) "Building wheel and sdist"
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(say) "Running the wheel in an empty environment"
	rm -rf build/empty && $(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install -q dist/*.whl
	cd build && empty/bin/nbannot run policy-sentiment --model mock --output_root runs
	$(say) "Running tests of the sdist as it stands"
	rm -rf build/sdist && mkdir -p build/sdist && tar -xzf dist/*.tar.gz -C build/sdist --strip-components 1
	cd build/sdist && PYTHONPATH=. $(abspath $(BIN))/python -m pytest -n 2 --dist loadgroup --ignore=tests/browser

bench: $(VENV)/.for-tests
	@for file in bench/bench_*.py; do printf '\n\033[1m== %s\033[0m\n' "$$file"; $(BIN)/python $$file || exit 1; done

browser:
	@command -v chromium >/dev/null 2>&1 || { \
	  printf '\n== Installing chromium for the browser tests\n'; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else printf 'no chromium and no right to install it: the browser tests will be skipped\n'; fi; }

$(BIN)/python:
	$(say) "Making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "nbannot needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(if $(UV),$(UV) venv --seed -q --python $(PYTHON) $(VENV),$(PYTHON) -m venv $(VENV))

$(VENV)/.for-use: $(BIN)/python pyproject.toml
	$(say) "Installing nbannot with the embedded models' engines"
	$(call install,$(FOR_USE))
	@touch $@

$(VENV)/.for-tests: $(BIN)/python pyproject.toml
	$(say) "Installing nbannot with what its tests need"
	$(call install,$(FOR_TESTS))
	@touch $@ $(VENV)/.for-use

$(VENV)/.for-docs: $(BIN)/python pyproject.toml
	$(say) "Installing what the documentation needs"
	$(call install,docs)
	@touch $@

$(VENV)/.for-release: $(VENV)/.for-tests
	$(say) "Installing what a release needs"
	$(call install,release)
	@touch $@

install = $(if $(UV),$(UV) pip install -q --python $(BIN)/python -e '.[$(1)]',$(BIN)/python -m pip install -q -e '.[$(1)]')

clean:
	rm -rf $(VENV) build dist docs/_build docs/lessons docs/api.md .pytest_cache .mypy_cache .ruff_cache .hypothesis
