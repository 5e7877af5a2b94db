# Everything a developer does here. It needs Go, and nothing else for build, demo, test, bench, lint and cross;
# race needs a C compiler, test-kafka a JDK (17 or later) and mvn.

export CGO_ENABLED = 0

GO       ?= go
ARGS     ?=
SEEDS    ?= 1000
FROM     ?= 1
# Of make chaos; seed 0 means that one is chosen.
SEED     ?= 0
EVENTS   ?= 2000000
ROUNDS   ?= 1
PACKAGES ?= ./...
# Of make bench: which, how long and how often. Those skipped measure disk and network rather than code.
BENCH     ?= .
SKIP      ?= Disk|Propose
BENCHTIME ?= 0.3s
COUNT     ?= 5
# Where goroutines share memory. The tests are asked to be -short: the detector makes them ten times slower.
RACED    ?= ./connector/... ./ingest/... ./raftlog/... ./store/...
PLATFORMS = linux/amd64 linux/arm64 darwin/arm64
BIN       = $(CURDIR)/bin

.PHONY: help build demo test test-kafka test-overload chaos test-foreign kafka soak mistakes race bench bench-store lint cross clean

help: ## these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## ./nyala for this machine
	$(GO) build -trimpath -o nyala .

demo: build ## three nodes, a Kafka broker and a producer in one go; ARGS="--for 60s --chaos"
	./nyala demo $(ARGS)

test: ## vet, and all tests that need Go only
	$(GO) vet -tags invariants,kafka,overload ./...
	$(GO) test -tags invariants -timeout 30m $(PACKAGES)
	@mkdir -p $(BIN)
	@# each benchmark once, so that none ends with an error unnoticed
	$(GO) test -tags invariants -run '^$$' -bench . -skip '$(SKIP)' -benchtime 1x $(PACKAGES) >$(BIN)/once.log || { cat $(BIN)/once.log; exit 1; }

test-kafka: ## the tests against a real Apache Kafka, which is fetched once into a cache folder
	$(GO) test -tags invariants,kafka -timeout 25m -count 1 ./test/...

test-overload: ## nodes that get more than they can take, as processes of their own: what the kernel says of their memory; Linux only
	$(GO) test -tags overload -timeout 20m -count 1 -v ./test/overload

chaos: ## the long form of test-kafka: every fault, in the order of SEED; EVENTS=2000000, ROUNDS=1; prints what it does
	$(GO) test -tags invariants,kafka -timeout 0 -count 1 -v -run 'ExactlyOnce|Retention' ./test/acceptance \
		-chaos -chaos.seed $(SEED) -chaos.events $(EVENTS) -chaos.rounds $(ROUNDS)

test-foreign: ## pyarrow and DuckDB read what was written and agree with the model; needs python3 with venv
	$(GO) test -tags foreign -run ForeignReaders -count 1 -timeout 15m ./store/rowset

kafka: ## a real Kafka with a topic app-events until Ctrl-C; prints its address
	$(GO) run ./test/kafka/serve -topic app-events

soak: ## whole clusters under faults, SEEDS=1000 of them, FROM=1 on, all processors; a seed that fails is printed, with how to run it again
	$(GO) test -c -tags invariants -o $(BIN)/connector.test ./connector
	cd connector && $(BIN)/connector.test -test.run '^TestSimulation$$' -test.timeout 0 -sim.seed $(FROM) -sim.seeds $(SEEDS)

mistakes: ## each rule broken on purpose, also those that take hundreds of seeds to be seen
	$(GO) test -tags invariants ./connector -run '^TestSimulationFindsMistakes$$' -count 1 -timeout 0 -v -sim.all

# -cpu 1: a timer of a synctest bubble that is due when someone looks at its channel runs there, in a race context that
# all of the bubble shares; two at once, and Go 1.26's race detector crashes. It finds races by order, not by chance.
race: ## the short tests of all rooms with goroutines, under the race detector
	CGO_ENABLED=1 $(GO) test -race -short -cpu 1 -tags invariants -timeout 30m $(RACED)

bench: ## every stage's benchmarks, COUNT=5 times for BENCHTIME=0.3s, and how they are to docs/bench.txt; BENCH=Scan for some
	@mkdir -p $(BIN)
	@GOBIN=$(BIN) $(GO) install -C tools golang.org/x/perf/cmd/benchstat
	$(GO) test -run '^$$' -bench '$(BENCH)' -skip '$(SKIP)' -benchtime $(BENCHTIME) -count $(COUNT) -timeout 60m $(PACKAGES) >$(BIN)/bench.log || { cat $(BIN)/bench.log; exit 1; }
	@grep -E '^(goos|goarch|pkg|cpu|Benchmark)' $(BIN)/bench.log >$(BIN)/bench.txt
	@$(BIN)/benchstat stored=docs/bench.txt now=$(BIN)/bench.txt

bench-store: bench ## the same, and its figures take the place of those in docs/bench.txt
	cp $(BIN)/bench.txt docs/bench.txt

lint: ## gofmt, vet and staticcheck, at the versions of tools/go.mod
	@unformatted="$$(gofmt -s -l .)"; \
	if [ -n "$$unformatted" ]; then echo "gofmt -s -w is needed for:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet -tags invariants,kafka,overload ./...
	GOBIN=$(BIN) $(GO) install -C tools tool
	$(BIN)/staticcheck -tags invariants,kafka,overload ./...
	$(BIN)/staticcheck ./...

cross: ## bin/nyala-OS-ARCH for every platform, and vet for each
	@for platform in $(PLATFORMS); do \
		export GOOS=$${platform%/*} GOARCH=$${platform#*/}; echo "cross: $$platform"; \
		$(GO) build -trimpath -o $(BIN)/nyala-$$GOOS-$$GOARCH . && $(GO) vet -tags invariants,kafka,overload ./... || exit 1; \
	done

clean: ## removes what was built here
	rm -rf nyala $(BIN)
