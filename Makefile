# The project's commands; `make help` lists them. Everything is built in the release profile, tests and lints too,
# so that libtorch's C++ bindings (minutes) are compiled once.

CARGO ?= cargo
# For example --locked, as CI has it.
CARGO_FLAGS ?=
# Cargo features of the agent besides the default ones, such as webgpu (docs/providers.md).
AGENT_FEATURES ?=

.DEFAULT_GOAL := help
# Set-up comes first, and cargo runs in parallel by itself.
.NOTPARALLEL:
.PHONY: help setup native build agent-aarch64 agent-x86_64 agent-android test test-providers lint lint-targets fuzz demo demo-full bench bench-search bench-training bench-together bench-curves bench-busy bench-remote clean distclean

help: ## Show these lines
	@sed -n 's/^\([a-z0-9_-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

setup: ## Get what is missing: system packages, libtorch, ONNX Runtime, Fashion-MNIST
	@scripts/setup.sh

native: # What compiling needs, without the packages that only tests and the demo want
	@scripts/setup.sh build

build: native ## Build the three programs: fleetfoot, fleetfoot-agent, fleetfoot-search
	$(CARGO) build --release $(CARGO_FLAGS) -p fleetfoot
# A command of its own: cargo unifies features, and the agent must keep to the oldest ONNX Runtime API.
	$(CARGO) build --release $(CARGO_FLAGS) -p fleetfoot-agent --features "$(AGENT_FEATURES)"
	$(CARGO) build --release $(CARGO_FLAGS) -p fleetfoot-search
	@scripts/agent.sh "$$(uname -m)-linux-gnu"

# What scripts/agent.sh needs to know where it builds.
agent-aarch64 agent-android: export CARGO := $(CARGO)
agent-aarch64 agent-android: export CARGO_FLAGS := $(CARGO_FLAGS)
agent-aarch64 agent-android: export AGENT_FEATURES := $(AGENT_FEATURES)

agent-aarch64: ## Build the agent for 64-bit ARM: boards with Linux, phones
	@scripts/agent.sh aarch64-linux-gnu

agent-x86_64: ## Build the agent for other PCs (on a PC, make build does it)
	@scripts/agent.sh x86_64-linux-gnu

agent-android: ## Build the agent for phones with Android's NDK (docs/phones.md)
	@scripts/agent.sh aarch64-linux-android

test: export CARGO := $(CARGO)
test: export CARGO_FLAGS := $(CARGO_FLAGS)
test: setup build ## Run all tests
	@[ "$$(uname -m)" != x86_64 ] || scripts/agent.sh aarch64-linux-gnu || echo "without an agent for arm64, tests of one are skipped" >&2
	$(CARGO) test --release $(CARGO_FLAGS) --workspace

test-providers: setup ## Get OpenVINO, WebGPU, QNN's simulator and CUDA's library (450 MB) and test the agent on them
	scripts/provider.sh openvino webgpu qnn cuda
	scripts/swiftshader.sh $(CARGO) test --release $(CARGO_FLAGS) -p fleetfoot-agent --features webgpu -- --include-ignored

lint: native ## Check formatting, clippy and the documentation's links
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release $(CARGO_FLAGS) --workspace --all-targets -- -D warnings
	$(CARGO) clippy --release $(CARGO_FLAGS) --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release $(CARGO_FLAGS) --workspace --no-deps

lint-targets: export CARGO := $(CARGO)
lint-targets: export CARGO_FLAGS := $(CARGO_FLAGS)
lint-targets: ## Check with clippy what is for Android, macOS and Windows, where rustup has their targets
	@scripts/lint-targets.sh

fuzz: ## Hand hostile files to everything that reads files, SECONDS=60 for each target (TARGET=name: one of them)
	scripts/fuzz.sh $(or $(SECONDS),60) $(TARGET)

demo: setup build ## Profile this CPU, search a network for it, train, export, measure, report
	scripts/demo.sh

demo-full: setup build ## The same with more networks to compare with, three seeds each
	scripts/demo-full.sh

bench: build ## Measure what the README claims about speed
	$(CARGO) bench $(CARGO_FLAGS) -p fleetfoot-search --bench search_steps
	$(CARGO) bench $(CARGO_FLAGS) -p fleetfoot-search --bench reading_images
	$(CARGO) bench $(CARGO_FLAGS) -p fleetfoot --bench batch_prediction

bench-training: build ## Measure what a step of a training costs in time and memory: libtorch's own graph, own passes, recomputed, in two parts
	@$(CARGO) bench $(CARGO_FLAGS) -p fleetfoot-search --bench training_steps -- $(ARGS)

bench-search: build ## Measure what a step of the search costs in time and memory, against NCHW and all candidates mixed (minutes)
	@$(CARGO) bench $(CARGO_FLAGS) -p fleetfoot-search --bench search_steps -- $(ARGS)

bench-together: build ## Measure what it costs that several processes learn together on this machine
	@$(CARGO) bench $(CARGO_FLAGS) -p fleetfoot-search --bench together_steps -- $(ARGS)

bench-curves: build ## Learning curves of models on files of others, DATA=folder of CSVs, SPACE=fbnet-32, SAMPLES=10,20,50,100
	$(CARGO) bench $(CARGO_FLAGS) -p fleetfoot --bench learning_curves -- $(DATA) $(or $(SPACE),fbnet-32) $(or $(SAMPLES),10,20,50,100)

bench-busy: build ## Measure what a profile notices of busy loops on its core and on others (minutes)
	$(CARGO) bench $(CARGO_FLAGS) -p fleetfoot --bench busy_loop

bench-remote: build ## Measure what another machine costs, DEVICE=phone.toml with this machine's processor, and how tables agree
	$(CARGO) bench $(CARGO_FLAGS) -p fleetfoot --bench remote -- "$(abspath $(DEVICE))"

clean: ## Remove what was built
	$(CARGO) clean

distclean: clean ## Remove the links to the native libraries, too (their download cache stays)
	rm -rf native
