# FusionDP Federated. `make help` lists the targets; each is the only command to type.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
DATA ?=
SITES ?= 2
SEED ?= 1
OUT ?= report
PORT ?=
PEERS ?= 1
BENCH ?=

BINARIES := --bin fusiondp-coordinator --bin fusiondp-site --bin fusiondp-simulate

# The portable build runs on any machine of this architecture, with slower matrix kernels.
PORTABLE_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
	@echo
	@echo "demo takes DATA=DIR (one folder per hospital), SITES=n (default 2), SEED=n, OUT=DIR (default report), PORT=n"
	@echo "bench takes PEERS=0 (leave other implementations out), BENCH='arguments of benches/peers/compare.py'"

.PHONY: build
build: ## Build the three binaries (optimized for x86-64-v3: Haswell and later)
	$(CARGO) build --release --locked --workspace $(BINARIES)

.PHONY: portable
portable: ## Build the three binaries for any machine of this architecture, into target/portable
	RUSTFLAGS="-C target-cpu=generic" $(CARGO) build --release --locked --workspace $(BINARIES) \
	    --target $(PORTABLE_TARGET) --target-dir target/portable

.PHONY: onnxruntime
onnxruntime: ## Fetch the pinned ONNX Runtime into the user's cache folder
	bash deploy/onnxruntime/fetch.sh

.PHONY: demo
demo: build onnxruntime ## Set up a consortium on this machine, train a federated model, show the result
	@"$${CARGO_TARGET_DIR:-target}/release/fusiondp-simulate" demo --sites $(SITES) --seed $(SEED) --out "$(OUT)" \
	    $(if $(DATA),--data "$(DATA)") $(if $(PORT),--port $(PORT))

.PHONY: test
test: onnxruntime ## Everything that proves the claims: unit, property, statistical and end-to-end tests
	@# Builds the three binaries too, since each of their packages has integration tests; building them alone beforehand
	@# would compile everything twice, as tests turn on features of their own in shared dependencies.
	$(CARGO) test --release --locked --workspace

# Kept outside the build output: PyTorch is large, and `make clean` need not cost its download.
BENCH_VENV ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fusiondp/bench-venv
BENCH_STAMP := $(BENCH_VENV)/installed-$(firstword $(shell cat benches/peers/requirements.txt deploy/imputers/requirements.txt | cksum))

.PHONY: bench
bench: build onnxruntime $(if $(filter-out 0,$(PEERS)),$(BENCH_STAMP)) ## Measure speed, memory and the peers in Python (docs/BENCHMARKS.md), and attack mechanisms and whole runs at length
	$(CARGO) bench --locked -p fusiondp-dp -p fusiondp-learn -p fusiondp-site-agent
	$(if $(filter-out 0,$(PEERS)),"$(BENCH_VENV)/bin/python",python3) benches/peers/compare.py \
	    --bin "$${CARGO_TARGET_DIR:-target}/release" $(if $(filter 0,$(PEERS)),--no-peers) $(BENCH)
	"$${CARGO_TARGET_DIR:-target}/release/fusiondp-simulate" audit --faults --rows 256
	"$${CARGO_TARGET_DIR:-target}/release/fusiondp-simulate" audit --canaries attribute --faults

$(BENCH_STAMP): benches/peers/requirements.txt deploy/imputers/requirements.txt
	python3 -m venv "$(BENCH_VENV)"
	"$(BENCH_VENV)/bin/python" -m pip install --progress-bar on -r benches/peers/requirements.txt
	touch "$@"

.PHONY: lint
lint: ## Formatting and lints, warnings are errors
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check licenses bans sources; \
	 else echo "lint: cargo-deny is not installed, dependency policy (deny.toml) left out"; fi

.PHONY: clean
clean: ## Remove build output and what the demo wrote
	$(CARGO) clean
	@for folder in demo-run report; do if [ -e "$$folder/.fusiondp-demo" ]; then rm -rf "$$folder"; fi; done
