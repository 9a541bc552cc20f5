//! The list of all scenario files in the README of the library, with how many causes are found as named.
#![allow(clippy::print_stdout)] // the figures are what the test is for
#![allow(clippy::print_stderr)] // a test says what it found

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use propagation_core::Report;
use propagation_core::diagnosis::CauseId;
use propagation_core::plan::{Confidence, NamedCause, Plan};

use super::library::reports;
use super::support::{PASSED, TestResult, blessing};

/// Where the list begins; it goes to the end of the file.
const BEGIN: &str = "\n## All ";

/// The words around the figure.
const FIGURE: (&str, &str) = ("The first cause is the one that the source names in ", " of them.");

/// Holds the list in the README against the files, and the causes that were found against those that the
/// sources name. The figure in the README is what must be reached.
pub(crate) fn the_library_is_listed_and_explained() -> TestResult {
    let reports = reports()?;
    let named: Vec<(&Report, &NamedCause)> =
        reports.iter().filter_map(|report| Some((report, report.plan.cause.as_ref()?))).collect();
    let found = |(report, cause): &&(&Report, &NamedCause)| {
        report.diagnosis.first().is_some_and(|first| cause.ids().contains(&first.id))
    };
    let right = named.iter().filter(found).count();
    for (report, cause) in named.iter().filter(|one| !found(one)) {
        let first = report.diagnosis.first().map_or("no cause", |first| first.id.as_str());
        let name = report.plan.name.as_deref().unwrap_or_default();
        eprintln!("{name}: {} is named, {first} is first", words(cause.ids()));
    }
    eprintln!("first causes as named: {right} of {}", named.len());

    let files = super::files();
    let plans: Vec<(String, Plan)> = files
        .iter()
        .map(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, propagation_core::scenario::read(file)?))
        })
        .collect::<Result<_, propagation_core::Error>>()?;
    let path = super::root().join("scenarios/README.md");
    let text = fs::read_to_string(&path)?;
    let (before, _) = text.split_once(BEGIN).ok_or("no list of files in scenarios/README.md")?;
    if blessing() {
        fs::write(&path, format!("{before}\n{}", list(&plans, right)))?;
        return PASSED;
    }
    let figure = text.split_once(FIGURE.0).and_then(|(_, rest)| rest.split_once(FIGURE.1));
    let floor: usize = figure.ok_or("no figure in scenarios/README.md")?.0.parse()?;
    if text != format!("{before}\n{}", list(&plans, floor)) {
        return Err(
            "the list in scenarios/README.md is not of these files; BLESS=1 writes it".into()
        );
    }
    // What is skipped here is nobody's mistake.
    let skipped = plans.iter().filter(|(_, plan)| plan.cause.is_some()).count() - named.len();
    if right + skipped < floor {
        return Err(format!("{right} first causes are as named, {floor} were").into());
    }
    PASSED
}

/// Tests of causes outside of the library.
const OTHER_TESTS: [&str; 4] = [
    "crates/backend-local/tests/diagnosis/cases.rs",
    "crates/backend-local/tests/diagnosis/scenarios.rs",
    "crates/cli/tests/causes/cases.rs",
    "crates/propagation-core/src/diagnosis/tests.rs",
];

/// Every cause is the first one of a scenario, or of a test of the diagnosis.
pub(crate) fn every_cause_is_first_somewhere() -> TestResult {
    let reports = reports()?;
    let first: BTreeSet<&CauseId> =
        reports.iter().filter_map(|report| Some(&report.diagnosis.first()?.id)).collect();
    let texts: Vec<String> = OTHER_TESTS
        .iter()
        .map(|path| fs::read_to_string(super::root().join(path)))
        .collect::<Result<_, _>>()?;
    // Where the first one is written: at the beginning of a list, or as the one that is expected.
    let tested = |id: &CauseId| {
        let begins =
            [format!("[CauseId::{id:?}"), format!("CauseId::{id:?})"), format!(", {id:?})")];
        texts.iter().any(|text| begins.iter().any(|part| text.contains(part)))
    };
    // One that only experiments find has its test there.
    let never: Vec<&str> = CauseId::ALL
        .iter()
        .filter(|id| **id != CauseId::FoundByExperiment && !first.contains(id) && !tested(id))
        .map(CauseId::as_str)
        .collect();
    if never.is_empty() { PASSED } else { Err(format!("never first: {}", never.join(", ")).into()) }
}

fn words(ids: &[CauseId]) -> String {
    ids.iter().map(CauseId::as_str).collect::<Vec<_>>().join(" or ")
}

/// The section of the README.
fn list(plans: &[(String, Plan)], right: usize) -> String {
    let sources: BTreeSet<&str> =
        plans.iter().filter_map(|(_, plan)| plan.source.as_deref()).collect();
    let named = plans.iter().filter(|(_, plan)| plan.cause.is_some()).count();
    let mut text = format!(
        "## All {} files\n\nFrom {} sources; {named} files say which cause theirs names. {}{right}{}\n¹: a note in the file \
         says where the kernel or the setting differs from the report.\n\n\
         | file | what it shows | source | confidence | cause |\n|---|---|---|---|---|\n",
        plans.len(),
        sources.len(),
        FIGURE.0,
        FIGURE.1,
    );
    for (file, plan) in plans {
        let number = file.split('-').next().unwrap_or_default();
        let note = if plan.note.is_some() { " ¹" } else { "" };
        let source = plan.source.as_deref().map_or_else(
            || "fault, repair or daemon by itself".into(),
            |address| format!("[{}]({address})", short(address)),
        );
        let confidence = match plan.confidence {
            Some(Confidence::Reported) => "reported",
            Some(Confidence::Inferred) => "inferred",
            None => "",
        };
        let causes = plan.cause.as_ref().map_or(&[][..], NamedCause::ids);
        let causes: Vec<String> = causes.iter().map(|id| format!("`{id}`")).collect();
        let title = plan.title.as_deref().unwrap_or_default();
        let _ = writeln!(
            text,
            "| [{number}]({file}) | {title}{note} | {source} | {confidence} | {} |",
            causes.join(" or ")
        );
    }
    text
}

/// An address as it is usually called: `owner/repository#7`, or its host.
fn short(address: &str) -> String {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    match rest.split('/').collect::<Vec<_>>()[..] {
        ["github.com", owner, repository, "issues" | "pull", number, ..] => {
            format!("{owner}/{repository}#{number}")
        }
        ["github.com", owner, repository, ..] => format!("{owner}/{repository}"),
        [host, ..] => host.into(),
        [] => rest.into(),
    }
}
