# From a bare clone: `make demo` runs the main job, `make test` passes every check. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-fast lint bench reference clean

demo: $(READY)
	$(BIN)/edge-tl demo

test: lint
	$(BIN)/python -m pytest

test-fast: $(READY)
	$(BIN)/python -m pytest -m "not slow"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Hours; BENCH='--keep FOLDER' and, after an interruption, BENCH='--keep FOLDER --go-on' make it in several sittings.
bench: $(READY)
	$(BIN)/python benchmarks/all.py --into docs/BENCHMARKS.md $(BENCH)

reference: $(READY)
	$(BIN)/python scripts/reference.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis
