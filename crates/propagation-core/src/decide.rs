//! The decision: the verdict that follows from the phases and causes of a report.

use propagation_model::cause::CauseId;
use propagation_model::facts::HostFacts;
use propagation_model::plan::{PhaseName, Repair};
use propagation_model::report::{CheckId, Deed, PhaseReport, Report, Status};
use propagation_model::verdict::{Answer, Expectations, ScenarioOutcome, Verdict, VerdictOutcome};

use crate::act::ended_by_probe;
use crate::diagnosis::mount_stays;
use crate::diagnosis::text::shell;

/// Whether a list of phases has all five that an [`Answer`] needs. Custom phases may run beside them.
pub(crate) fn asks_for_an_answer<'a>(ids: impl Iterator<Item = &'a str> + Clone) -> bool {
    PhaseName::ALL.iter().all(|five| ids.clone().any(|id| id == five.as_str()))
}

/// The verdict of a report whose phases and causes are complete.
pub(crate) fn decide(report: &Report, answers: bool) -> Verdict {
    match answers {
        true => Verdict::Answer(for_this_host(report, answer(report))),
        false => Verdict::Expectations(expectations(report)),
    }
}

fn expectations(report: &Report) -> Expectations {
    let mut counted = Expectations::of(&report.phases);
    let words = if let Some(reason) = &report.cut_short {
        format!("The run was cut short: {reason}.")
    } else if let Some(phase) = errored(&report.phases) {
        could_not(phase)
    } else {
        return counted;
    };
    counted.summary = format!("{words} {}", counted.summary);
    counted.outcome = ScenarioOutcome::Inconclusive;
    counted
}

/// An answer whose first step is the one that this host needs before the answer of the simulated node is its own too.
fn for_this_host(report: &Report, mut answer: Answer) -> Answer {
    let unlike = report.environment.as_ref().and_then(HostFacts::unlike_machine);
    let Some(real) = unlike.filter(|real| real.shared.is_none()) else { return answer };
    if answer.outcome == VerdictOutcome::Inconclusive {
        return answer;
    }
    let at = shell(&real.mount_point.to_string_lossy());
    let step =
        format!("First on this host: `mount --make-rshared {at}`, then start its containers anew.");
    answer.next_steps.insert(0, step);
    answer
}

/// What works, and where: a simulated node says nothing of a host that is unlike it.
fn works(report: &Report) -> String {
    let way = match report.plan.served_by() {
        Some(transport) => format!("Propagation of {transport}"),
        None => "FUSE propagation".into(),
    };
    match report.environment.as_ref().and_then(HostFacts::unlike_machine) {
        Some(_) => format!("{way} works on the simulated node"),
        None => format!("{way} works"),
    }
}

/// Decides in the order of the decision table: first what makes the run untrustworthy, then the key question, then
/// recovery.
fn answer(report: &Report) -> Answer {
    let phases = &report.phases;
    if let Some(reason) = &report.cut_short {
        let again = vec!["Run it again and let it finish.".into()];
        return inconclusive(format!("The run was cut short: {reason}."), again);
    }
    if let Some(phase) = errored(phases) {
        let again = vec!["Remove the cause named above and run it again.".into()];
        return inconclusive(could_not(phase), again);
    }
    let failed = |name: PhaseName| {
        let mut named = phases.iter().filter(|phase| phase.id == name.as_str());
        named.find(|phase| phase.status == Status::Failed)
    };
    if let Some(phase) = failed(PhaseName::HostSetup) {
        let why = why(report, phase);
        let summary = format!("The host is not set up to share FUSE mounts: {why}.");
        return inconclusive(summary, fixes_and_again(report));
    }
    if let Some(phase) = failed(PhaseName::Producer) {
        let why = why(report, phase);
        let limit = report.plan.served_by().map_or("FUSE".to_owned(), |served| served.to_string());
        let summary = format!(
            "The producer's mount did not reach the node: {why}. This is configuration, not a limit \
             of {limit}."
        );
        return inconclusive(summary, fixes_and_again(report));
    }
    if let Some(phase) = failed(PhaseName::Consumer) {
        let positive = |id: &CheckId| matches!(id, CheckId::Control(_));
        if phase.checks.iter().any(|c| positive(&c.id) && c.status == Status::Failed) {
            let summary =
                "A control that must not see the mount sees it, so seeing it proves nothing.";
            return inconclusive(summary.into(), fixes_and_again(report));
        }
        let why = why(report, phase);
        let summary =
            format!("The producer's mount reaches the node and not its consumers: {why}.");
        let outcome = VerdictOutcome::FundamentalFailure;
        return Answer::new(outcome, summary, fixes_and_again(report));
    }
    let trouble = [PhaseName::StaleMount, PhaseName::Recovery].into_iter().find_map(failed);
    if let Some(phase) = trouble {
        return partial(report, phase);
    }
    if let Some(missing) = PhaseName::ALL.into_iter().find(|name| !passed(phases, *name)) {
        let missing = missing.as_str();
        let summary = format!("The phase {missing} did not run, so nothing follows for recovery.");
        return inconclusive(summary, vec!["Run all five phases.".into()]);
    }
    if root_only(report) {
        return for_root_only(report);
    }
    full_success(report)
}

/// Whether the mount admits only the user who made it: it lacks `allow_other`, and no other user was seen to read.
fn root_only(report: &Report) -> bool {
    let plan = &report.plan;
    let allows = plan.producer().is_none_or(|producer| plan.fuse_of(producer).allow_other);
    let others = report.phases.iter().flat_map(|phase| &phase.checks).filter(|check| {
        matches!(check.id, CheckId::AllowOther | CheckId::ReadsAsOther(_))
            && check.status != Status::Skipped
    });
    !allows && others.into_iter().all(|check| check.status == Status::Passed)
}

fn for_root_only(report: &Report) -> Answer {
    let summary = format!(
        "{} for root only: the mount has no allow_other, so every other user gets EACCES. Existing consumers come back \
         by themselves.",
        works(report)
    );
    Answer::new(VerdictOutcome::PartialSuccess, summary, fixes(report))
}

fn errored(phases: &[PhaseReport]) -> Option<&PhaseReport> {
    phases.iter().find(|phase| phase.status == Status::Errored)
}

fn could_not(phase: &PhaseReport) -> String {
    let reason = phase.reason.as_deref().unwrap_or("the tool failed");
    format!("The phase {} could not be carried out: {}.", phase.id, reason.trim_end_matches('.'))
}

fn passed(phases: &[PhaseReport], name: PhaseName) -> bool {
    phases.iter().any(|phase| phase.id == name.as_str() && phase.status == Status::Passed)
}

/// The first cause; without a cause, the observation of the first failed check.
fn why(report: &Report, phase: &PhaseReport) -> String {
    let check = phase.checks.iter().find(|check| check.status == Status::Failed);
    let observed = || check.map_or("no check says why", |check| &check.observed);
    let cause = report.diagnosis.first().map(|cause| cause.title.as_str());
    cause.unwrap_or_else(observed).trim_end_matches('.').to_owned()
}

/// Words with the first letter in upper case.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Changes that experiments showed to heal, for good and for now; without experiments the fixes of the causes, each
/// once.
fn fixes(report: &Report) -> Vec<String> {
    if let Some(advice) = &report.advice {
        let first = [&advice.for_good, &advice.now].into_iter().filter_map(|list| list.first());
        let words = first.filter_map(|change| report.experiment(change));
        let words: Vec<String> = words.map(|one| format!("{}.", one.words)).collect();
        if !words.is_empty() {
            return words;
        }
    }
    let mut fixes: Vec<String> = Vec::new();
    for cause in &report.diagnosis {
        let words = sentence(&cause.fix.words);
        if !fixes.contains(&words) {
            fixes.push(words);
        }
    }
    fixes
}

fn fixes_and_again(report: &Report) -> Vec<String> {
    let mut steps = fixes(report);
    steps.push("Run it again.".into());
    steps
}

fn inconclusive(summary: String, next_steps: Vec<String>) -> Answer {
    Answer::new(VerdictOutcome::Inconclusive, summary, next_steps)
}

fn full_success(report: &Report) -> Answer {
    let after = report
        .measurements
        .remount_to_fresh_read_ms
        .map(|ms| format!(" {ms:.1} ms after the producer serves again"));
    let (works, after) = (works(report), after.unwrap_or_default());
    let until = until_the_probe(report).unwrap_or_default();
    let summary = match mount_stays(report) {
        true => format!(
            "{works}: consumers see the mount, notice that its server is away, and read what is fresh on the \
             same mount{after}, with no intervention.{until}"
        ),
        false => format!(
            "{works}: consumers see the mount, notice its death, and read the fresh one{after}, with no \
             intervention.{until}"
        ),
    };
    Answer::new(VerdictOutcome::FullSuccess, summary, Vec::new())
}

/// For how long accesses hung, where the producer's liveness probe ended the daemon.
fn until_the_probe(report: &Report) -> Option<String> {
    let ended = report.acts.iter().find(|act| ended_by_probe(act))?;
    let fault = report.acts.iter().find(|act| matches!(act.deed, Deed::Fault { .. }))?;
    let ms = ended.until_us.saturating_sub(fault.from_us) as f64 / 1e3;
    Some(format!(
        " Until the producer's liveness probe ended the daemon, {ms:.1} ms after the fault, accesses waited or failed."
    ))
}

fn partial(report: &Report, phase: &PhaseReport) -> Answer {
    let by_itself = "consumers come back by themselves when the producer serves again";
    let rescue = match report.measurements.smallest_intervention {
        Some(Repair::Wait) => by_itself.to_owned(),
        Some(repair) => format!("consumers come back only after {}", repair.words()),
        None => "no intervention that was tried brought consumers back".to_owned(),
    };
    let head = format!("{}, and {rescue}", works(report));
    let kept_out = report.diagnosis.iter().find(|cause| keeps_out(&cause.id));
    let summary = match (rescue == by_itself, kept_out) {
        // What is wrong came before they were back, and explains nothing of that.
        (true, _) => format!("{head}. Before that, {}: {}.", before(phase), why(report, phase)),
        (false, Some(cause)) => format!("{head}: {}.", cause.title.trim_end_matches('.')),
        (false, None) => format!("{head}. The first cause: {}.", why(report, phase)),
    };
    Answer::new(VerdictOutcome::PartialSuccess, summary, fixes(report))
}

/// What was wrong while the mount was stale.
fn before(phase: &PhaseReport) -> &'static str {
    let failed = |id: &CheckId| phase.check(id).is_some_and(|check| check.status == Status::Failed);
    if failed(&CheckId::NoHang) {
        "an access hangs"
    } else if failed(&CheckId::NewConsumerStarts) {
        "a new consumer does not start"
    } else if failed(&CheckId::ConsumersAlive) {
        "a consumer ends"
    } else {
        "not every consumer notices the stale mount"
    }
}

/// Whether a cause says why a consumer stays without the fresh mount. What ended or stopped the daemon does not, nor
/// what denies a user or a start.
fn keeps_out(id: &CauseId) -> bool {
    !matches!(
        id,
        CauseId::DaemonStopped
            | CauseId::DaemonKilledKeeperHolds
            | CauseId::DaemonSlow
            | CauseId::DaemonDead
            | CauseId::DaemonDiesWithParent
            | CauseId::DaemonOutOfMemory
            | CauseId::UnmountBusy
            | CauseId::AllowOtherMissing
            | CauseId::StaleSourceBlocksStart
            | CauseId::DescriptorHeld
            | CauseId::ConsumerDidNotNotice
    )
}

#[cfg(test)]
mod tests;
