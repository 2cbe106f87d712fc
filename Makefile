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

BINARIES := --bin fusiondp-coordinator --bin fusiondp-site --bin fusiondp-simulate

# The portable build runs on any machine of this architecture, with slower matrix kernels.
PORTABLE_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
	@echo
	@echo "demo takes DATA=DIR (one folder per hospital), SITES=n (default 2), SEED=n, OUT=DIR (default report), PORT=n"

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
test: build onnxruntime ## Everything that proves the claims: unit, property, statistical and end-to-end tests
	$(CARGO) test --release --locked --workspace

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
