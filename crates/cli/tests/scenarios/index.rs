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

/// Where the list of reports begins that have no file.
const ABSENT: &str = "\n## What is not here\n";

/// What stands before the files whose first cause is another one, and what after them.
const OTHERS: (&str, &str) = ("files with another first cause: ", ".\n");

/// Holds the list in the README against the files, and the causes that were found against those that the sources name,
/// file by file. A file that was skipped shows nothing, so it is compared with nothing.
pub(crate) fn the_library_is_listed_and_explained() -> TestResult {
    let mut others: BTreeSet<String> = BTreeSet::new();
    let mut ran: BTreeSet<String> = BTreeSet::new();
    for report in reports()? {
        let Some(cause) = &report.plan.cause else { continue };
        let name = report.plan.name.as_deref().unwrap_or_default();
        ran.insert(name.to_owned());
        let first = report.diagnosis.first().map(|first| &first.id);
        if !first.is_some_and(|first| cause.ids().contains(first)) {
            others.insert(name.to_owned());
            let first = first.map_or("no cause", CauseId::as_str);
            eprintln!("{name}: {} is named, {first} is first", words(cause.ids()));
        }
    }
    eprintln!("first causes as named: {} of {} that ran", ran.len() - others.len(), ran.len());

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
    let (before, after) =
        text.split_once(BEGIN).ok_or("no list of files in scenarios/README.md")?;
    let listed = after.split_once(OTHERS.0).and_then(|(_, rest)| rest.split_once(OTHERS.1));
    let listed = listed.map_or("none", |(listed, _)| listed);
    let listed: BTreeSet<String> =
        listed.split(", ").filter(|word| *word != "none").map(str::to_owned).collect();
    // What did not run here is as it is written.
    let unknown = |name: &&String| !ran.contains(*name);
    let known: BTreeSet<String> =
        others.iter().chain(listed.iter().filter(unknown)).cloned().collect();
    if blessing() {
        fs::write(&path, format!("{before}\n{}", list(&plans, &known)))?;
        return PASSED;
    }
    if known != listed {
        return Err(format!(
            "the files with another first cause are {known:?}, expected {listed:?}"
        )
        .into());
    }
    if text != format!("{before}\n{}", list(&plans, &listed)) {
        return Err(
            "the list in scenarios/README.md is not of these files; BLESS=1 writes it".into()
        );
    }
    let (_, absent) = before.split_once(ABSENT).ok_or("no list of what is not here")?;
    // A row about a part of a source says which file shows the rest.
    let is_told = |(file, plan): &&(String, Plan)| {
        let at = plan.source.as_deref().map(|at| format!("({at})")).unwrap_or_default();
        let number = file.split('-').next().unwrap_or_default();
        let mut rows = absent.lines().filter(|row| !at.is_empty() && row.contains(&at));
        rows.all(|row| row.contains(number))
    };
    let untold = plans.iter().filter(|one| !is_told(one));
    let untold: Vec<&str> = untold.map(|(file, _)| file.as_str()).collect();
    if !untold.is_empty() {
        return Err(format!("listed as not here, and here: {}", untold.join(", ")).into());
    }
    PASSED
}

/// The tests of the diagnosis on reports that are made by hand.
const BY_HAND: [&str; 3] = [
    "crates/propagation-core/src/diagnosis/tests.rs",
    "crates/propagation-core/src/diagnosis/tests/denied.rs",
    "crates/propagation-core/src/diagnosis/tests/ended.rs",
];

/// Causes that are first neither in the library nor among the incidents of `tests/causes`, and the tests of [`BY_HAND`]
/// in which they are. What only experiments find is in none.
const ELSEWHERE: [(CauseId, Option<&str>); 7] = [
    (CauseId::ControlPositive, Some("a_control_that_sees_the_mount_comes_first")),
    (
        CauseId::LsmDenies,
        Some("access_that_is_denied_in_spite_of_allow_other_is_somebody_elses_doing"),
    ),
    (CauseId::MountOutlivesDaemon, Some("checks_that_speak_for_themselves_are_explained")),
    (CauseId::ConsumerDied, Some("checks_that_speak_for_themselves_are_explained")),
    (CauseId::ConsumerDidNotNotice, Some("checks_that_speak_for_themselves_are_explained")),
    (CauseId::Unexplained, Some("checks_that_speak_for_themselves_are_explained")),
    (CauseId::FoundByExperiment, None),
];

/// Every cause is the first one of a report of the library or of an incident, or it is known to be in another test. A
/// file that was skipped shows nothing: nobody knows whether its cause would be first.
pub(crate) fn every_cause_is_first_somewhere() -> TestResult {
    let directory = super::root().join("crates/cli/tests/causes");
    let incidents = super::library::run(&directory).map_err(|error| error.to_string())?;
    let reports: Vec<&Report> = reports()?.iter().chain(&incidents).collect();
    let first: BTreeSet<&CauseId> =
        reports.iter().filter_map(|report| Some(&report.diagnosis.first()?.id)).collect();
    let ran: BTreeSet<&str> =
        reports.iter().filter_map(|report| report.plan.name.as_deref()).collect();
    let mut skipped = Vec::new();
    for file in super::files() {
        let plan = propagation_core::scenario::read(&file)?;
        if !ran.contains(plan.name.as_deref().unwrap_or_default()) {
            skipped.extend(plan.cause.iter().flat_map(NamedCause::ids).cloned());
        }
    }
    let is_known = |id: &CauseId| {
        ELSEWHERE.iter().any(|(known, _)| known == id) || first.contains(id) || skipped.contains(id)
    };
    let never = CauseId::ALL.iter().filter(|id| !is_known(id)).map(CauseId::as_str);
    let never: Vec<&str> = never.collect();
    let by_hand = BY_HAND.map(|path| fs::read_to_string(super::root().join(path)));
    let by_hand = by_hand.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    let is_absent = |test: &str| !by_hand.contains(&format!("fn {test}()"));
    let gone = ELSEWHERE.iter().filter(|(_, test)| test.is_some_and(is_absent));
    let gone: Vec<&str> = gone.map(|(id, _)| id.as_str()).collect();
    match (never.as_slice(), gone.as_slice()) {
        ([], []) => PASSED,
        _ => Err(format!(
            "never first: {}; without their test: {}",
            never.join(", "),
            gone.join(", ")
        )
        .into()),
    }
}

fn words(ids: &[CauseId]) -> String {
    ids.iter().map(CauseId::as_str).collect::<Vec<_>>().join(" or ")
}

/// The section of the README.
fn list(plans: &[(String, Plan)], others: &BTreeSet<String>) -> String {
    let sources: BTreeSet<&str> =
        plans.iter().filter_map(|(_, plan)| plan.source.as_deref()).collect();
    let named = plans.iter().filter(|(_, plan)| plan.cause.is_some()).count();
    let right = named - others.len();
    let others = match others.len() {
        0 => "none".to_owned(),
        _ => others.iter().cloned().collect::<Vec<_>>().join(", "),
    };
    let mut text = format!(
        "## All {} files\n\nFrom {} sources; {named} files say which cause theirs names. The first cause is that one in \
         {right} of them;\n{}{others}{}¹: a note in the file \
         says where the kernel or the setting differs from the report.\n\n\
         | file | what it shows | source | confidence | cause |\n|---|---|---|---|---|\n",
        plans.len(),
        sources.len(),
        OTHERS.0,
        OTHERS.1,
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
