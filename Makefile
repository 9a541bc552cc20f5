# The same tasks locally and in CI. Each says what it touches.

CARGO ?= cargo

.PHONY: test test-kernels test-runtimes cluster-matrix lint package bench docs fuzz fuzz-smoke tools

# Builds and runs all tests. Installs what they need when it may (root on Debian) and says what; otherwise
# what is not there is named, skipped and counted. Makes namespaces and FUSE mounts of its own and removes
# them; changes nothing else.
test: tools
	scripts/test

# The same on the kernels that Debian has, each in an emulated guest; SERIES="6.1 newest" for some of them.
# Installs qemu-system-x86 and kmod when it may.
test-kernels: tools
	scripts/test-kernels $(SERIES)

# The scenario library with every OCI runtime that Debian has.
test-runtimes: tools
	scripts/test-runtimes

# The five phases on clusters of several releases of Kubernetes, containerd and runc, which the scripts in
# CLUSTER_SCRIPTS have built and bring up; writes docs/clusters.md.
cluster-matrix:
	$(CARGO) build --release --package propagation-cli
	scripts/cluster-matrix $(CLUSTER_SCRIPTS)

# Formatting, clippy, documentation, licences, advisories, dependency directions, shell scripts, Python.
lint:
	scripts/lint

# Packages every published crate, builds the packages outside of the workspace and runs their doc tests. Publishes
# nothing; the packages are in target/package.
package:
	scripts/check-package

# Benchmarks with their tables; results are in benches/README.md.
bench:
	scripts/bench
	scripts/bench-python

# The API documentation, in target/doc.
docs:
	$(CARGO) doc --workspace --no-deps

# Every target on changed seeds for some seconds, as `make test` does too; under libFuzzer a minute each.
fuzz-smoke:
	$(CARGO) test --package propagation-fuzz-targets
fuzz:
	scripts/fuzz

# Installs the programs that tests and lints use beside Rust (root on Debian), and says which.
tools:
	scripts/install-tools
