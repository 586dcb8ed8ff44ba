# Needs Python 3.10+ with pip; everything else goes into .venv. `make demo` to see it work, `make test` to check all of it.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
PIP := $(RUN)/python -m pip --quiet --disable-pip-version-check
PYTEST := $(RUN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 25
# Model of the demo; its run goes to a folder under runs/, named after what was asked.
MODEL ?= smollm2-135m

.PHONY: demo test lint older unit notebook bench test-lowest clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.notebook  ## scan a real language model for attention sinks and say where the report is
	$(RUN)/interp get $(MODEL)
	$(RUN)/interp scan --model $(MODEL) --find sinks

test: lint older unit  ## every check; the same command runs in CI

lint: $(VENV)/.dev
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/pyright --pythonpath $(RUN)/python

unit: $(VENV)/.dev
	$(PYTEST)

# The oldest transformers on the tested torch: all that touches model code, once more, on every family. What is built on
# that (edges, finders on planted models, the real models) is left to the newest one.
OLDER := tests/parity tests/contracts/test_interventions.py tests/contracts/test_statistics.py
older: $(VENV)/older
	PYTHONPATH=$(CURDIR)/$(VENV)/older $(PYTEST) $(OLDER) -m 'not gemma3 and not smollm2' --ignore=tests/parity/test_circuit_edges.py

notebook: $(VENV)/.notebook
	$(RUN)/jupyter lab notebooks

bench: $(VENV)/.dev  ## every side-by-side in one go, into benchmarks/RESULTS.md; BENCH='--only scoring --fresh' for parts
	$(RUN)/python benchmarks/suite.py $(BENCH)

# The oldest supported versions. PyPI's torch brings its CUDA libraries along: several GB.
test-lowest:
	$(MAKE) unit VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt

clean:
	rm -rf .venv .venv-lowest runs dist build benchmarks/results benchmarks/.peers .pytest_cache .ruff_cache .hypothesis

CONSTRAINTS ?= constraints.txt

# Where Python comes without ensurepip, its own pip puts one into the environment.
$(RUN)/python:
	$(PYTHON) -m venv $(VENV) \
	  || { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(RUN)/python install --quiet pip; }

$(VENV)/.notebook $(VENV)/.dev: $(VENV)/.%: pyproject.toml constraints.txt constraints-lowest.txt | $(RUN)/python
	@echo "installing into $(VENV) (first time: a few minutes)" >&2
	$(PIP) install -c $(CONSTRAINTS) -e '.[$*]'
	@touch $@

$(VENV)/older: constraints-lowest.txt | $(VENV)/.dev
	$(PIP) install --upgrade --target $@ --no-deps $$(grep ^transformers== constraints-lowest.txt) 'huggingface-hub<2'
	@touch $@
