# make run and make test are all a newcomer needs; both make .venv by themselves.

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 2524
BIN    := $(VENV)/bin

.PHONY: run test fuzz kill lint types docs check peers conformance bench-environment bench memory abuse endurance syncs screenshots news release-check clean
.DEFAULT_GOAL := help

help:
	@echo "make run     the server on 127.0.0.1:$(PORT), mail into Maildirs under ./mail; PORT=N for another port"
	@echo "make test    the tests; ARGS=tests/routing for a part of them"
	@echo "make fuzz    the fuzzer, a minute for each of its targets; SECONDS=600 TARGETS=session for other ones"
	@echo "make kill    servers that are killed under load, 500 times; ARGS='--kills 50 --seed 1' for others"
	@echo "make check   lint, types and documentation"
	@echo "make peers   the real peers that some tests and the benchmark need (Debian, as root)"
	@echo "make conformance   what the kit says of other servers, written into docs/conformance-peers.rst"
	@echo "make screenshots   the pictures of the status page, from a server with a quarter of an hour of made-up mail"
	@echo "make release-check   whether a release of what is committed would do; leaves it in dist/"
	@echo "make bench   the benchmark; make memory, make syncs: parts of it"
	@echo "make abuse   a server under attack; make endurance: one that takes 200,000 messages"

# The marker is younger than the files it was made from, or it is made again.
$(VENV)/.run: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip 'setuptools>=77' wheel
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

run: $(VENV)/.run
	@echo "Delivering into Maildirs under ./mail. To send a message, in another terminal:"
	@echo "    swaks --protocol LMTP --server 127.0.0.1:$(PORT) --from you@example.org --to alice@example.org"
	@echo "or  $(BIN)/python tools/send-a-message $(PORT)"
	@echo "then look: ls mail/example.org/alice/new"
	$(BIN)/twistd -n lmtp --port $(PORT)

test: $(VENV)/.dev
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report $(if $(ARGS),--fail-under=0)

SECONDS ?= 60
TARGETS ?= $(notdir $(wildcard tests/fuzz/corpus/*))

# What is found stays in build/fuzz, and the next run goes on from there.
fuzz: $(VENV)/.dev
	@for target in $(TARGETS); do \
	    mkdir -p build/fuzz/$$target && \
	    $(BIN)/python tests/fuzz/fuzz_engine.py $$target -max_total_time=$(SECONDS) \
	        -artifact_prefix=build/fuzz/$$target- build/fuzz/$$target || exit 1; \
	done

kill: $(VENV)/.dev
	$(BIN)/python tests/durability/kill.py $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/mypy benchmarks

docs: $(VENV)/.dev
	$(BIN)/towncrier build --draft --version next > /dev/null
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

check: lint types docs

peers:
	tools/install-peers

conformance: $(VENV)/.dev
	$(BIN)/python -m benchmarks.conformance

# The distribution's Python is what operators run, and well optimised; one built by hand is often a third slower.
BENCH_PYTHON ?= $(or $(wildcard /usr/bin/python3),$(PYTHON))

bench-environment:
	@$(MAKE) --no-print-directory VENV=.venv-bench PYTHON=$(BENCH_PYTHON) .venv-bench/.dev

bench: bench-environment
	.venv-bench/bin/python -m benchmarks $(ARGS)

memory: bench-environment
	.venv-bench/bin/python -m benchmarks.memory $(ARGS)

abuse: bench-environment
	.venv-bench/bin/python -m benchmarks.abuse $(ARGS)

endurance: bench-environment
	.venv-bench/bin/python -m benchmarks.abuse.endurance $(ARGS)

syncs: bench-environment
	.venv-bench/bin/python -m benchmarks.syncs $(ARGS)

screenshots: $(VENV)/.dev
	$(BIN)/python tests/page/screenshots.py $(ARGS)

news: $(VENV)/.dev
	$(BIN)/towncrier build

release-check: $(VENV)/.dev
	$(BIN)/python tools/release-check

clean:
	rm -rf $(VENV) .venv-bench docs/_build build dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
