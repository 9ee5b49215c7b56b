PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
DEVELOP = $(VENV)/.develop

.PHONY: help install demo test lint types imports notebooks docs check bench faults weights clean

help:            ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# What the demo needs, and what the tests need beside it.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -e '.[demo,mediapipe,studio]'
	touch $@

$(DEVELOP): $(INSTALLED)
	$(BIN)/python -m pip install -e '.[demo,mediapipe,dlib,ray,cloud,slurm,notebooks,provenance,docs,studio,dev]'
	touch $@

install: $(INSTALLED)

weights: $(INSTALLED)  ## fetch the pretrained files that the tests use (licences are printed)
	$(BIN)/talkgen weights get --set tests --accept-licence

demo: $(INSTALLED)     ## install, render the demo corpus, train SwapTalk, print a table, write a video
	-$(BIN)/talkgen weights get --set demo --accept-licence
	$(BIN)/python train.py experiment=swaptalk

test: $(DEVELOP)     ## install and run all tests, in two processes
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(DEVELOP)     ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEVELOP)    ## static types
	$(BIN)/mypy

imports: $(DEVELOP)  ## the layers of docs/architecture.md
	$(BIN)/lint-imports

check: lint types imports test  ## all of the above

notebooks: $(DEVELOP)  ## run every notebook; pages go to docs/notebooks
	$(BIN)/jupyter nbconvert --to html --execute --output-dir docs/notebooks notebooks/*.ipynb

docs: $(DEVELOP)     ## build the pages into site/, refusing any warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(DEVELOP)    ## rerun the benchmarks, an hour at most; tables go to docs/performance
	$(BIN)/python benchmarks

faults: $(DEVELOP)   ## kill, fill, cut, forge: what talkgen makes of it goes to docs/reliability.md
	$(BIN)/python tests/faults

clean:           ## remove what the commands above made, except prepared corpora and runs
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
