//! The suite on the fake backend: with all its capabilities, and with none.

use std::process::ExitCode;

use propagation_conformance::{Need, Suite, run_suites};
use propagation_core::Capabilities;
use propagation_core::fake::FakeBackend;

/// A node that can do nothing beyond the traits.
const NOTHING: Capabilities = Capabilities {
    shape_node: false,
    rebind_host: false,
    rebind_consumer: false,
    other_uids: false,
    stop_fault: false,
    replicas: false,
    real_kernel: false,
};

fn main() -> ExitCode {
    let all = Suite::new(FakeBackend::default()).with_remover(|_| async { Ok(()) });
    let plain = FakeBackend::default().with_capabilities(NOTHING).with_name("fake-plain");
    let plain = Suite::new(plain).accepting_without(Need::ALL);
    run_suites(vec![all, plain])
}
