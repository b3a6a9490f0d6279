# Each target makes the environment it needs: python3 and make are enough on a fresh machine.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check format bench site clean

demo: $(READY)
	$(BIN)/rhm demo -o demo

# Four workers at most: each of them imports PyTorch, which takes a gigabyte.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)
	$(BIN)/python benchmarks/matching.py
	$(BIN)/python benchmarks/augmentation.py
	$(BIN)/python benchmarks/batched.py
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/moments.py
	$(BIN)/python benchmarks/matrix_completion.py
	$(BIN)/python benchmarks/adapters.py
	$(BIN)/python benchmarks/backends.py

# build/site/index.html; figures are made once; remove docs/figures to make them again.
site: $(READY)
	$(BIN)/python docs/figures.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo build dist *.egg-info

# constraints.txt holds the versions that the tests last passed with.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
