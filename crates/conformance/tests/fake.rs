//! The suite on the fake backend: with all that it models, and with the least.

use std::process::ExitCode;

use propagation_conformance::{Need, Suite, run_suites};
use propagation_core::Capabilities;
use propagation_core::fake::FakeBackend;
use propagation_core::observation::Access;
use propagation_core::plan::{FaultKind, Repair};

/// A node that can do nothing beyond what the other cases are made of.
fn least() -> Capabilities {
    Capabilities {
        faults: [FaultKind::Kill, FaultKind::Terminate].into(),
        repairs: [Repair::Wait, Repair::Remount, Repair::RestartConsumer].into(),
        accesses: [Access::Read].into(),
        ..Capabilities::default()
    }
}

fn main() -> ExitCode {
    let all = Suite::new(FakeBackend::default()).with_remover(|_| async { Ok(()) });
    let plain = FakeBackend::default().with_capabilities(least()).with_name("fake-plain");
    let plain = Suite::new(plain).accepting_without(Need::all());
    run_suites(vec![all, plain])
}
