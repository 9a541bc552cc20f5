//! A phase of one's own after the five: how long do consumers take to read the marker?
//!
//! A phase acts through the [`RunContext`] alone, so it runs on every backend.
//!
//! `cargo run --example own_phase`
#![expect(clippy::print_stdout, reason = "examples print")]

use async_trait::async_trait;
use propagation_core::fake::FakeBackend;
use propagation_core::phase;
use propagation_core::prelude::*;

/// Reads the marker many times from every consumer and bounds the slowest read.
struct Performance {
    reads: usize,
    slowest_us: u64,
}

#[async_trait]
impl Phase for Performance {
    fn id(&self) -> &str {
        "performance"
    }

    fn requires(&self) -> Vec<&str> {
        // Only a mount that has come back is worth measuring.
        vec!["recovery"]
    }

    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        let consumers = context.plan.with_role(Role::Consumer);
        let actors: Vec<Actor> = consumers.flat_map(|spec| context.actors_of(spec)).collect();
        let mut took_us = Vec::with_capacity(self.reads * actors.len());
        let mut failed = 0;
        for _ in 0..self.reads {
            for observation in context.observe(&actors, &Look::default().as_users(&[0])).await? {
                took_us.push(observation.took_us);
                failed += usize::from(!observation.outcome.is_ok());
            }
        }
        took_us.sort_unstable();
        let median = took_us.get(took_us.len() / 2).copied().unwrap_or_default();
        let slowest = took_us.last().copied().unwrap_or_default();
        context.check(Check::new(
            "all_read",
            failed == 0 && !took_us.is_empty(),
            format!("{} reads of the marker succeed", self.reads * actors.len()),
            format!("{} did, {failed} did not", took_us.len() - failed),
        ));
        let check = Check::new(
            "slowest_read",
            slowest <= self.slowest_us,
            format!("no read takes longer than {} µs", self.slowest_us),
            format!("median {median} µs, slowest {slowest} µs"),
        );
        context.check(check.with_finding(
            "the FUSE daemon answers slowly, or the machine is busy",
            "look at what the daemon waits for while a consumer reads",
        ));
        Ok(())
    }
}

async fn measure(backend: &dyn Backend) -> Result<(), Error> {
    let mut phases = phase::five();
    phases.push(Box::new(Performance { reads: 20, slowest_us: 1_000_000 }));
    let report = Runner::new(Plan::default())?.with_phases(phases).run(backend).await?;
    let own = report.phase("performance").expect("a phase that was added is reported");
    for check in &own.checks {
        println!("{}: {}: {}", report.backend, check.id, check.observed);
    }
    if own.status == Status::Skipped {
        // A machine without FUSE has nothing to measure; the fake always has.
        println!("{}: {}", report.backend, report.verdict.summary());
        assert_ne!(report.backend, "fake");
        return Ok(());
    }
    assert_eq!(own.status, Status::Passed, "{own:?}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    measure(&FakeBackend::default()).await?;
    #[cfg(target_os = "linux")]
    match measure(&propagation_backend_local::LocalBackend::new()).await {
        Err(error) if error.kind() == ErrorKind::Environment => println!("local: {error}"),
        measured => measured?,
    }
    #[cfg(not(target_os = "linux"))]
    let _ = ErrorKind::Environment;
    Ok(())
}
