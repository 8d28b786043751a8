# Each target sets up what it needs. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo paper smollm2 experts routers reference lint types fast slow check test long fuzz families kills costs pages docs train bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## build .venv with the package in place (PYTHON=python3.12 to choose the interpreter)

$(INSTALLED): pyproject.toml constraints.txt .ci/install
	PYTHON="$(PYTHON)" .ci/install

demo: $(INSTALLED)  ## search a holdout with the shipped model through Ray and show what was found (about two minutes)
	$(BIN)/duo-oracle search duo-tiny holdout:prose --per-document 1 --seq-len 48 --keep losses --out runs/demo
	$(BIN)/duo-oracle difficulty runs/demo --top 10
	@echo
	@echo 'The run is in runs/demo. Next:'
	@echo '  .venv/bin/duo-oracle query runs/demo "SELECT token, avg(difficulty) AS gain, count(*) AS n FROM paths JOIN tokens USING (sequence, position) GROUP BY token ORDER BY gain DESC LIMIT 10"'
	@echo '  .venv/bin/duo-oracle verify runs/demo'
	@echo '  .venv/bin/duo-oracle search --help'

paper: $(INSTALLED)  ## the Duo-LLM paper's figures on the shipped model, each with its control and a verdict (resumable)
	$(BIN)/duo-oracle reproduce duo-tiny --out runs/paper

smollm2: $(INSTALLED)  ## an exact oracle of a pretrained model, SmolLM2-135M, with small FFNs and routers of its own (an hour and a half on two cores; resumable)
	$(BIN)/python -m duo_oracle.models.recipes.smollm2 --out runs/smollm2/model
	$(BIN)/duo-oracle duo runs/smollm2/model holdout:prose holdout:code --method distil --ratio 0.25 --layers 18-29 \
		--holdouts holdout:recent-prose --holdouts holdout:recent-code --out runs/smollm2/duo
	$(BIN)/duo-oracle study runs/smollm2/duo --route-layers 18-29 --out runs/smollm2/study

experts: $(INSTALLED)  ## train mixtures of experts by every rule, and hold Expert Threshold's claims to them (an hour or so; resumable)
	$(BIN)/python -m duo_oracle.search.studies.experts --out runs/experts

routers: $(INSTALLED)  ## train the shipped routers, those compared from three seeds, and write their tables (hours; resumable)
	$(BIN)/python -m duo_oracle.models.recipes.routers
	$(BIN)/python -m duo_oracle.search.studies.shipped_routers

reference: $(INSTALLED)  ## train a dense sibling of the shipped model, twice as wide, to be its reference (hours; resumable)
	$(BIN)/python -m duo_oracle.models.recipes.reference

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	.ci/typed && $(BIN)/mypy

# Two processes of one thread each; a file's tests stay together, so that what they share is made once.
fast: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "not slow and not long and not families" -n 2 --dist loadfile

# These start workers of their own and run one after another: side by side two Rays do not start in time.
slow: $(INSTALLED)
	$(BIN)/pytest -q -m "slow and not long and not families"

check: lint types fast  ## lint, format, types and the fast tests (about three minutes on two cores)

test: $(INSTALLED)  ## lint, types, fast and slow tests; the browser tests want Debian's chromium, which is installed where it can be
	.ci/browser
	$(MAKE) --no-print-directory lint fast
	$(MAKE) --no-print-directory --jobs=2 slow types  # the slow tests wait more than they compute

long: $(INSTALLED)  ## the tests of which `make test` holds a sample: more kills, nodes, strategies, families of plug-ins (half an hour)
	$(BIN)/pytest -q -m long

fuzz: $(INSTALLED)  ## ten thousand mutated inputs: no traceback, no hang, no great memory, nothing written elsewhere (SEED=N, INPUTS=N)
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),10000) $(if $(SEED),--seed $(SEED))

pages: $(INSTALLED)  ## write again the pages of docs/ that are made from the code
	$(BIN)/python .ci/pages.py

docs: $(INSTALLED)  ## build the site of docs/ into build/site; a warning is an error
	$(BIN)/python .ci/pages.py --check
	$(BIN)/mkdocs build --strict --quiet

families: $(INSTALLED)  ## hold every tiny configuration of transformers to the library, and write docs/families.md (two minutes)
	$(BIN)/pytest -q -m families tests/models
	$(BIN)/python -m tests.models.hf.table docs/families.md

kills: $(INSTALLED)  ## kill drivers and workers 100 times, alone and under Ray, over a folder and a bucket; every table must be equal (an hour)
	$(BIN)/python -m tests.kills 100
	$(BIN)/python -m tests.kills_of_nodes 20

costs: $(INSTALLED)  ## processor time of a bucket beside a folder, of the driver of 20 nodes, of a text of 1 GB (a quarter of an hour)
	$(BIN)/python -m tests.costs

train: $(INSTALLED)  ## rebuild the shipped models from their corpora (hours; resumable)
	$(BIN)/python -m duo_oracle.models.recipes.duo_tiny
	$(BIN)/python -m duo_oracle.models.recipes.et_tiny

bench: $(INSTALLED)  ## speed, side by side with the obvious ways
	$(BIN)/duo-oracle bench

clean:  ## remove build output and caches; .venv and runs/ stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
