# `make` lists the targets. Each one first makes .venv with all it needs; nothing has to be installed by hand.

# Another environment's settings must not reach in.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV CONDA_PREFIX
export PYTHONNOUSERSITE := 1
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# A thread that waits gives its core away: several processes share the cores.
export OMP_WAIT_POLICY := passive

PY := .venv/bin/python
RUN := .venv/installed-run
DEV := .venv/installed-dev

.NOTPARALLEL:
.PHONY: help demo pilot test sync lint types docs notebooks pytest slow coverage drills bench leaderboard lab fresh clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 18

$(RUN): settings.ini setup.py
	@bash tools/venv.sh

$(DEV): settings.ini setup.py
	@bash tools/venv.sh dev

demo: $(RUN)  ## the Perth pilot from nothing under both policies: stores, groups, three weeks of scraping, served prices
	@rm -rf _demo
	@.venv/bin/scrapeopt demo _demo

pilot: $(DEV)  ## the demo again, its figures kept, the front page and README from them
	@rm -rf _demo
	@.venv/bin/scrapeopt demo _demo
	@$(PY) -m benchmarks.pilot
	@$(PY) tools/run_nbs.py nbs/index.ipynb
	@.venv/bin/nbdev_clean
	@$(PY) tools/readme.py

test: sync lint  ## every notebook and all quick tests, after the checks that take seconds; types beside the notebooks
	@$(MAKE) -s types & beside=$$!; $(MAKE) -s notebooks; ended=$$?; wait $$beside && exit $$ended
	@$(MAKE) -s pytest

sync: $(DEV)  ## do notebooks, package and README say the same?
	@echo "== sync: notebooks, package and README"
	@$(PY) tools/check_sync.py

lint: $(DEV)  ## ruff over package, notebooks, tools and tests; who may import whom
	@echo "== lint: ruff, and the order of imports"
	@$(PY) -m ruff check --quiet .
	@.venv/bin/lint-imports >/dev/null || .venv/bin/lint-imports

types: $(DEV)  ## mypy over the package
	@echo "== types: mypy"
	@$(PY) -m mypy --no-error-summary

docs: $(DEV)  ## the documentation, with warnings as errors
	@echo "== docs: build, with warnings as errors"
	@rm -rf _build/html
	@$(PY) tools/docs_src.py _build/src
	@$(PY) -m sphinx -q -W --keep-going -E -c docs -b html _build/src _build/html
	@echo "   open _build/html/index.html"

notebooks: $(DEV)  ## nbdev_test: each notebook with its own definitions
	@echo "== notebooks: nbdev_test"
	@.venv/bin/nbdev_test --n_workers 2

pytest: $(DEV)  ## the tests, but for those that take more than five seconds each
	@echo "== tests: pytest"
	@$(PY) -m pytest -q -n 3 --dist worksteal --durations=5 -m "not slow and not drill and not package"

slow: $(DEV) docs  ## the documentation and the tests that make test leaves out, short of the drills
	@echo "== slow tests: pytest"
	@$(PY) -m pytest -q -n 3 --dist worksteal --durations=5 -m "slow and not drill and not package"

coverage: $(DEV)  ## the tests, and each notebook's cells with the exported package; which lines none of them runs
	@$(PY) -m pytest -n 3 -m "not drill" --cov --cov-report=term:skip-covered

drills: $(DEV)  ## the long tests that make test leaves out
	@$(PY) -m pytest -m "drill or package" --hypothesis-profile search

bench: $(DEV)  ## every benchmark in benchmarks/ in turn, and the pages they write in the docs; ten minutes and more
	@$(PY) -m benchmarks

leaderboard: $(DEV)  ## every policy on every kind of chain, also on PANELS="FILE ...", and the page in the docs; an hour or so, goes on where it stopped
	@$(PY) -m benchmarks.leaderboard --cache _build/leaderboard $(if $(PANELS),--panels $(PANELS)) && rm -r _build/leaderboard

lab: $(DEV)  ## JupyterLab on the notebooks
	@$(PY) -m jupyterlab nbs/index.ipynb

fresh: $(DEV)  ## after editing notebooks: clean, export, run them, write README.md
	@.venv/bin/nbdev_clean
	@.venv/bin/nbdev_export
	@$(PY) tools/run_nbs.py
	@.venv/bin/nbdev_clean
	@$(PY) tools/readme.py

clean:  ## remove what can be made again
	@rm -rf .venv _build _demo _proc *.egg-info .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
