//! Setups broken on purpose, on the real kernel: the right cause comes first and no wrong one is
//! named.
//!
//! The tests run one after the other in a mount namespace of their own, in which `/dev/fuse` is open
//! to every user; the machine is not touched.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr)] // a test program

#[path = "diagnosis/cases.rs"]
mod cases;
#[path = "diagnosis/host.rs"]
mod host;
#[path = "diagnosis/scenarios.rs"]
mod scenarios;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use propagation_backend_local::LocalBackend;
use propagation_conformance::skip;
use propagation_core::diagnosis::{Cause, CauseId, FixKind};
use propagation_core::{Report, Runner};

use cases::{Case, all};

/// The whole program.
fn main() -> std::process::ExitCode {
    let mut arguments = Arguments::from_args();
    // One after the other, in this thread: some change what the namespace has at /dev/fuse.
    arguments.test_threads = Some(1);
    let private = host::enter();
    let trials = all().into_iter().map(|case| {
        let private = private.clone();
        Trial::ignorable_test(case.name, move || match private {
            Err(reason) if case.needs_root => skip("root", &reason),
            _ => check(&case),
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn check(case: &Case) -> Result<Completion, Failed> {
    let _device = case.device.map(host::Device::put).transpose()?;
    let report = run(case)?;
    let found: Vec<CauseId> = report.diagnosis.iter().map(|cause| cause.id.clone()).collect();
    if found != case.causes {
        let verdict = report.verdict.summary();
        let causes: Vec<String> = report.diagnosis.iter().map(|c| format!("{c:#?}")).collect();
        return Err(format!(
            "found {found:?} and not {:?}\n{verdict}\n{}\n{:#?}",
            case.causes,
            causes.join("\n"),
            report.phases
        )
        .into());
    }
    for cause in &report.diagnosis {
        complete(cause)?;
    }
    let evidence = report.diagnosis.first().map(|cause| cause.evidence.join("\n"));
    let evidence = evidence.unwrap_or_default();
    for part in case.evidence {
        if !evidence.contains(part) {
            return Err(format!("{part:?} is not in the evidence:\n{evidence}").into());
        }
    }
    // A saved report is explained the same way again.
    let saved = Report::from_json(report.to_json()?.as_bytes())?;
    if propagation_core::diagnosis::explain(&saved) != report.diagnosis {
        return Err("the saved report is explained in another way".into());
    }
    Ok(Completion::Completed)
}

fn run(case: &Case) -> Result<Report, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut runner = Runner::new((case.plan)())?;
    if let Some(phases) = case.phases {
        runner = runner.with_phases(phases());
    }
    Ok(runtime.block_on(runner.run(&LocalBackend::new()))?)
}

/// Every cause can be acted on: it has evidence, a fix, a way to verify it, and a source.
fn complete(cause: &Cause) -> Result<(), Failed> {
    let texts = [&cause.title, &cause.fix.words, &cause.verify, &cause.source];
    let has_text = cause.fix.kind == FixKind::None || !cause.fix.text.is_empty();
    if texts.iter().any(|text| text.is_empty()) || cause.evidence.is_empty() || !has_text {
        return Err(format!("it says too little: {cause:#?}").into());
    }
    Ok(())
}
