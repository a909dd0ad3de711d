# make demo and make test need only Python >= 3.11 and make: each sets up .venv by itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench clean

demo: $(VENV)/.installed
	$(BIN)/python -m experiments.sparsity_recovery

# The kernels run as Python, too, for the coverage. It loses sight of them in a process that compiles
# (cause not found), so they are compiled first, and their own tests are measured by themselves.
KERNELS := tests/solvers tests/test_kernels.py tests/test_activations.py tests/test_metric.py
# Coverage takes half as long again. These take long, and others cover most of what they do.
LONG := $(addprefix tests/,selection/test_conventions.py selection/test_experiments.py \
	test_benchmark_report.py test_cluster.py test_estimators.py test_experiments.py \
	test_networks.py test_strength.py)
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test: $(VENV)/.installed
	$(PYTEST) $(KERNELS) $(LONG)
	$(PYTEST) -q --cov --cov-report= --cov-fail-under=0 $(KERNELS)
	$(PYTEST) --cov --cov-append --cov-report=term-missing:skip-covered \
		$(addprefix --ignore=,$(KERNELS) $(LONG))

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
