# Each target makes the environment it needs: python3 and make are enough on a fresh machine.
VENV ?= .venv
PYTHON ?= python3
WORKERS ?= auto
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check format bench fuzz site clean

demo: $(READY)
	$(BIN)/rhm demo -o demo

# Each worker imports PyTorch once, which takes as long as some hundred tests: more than eight do
# not pay. WORKERS=0 runs all tests in one process.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

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

# Some 1500 broken files, and 125 kills of every command; SEED=1 breaks files in other ways.
fuzz: $(READY)
	FAULTS=125 FAULTS_SEED=$(or $(SEED),0) $(BIN)/python -m pytest tests/faults --numprocesses $(WORKERS)

# build/site/index.html; figures are made once, and anew after docs/figures is removed. With DRAFT=1,
# those that take long are too small to say anything, which saves two minutes.
site: $(READY)
	$(BIN)/python docs/figures.py $(if $(DRAFT),--draft)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo build dist *.egg-info

# constraints.txt holds the versions that the tests last passed with. Compiling thousands of modules of
# which few are used would take a third of the time; Python does it when it imports them.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
