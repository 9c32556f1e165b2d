# Everything is set up inside this checkout: uv in .uv, the packages in .venv.
SHELL := /bin/bash
PYTHON ?= python3
UV := .uv/bin/uv
RUN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
# Whoever has it set pays three times: tests start several hundred processes, each of which would compile anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint bench faults docs clean setup lock router-requirements install-check

setup: .venv/.done

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit("sisock needs Python 3.11 to 3.14") if not (3, 11) <= sys.version_info < (3, 15) else None'
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

.venv/.done: .uv/bin/uv uv.lock pyproject.toml hub/pyproject.toml nodes/pyproject.toml
	$(UV) sync --frozen --quiet --python $(PYTHON)
	@touch $@

demo: .venv/.done  ## start the demo site and say where to look
	$(RUN)/sisock demo examples/demo

# One more than the two cores of CI: for a third of their time tests wait, for what they start and for what they let expire.
test: .venv/.done  ## run all tests, three processes at a time
	$(RUN)/pytest -n 3 --dist loadgroup $(ARGS)

lint: .venv/.done  ## style, types and the arrows between packages
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy sisock hub/sisock_hub nodes/sisock_nodes
	$(RUN)/python -m tests.imports

bench: .venv/.done  ## measure; ONLY=core for one part
	$(RUN)/python bench/run.py $(if $(ONLY),--only $(ONLY))

faults: .venv/.done  ## inject faults into a real site; ONLY=router,disk SEED=7 REPEAT=3
	$(RUN)/python -m tests.faults $(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED)) $(if $(REPEAT),--repeat $(REPEAT)) $(if $(SLACK),--slack $(SLACK))

docs: .venv/.done  ## run the snippets and examples of the docs, and check that the reference is complete
	$(RUN)/pytest -n 0 tests/docs $(ARGS)

install-check: .venv/.done  ## install the wheels with plain pip into clean environments, and run a site from them
	$(RUN)/pytest -n 2 --dist loadgroup --timeout=1800 tests/install $(ARGS)

lock: .uv/bin/uv  ## lock what pyproject.toml asks for, and what the router's environment is made of
	$(UV) lock --quiet
	$(MAKE) --silent router-requirements > hub/sisock_hub/router-requirements.txt

# Not bjdata, which autobahn does without: it is built from source, against a NumPy for which it warns at every start.
router-requirements: .uv/bin/uv
	@$(UV) export --quiet --frozen --offline --only-group router --no-emit-workspace --no-emit-package bjdata \
		--no-hashes --no-annotate --no-header

clean:  ## remove what was set up
	rm -rf .uv .venv
