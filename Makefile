# Everything one does with this checkout; `make help` lists it.
#
#   RELEASE=bookworm|trixie|forky   Debian release of the lab's hosts (demo, test)
#   RABBIT_HA_LAB=name              the lab to use (demo, clean); default: default
#   INTERRUPTIONS=rows|all          kill runs at 12 or 24 points, not at 4 (test)

.DEFAULT_GOAL := help
.PHONY: help demo clean test lint bench lock venv

PYTHON := .venv/bin/python
# What is Python, what is Salt's mixture of Jinja and YAML, and what is pure YAML.
CODE := _modules _states _utils _runners _pillar _output lab tests $(wildcard bench)
# What is fast, and says most, first; then both labs beside each other.
TESTS := $(addprefix tests/,unit sls functional other_labs integration)
SLS := $(shell find salt pillar -name '*.sls')
YAML := $(wildcard conf/master conf/minion conf/examples/*) $(wildcard salt/rabbit_ha/*.yaml) \
        $(wildcard pillar/rabbit_ha/*.sls) Saltfile .yamllint .salt-lint

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: venv ## boot five bare hosts here, deploy onto them, verify (root; RELEASE=trixie)
	@$(PYTHON) -m lab.demo $(if $(RELEASE),--release $(RELEASE))

clean: ## take the demo's lab down; its image and .venv stay for the next time
	@if [ -x $(PYTHON) ]; then bin/lab down; else echo "nothing to clean: no .venv, so no lab"; fi

test: venv ## run all tests; those on real hosts need root (RELEASE=trixie)
	@RELEASE=$(or $(RELEASE),bookworm) $(PYTHON) -m pytest \
	    --numprocesses 2 --no-loadscope-reorder $(TESTS)

lint: venv ## ruff, salt-lint, yamllint
	@$(PYTHON) -m ruff check $(CODE)
	@$(PYTHON) -m ruff format --check $(CODE)
	@$(PYTHON) -m saltlint $(SLS)
	@$(PYTHON) -m yamllint --strict $(YAML)

bench: venv ## measure against steps by hand and stock Salt's states (root; ARGS=--help)
	@$(PYTHON) -m bench $(ARGS)

lock: ## make requirements.lock anew from pyproject.toml (needs uv)
	@head=$$(sed '/^[^#]/,$$d' requirements.lock) && \
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-emit-index-url --no-emit-find-links --group dev \
	    pyproject.toml --output-file requirements.lock && \
	{ printf '%s\n' "$$head"; cat requirements.lock; } > requirements.lock.new && \
	mv requirements.lock.new requirements.lock

venv:
	@cmp -s requirements.lock .venv/requirements.lock || lab/prepare
