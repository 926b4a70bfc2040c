# `make hello` builds podrun and runs the first pod; `make test` runs every test. Both need Rust, a C linker and
# make, and root where processes are confined for real.
PREFIX ?= /usr/local
TARGET := x86_64-unknown-linux-gnu
BUILD := $(abspath $(or $(CARGO_TARGET_DIR),target))
BIN := $(BUILD)/$(TARGET)/release
CARGO ?= cargo
IDLE_SECONDS ?= 60
ROUNDS ?= 40
FUZZ_SECONDS ?= 60
LANE ?= all
TEST ?=

.PHONY: help hello build test bench bench-systemd fuzz install deb check fmt lint doc clean

help:
	@echo 'make hello    build podrun and run manifests/hello.toml'
	@echo 'make build    release binaries, in $(BIN)'
	@echo 'make test     every test (root: pods run for real), in LANE=$(LANE); tests/lanes lists them'
	@echo 'make bench    podrun beside runc, bwrap, systemd-nspawn and a floor in C'
	@echo 'make bench-systemd  a pod below systemd beside systemd-run and systemd-nspawn, in a virtual machine'
	@echo 'make fuzz     every fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS) seconds'
	@echo 'make install  programs, manual pages, completions, schema and examples below PREFIX'
	@echo 'make deb      the same as a Debian package'
	@echo 'make check    what a commit must pass without root: fmt, lint, doc'

build:
	$(CARGO) build --release --locked -p podrun -p podrun-stage1 -p podrun-probe

hello: build
	$(BIN)/podrun run manifests/hello.toml

# The pods of the tests are run by the release binaries: what is tested is what is shipped.
test: build
	tests/install-deps test
	# In place of the shell, which would outlive a make that is killed.
	exec env CARGO=$(CARGO) PODRUN_BIN_DIR=$(BIN) tests/lanes $(LANE) $(TEST)

bench: build
	tests/install-deps bench
	python3 benches/run.py --bin-dir $(BIN) --rounds $(ROUNDS) --idle-seconds $(IDLE_SECONDS)

bench-systemd: build
	tests/install-deps vm
	tests/vm/run -- benches/systemd $(BIN) $(ROUNDS)

fuzz:
	tests/install-deps fuzz
	fuzz/run $(FUZZ_SECONDS)

install: build
	packaging/install $(BIN) $(PREFIX) $(DESTDIR)

deb: build
	packaging/deb $(BIN)

check: fmt lint doc

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-Dwarnings -Arustdoc::private-intra-doc-links" $(CARGO) doc --locked --workspace --no-deps --document-private-items

clean:
	$(CARGO) clean
