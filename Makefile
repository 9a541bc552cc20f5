# The same tasks locally and in CI. Each says what it touches.

CARGO ?= cargo

.PHONY: test lint bench docs tools

# Builds and runs all tests. Installs what they need when it may (root on Debian), otherwise names
# and counts what had to be skipped. Makes namespaces and FUSE mounts of its own and removes them;
# changes nothing else.
test: tools
	scripts/test

# Formatting, clippy, documentation, licences, dependency directions, shell scripts.
lint:
	scripts/lint

# Benchmarks with their tables; results are in benches/README.md.
bench:
	scripts/bench
	scripts/bench-python

# The API documentation, in target/doc.
docs:
	$(CARGO) doc --workspace --no-deps

# The programs that tests and lints use beside Rust.
tools:
	scripts/install-tools
