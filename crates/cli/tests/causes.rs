//! Incidents on the real kernel: the right cause comes first, told of the right time and of the right actors,
//! and what it prints as a fix heals when it is done.

mod support;

#[path = "causes/cases.rs"]
mod cases;
#[path = "causes/manifest.rs"]
mod manifest;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use cases::{Case, Fixed, NOT_DONE, cases};
use libtest_mimic::{Failed, Trial};
use propagation_core::Report;
use propagation_core::diagnosis::{Cause, CauseId, Confidence, Fix, FixKind};
use propagation_core::observation::{Access, Actor, Via};
use support::{PASSED, TestResult, expect_code, output, scratch, skip, tests};

fn main() {
    let mut tests = Vec::new();
    for case in cases() {
        let name = case.file.replace('-', "_");
        let fixed = case.fixed.is_some();
        let again = case.clone();
        tests.push(Trial::ignorable_test(format!("the_first_cause_of_{name}"), move || {
            right_cause(&again)
        }));
        if fixed {
            tests.push(Trial::ignorable_test(format!("the_fix_heals_{name}"), move || {
                fix_heals(&case)
            }));
        }
    }
    tests.extend(tests![every_cause_has_its_fix_done_or_a_reason]);
    support::main(tests);
}

/// A cause has a test that does its fix, or stands in the list of those that have none, and not in both.
fn every_cause_has_its_fix_done_or_a_reason() -> TestResult {
    let cases = cases();
    for cause in CauseId::ALL {
        let done = cases.iter().any(|case| case.fixed.is_some() && case.cause == *cause);
        let reason = NOT_DONE.iter().find(|(id, _)| id == cause);
        if done == reason.is_some() {
            return Err(format!("{cause}: its fix is done: {done}; {reason:?}").into());
        }
    }
    PASSED
}

fn text_of(case: &Case) -> Result<String, std::io::Error> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/causes");
    fs::read_to_string(directory.join(format!("{}.yaml", case.file)))
}

/// Runs a scenario that comes out as it says.
fn run(text: &str, more: &[&str]) -> Result<Report, Failed> {
    run_to(0, text, more)
}

/// Runs a scenario that ends with a status.
fn run_to(status: i32, text: &str, more: &[&str]) -> Result<Report, Failed> {
    let scratch = scratch();
    let file = scratch.path().join("incident.yaml");
    fs::write(&file, text)?;
    let file = file.to_string_lossy();
    let ran = output(
        scratch.path(),
        &[&["run", "--scenario", &file, "--format", "json"][..], more].concat(),
    );
    if ran.status.code() != Some(status) {
        let said = String::from_utf8_lossy(&ran.stdout);
        let unmet: Vec<String> = Report::from_json(&ran.stdout)
            .map(|report| {
                let checks = report.phases.iter().flat_map(|phase| &phase.checks);
                let failed =
                    checks.filter(|c| c.status == propagation_core::report::Status::Failed);
                failed.map(|c| format!("{}: {} and not {}", c.id, c.observed, c.expected)).collect()
            })
            .unwrap_or_else(|_| vec![said.into_owned()]);
        let error = String::from_utf8_lossy(&ran.stderr);
        return Err(format!("{:?}: {unmet:#?}\n{error}\n{text}", ran.status).into());
    }
    Ok(Report::from_json(&ran.stdout)?)
}

fn right_cause(case: &Case) -> TestResult {
    if let Some(reason) = case.cannot_run() {
        return skip("scenario", &reason);
    }
    let report = run_to(case.status, &text_of(case)?, &["--experiments", "off"])?;
    let first = first(&report)?;
    let all = || format!("{:#?}", report.diagnosis);
    let expect = |ok: bool, what: String| match ok {
        true => Ok(()),
        false => Err(Failed::from(format!("{what}\n{}", all()))),
    };
    expect(first.id == case.cause, format!("{} is first and not {}", first.id, case.cause))?;
    expect(first.is_over() == case.over, format!("is over: {}", first.is_over()))?;
    let standing = first.standing();
    expect(standing.contains(case.when), format!("{standing:?} without {:?}", case.when))?;
    let actors: Vec<String> = first.actors.iter().map(ToString::to_string).collect();
    expect(case.actors.is_empty() || actors == case.actors, format!("it concerns {actors:?}"))?;
    let fix = format!("{}\n{}", first.fix.words, first.fix.text);
    let evidence = first.evidence.join("\n");
    let verify = &first.verify;
    for (whole, parts) in [(&fix, case.fix), (&evidence, case.evidence), (verify, case.verify)] {
        for part in parts {
            expect(whole.contains(part), format!("{part:?} is not in {whole}"))?;
        }
    }
    for part in case.not_in_fix {
        expect(!fix.contains(part), format!("{part:?} is in {fix}"))?;
    }
    if let Some((id, part, not)) = &case.after {
        let after = report.diagnosis.iter().skip(1).find(|cause| cause.id == *id);
        let after = after.ok_or_else(|| format!("{id} does not stand after it\n{}", all()))?;
        let fix = format!("{}\n{}", after.fix.words, after.fix.text);
        expect(fix.contains(*part), format!("{part:?} is not in {fix}"))?;
        expect(!fix.contains(*not), format!("{not:?} is in {fix}"))?;
    }
    for part in case.not_in_evidence {
        expect(!evidence.contains(part), format!("{part:?} is in {evidence}"))?;
    }
    for (id, when) in case.also {
        let is_it = |cause: &Cause| cause.id == *id && cause.standing().contains(when);
        expect(report.diagnosis.iter().any(is_it), format!("no {id} {when}"))?;
    }
    let never = report.diagnosis.iter().find(|cause| case.never.contains(&cause.id));
    expect(never.is_none(), format!("{never:?}"))?;
    for cause in report.diagnosis.iter().filter(|one| one.fix.kind == FixKind::Command) {
        let warned = cause.fix.text.starts_with("# only when it has come again: it is over");
        expect(warned == cause.is_over(), format!("{} warns: {warned}", cause.id))?;
    }
    let proven = report.diagnosis.iter().find(|one| one.confidence == Confidence::Proven);
    expect(report.experiments.is_empty() == proven.is_none(), format!("proven: {proven:?}"))?;
    // A saved report is explained the same way again.
    if propagation_core::diagnosis::explain(&report) != report.diagnosis {
        return Err("the saved report is explained in another way".into());
    }
    PASSED
}

fn first(report: &Report) -> Result<&Cause, Failed> {
    report.diagnosis.first().ok_or_else(|| "there is no cause".into())
}

/// Does what the first cause says.
fn fix_heals(case: &Case) -> TestResult {
    if let Some(reason) = case.cannot_run() {
        return skip("scenario", &reason);
    }
    let text = text_of(case)?;
    let broken = || run_to(case.status, &text, &["--experiments", "off"]);
    match &case.fixed {
        Some(Fixed::Steps(steps)) => {
            let report = broken()?;
            let first = first(&report)?;
            // The command as it is printed, then what its words say.
            let done = done_as_printed(&first.fix)?;
            let fixed = run(&format!("{}\n{done}{steps}", text.trim_end()), &[])?;
            nobody_is_worse(&report, &fixed)?;
        }
        Some(Fixed::First(steps)) => {
            let done = done_as_printed(&first(&broken()?)?.fix)?;
            let (head, _) = text.split_once("steps:").unwrap_or((&text, ""));
            run(&format!("{head}steps:\n{done}{steps}"), &[])?;
        }
        Some(Fixed::Yaml(steps)) => {
            let report = broken()?;
            let first = first(&report)?;
            if first.fix.kind != FixKind::Yaml {
                return Err(format!("no fragment is printed: {:?}", first.fix).into());
            }
            let named = first.actors.iter().filter_map(|actor| match actor {
                Actor::Workload { name, .. } => Some(name.clone()),
                _ => None,
            });
            let on: Vec<String> = match case.on {
                [] => named.collect(),
                on => on.iter().map(|name| (*name).to_owned()).collect(),
            };
            let steps = format!("steps:\n{steps}");
            run(&manifest::applied(&first.fix.text, &text, &on, &steps)?, &[])?;
        }
        Some(Fixed::Kept { .. }) if !support::is_root() => {
            return skip("root", "the kept node is entered by root only");
        }
        Some(Fixed::Kept { looks }) => on_the_kept_node(&text, looks)?,
        None => {}
    }
    PASSED
}

/// Whoever could read in the end before a fix can read in the end after it.
fn nobody_is_worse(before: &Report, after: &Report) -> Result<(), Failed> {
    let ends = |report: &Report| -> BTreeMap<Actor, bool> {
        let reads = report.timeline.iter().filter(|seen| {
            seen.via == Via::Probe
                && seen.access == Access::Read
                && seen.uid == report.plan.uid_of(&seen.actor)
        });
        reads.map(|seen| (seen.actor.clone(), seen.outcome.is_ok())).collect()
    };
    let (could, can) = (ends(before), ends(after));
    let worse = could.iter().find(|(actor, ok)| **ok && can.get(*actor) == Some(&false));
    worse.map_or(Ok(()), |(actor, _)| Err(format!("{actor} is worse after it").into()))
}

/// The steps that do what is printed, line by line: a simulated node has a shell, and its kubelet is the step that
/// does the same.
fn done_as_printed(fix: &Fix) -> Result<String, Failed> {
    if fix.kind != FixKind::Command {
        return Ok(String::new());
    }
    let run = |command: &str, place: Option<&str>| -> Result<String, Failed> {
        let place = place.map(|name| format!("    in: {name}\n")).unwrap_or_default();
        Ok(format!("  - run: [sh, -c, {}]\n{place}", serde_json::to_string(command)?))
    };
    let mut steps = String::new();
    for line in fix.text.lines() {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["#", ..] => {}
            ["kubectl", "exec", name, "--", "kill", "1"] => {
                steps.push_str(&format!("  - restart: {name}\n"));
            }
            ["kubectl", "delete", "pod", name] => {
                steps.push_str(&format!("  - recreate: {name}\n"));
            }
            ["kubectl", "exec", name, "--", "sh", "-c", ..] => {
                let (_, command) = line.split_once(" -- ").ok_or("no command")?;
                steps.push_str(&run(command, Some(name))?);
            }
            _ if line.contains("# on the node") => steps.push_str(&run(line, None)?),
            _ => steps.push_str(&run(line, fix.inside.as_deref())?),
        }
    }
    Ok(steps)
}

/// Does the fix on the very node of the run, where its process ids mean something.
fn on_the_kept_node(text: &str, looks: &str) -> Result<(), Failed> {
    let report = run(text, &["--keep"])?;
    let clean = || {
        let scratch = scratch();
        let _ = output(scratch.path(), &["clean", "--run-id", &report.run_id]);
    };
    let healed = heals_on(&report, looks);
    clean();
    healed
}

fn heals_on(report: &Report, looks: &str) -> Result<(), Failed> {
    let kept = report.cleanup.kept.join("\n");
    let parent = kept.split("--parent ").nth(1).and_then(|rest| rest.split(')').next());
    let parent = parent.ok_or_else(|| format!("no node is kept: {kept}"))?;
    let init = Command::new("pgrep").args(["--parent", parent]).output()?;
    let init = String::from_utf8_lossy(&init.stdout).trim().to_owned();
    let on_node = |line: &str| {
        Command::new("timeout")
            .args(["10", "nsenter", "--all", "--target", &init, "sh", "-c", line])
            .output()
    };
    let before = on_node(looks)?;
    if before.status.success() {
        return Err("it is not broken on the node that was kept".into());
    }
    expect_code(&on_node(&first(report)?.fix.text)?, 0)?;
    expect_code(&on_node(looks)?, 0)
}
