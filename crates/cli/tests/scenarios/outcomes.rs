//! How scenarios end: what a failure, a skip, an interruption and an empty run are to the exit status.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use libtest_mimic::Trial;
use propagation_core::Report;

use super::support::{
    PASSED, PROPAGATION, TestResult, expect_code, expect_junit, expect_part, has_xmllint, output,
    propagation, scratch, stderr, stdout, tests,
};

pub(crate) fn tests() -> Vec<Trial> {
    tests![
        five_phases_that_fail_end_as_their_answer_says,
        five_phases_that_fail_beside_a_success_are_otherwise,
        a_failed_expectation_does_not_read_as_its_opposite,
        an_interrupted_directory_counts_what_was_not_run,
        with_require_all_a_skip_is_a_failure,
        a_directory_in_which_nothing_ran_is_no_success,
        the_results_of_a_directory_are_one_junit_file,
        quiet_shows_what_is_not_as_expected
    ]
}

/// The five phases with consumers that get the mount in this way.
fn five_phases(consumer: &str) -> String {
    format!(
        "deadlines: {{marker_ms: 300, recovery_ms: 100, probe_ms: 300}}\n\
         workloads:\n\
         - {{name: producer, role: producer}}\n\
         - {{name: app, role: consumer, {consumer}}}\n\
         - {{name: control, role: control}}\n\
         steps: [{{phase: host_setup}}, {{phase: producer}}, {{phase: consumer}}, \
         {{phase: stale_mount}}, {{phase: recovery}}]\n"
    )
}

const PRIVATE: &str = "propagation: None, order: before_mount";
const GOOD: &str = "steps:\n- {start: all, expect: {control: absent}}\n";
const MISSING: &str = "node: {runtime: {engine: /no/such/runtime}}\nsteps:\n- start: all\n";
const MISSPELT: &str = "fuse: {command: [rclon, mount, \"{source}\", \"{mountpoint}\"]}\n\
                        workloads:\n- {name: producer, role: producer}\nsteps:\n- start: all\n";
/// A look as a user that a node with one user does not have.
const HALF: &str = "workloads:\n- {name: producer, role: producer}\n- {name: app, role: consumer}\n\
                    steps:\n- {start: all, expect: {app: ok, app@1000: ok}}\n";

/// Writes scenarios into a directory.
fn directory(scratch: &Path, files: &[(&str, &str)]) -> Result<PathBuf, std::io::Error> {
    let directory = scratch.join("scenarios");
    fs::create_dir(&directory)?;
    for (name, text) in files {
        fs::write(directory.join(format!("{name}.yaml")), text)?;
    }
    Ok(directory)
}

fn run(scratch: &Path, path: &Path, more: &[&str]) -> Output {
    let path = path.to_string_lossy();
    output(scratch, &[&["run", "--scenario", &path][..], more].concat())
}

fn five_phases_that_fail_end_as_their_answer_says() -> TestResult {
    for (consumer, code, outcome) in [
        (PRIVATE, 4, "fundamental_failure"),
        ("volume: mountpoint", 3, "partial_success"),
        ("volume: bridge", 0, "full_success"),
    ] {
        let scratch = scratch();
        let all = directory(scratch.path(), &[("five", &five_phases(consumer))])?;
        let ran = run(scratch.path(), &all.join("five.yaml"), &[]);
        expect_code(&ran, code)?;
        expect_part(&stdout(&ran), &format!("Verdict: {outcome}"))?;
        expect_part(&stdout(&ran), "Scenario five")?;
    }
    PASSED
}

fn five_phases_that_fail_beside_a_success_are_otherwise() -> TestResult {
    let scratch = scratch();
    let all = directory(scratch.path(), &[("bad", &five_phases(PRIVATE)), ("good", GOOD)])?;
    let ran = run(scratch.path(), &all, &[]);
    expect_code(&ran, 6)?;
    let text = stdout(&ran);
    expect_part(&text, "✗ bad: fundamental_failure")?;
    expect_part(&text, "✓ good: ")?;
    expect_part(&text, "1 as expected, 1 otherwise, 0 skipped, 0 failed")?;
    if text.contains("nothing was looked at") {
        return Err(text.into());
    }
    PASSED
}

/// What was found is never written as what was expected, and the other way round.
fn a_failed_expectation_does_not_read_as_its_opposite() -> TestResult {
    let scratch = scratch();
    let steps = "deadlines: {probe_ms: 200, start_ms: 700}\nworkloads:\n\
                 - {name: producer, role: producer}\n- {name: app, role: consumer}\nsteps:\n\
                 - {start: all, expect: {app: hang, app.list: absent, app.program: exited}}\n\
                 - {fault: stop, expect: {app: ok, app.list: absent, node: ENOTCONN}}\n\
                 - {run: [\"false\"], expect: {run: ok}}\n";
    let all = directory(scratch.path(), &[("wrong", steps)])?;
    let ran = run(scratch.path(), &all.join("wrong.yaml"), &["--format", "json"]);
    expect_code(&ran, 6)?;
    let report = Report::from_json(&ran.stdout)?;
    let checks = report.phases.iter().flat_map(|phase| &phase.checks);
    let checks: Vec<_> = checks.filter(|check| check.id.is_expectation()).collect();
    if checks.len() < 7 {
        return Err(format!("{checks:#?}").into());
    }
    for check in checks {
        let (expected, observed) = (check.expected.trim(), check.observed.trim());
        if observed == expected || observed.starts_with(&format!("{expected} ")) {
            return Err(format!("{}: expected {expected:?}, found {observed:?}", check.id).into());
        }
    }
    PASSED
}

fn an_interrupted_directory_counts_what_was_not_run() -> TestResult {
    let scratch = scratch();
    let long = "steps:\n- start: all\n- pause_ms: 60000\n";
    let files = [("1-good", GOOD), ("2-long", long), ("3-good", GOOD), ("4-good", GOOD)];
    let all = directory(scratch.path(), &files)?;
    let path = all.to_string_lossy();
    let mut child = propagation(scratch.path(), &["run", "--scenario", &path, "--jobs", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut out = BufReader::new(child.stdout.take().ok_or("no standard output")?);
    let mut text = String::new();
    out.read_line(&mut text)?;
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT)?;
    out.read_to_string(&mut text)?;
    let status = child.wait()?;
    if status.code() != Some(130) {
        return Err(format!("{status}: {text}").into());
    }
    // The second may have been interrupted before its node stood, or after.
    let (_, count) = text.split_once("Scenarios: ").ok_or_else(|| text.clone())?;
    if !["0 failed, 3 not run", "1 failed, 2 not run"].iter().any(|end| count.contains(end)) {
        return Err(text.into());
    }
    expect_part(count, "1 as expected, 0 otherwise, 0 skipped")?;
    for name in ["3-good", "4-good"] {
        if text.contains(name) {
            return Err(format!("{name} was not run: {text}").into());
        }
    }
    PASSED
}

fn with_require_all_a_skip_is_a_failure() -> TestResult {
    let scratch = scratch();
    let files = [("good", GOOD), ("half", HALF), ("misspelt", MISSPELT), ("missing", MISSING)];
    let all = directory(scratch.path(), &files)?;
    // With one user only, whoever runs the test.
    let alone = |path: &Path, more: &[&str]| {
        Command::new("unshare")
            .args(["--user", "--map-root-user", PROPAGATION, "run", "--scenario"])
            .arg(path)
            .args(more)
            .env("XDG_STATE_HOME", scratch.path())
            .output()
    };
    for (file, without) in
        [("good.yaml", 0), ("half.yaml", 0), ("misspelt.yaml", 5), ("missing.yaml", 5), ("", 0)]
    {
        let path = all.join(file);
        expect_code(&alone(&path, &[])?, without)?;
        let with = if file == "good.yaml" { 0 } else { 6 };
        expect_code(&alone(&path, &["--require", "all"])?, with)?;
    }
    PASSED
}

fn a_directory_in_which_nothing_ran_is_no_success() -> TestResult {
    let scratch = scratch();
    let all = directory(scratch.path(), &[("one", MISSING), ("two", MISSING)])?;
    let ran = run(scratch.path(), &all, &[]);
    expect_code(&ran, 5)?;
    expect_part(&stdout(&ran), "0 as expected, 0 otherwise, 2 skipped")?;
    PASSED
}

fn the_results_of_a_directory_are_one_junit_file() -> TestResult {
    let scratch = scratch();
    let bad = five_phases(PRIVATE);
    let files = [("bad", &*bad), ("good", GOOD), ("missing", MISSING)];
    let all = directory(scratch.path(), &files)?;
    let out = scratch.path().join("result");
    let ran = run(scratch.path(), &all, &["--report", &out.to_string_lossy()]);
    expect_code(&ran, 6)?;
    let xml = fs::read_to_string(out.join("junit.xml"))?;
    for part in [
        "<testsuite name=\"bad/consumer\"",
        "<testsuite name=\"good/1-start\"",
        "<testsuite name=\"missing\" tests=\"1\" failures=\"0\" errors=\"0\" skipped=\"1\"",
    ] {
        expect_part(&xml, part)?;
    }
    if has_xmllint() {
        expect_junit(&out.join("junit.xml"))?;
    }
    let page = fs::read_to_string(out.join("bad/report.html"))?;
    expect_part(&page, "Scenario bad")?;
    PASSED
}

fn quiet_shows_what_is_not_as_expected() -> TestResult {
    let scratch = scratch();
    let all = directory(scratch.path(), &[("bad", &five_phases(PRIVATE)), ("good", GOOD)])?;
    let ran = run(scratch.path(), &all, &["--quiet"]);
    expect_code(&ran, 6)?;
    let text = stdout(&ran);
    expect_part(&text, "✗ bad: ")?;
    if text.contains("good") {
        return Err(text.into());
    }
    let ran = run(scratch.path(), &all.join("bad.yaml"), &["--quiet"]);
    if !stdout(&ran).starts_with("Verdict: fundamental_failure") || !stderr(&ran).is_empty() {
        return Err(format!("{}{}", stdout(&ran), stderr(&ran)).into());
    }
    PASSED
}
