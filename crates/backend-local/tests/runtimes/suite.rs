//! The trials, and what must not be left when all are done.
#![allow(clippy::print_stderr)] // a test program

#[path = "../support/cgroups.rs"]
mod cgroups;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use propagation_backend_local::LocalBackend;
use propagation_conformance::skip;
use propagation_core::backend::refusal;
use propagation_core::plan::RuntimeSpec;
use propagation_core::report::Status;
use propagation_core::{ErrorKind, Plan, Report, Runner, scenario};

/// The runs of this process.
static RUNS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The engines beside the built-in one.
const ENGINES: [&str; 2] = ["runc", "crun"];

/// The whole program.
pub(super) fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtimes");
    let files = match scenario::files(&directory) {
        Ok(files) => files,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let pairs = files.iter().flat_map(|file| ENGINES.map(|engine| (file.clone(), engine)));
    let mut trials: Vec<Trial> = pairs.map(|(file, engine)| comparison(file, engine)).collect();
    trials.extend(ENGINES.map(refusal_in_its_own_words));
    trials.push(Trial::ignorable_test("an unknown program is no runtime", an_unknown_program));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = cgroups();
    if left.is_empty() {
        return conclusion.exit_code();
    }
    eprintln!("control groups are left behind: {left:?}");
    ExitCode::FAILURE
}

fn comparison(file: PathBuf, engine: &'static str) -> Trial {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Trial::ignorable_test(format!("{engine}: {name}"), move || {
        let plan = scenario::read(&file)?;
        with_engine(plan.clone(), engine, |theirs| {
            let ours = run(plan)?;
            let (ours, theirs) = (statuses(&ours), statuses(theirs));
            let differ = ours.iter().zip(&theirs).find(|(a, b)| a != b);
            match differ {
                None if ours.len() == theirs.len() => Ok(()),
                Some((ours, theirs)) => {
                    Err(format!("built-in: {ours}\n    {engine}: {theirs}").into())
                }
                None => Err(format!("{} checks and {}", ours.len(), theirs.len()).into()),
            }
        })
    })
}

/// What the runtime alone refuses is refused in its words: here a device that cannot be mounted on.
fn refusal_in_its_own_words(engine: &'static str) -> Trial {
    const TEXT: &str = "
name: refused
workloads:
  - name: consumer
    role: consumer
    order: before_mount
    volumes: [{source: /etc/passwd, destination: /mnt/file}, {source: /tmp, destination: /mnt/file/below}]
steps:
  - start: consumer
    expect: {consumer: create_error}
";
    Trial::ignorable_test(format!("{engine}: a refusal has its own words"), move || {
        let plan = scenario::parse("refused.yaml", TEXT)?;
        with_engine(plan, engine, |report| {
            let json = report.to_json()?;
            let said =
                ["not a directory", "Not a directory"].iter().any(|word| json.contains(word));
            if said { Ok(()) } else { Err(format!("no such words in {json}").into()) }
        })
    })
}

fn an_unknown_program() -> Result<Completion, Failed> {
    let plan = named(Plan::default(), "/bin/true");
    if let Some(reason) = refusal(&LocalBackend::new(), &plan) {
        // An ordinary user learns before that it needs root.
        return skip("root", &reason);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(Runner::new(plan)?.run(&LocalBackend::new())) {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Completion::Completed),
        other => Err(format!("expected a refusal, found {other:?}").into()),
    }
}

fn named(mut plan: Plan, engine: &str) -> Plan {
    plan.node.runtime =
        RuntimeSpec { engine: engine.parse().expect("an engine"), ..plan.node.runtime };
    plan
}

/// Runs a plan under an engine, if it is there, and hands the report over: nothing in it may be
/// otherwise than expected.
fn with_engine(
    plan: Plan,
    engine: &str,
    look: impl FnOnce(&Report) -> Result<(), Failed>,
) -> Result<Completion, Failed> {
    let plan = named(plan, engine);
    if let Some(reason) = refusal(&LocalBackend::new(), &plan) {
        return skip(engine, &reason);
    }
    let report = run(plan)?;
    let odd = report.phases.iter().find(|phase| phase.status != Status::Passed);
    if let Some(phase) = odd {
        return Err(format!("{engine}: {phase:#?}").into());
    }
    look(&report)?;
    Ok(Completion::Completed)
}

fn run(plan: Plan) -> Result<Report, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let runner = Runner::new(plan)?;
    RUNS.lock().unwrap_or_else(PoisonError::into_inner).push(runner.run_id().to_string());
    Ok(runtime.block_on(runner.run(&LocalBackend::new()))?)
}

/// How every check came out.
fn statuses(report: &Report) -> Vec<String> {
    let checks = report.phases.iter().flat_map(|phase| {
        phase
            .checks
            .iter()
            .map(move |check| format!("{} {}: {:?}", phase.id, check.id, check.status))
    });
    checks.chain([format!("verdict: {}", report.verdict.outcome().as_str())]).collect()
}

/// Control groups of the machine that runtimes have made for containers of nodes.
fn cgroups() -> Vec<PathBuf> {
    let runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    cgroups::named(|name| runs.iter().any(|run| name.contains(run)))
}
