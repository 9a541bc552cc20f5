//! The answers of the five phases: what the summary, the decision, the next steps and the line about this host say fits
//! together, on a node that is like this host and on one that is not.

use std::collections::BTreeSet;
use std::fs;

use libtest_mimic::Failed;
use propagation_core::Report;
use propagation_core::VerdictOutcome;
use propagation_core::plan::PhaseName;
use propagation_core::report::{CheckId, Status};
use propagation_report::Decision;
use propagation_report::text::{Detail, Style, render};

use super::support::{PASSED, TestResult, in_private_namespace, is_root, scratch, skip};

/// Plans of the five phases, by what is not in order in them.
const PLANS: [(&str, &str); 8] = [
    ("plain", "fault: kill"),
    ("stop", "fault: stop"),
    ("root", "fuse: {allow_other: false}"),
    ("private", "node: {covering: private}"),
    ("terminate", "fault: terminate"),
    (
        "mountpoint",
        "workloads: [{name: p, role: producer}, {name: c, role: consumer, volume: mountpoint}, {name: x, role: control}]",
    ),
    (
        "stop-mountpoint",
        "fault: stop\nworkloads: [{name: p, role: producer}, {name: c, role: consumer, volume: mountpoint}, \
         {name: x, role: control}]",
    ),
    (
        "none",
        "workloads: [{name: p, role: producer}, {name: c, role: consumer, propagation: None, order: before_mount}, \
         {name: x, role: control}]",
    ),
];

pub(crate) fn an_answer_does_not_contradict_itself() -> TestResult {
    if !is_root() {
        return skip("root", "only root can make a host whose mounts are shared or private");
    }
    let mut wrong = Vec::new();
    let mut outcomes = BTreeSet::new();
    for host in ["private", "shared"] {
        for (name, report) in answers(host)? {
            outcomes.insert(report.verdict.outcome().as_str());
            let found = contradictions(&report, host == "shared");
            wrong
                .extend(found.into_iter().map(|words| format!("{name} on a {host} host: {words}")));
        }
    }
    if outcomes.len() < 4 {
        wrong.push(format!("only {outcomes:?} were looked at"));
    }
    if wrong.is_empty() { PASSED } else { Err(wrong.join("\n").into()) }
}

/// The reports of the plans, run on a host whose `/` has this propagation.
fn answers(host: &str) -> Result<Vec<(&'static str, Report)>, Failed> {
    let files = scratch();
    let deadlines =
        "deadlines: {marker_ms: 300, recovery_ms: 200, probe_ms: 300, breakage_ms: 2000}";
    let mut script = format!("mount --make-r{host} /; ");
    for (name, text) in PLANS {
        fs::write(files.path().join(format!("{name}.yaml")), format!("{deadlines}\n{text}\n"))?;
    }
    let directory = files.path().display();
    script.push_str(&format!(
        "exec $PROPAGATION run --scenario {directory} --format json --experiments off"
    ));
    let ran = in_private_namespace(&script);
    let all: Vec<serde_json::Value> = serde_json::from_slice(&ran.stdout)?;
    let mut reports = Vec::new();
    for document in all.iter().filter_map(|document| document.get("report")) {
        let report = Report::from_json(document.to_string().as_bytes())?;
        let name = report.plan.name.clone().unwrap_or_default();
        let known = PLANS.iter().find(|(known, _)| *known == name).ok_or("an unknown plan")?;
        reports.push((known.0, report));
    }
    match reports.len() == PLANS.len() {
        true => Ok(reports),
        false => Err(format!("{} reports of {}", reports.len(), PLANS.len()).into()),
    }
}

/// What an answer, its decision and the line about this host say against each other or twice; nothing of a scenario.
pub(crate) fn contradictions(report: &Report, is_alike: bool) -> Vec<String> {
    let Some(decision) = Decision::of(report) else { return Vec::new() };
    let summary = report.verdict.summary();
    let text = render(report, Style::plain(Detail::Normal));
    let line = text.lines().find(|line| line.starts_with("On this host ")).unwrap_or_default();
    let said =
        format!("{summary}\n{}\n{}\n{line}", decision.decision, decision.next_steps.join("\n"));
    let works = report.verdict.is(VerdictOutcome::FullSuccess)
        || report.verdict.is(VerdictOutcome::PartialSuccess);
    let failed_phase = |name: PhaseName| {
        report.phase(name.as_str()).is_some_and(|phase| phase.status == Status::Failed)
    };
    let failed = |id: CheckId| {
        let mut checks = report.phases.iter().flat_map(|phase| &phase.checks);
        checks.any(|check| check.id == id && check.status == Status::Failed)
    };
    let mut wrong = Vec::new();
    let mut expect = |ok: bool, words: &str| {
        if !ok {
            wrong.push(format!("{words}:\n{said}"));
        }
    };
    let speaks =
        [summary, decision.decision.as_str()].map(|text| text.contains("the simulated node"));
    if works {
        expect(speaks == [!is_alike; 2], "whose answer it is");
        expect(decision.decision.contains("works here") == is_alike, "what works here");
        let host_first =
            decision.next_steps.first().is_some_and(|step| step.contains("First on this host"));
        expect(host_first != is_alike, "what this host needs first");
    }
    let way_back = works && failed_phase(PhaseName::Recovery);
    expect(
        decision.decision.contains("need an intervention") == way_back,
        "who needs an intervention",
    );
    expect(decision.liveness_probe.is_some() == way_back, "the probe of consumers");
    if works {
        let stays = ["come back only after", "no intervention that was tried"];
        expect(stays.iter().any(|part| summary.contains(part)) == way_back, "who comes back");
        let root_only = !way_back
            && !failed_phase(PhaseName::StaleMount)
            && !report.verdict.is(VerdictOutcome::FullSuccess);
        expect(decision.decision.contains("root only") == root_only, "who can read");
        let hangs = !way_back && failed(CheckId::NoHang);
        expect(decision.decision.contains("hang") == hangs, "whether accesses hang");
    }
    for text in [summary, decision.decision.as_str()] {
        let back = text.split_once("by themselves").map(|(_, rest)| rest);
        expect(!back.is_some_and(|rest| rest.starts_with(": ")), "a cause of what is in order");
    }
    let mut told = BTreeSet::new();
    for sentence in said.split(['\n', '.']).map(|part| part.trim().to_lowercase()) {
        expect(sentence.is_empty() || told.insert(sentence), "a sentence twice");
    }
    wrong
}
