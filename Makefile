# Two commands do everything: `make search` and `make test`. Needs Python >= 3.11, git and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BUDGET ?= budgets/stm32f746.yaml
export OMP_NUM_THREADS ?= 1
export NO_ALBUMENTATIONS_UPDATE = 1

.PHONY: install search test test-all check format bench clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tinynas needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

search: install
	$(BIN)/tinynas search --budget $(BUDGET) $(ARGS)

test: install
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadgroup $(ARGS)

test-all: install
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

check: install
	$(BIN)/ruff check tinynas tests benchmarks
	$(BIN)/ruff format --check tinynas tests benchmarks
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix tinynas tests benchmarks
	$(BIN)/ruff format tinynas tests benchmarks

bench: install
	@echo "Each script says what it measures and what it does not; tables go to results/benchmarks/."
	@for script in benchmarks/*.py; do echo "$(BIN)/python $$script"; done

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
