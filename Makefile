# From a bare clone: `make demo` runs the main job, `make test` passes every check. Each sets up what it needs in .venv, and no more.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.demo-ready
READY := $(VENV)/.ready
# Processes that share the tests; WORKERS=1 where memory is short or a failure is looked for.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest
SHARED_OUT := $(if $(filter-out 1,$(WORKERS)),--numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder)
# The address of PyTorch's index of CPU wheels: leaves out 4 GB of CUDA where there is no GPU..
TORCH_INDEX ?=

.PHONY: demo test test-fast coverage versions lint bench reference clean
.NOTPARALLEL:

demo: $(DEMO)
	$(BIN)/edge-tl demo

test: lint
	$(PYTEST) $(SHARED_OUT)

test-fast: $(READY)
	$(PYTEST) $(SHARED_OUT) -m "not slow"

coverage: $(READY)
	$(PYTEST) $(SHARED_OUT) --cov --cov-report=term:skip-covered --cov-report=html

# Other releases of Python: what a device needs on each, in an environment of its own.
versions: $(READY)
	$(BIN)/python -m nox

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Hours; BENCH='--keep FOLDER' keeps what each script printed, and BENCH='--keep FOLDER --only SCRIPT ...' adds the rest later.
bench: $(READY)
	$(BIN)/python benchmarks/all.py --into docs/BENCHMARKS.md $(BENCH)

# Every public name with its docstring, as pages in build/reference.
reference: $(READY)
	$(BIN)/pdoc --docformat markdown -o build/reference edge_tl edge_tl_export edge_tl_runtime '!edge_tl.__main__'

# pip comes last: where Debian's python3-venv is missing, a venv is left half made, and the next make starts anew.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(DEMO): pyproject.toml constraints.txt scripts/set_up.py | $(BIN)/pip
	$(BIN)/python scripts/set_up.py train $(if $(TORCH_INDEX),--torch-index '$(TORCH_INDEX)')
	touch $@

$(READY): pyproject.toml constraints.txt scripts/set_up.py | $(BIN)/pip
	$(BIN)/python scripts/set_up.py dev $(if $(TORCH_INDEX),--torch-index '$(TORCH_INDEX)')
	touch $(DEMO) $@

clean:
	rm -rf $(VENV) build dist htmlcov .coverage .nox *.egg-info .mypy_cache .ruff_cache .import_linter_cache .grimp_cache .hypothesis
