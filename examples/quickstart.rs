//! One run of the five phases: on this machine's own kernel where it is Linux, in memory elsewhere.
//!
//! `cargo run --example quickstart`
#![expect(clippy::print_stdout, reason = "examples print")]

use propagation_core::fake::FakeBackend;
use propagation_core::prelude::*;

#[cfg(target_os = "linux")]
fn backend() -> impl Backend {
    propagation_backend_local::LocalBackend::new()
}

#[cfg(not(target_os = "linux"))]
fn backend() -> impl Backend {
    FakeBackend::default()
}

async fn run(backend: &dyn Backend) -> Result<Report, Error> {
    // A producer, a consumer from before the mount, one from after it, and a control.
    Runner::new(Plan::default())?.run(backend).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let report = match run(&backend()).await {
        // This machine cannot carry a node, or lacks FUSE: the report says what to do about it.
        Err(error) if error.kind() == ErrorKind::Environment => {
            println!("{error}; {}", error.fix().unwrap_or("it cannot be helped"));
            run(&FakeBackend::default()).await?
        }
        Ok(report) if report.verdict.is(VerdictOutcome::Inconclusive) => {
            println!("{}", report.verdict.summary());
            report.diagnosis.iter().for_each(|cause| println!("to do: {}", cause.fix.words));
            run(&FakeBackend::default()).await?
        }
        report => report?,
    };
    println!("{} on {}: {}", report.run_id, report.backend, report.verdict.outcome().as_str());
    println!("{}", report.verdict.summary());
    for phase in &report.phases {
        println!("  {}: {} checks, {}", phase.id, phase.checks.len(), phase.status.as_str());
    }
    assert!(report.verdict.is(VerdictOutcome::FullSuccess));
    assert!(report.cleanup.could_not.is_empty(), "{:?}", report.cleanup);
    Ok(())
}
