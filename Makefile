# Everything a developer runs. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The newest Python that runs here, 3.11 or later; `make PYTHON=/path/to/python ...` chooses another.
CANDIDATES := python3.14 python3.13 python3.12 python3.11 python3
PYTHON ?= $(shell for p in $(CANDIDATES); do \
  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then command -v $$p; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8000
PYTEST ?= $(BIN)/python -m pytest
TESTS ?=
PROCESSES ?= 3
CLIENTS ?= 300
ANIMALS ?=
PEERS ?=
SETTLED ?= 60
PUBLICATIONS ?= 1000000
MINUTES ?= 30
TIMES ?= 1000
# What npm installs for the tests: programs that were not written here.
FOREIGN := issuer runtimes undici asyncapi eventsources

.PHONY: help demo issuer runtimes undici asyncapi eventsources schemathesis specifications serve docs docs-serve test test-pythons style types unit contract property security scenario browser js faults slow bench bench-compression bench-idle bench-nodes bench-servers bench-polls bench-publish bench-shapes bench-sizing bench-peers bench-tokens simulation autobahn fuzz silent soak outsiders zoo zoo-peers wheel clean check-python

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

check-python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "hybrid needs Python 3.11 or later, and none was found. On Debian: apt install python3 python3-venv. On macOS: brew install python" >&2; exit 2; fi

$(VENV)/.installed: pyproject.toml | check-python
	@$(PYTHON) -m venv $(VENV) || { echo "The virtual environment could not be made. On Debian: apt install python3-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --group test
	@touch $@

# Not made where there is no npm or it gets nothing: it is tried again the next time, and its tests skip loudly.
tests/foreign/%/node_modules/.installed: tests/foreign/%/package.json tests/foreign/%/package-lock.json
	@if npm ci --silent --prefix tests/foreign/$*; then touch $@; \
	elif [ -n "$$TEST_REQUIRE" ]; then echo "tests/foreign/$* is required and npm cannot install it" >&2; exit 1; \
	else echo "SKIPPED: the tests against tests/foreign/$*, which npm could not install" >&2; fi

issuer: tests/foreign/issuer/node_modules/.installed ## Install the authorization server of the tests, which was not written here
undici: tests/foreign/undici/node_modules/.installed ## Install what takes Node through proxies, in the tests
eventsources: tests/foreign/eventsources/node_modules/.installed ## Install the event sources of the tests that were not written here
runtimes: tests/foreign/runtimes/node_modules/.installed ## Install the JavaScript runtimes of the tests beside Node
asyncapi: tests/foreign/asyncapi/node_modules/.installed ## Install the schemas of AsyncAPI, for the tests

# In an environment of its own, as it brings many packages along. As above, it is tried again where it cannot be had.
tests/foreign/schemathesis/.venv/.installed: tests/foreign/schemathesis/requirements.txt | check-python
	@if $(PYTHON) -m venv $(@D) && $(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<; then touch $@; \
	elif [ -n "$$TEST_REQUIRE" ]; then echo "schemathesis is required and pip cannot install it" >&2; exit 1; \
	else echo "SKIPPED: the tests with schemathesis, which pip could not install" >&2; fi

schemathesis: tests/foreign/schemathesis/.venv/.installed ## Install what asks the server by its OpenAPI document, for the tests

specifications: $(VENV)/.installed ## Write the OpenAPI, AsyncAPI and JSON Schema documents and docs/http-api.md anew
	$(BIN)/python -m hybrid.specifications docs

demo: $(VENV)/.installed ## Show the product in a browser (PORT=8000)
	@exec $(BIN)/hybrid demo --port $(PORT)

serve: $(VENV)/.installed ## Serve with the embedded broker (PORT=8000)
	@exec $(BIN)/hybrid serve --port $(PORT)

$(VENV)/.documented: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --group docs
	@touch $@

docs: $(VENV)/.documented ## Build the site of the documentation into site/; a broken link or anchor fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict && echo "site/index.html is the first page"

docs-serve: $(VENV)/.documented ## Show the site while you write (PORT=8000)
	@NO_MKDOCS_2_WARNING=1 exec $(BIN)/python -m mkdocs serve --dev-addr 127.0.0.1:$(PORT)

test: $(VENV)/.tested $(FOREIGN) schemathesis style types ## Install what the tests need and run them all but the slow ones (PROCESSES=3: many wait)
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	$(MAKE) --no-print-directory js >"$$log" 2>&1 & js=$$!; status=0; \
	$(PYTEST) -n $(PROCESSES) --dist loadfile -m "not slow and not faults and not zoo" $(TESTS) || status=$$?; \
	wait $$js || status=$$?; cat "$$log"; exit $$status

test-pythons: $(FOREIGN) ## The Python tests on the oldest and the newest Python found here, each in its own environment
	@tests/pythons.sh

style: $(VENV)/.tested ## Lint and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tested ## mypy --strict
	$(BIN)/mypy

unit contract property security scenario browser: $(VENV)/.tested ## One part of the tests
	$(PYTEST) tests/$@ -m "not slow"

faults: $(VENV)/.tested ## Kill, stop, cut and restart nodes and Redis under 300 clients (CLIENTS=300); prints a table
	TEST_FAULT_CLIENTS=$(CLIENTS) $(PYTEST) tests/faults -m "not slow" --durations=20

slow: $(VENV)/.tested ## The tests that take minutes
	$(PYTEST) -m slow

js: ## The JavaScript client as one file, and its tests (Node 20 or later)
	@if command -v node >/dev/null 2>&1; then \
	if [ -z "$$TEST_REQUIRE" ]; then node tests/js/dist.mjs || [ $$? = 3 ]; fi && node --test --test-reporter=dot tests/js/*.test.js tests/js/demo/*.test.js; \
	elif [ -n "$$TEST_REQUIRE" ]; then echo "node is required and missing" >&2; exit 1; \
	else echo "SKIPPED: the JavaScript tests need Node 20 or later, and node was not found" >&2; fi

bench: $(VENV)/.tested ## Measure against a textbook server, in one run
	$(BIN)/python -m tests.bench

bench-compression: $(VENV)/.tested ## Measure what permessage-deflate costs and saves
	$(BIN)/python -m tests.bench.compression

bench-idle: $(VENV)/.tested ## Measure what the heartbeats of idle clients cost
	$(BIN)/python -m tests.bench.idle

bench-servers: $(VENV)/.tested ## Measure hybrid under Hypercorn, uvicorn and Granian, with TLS and without
	$(BIN)/python -m tests.bench.servers

bench-nodes: $(VENV)/.tested ## Measure two nodes on a Redis, and publishing into it beside memory
	$(BIN)/python -m tests.bench.nodes

bench-shapes: $(VENV)/.tested ## Measure other shapes of load, draw what a delivery costs as they grow (needs ulimit -n 20000)
	$(BIN)/python -m tests.bench.shapes --chart docs/images/cost-per-delivery.svg

bench-publish: $(VENV)/.tested ## Measure publishing by every way in, into memory and Redis (BESIDE=TREE: in turn with another checkout)
	$(BIN)/python -m tests.bench.publishing $(if $(BESIDE),--beside $(BESIDE))

bench-polls: $(VENV)/.tested ## Measure long polls, answered at once and after a wait (BESIDE=TREE)
	$(BIN)/python -m tests.bench.polls $(if $(BESIDE),--beside $(BESIDE))

bench-sizing: $(VENV)/.tested ## Measure what docs/scaling.md calculates with: Redis' memory and work, a node at rest
	$(BIN)/python -m tests.bench.sizing

bench-peers: $(VENV)/.tested ## Measure hybrid beside Socket.IO, python-socketio, Nchan, Centrifugo and Mercure (PEERS="Nchan; ...")
	@exec $(BIN)/python -m tests.bench.peers --only "$(PEERS)"

bench-tokens: $(VENV)/.tested ## Measure what checking tokens and proofs costs
	$(BIN)/python -m tests.bench.tokens

simulation: $(VENV)/.tested ## Nodes, store, clients and wires in made-up time, a million publications (PUBLICATIONS=...); prints failing seeds
	@exec $(BIN)/python -m tests.simulation --publications $(PUBLICATIONS)

autobahn: $(VENV)/.tested ## The cases of the Autobahn|Testsuite against the links and the websockets library (SERVERS="hand-off" CASES="6.*")
	@exec $(BIN)/python -m tests.autobahn $(if $(SERVERS),--servers "$(SERVERS)") $(if $(CASES),--cases "$(CASES)")

fuzz: $(VENV)/.tested ## Every parser of foreign bytes in turn, for MINUTES=30 in all; prints seeds and faults (ONLY="frames")
	@exec $(BIN)/python -m tests.fuzz --minutes $(MINUTES) --only "$(ONLY)"

silent: $(VENV)/.tested ## A thousand of each kind of slow and silent peer at once (TIMES=1000); nothing may stay behind
	@exec $(BIN)/python -m tests.silent --times $(TIMES) --only "$(ONLY)"

soak: $(VENV)/.tested ## Two nodes on a Redis under churn (MINUTES=30): nothing lost, memory flat; writes docs/soak.md
	@exec $(BIN)/python -m tests.soak --minutes $(MINUTES) --write docs/soak.md

outsiders: $(VENV)/.tested eventsources ## Clients written elsewhere run their course, with Firefox and WebKit where they are installed
	$(PYTEST) tests/foreign/test_outsiders.py

zoo: CLIENTS = chromium node firefox webkit
zoo: $(VENV)/.tested undici ## Drive the client through real proxies (ANIMALS="caddy ..." CLIENTS="node ..."), write docs/networks.md
	@exec $(BIN)/python -m tests.proxy.zoo --animals "$(ANIMALS)" --clients "$(CLIENTS)" --settled $(SETTLED)

zoo-peers: $(VENV)/.tested ## The same proxies with other systems' clients and servers (ANIMALS=..., PEERS="Socket.IO; ..."), into docs/networks.md
	@exec $(BIN)/python -m tests.proxy.zoo.peers --animals "$(ANIMALS)" --peers "$(PEERS)"

wheel: $(VENV)/.installed ## Build the wheel into dist/, which pip installs anywhere: code, static files and scripts
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean: ## Remove what the targets made
	rm -rf $(VENV) site .venv-* tests/foreign/*/node_modules tests/foreign/*/.venv .zoo/mitmproxy .zoo/npm .zoo/go .zoo/bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
