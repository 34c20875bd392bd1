.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail
PYTHON ?= python3
BIN := .venv/bin
RUNNING := .venv/.running
STAMP := .venv/.installed
BENCHING := .venv/.benching
TOOLS := .cache/deploy

DECODERS := lines events feedback otlp unpacking redaction

.PHONY: help setup lock demo up test test-kafka test-clients test-alerts test-browser test-grafana test-deploy audit notice chaos fuzz fuzz-http fuzz-sql $(DECODERS:%=fuzz-%) check bench bench-gateway bench-dashboards peers clients format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Each lock holds the one before it, so a later stamp only adds: to run, to develop, to benchmark.
install = $(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements/$(1).txt $(2) | { grep -v -E '^(Requirement already|  )' || true; }

$(RUNNING): requirements/run.txt requirements/build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("driftline needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=/path/to/python3.11") if sys.version_info < (3, 11) else None'
	@echo "installing what driftline needs to run into .venv (about a minute, once) ..."
	@$(PYTHON) -m venv .venv
	@$(call install,run,--progress-bar on)
	@# The tools of the build stay beside the environment, not in it.
	@rm -rf .venv/.build && $(call install,build,--quiet --target .venv/.build)
	@PYTHONPATH=.venv/.build $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@$(BIN)/driftline --help > /dev/null
	@touch $@

$(STAMP): $(RUNNING) requirements/dev.txt
	@echo "installing what its tests need ..."
	@$(call install,dev)
	@touch $@

$(BENCHING): $(STAMP) requirements/bench.txt
	@$(call install,bench,--quiet)
	@touch $@

setup: $(STAMP) ## create .venv with everything that developing needs

# Whoever detects also tells: the lock of a worker holds what notifies.
lock: $(TOOLS)/env/.built ## rewrite requirements/ from pyproject.toml, one lock per role, all of the same versions
	@compile() { $(TOOLS)/env/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header "$$@"; }; \
	set -e; compile pyproject.toml --extra bench -o requirements/bench.txt; \
	for role in gateway receiver worker evaluator run dev; do compile pyproject.toml --extra $$role $$(test $$role = worker && echo --extra notify) -c requirements/bench.txt -o requirements/$$role.txt; done; \
	for group in build deploy; do compile --group $$group -o requirements/$$group.txt; done

demo: $(RUNNING) ## start everything, run the whole loop on simulated traffic, say what was found
	@$(BIN)/driftline demo

up: $(RUNNING) ## start the embedded runtime and keep it running
	@$(BIN)/driftline up

test: $(STAMP) ## every test of the ordinary suite
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit detectors ingest processors infra dashboards
	@# They wait more than they compute; conftest has the longest files first.
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests --ignore=tests/unit

KAFKA := infra/kafka/target/classpath

$(KAFKA): infra/kafka/pom.xml
	@if command -v mvn > /dev/null; then \
	    echo "fetching Apache Kafka from Maven Central (44 MB, once) ..."; \
	    mvn --batch-mode --file $< dependency:build-classpath && touch $@; \
	fi

test-kafka: $(STAMP) $(KAFKA) ## the pipeline on real Apache Kafka, with faults; needs Java 17, Maven, root for hosts
	@timeout --foreground 2100 $(BIN)/python -m pytest tests/kafka -m kafka -v --durations=10 \
	    -W ignore::pytest.PytestUnraisableExceptionWarning  # kafka-python leaves sockets of failed connections behind

test-clients: $(STAMP) clients ## agents with published instrumentations against the gateway
	@$(BIN)/python -m pytest tests/clients -m clients -v

test-alerts: $(STAMP) ## notifications through a real Alertmanager, rules by promtool; Debian: prometheus prometheus-alertmanager
	@timeout --foreground 900 $(BIN)/python -m pytest tests/alerts -m alerts -v

test-browser: $(STAMP) ## the board in a real Chromium; Debian: chromium chromium-driver, and npm for axe-core
	@timeout --foreground 900 $(BIN)/python -m pytest tests/browser -m browser -v

GRAFANA_SCHEMA := 13.2.3

$(TOOLS)/bin/driver: tests/grafana/driver/main.go tests/grafana/driver/go.mod tests/grafana/driver/go.sum
	@if command -v go > /dev/null; then \
	    echo "building clickhouse-go from its Go module (a minute, once) ..."; \
	    mkdir -p $(@D) && cd $(<D) && go build -o $(CURDIR)/$@ .; \
	fi

$(TOOLS)/grafana/dashboard.schema.json:
	@mkdir -p $(@D); if command -v npm > /dev/null; then cd $(@D) \
	    && npm install --no-save --silent --ignore-scripts @grafana/schema@$(GRAFANA_SCHEMA) ts-json-schema-generator@2.10.0 \
	    && npx --no-install ts-json-schema-generator --no-type-check --type Dashboard \
	        --path node_modules/@grafana/schema/dist/types/raw/dashboard/x/types.gen.d.ts > made.json \
	    && mv made.json $(@F); \
	fi

test-grafana: $(STAMP) $(TOOLS)/bin/driver $(TOOLS)/grafana/dashboard.schema.json ## dashboards and rules by Grafana's types, queries by its ClickHouse driver; needs Go and npm
	@timeout --foreground 900 $(BIN)/python -m pytest tests/grafana -m grafana -v
	@$(BIN)/python -m pytest tests/unit/dashboards
	@if command -v promtool > /dev/null; then $(BIN)/python -m pytest tests/alerts/test_prometheus.py -m alerts; fi

chaos: $(STAMP) $(KAFKA) ## every fault against a running pipeline, from outside: at most 30 minutes; SEED=1
	@timeout --foreground 1900 $(BIN)/python -m tests.chaos --seed $(or $(SEED),1)

HELM_VERSION := v3.22.0

$(TOOLS)/env/.built: requirements/deploy.txt
	@echo "building the environment of the validators ..."
	@$(PYTHON) -m venv $(TOOLS)/env
	@$(TOOLS)/env/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r $<
	@touch $@

$(TOOLS)/bin/helm:
	@if command -v go > /dev/null; then \
	    echo "building helm $(HELM_VERSION) from its Go module (some minutes, once) ..."; \
	    GOBIN=$(CURDIR)/$(TOOLS)/bin go install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION) 2> $(TOOLS)/helm.log || tail -5 $(TOOLS)/helm.log; \
	fi

$(TOOLS)/bin/compose: tests/deploy/compose/main.go tests/deploy/compose/go.mod
	@if command -v go > /dev/null; then cd $(<D) && go build -o $(CURDIR)/$@ .; fi

# Where it is a Debian package; without it the rules are checked by our own test only.
$(TOOLS)/bin/promtool:
	@mkdir -p $(@D); if command -v apt-get > /dev/null; then \
	    cd $(TOOLS) && apt-get download prometheus > promtool.log 2>&1 && dpkg -x prometheus_*.deb promtool \
	        && mv promtool/usr/bin/promtool bin/ && rm -r promtool prometheus_*.deb || true; \
	fi

test-deploy: $(STAMP) $(TOOLS)/env/.built $(TOOLS)/bin/helm $(TOOLS)/bin/compose $(TOOLS)/bin/promtool ## image, compose file and chart, by their validators; needs Go for helm
	@$(BIN)/python -m pytest tests/deploy -m deploy -v --durations=5

notice: $(TOOLS)/env/.built $(RUNNING) ## rewrite NOTICE and the SBOM from the lock of what runs
	@$(BIN)/python -m infra.deploy.supply

audit: $(TOOLS)/env/.built ## known vulnerabilities in every lock; needs the advisories of PyPI
	@for lock in requirements/*.txt; do echo "$$lock"; $(TOOLS)/env/bin/pip-audit --require-hashes --disable-pip -r $$lock || exit 1; done

FUZZ_SECONDS ?= 600

fuzz: $(DECODERS:%=fuzz-%) fuzz-http fuzz-sql ## fuzz decoders, the gateway, and statements of readers, ten minutes each; -j2

$(DECODERS:%=fuzz-%): fuzz-%: $(STAMP)
	@mkdir -p bench/out
	@echo "fuzzing $* for $(FUZZ_SECONDS) s ..."
	@$(BIN)/python -m tests.fuzz.decoders $* --seconds $(FUZZ_SECONDS) 2> bench/out/fuzz-$*.log \
		|| { tail -40 bench/out/fuzz-$*.log; exit 1; }
	@grep -E "executed_units|peak_rss" bench/out/fuzz-$*.log | sed "s/^/$*: /"

fuzz-http: $(STAMP)
	@echo "fuzzing the gateway over HTTP for $(FUZZ_SECONDS) s ..."
	@$(BIN)/python -m tests.fuzz.http --seconds $(FUZZ_SECONDS)

fuzz-sql: $(STAMP)
	@echo "fuzzing the engine with statements of a reader for $(FUZZ_SECONDS) s ..."
	@$(BIN)/python -m tests.fuzz.sql --seconds $(FUZZ_SECONDS)

check: $(STAMP) ## formatting, lint, types, import contracts, generated files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/driftline dashboards check

bench: $(BENCHING) ## throughput beside a bare ClickHouse insert, a per-event Faust agent and Bytewax
	@$(BIN)/driftline bench throughput

OTELCOL := bench/peers/otelcol/build/otelcol

$(OTELCOL): bench/peers/otelcol/builder.yaml
	@if command -v go > /dev/null; then \
	    echo "building the OpenTelemetry Collector from its Go modules (some minutes, once) ..."; \
	    cd bench/peers/otelcol && go run go.opentelemetry.io/collector/cmd/builder@v0.155.0 --config=builder.yaml > builder.log 2>&1 \
	        || echo "it does not build, see bench/peers/otelcol/builder.log; it is left out"; \
	fi

PHOENIX := bench/peers/env-phoenix/.built

$(PHOENIX): bench/peers/phoenix.txt
	@echo "building the environment of Arize Phoenix (650 MB, once) ..."
	@$(PYTHON) -m venv $(@D) && $(@D)/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r $< \
	    && touch $@ || echo "it does not install; it is left out"

bench-gateway: $(STAMP) $(OTELCOL) $(PHOENIX) ## OTLP spans per core into Kafka, and until queried; beside the Collector and Phoenix
	@$(BIN)/driftline bench gateway

bench-dashboards: $(STAMP) ## every panel and rule query on a month of 200 agents and ten million events
	@$(BIN)/driftline bench dashboards

peers: ## build the locked environments of the peers in the detector benchmarks (some GB)
	@for lock in bench/peers/*.txt; do \
		env=bench/peers/env-$$(basename $$lock .txt); \
		if test -e $$env/.built -a ! $$lock -nt $$env/.built; then continue; fi; \
		test -x $$env/bin/python || $(PYTHON) -m venv $$env; \
		echo "$$env ..."; \
		$$env/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r $$lock && touch $$env/.built || echo "$$env does not install; it is left out"; \
	done

clients: ## build the locked environments of the instrumented agents that the tests run
	@for lock in tests/clients/locks/*.txt; do \
		env=tests/clients/env-$$(basename $$lock .txt); \
		if test -e $$env/.built -a ! $$lock -nt $$env/.built; then continue; fi; \
		echo "$$env ..."; \
		test -x $$env/bin/python || $(PYTHON) -m venv $$env; \
		$$env/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r $$lock && touch $$env/.built || exit 1; \
	done
	@if command -v npm > /dev/null; then for lock in tests/clients/locks/*/package-lock.json; do \
		env=tests/clients/env-$$(basename $$(dirname $$lock)); \
		if test -e $$env/.built -a ! $$lock -nt $$env/.built; then continue; fi; \
		echo "$$env ..."; \
		mkdir -p $$env && cp $$(dirname $$lock)/package*.json $$env \
			&& npm ci --prefix $$env --ignore-scripts --no-audit --no-fund --loglevel=error && touch $$env/.built || exit 1; \
	done; else echo "npm is not there; the agents on Node are left out"; fi

format: $(STAMP) ## rewrite the code in the project's style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## remove what was built here (not the data under .driftline)
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf bench/out bench/peers/env-* bench/peers/otelcol/build tests/clients/env-* infra/kafka/target
	find ingest processors detectors dashboards infra tests -name __pycache__ -prune -exec rm -rf {} +
