# make demo and make test need only Python >= 3.11 and make: each sets up .venv by itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench clean

demo: $(VENV)/.installed
	$(BIN)/python -m experiments.sparsity_recovery

# The kernels, which run as Python for the coverage, come first and by themselves: in the processes
# of the whole suite coverage loses sight of their file, for a reason that was not found.
KERNELS := tests/solvers tests/test_kernels.py tests/test_activations.py tests/test_metric.py
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --cov

test: $(VENV)/.installed
	$(PYTEST) --cov-report= --cov-fail-under=0 $(KERNELS)
	$(PYTEST) --cov-append --cov-report=term-missing:skip-covered $(KERNELS:%=--ignore=%)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	$(BIN)/python -m experiments.benchmarks

# torchidl by itself: it asks for packages that it does not import
$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .[bench]
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchidl==0.0.4
	touch $@

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .[dev]
	touch $@

clean:
	rm -rf $(VENV) build dist out *.egg-info
