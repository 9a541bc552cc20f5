//! What holds of every report of the scenario library.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::OnceLock;

use libtest_mimic::Failed;
use propagation_core::Report;
use propagation_core::diagnosis::CauseId;
use propagation_core::observation::Actor;
use propagation_core::report::Deed;
use propagation_report::Decision;
use propagation_report::timeline::{MarkKind, State, Timeline};
use serde_json::Value;

use super::support::{PASSED, TestResult, output, scratch};

/// Causes of which the second denies what the first says, about the same actor.
const CONTRADICTIONS: [(CauseId, CauseId); 8] = [
    (CauseId::DaemonDead, CauseId::DaemonStopped),
    (CauseId::DaemonDead, CauseId::DaemonAnswersErrors),
    (CauseId::DaemonStopped, CauseId::DaemonAnswersErrors),
    (CauseId::ConsumerModeNone, CauseId::VolumeIsMountpoint),
    (CauseId::ConsumerModeNone, CauseId::ConsumerFrozenCopy),
    (CauseId::CoveringPrivate, CauseId::CoveringSlave),
    (CauseId::NotYetServed, CauseId::MountedButWrongContent),
    (CauseId::StackedLayers, CauseId::CleanUnmountWhereStackNeeded),
];

/// The reports of the whole library, which is run once for all tests.
pub(crate) fn reports() -> Result<&'static [Report], Failed> {
    static REPORTS: OnceLock<Result<Vec<Report>, String>> = OnceLock::new();
    match REPORTS
        .get_or_init(|| run(&super::root().join("scenarios")).map_err(|error| error.to_string()))
    {
        Ok(reports) => Ok(reports),
        Err(reason) => Err(reason.into()),
    }
}

/// The reports of a directory of scenarios. What is skipped has none.
pub(crate) fn run(directory: &Path) -> Result<Vec<Report>, Box<dyn std::error::Error>> {
    let scratch = scratch();
    let library = directory.to_string_lossy();
    let ran = output(scratch.path(), &["run", "--scenario", &library, "--format", "json"]);
    let all: Vec<Value> = serde_json::from_slice(&ran.stdout)?;
    let reports = all.iter().filter_map(|document| document.get("report"));
    let reports: Vec<Report> = reports
        .map(|document| Report::from_json(document.to_string().as_bytes()))
        .collect::<Result<_, _>>()?;
    if reports.is_empty() { Err("the library gave no report".into()) } else { Ok(reports) }
}

/// Looks at every report.
pub(crate) fn every_report_of_the_library_is_sound() -> TestResult {
    let mut wrong = Vec::new();
    for report in reports()? {
        let name = report.plan.name.clone().unwrap_or_default();
        for check in [nothing_before_its_cause, nothing_after_the_end, marks_are_in_order] {
            wrong.extend(check(report).into_iter().map(|words| format!("{name}: {words}")));
        }
        for check in [nothing_twice, no_contradictions, the_answer_is_of_one_piece] {
            wrong.extend(check(report).into_iter().map(|words| format!("{name}: {words}")));
        }
    }
    if wrong.is_empty() { PASSED } else { Err(wrong.join("\n").into()) }
}

/// Nobody's mount is dead before something was done that can kill one.
fn nothing_before_its_cause(report: &Report) -> Vec<String> {
    let kills = report.acts.iter().filter(|act| !matches!(act.deed, Deed::Start));
    let first = kills.map(|act| act.from_us).min().unwrap_or(u64::MAX);
    let stale =
        report.timeline.iter().filter(|seen| State::of(&seen.outcome) == Some(State::Stale));
    let early = stale.filter(|seen| seen.at_us < first);
    early.map(|seen| format!("{seen} before anything was done ({first} us)")).collect()
}

fn nothing_after_the_end(report: &Report) -> Vec<String> {
    let end_us = (report.duration_ms * 1e3).ceil() as u64;
    let acts = report.acts.iter().map(|act| (act.deed.to_string(), act.until_us));
    let looks = report.timeline.iter().map(|seen| (seen.to_string(), seen.at_us));
    let captures = report.captures.iter().map(|one| (format!("capture {}", one.step), one.at_us));
    let late = acts.chain(looks).chain(captures).filter(|(_, at_us)| *at_us > end_us);
    late.map(|(what, at_us)| format!("{what} at {at_us} us, the end is at {end_us} us")).collect()
}

fn marks_are_in_order(report: &Report) -> Vec<String> {
    let timeline = Timeline::of(report);
    let mut wrong = Vec::new();
    for pair in timeline.marks.windows(2) {
        if pair[0].at_us > pair[1].at_us {
            wrong.push(format!("the mark {:?} lies after {:?}", pair[0].words, pair[1].words));
        }
    }
    // They recovered by themselves: nothing was done afterwards.
    let recovery = timeline.marks.iter().position(|mark| mark.kind == MarkKind::Recovery);
    if recovery.is_some_and(|place| place + 1 < timeline.marks.len()) {
        wrong.push("something is done after the recovery".to_owned());
    }
    let late = timeline.marks.iter().filter(|mark| mark.at_us > timeline.end_us);
    wrong.extend(late.map(|mark| format!("the mark {:?} lies after the end", mark.words)));
    for pair in report.acts.windows(2) {
        if pair[0].from_us > pair[1].from_us {
            wrong.push(format!("{} is before {} in the list only", pair[0].deed, pair[1].deed));
        }
    }
    wrong
}

/// Of a file with the five phases only: its answer, decision and line about this host fit together.
fn the_answer_is_of_one_piece(report: &Report) -> Vec<String> {
    let facts = report.environment.as_ref();
    let is_alike = facts.is_none_or(|facts| facts.unlike_machine().is_none());
    super::answers::contradictions(report, is_alike)
}

/// A reader is told a thing once.
fn nothing_twice(report: &Report) -> Vec<String> {
    let steps = Decision::of(report).map(|decision| decision.next_steps).unwrap_or_default();
    let summary = report.verdict.summary().split(". ").map(|part| part.trim_end_matches('.'));
    let lists: [(&str, Vec<String>); 3] = [
        ("summary", summary.map(str::to_owned).collect()),
        ("causes", report.diagnosis.iter().map(|cause| cause.title.clone()).collect()),
        ("next steps", steps),
    ];
    let mut wrong = Vec::new();
    for (list, texts) in lists {
        let mut told = BTreeSet::new();
        let again = texts.iter().filter(|text| !told.insert(text.to_lowercase()));
        wrong.extend(again.map(|text| format!("the {list} say twice: {text}")));
    }
    wrong
}

fn no_contradictions(report: &Report) -> Vec<String> {
    let about = |id: &CauseId| -> BTreeSet<Actor> {
        let causes = report.diagnosis.iter().filter(|cause| cause.id == *id);
        causes.flat_map(|cause| cause.actors.iter().cloned()).collect()
    };
    // After several faults each cause may be of another.
    let faults = report.acts.iter().filter(|act| matches!(act.deed, Deed::Fault { .. })).count();
    let pairs = CONTRADICTIONS.iter().filter(|_| faults < 2).filter_map(|(one, other)| {
        let both: Vec<String> =
            about(one).intersection(&about(other)).map(ToString::to_string).collect();
        (!both.is_empty()).then(|| format!("{one} and {other} of {}", both.join(", ")))
    });
    let nothing = report.diagnosis.iter().any(|cause| cause.id == CauseId::NothingWrong);
    let more = nothing && report.diagnosis.len() > 1;
    pairs.chain(more.then(|| "nothing is wrong, and something is".to_owned())).collect()
}
