# `make help` lists the targets.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
FUZZTIME ?= 30s

# The example programs run as jobs; one that is not for WASI says so with
# //go:build !wasip1.
WASI = GOOS=wasip1 GOARCH=wasm $(GO)

# Packages whose tests without -short start real processes, namespaces,
# containers or a browser, make keys of large circuits, compile what takes long, or build contracts with
# Node.js, one after the other.
E2E_PACKAGES ?= $(patsubst %,./%/...,$(wildcard cmd/hypermesh explorer nexus/executor internal/zk/groth16 sdk/assembly smart-contracts/templates smart-contracts/vm))
E2E_NEEDS     = runc:runc chromium:chromium ip:iproute2 nft:nftables curl:curl openssl:openssl mkfs.ext4:e2fsprogs node:nodejs npm:npm

# The formal model of consensus and its checker.
SPEC       = docs/spec/run
SPEC_NEEDS = spin:spin gcc:gcc

# What `make sim` begins with, a seed that differs from run to run, and for how
# long validators go on.
SIM_SEED    ?= $(shell date +%s)
SIM_MINUTES ?= 60

# Packages whose fuzz targets run for some seconds in `make test`: what decodes
# or verifies bytes that strangers send. An execution count ends more evenly than a time.
SMOKE_PACKAGES = $(wildcard internal/codec internal/wasm internal/crypto internal/chain internal/transport internal/zk consensus nexus/job smart-contracts/meter smart-contracts/cosmwasm)
SMOKE_FUZZTIME = 20000x

# Those of which one execution takes milliseconds: proofs and witnesses.
SLOW_SMOKE_PACKAGES = $(wildcard internal/zk/groth16)
SLOW_SMOKE_FUZZTIME = 1000x

GOLANGCI_VERSION = v2.15.0
GOLANGCI         = bin/tools/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: need
need:
	@.ci/need gcc:gcc git:git
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or later is missing: https://go.dev/doc/install" >&2; exit 1; }
	@version=$$($(GO) env GOVERSION); \
	 oldest=$$(printf '%s\n' go1.26 "$${version%%[-+ ]*}" | sort -V | head -n 1); \
	 [ "$$oldest" = go1.26 ] || { echo "Go 1.26 or later is needed, this is $$version: https://go.dev/doc/install" >&2; exit 1; }

.PHONY: build
build: need ## bin/hypermesh, bin/hypersim and the example programs
	@mkdir -p bin
	@for dir in $(if $(wildcard sdk/examples),$$($(WASI) list -find -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./sdk/examples/...)); do \
	   echo "building bin/$${dir##*/}.wasm"; \
	   $(WASI) build -trimpath -ldflags=-s -o "bin/$${dir##*/}.wasm" "$$dir"; \
	 done
	@for dir in $(wildcard cmd/*); do \
	   echo "building bin/$${dir##*/}"; \
	   $(GO) build -trimpath -o "bin/$${dir##*/}" "./$$dir"; \
	 done

.PHONY: package
package: build ## bin/package: program, service, installer and checksums, as providers install them
	@rm -rf bin/package && mkdir -p bin/package && cp bin/hypermesh packaging/* bin/package/
	@cd bin/package && sha256sum -- * > SHA256SUMS && echo "bin/package"

.PHONY: demo
demo: build ## a local network runs two real jobs from order to settlement
	@bin/hypermesh demo $(DEMO_FLAGS)

.PHONY: test
test: need ## every test but those of e2e, with seconds of fuzzing first
	@$(call fuzz,$(SMOKE_PACKAGES),$(SMOKE_FUZZTIME))
	@$(call fuzz,$(SLOW_SMOKE_PACKAGES),$(SLOW_SMOKE_FUZZTIME))
	$(GO) test -short ./...
	cd smart-contracts/vm/peers && $(GO) test -short ./...

.PHONY: e2e
e2e: build ## the formal model, real processes, faults, namespaces, containers and a browser (≤ 50 minutes)
	@.ci/need $(E2E_NEEDS) $(SPEC_NEEDS)
	@$(SPEC)
	$(GO) test -count=1 -p 1 -timeout 50m $(E2E_PACKAGES)

.PHONY: spec
spec: ## the formal model of consensus, exhaustively (two minutes)
	@.ci/need $(SPEC_NEEDS)
	@$(SPEC)

.PHONY: version2
version2: need ## containers on an emulated machine whose kernel has control groups of version 2 alone
	@.ci/need runc:runc qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio
	@nexus/executor/testdata/version2/run

.PHONY: sim
sim: need ## markets with every attack, and simulated validators with every fault for SIM_MINUTES (60)
	$(GO) build -trimpath -o bin/hypersim ./cmd/hypersim
	bin/hypersim market --seed $(SIM_SEED) --seeds 16
	bin/hypersim consensus --seed $(SIM_SEED) --for $(SIM_MINUTES)m --validators 4 --views 100 --faults all

.PHONY: race
race: need ## the tests under the race detector
	$(GO) test -race -short ./...

.PHONY: lint
lint: need $(GOLANGCI) ## go vet, golangci-lint and the walls of docs/ARCHITECTURE.md
	$(GO) vet ./...
	$(GOLANGCI) run ./...
	$(GO) test -count=1 ./internal/lint

$(GOLANGCI):
	GOBIN=$(CURDIR)/$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

.PHONY: fuzz
fuzz: need ## every fuzz target for FUZZTIME (30s)
	@$(call fuzz,$$(grep -rlE '^func Fuzz' --include='*_test.go' --exclude-dir=testdata . | xargs -n 1 dirname | sort -u),$(FUZZTIME))

.PHONY: gas
gas: need ## measure every operation on both ways to verify signatures, and derive the gas table (docs/adr/0008-gas-table.md)
	$(GO) test -count=1 -timeout 30m -run '^TestMeasureGas$$' ./internal/execution -measure-gas
	$(GO) test -count=1 -timeout 30m -tags noavx512 -run '^TestMeasureGas$$' ./internal/execution -measure-gas
	$(GO) test -count=1 -v -run '^TestGasTable$$' ./internal/execution

.PHONY: gas-check
gas-check: need ## measure every operation anew, and hold it against the gas table as it is
	$(GO) test -count=1 -timeout 30m -v -run '^TestCheckGas$$' ./internal/execution -check-gas
	$(GO) test -count=1 -timeout 30m -v -tags noavx512 -run '^TestCheckGas$$' ./internal/execution -check-gas

.PHONY: contract-gas
contract-gas: need ## what a point takes in every kind of instruction, import and attack of contracts
	$(GO) test -run '^$$' -bench '^Benchmark(Instructions|Imports|Attacks|Far)$$' -benchtime 300ms ./smart-contracts/vm

.PHONY: bench
bench: need ## every Go benchmark, and the figures of docs/BENCHMARKS.md
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m $$($(GO) list ./... | grep -v '/cmd/hypermesh$$')
	HYPERMESH_BENCH_KEYS=10000000 $(GO) test -run '^$$' -bench '^BenchmarkTreeUpdate$$' -benchtime 300x -timeout 60m ./internal/store
	$(GO) test -count=1 -v -run '^TestPrunedDiskStaysBelowTwiceTheLiveState$$' -timeout 30m ./internal/store
	$(GO) run ./cmd/hypersim nexus --agents 10000 --jobs 1000000
	$(GO) run ./cmd/hypersim market --attack turning --seeds 5
	$(GO) test -run '^$$' -bench '^Benchmark(Network|IdleAgent)' -benchtime 5x -timeout 60m ./cmd/hypermesh
	HYPERMESH_BENCH_ACCOUNTS=1000000 $(GO) test -run '^$$' -bench '^BenchmarkNetworkThroughput$$/^8500$$' -benchtime 1x -timeout 60m ./cmd/hypermesh
	HYPERMESH_BENCH_RATE=5000 $(GO) test -run '^$$' -bench '^BenchmarkNetworkThroughput$$' -benchtime 1x -timeout 60m ./cmd/hypermesh
	HYPERMESH_BENCH_RATE=5000 HYPERMESH_BENCH_ACCOUNTS=1000000 $(GO) test -run '^$$' -bench '^BenchmarkNetworkThroughput$$' -benchtime 1x -timeout 60m ./cmd/hypermesh
	$(GO) test -run '^$$' -bench '^Benchmark(Jobs|LeaderKilled)' -benchtime 3x -timeout 30m ./cmd/hypermesh
	$(GO) test -run '^$$' -bench '^BenchmarkSettled' -benchtime 1x -timeout 10m ./cmd/hypermesh
	cd internal/bench/peers && $(GO) test -run '^$$' -bench 'Update|Batch' -benchtime 20x -timeout 30m .
	cd internal/bench/peers && $(GO) test -run '^$$' -bench CometBFT -benchtime 3x -timeout 30m .
	cd smart-contracts/vm/peers && $(GO) test -run '^$$' -bench . -benchmem .

.PHONY: peers
peers: need ## this project beside CometBFT, IAVL and Pebble, in one run (8 minutes of a quiet machine)
	@cd internal/bench/peers && $(GO) test -c -o /dev/null .
	HYPERMESH_BENCH_SECONDS=30 $(GO) test -run '^$$' -bench '^BenchmarkNetworkThroughput$$/^13000$$' -benchtime 1x ./cmd/hypermesh
	cd internal/bench/peers && HYPERMESH_BENCH_SECONDS=20 $(GO) test -run '^$$' -bench '^BenchmarkCometBFTThroughput$$' -benchtime 1x .
	$(GO) test -run '^$$' -bench '^BenchmarkTreeUpdate$$' -benchtime 300x ./internal/store
	cd internal/bench/peers && $(GO) test -run '^$$' -bench 'Update|Batch' -benchtime 20x .

.PHONY: settings
settings: need ## what each setting of the database buys (3 minutes of a quiet machine)
	$(GO) test -run '^$$' -bench '^BenchmarkSettings$$' -benchtime 1x -timeout 30m ./internal/store

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

# fuzz runs each fuzz target of the folders $(1) for $(2).
define fuzz
for dir in $(1); do \
  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go | cut -d ' ' -f 2); do \
    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(2) "./$$dir"; \
  done; \
done
endef
