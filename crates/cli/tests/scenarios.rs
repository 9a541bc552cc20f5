//! Every file of the scenario library shows on the real kernel what it says; the atlas in the documents is
//! what the kernel does.

#[path = "scenarios/answers.rs"]
mod answers;
#[path = "scenarios/index.rs"]
mod index;
#[path = "scenarios/library.rs"]
mod library;
#[path = "scenarios/outcomes.rs"]
mod outcomes;
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Completion, Failed, Trial};
use propagation_core::Report;
use propagation_core::report::{CheckId, Status};
use serde_json::Value;
use support::{TestResult, output, scratch, skip, tests};

fn main() {
    let mut tests: Vec<Trial> = files()
        .into_iter()
        .map(|file| {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Trial::ignorable_test(format!("scenario {name}"), move || shows_what_it_says(&file))
        })
        .collect();
    tests.extend(inputs().into_iter().map(|file| {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Trial::ignorable_test(format!("input {name}"), move || shows_what_it_says(&file))
    }));
    tests.extend(["builtin", "runc", "crun"].map(|engine| {
        let name = format!("a_program_outlives_its_container_of {engine}");
        Trial::ignorable_test(name, move || a_program_outlives_its_container(engine))
    }));
    tests.extend(tests![
        library::every_report_of_the_library_is_sound,
        answers::an_answer_does_not_contradict_itself,
        index::the_library_is_listed_and_explained,
        index::every_cause_is_first_somewhere,
        the_schema_accepts_every_scenario_file,
        an_unmet_expectation_is_told_by_the_exit_status,
        what_is_not_a_scenario_is_refused_with_its_place,
        several_scenarios_are_one_json_document,
        what_scenarios_cannot_honour_is_refused,
        a_matrix_goes_on_where_it_ended,
        a_matrix_that_cannot_be_written_ends,
        the_atlas_in_the_documents_is_what_the_kernel_does
    ]);
    tests.extend(outcomes::tests());
    support::main(tests);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_owned()
}

/// The files of the library; there is no test of it when there is none.
fn files() -> Vec<PathBuf> {
    propagation_core::scenario::files(&root().join("scenarios")).expect("the scenario library")
}

/// Small files, one for each thing that a scenario can say and that is easily got wrong.
fn inputs() -> Vec<PathBuf> {
    let directory = root().join("crates/cli/tests/inputs");
    propagation_core::scenario::files(&directory).expect("the small scenarios")
}

/// A program that runs in a container whose process 1 ends has a result of its own, or is told to have ended
/// with its container.
fn a_program_outlives_its_container(engine: &str) -> TestResult {
    const TIMES: usize = 5;
    if engine != "builtin" && !is_installed(engine) {
        return skip("scenario", &format!("{engine} is not installed"));
    }
    let scratch = scratch();
    let file = root().join("crates/cli/tests/inputs/run-in-a-container-that-ends.yaml");
    let file = file.to_string_lossy();
    let arguments = ["run", "--scenario", &file, "--runtime", engine, "--format", "json"];
    for _ in 0..TIMES {
        let ran = output(scratch.path(), &arguments);
        let report = Report::from_json(&ran.stdout)?;
        let checks = report.phases.iter().flat_map(|phase| &phase.checks);
        let told = checks
            .filter(|check| check.id == CheckId::Expect("run".into()))
            .map(|check| &check.observed);
        let told: Vec<&String> = told.collect();
        let result = |told: &&String| told.contains("busy") || told.contains("its container ended");
        if told.len() != 1 || !told.iter().all(result) {
            return Err(format!("{told:?}").into());
        }
    }
    support::PASSED
}

fn is_installed(program: &str) -> bool {
    ["/usr/bin", "/usr/sbin"].iter().any(|directory| Path::new(directory).join(program).exists())
}

fn shows_what_it_says(file: &Path) -> TestResult {
    let scratch = scratch();
    let arguments = ["run", "--scenario", &file.to_string_lossy()];
    let report = scratch.path().join("report");
    let report_path = report.to_string_lossy();
    let ran = output(scratch.path(), &[&arguments[..], &["--report", &report_path]].concat());
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    match ran.status.code() {
        Some(0) => match skipped_expectations(&report.join("report.json"))?.as_slice() {
            [] => Ok(Completion::Completed),
            some => skip("scenario", &format!("expectations skipped: {}", some.join("; "))),
        },
        // Nothing could be looked at: the reason is in the text.
        Some(5) => {
            let reason = text.lines().find(|line| line.contains("skipped")).unwrap_or("skipped");
            // What no package brings is another requirement.
            let of_the_kernel = reason.contains("this kernel has no filesystem");
            skip(if of_the_kernel { "kernel-filesystems" } else { "scenario" }, reason.trim())
        }
        status => Err(format!("exit status {status:?}\n{text}{said}").into()),
    }
}

/// What was not looked at although the scenario expects it, and why.
fn skipped_expectations(report: &Path) -> Result<Vec<String>, Failed> {
    let report = Report::from_json(&fs::read(report)?)?;
    let checks = report.phases.iter().flat_map(|phase| &phase.checks);
    let skipped =
        checks.filter(|check| check.status == Status::Skipped && check.id.is_expectation());
    let skipped: Vec<String> =
        skipped.map(|check| format!("{} ({})", check.id, check.observed)).collect();
    let counted = report.expectations().skipped;
    if u64::try_from(skipped.len())? != counted {
        return Err(format!("{counted} expectations are skipped, found {skipped:?}").into());
    }
    Ok(skipped)
}

fn the_schema_accepts_every_scenario_file() -> TestResult {
    let scratch = scratch();
    let printed = output(scratch.path(), &["schema", "--scenario"]);
    let schema: Value = serde_json::from_slice(&printed.stdout)?;
    let validator = jsonschema::validator_for(&schema)?;
    for file in files().into_iter().chain(inputs()) {
        let text = fs::read_to_string(&file)?;
        let value: Value = propagation_core::scenario::parse_as(&file.to_string_lossy(), &text)?;
        if let Err(error) = validator.validate(&value) {
            let at = error.instance_path();
            return Err(format!("{}: {error} at {at}", file.display()).into());
        }
    }
    support::PASSED
}

fn an_unmet_expectation_is_told_by_the_exit_status() -> TestResult {
    let scratch = scratch();
    let file = scratch.path().join("wrong.yaml");
    for (steps, step, code) in [
        ("- start: all\n  expect: {control: ok}\n", "1-start", 6),
        // A program that fails although nobody expects it to.
        ("- start: all\n- run: ['false']\n", "2-run", 6),
        ("- start: all\n- run: ['false']\n  expect: {run: {exit: 1}}\n", "2-run", 0),
    ] {
        fs::write(&file, format!("steps:\n{steps}"))?;
        let ran = output(scratch.path(), &["run", "--scenario", &file.to_string_lossy()]);
        let text = String::from_utf8_lossy(&ran.stdout);
        if ran.status.code() != Some(code) || !text.contains(step) {
            return Err(format!("{steps}: {:?}: {text}", ran.status).into());
        }
    }
    support::PASSED
}

fn what_is_not_a_scenario_is_refused_with_its_place() -> TestResult {
    let scratch = scratch();
    let file = scratch.path().join("typing.yaml");
    fs::write(&file, "steps:\n  - start: all\n    expects: {control: absent}\n")?;
    expect_refusal(&file, &["typing.yaml:3:", "unknown field `expects`", "did you mean expect?"])?;
    let two = "workloads: [{name: d, role: producer}, {name: app, role: consumer}]\n";
    for (step, parts) in [
        ("fault: oom\n  on: app", ["typing.yaml:4:10", "serves no filesystem"]),
        ("fault: exit\n  on: [d, app]", ["typing.yaml:4:10", "\"app\" is a consumer"]),
        ("start: all\n  expect: {app.load: ok}", ["typing.yaml:5:22", "no readers and no writers"]),
    ] {
        fs::write(&file, format!("{two}steps:\n- start: d\n- {step}\n"))?;
        expect_refusal(&file, &parts)?;
    }
    support::PASSED
}

/// Fails unless the file is refused with these words.
fn expect_refusal(file: &Path, parts: &[&str]) -> Result<(), Failed> {
    let scratch = scratch();
    let ran = output(scratch.path(), &["run", "--scenario", &file.to_string_lossy()]);
    let said = String::from_utf8_lossy(&ran.stderr);
    match parts.iter().find(|part| ran.status.code() != Some(2) || !said.contains(**part)) {
        Some(part) => Err(format!("{:?}, without {part:?}: {said}", ran.status).into()),
        None => Ok(()),
    }
}

/// One that can be run, and one that the backend refuses because its runtime is not there.
fn two_scenarios(directory: &Path) -> Result<String, std::io::Error> {
    let directory = directory.join("two");
    fs::create_dir(&directory)?;
    fs::write(directory.join("plain.yaml"), "steps:\n- {start: all, expect: {control: absent}}\n")?;
    fs::write(
        directory.join("refused.yaml"),
        "node: {runtime: {engine: /no/such/runtime}}\nsteps:\n- start: all\n",
    )?;
    Ok(directory.to_string_lossy().into_owned())
}

fn several_scenarios_are_one_json_document() -> TestResult {
    let scratch = scratch();
    let two = two_scenarios(scratch.path())?;
    let out = scratch.path().join("reports");
    let out_text = out.to_string_lossy();
    let arguments = ["run", "--scenario", &two, "--format", "json", "--report", &out_text];
    let ran = output(scratch.path(), &arguments);
    let all: Value = serde_json::from_slice(&ran.stdout)?;
    let names = [&all[0]["name"], &all[1]["name"]];
    if names != ["plain", "refused"] || all[0]["report"]["verdict"].is_null() {
        return Err(format!("{all:#}").into());
    }
    let index = fs::read_to_string(out.join("index.html"))?;
    if !index.contains("href=\"plain/report.html\"") || !out.join("plain/run.log").exists() {
        return Err(format!("no link or no log: {index}").into());
    }
    support::PASSED
}

fn what_scenarios_cannot_honour_is_refused() -> TestResult {
    let scratch = scratch();
    let two = two_scenarios(scratch.path())?;
    for (more, part) in [
        (&["--format", "html"][..], "this format holds one report"),
        (&["--node", "w1"], "add --backend k8s"),
        (&["--backend", "k8s", "--jobs", "2"], "use the same bridge"),
    ] {
        let arguments = [&["run", "--scenario", &*two][..], more].concat();
        let ran = output(scratch.path(), &arguments);
        let said = String::from_utf8_lossy(&ran.stderr);
        if ran.status.code() != Some(2) || !said.contains(part) {
            return Err(format!("{more:?}: {:?}: {said}", ran.status).into());
        }
    }
    let late = ["run", "--scenario", &two, "--timeout", "1ms", "--format", "json"];
    let all: Value = serde_json::from_slice(&output(scratch.path(), &late).stdout)?;
    if all[0]["report"]["verdict"]["outcome"] != "inconclusive" && all[0]["error"].is_null() {
        return Err(format!("the time was not kept: {:#}", all[0]).into());
    }
    support::PASSED
}

fn a_matrix_that_cannot_be_written_ends() -> TestResult {
    if !support::is_root() {
        return skip("root", "a filesystem without room has to be mounted");
    }
    let script = format!(
        "mkdir \"$SCRATCH/matrix\"\nmount -t tmpfs -o size=16k none \"$SCRATCH/matrix\"\n\
         exec \"$PROPAGATION\" matrix --out \"$SCRATCH/matrix\" {}",
        SMALL.join(" ")
    );
    let ran = support::in_private_namespace(&script);
    let said = String::from_utf8_lossy(&ran.stderr);
    if ran.status.code() != Some(1) || !said.contains("No space left") {
        return Err(format!("{:?}: {said}", ran.status).into());
    }
    support::PASSED
}

/// A small matrix: two volumes, two repairs.
const SMALL: [&str; 8] = [
    "--axis",
    "covering=shared",
    "--axis",
    "propagation=HostToContainer",
    "--axis",
    "fault=kill",
    "--axis",
    "order=after_mount",
];

fn a_matrix_goes_on_where_it_ended() -> TestResult {
    let scratch = scratch();
    let out = scratch.path().join("matrix");
    let out_text = out.to_string_lossy().into_owned();
    let arguments = |more: &[&'static str]| {
        let mut words = vec!["matrix".to_owned(), "--out".into(), out_text.clone()];
        words.extend(SMALL.iter().chain(more).map(|word| (*word).to_owned()));
        words
    };
    let run = |more: &[&'static str]| {
        let words = arguments(more);
        output(scratch.path(), &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let first = run(&["--reports"]);
    let text = String::from_utf8_lossy(&first.stdout).into_owned();
    if !first.status.success() || !text.contains("24 of 24 cells") {
        return Err(format!("{:?}: {text}", first.status).into());
    }
    let whole = fs::read_to_string(out.join("cells.jsonl"))?;
    for line in whole.lines() {
        let cell: Value = serde_json::from_str(line)?;
        // A cell that is skipped before it runs has no report.
        let report = cell["report"].as_str().map(|address| out.join(address));
        if report.is_some_and(|path| !path.exists())
            || (cell["seen"].is_object() && cell["report"].is_null())
        {
            return Err(format!("no report of {cell:#}").into());
        }
    }
    let half: String = whole.chars().take(whole.len() / 2).collect();
    fs::write(out.join("cells.jsonl"), half)?;
    let again = run(&["--resume"]);
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    if !again.status.success() || text.contains("(0 kept from before)") {
        return Err(format!("{:?}: {text}", again.status).into());
    }
    let ids = |text: &str| -> Vec<String> {
        let id = |line: &str| {
            let cell: Value = serde_json::from_str(line).unwrap_or_default();
            cell["id"].as_str().unwrap_or_default().to_owned()
        };
        text.lines().map(id).collect()
    };
    let resumed = fs::read_to_string(out.join("cells.jsonl"))?;
    if ids(&resumed) != ids(&whole) {
        return Err("the cells are others, or in another order".into());
    }
    support::PASSED
}

/// Runs the cells that the document names, and compares.
fn the_atlas_in_the_documents_is_what_the_kernel_does() -> TestResult {
    let scratch = scratch();
    let out = scratch.path().join("atlas");
    let arguments = [
        "matrix",
        "--out",
        &out.to_string_lossy(),
        "--axis",
        "covering=all",
        "--axis",
        "order=after_mount",
        "--axis",
        "fault=all",
        "--axis",
        "repair=all",
        "--axis",
        "volume=all",
        "--only-documented",
    ];
    let ran = output(scratch.path(), &arguments);
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(format!("{:?}: {said}", ran.status).into());
    }
    let made = fs::read_to_string(out.join("atlas.md"))?;
    let path = root().join("docs/atlas.md");
    if support::blessing() {
        fs::write(&path, &made)?;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    if made == written {
        return support::PASSED;
    }
    let other = made.lines().zip(written.lines()).find(|(made, written)| made != written);
    Err(format!("docs/atlas.md is not what the kernel does: {other:?}; BLESS=1 writes it").into())
}
