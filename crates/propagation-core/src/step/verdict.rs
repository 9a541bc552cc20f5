//! The verdict of a scenario that is not the five phases: what became of its consumers, and whether it was
//! as expected. Pure.

use crate::observation::{Access, Actor, Observation};
use crate::plan::{Action, Plan, Repair, Role, Step};
use crate::report::{Expectations, PhaseReport, Status};
use crate::verdict::{Verdict, VerdictOutcome};

/// Decides from what consumers saw last, and says how many expectations are met.
pub fn verdict(
    plan: &Plan,
    phases: &[PhaseReport],
    timeline: &[Observation],
    cut_short: Option<&str>,
) -> Verdict {
    let errored = phases.iter().find(|phase| phase.status == Status::Errored);
    let expectations = Expectations::of(phases);
    let (outcome, words) = if let Some(reason) = cut_short {
        (VerdictOutcome::Inconclusive, format!("the run was cut short: {reason}"))
    } else if let Some(phase) = errored {
        let reason = phase.reason.as_deref().unwrap_or("the tool failed");
        let words = format!("the step {} could not be carried out: {reason}", phase.id);
        (VerdictOutcome::Inconclusive, words)
    } else {
        consumers(plan, timeline)
    };
    let met = match expectations.all() {
        0 => "Nothing was expected".to_owned(),
        all => format!("{} of {all} expectations are met", expectations.met),
    };
    Verdict {
        outcome,
        scenario_letter: outcome.letter(),
        summary: format!("{met}; {words}."),
        decision: match expectations.unmet {
            0 => "The scenario shows what it says.".into(),
            _ => "The scenario does not show what it says.".into(),
        },
        next_steps: match expectations.unmet {
            0 => Vec::new(),
            _ => vec![
                "Look at the checks that failed: either the scenario is wrong, or what it expects \
                       is."
                .into(),
            ],
        },
        migration_timeline: "A scenario decides nothing about a migration.".into(),
        liveness_probe: None,
    }
}

/// What became of the consumers.
fn consumers(plan: &Plan, timeline: &[Observation]) -> (VerdictOutcome, String) {
    let of = |actor: &Actor| {
        let uid = plan.uid_of(actor);
        let reads = |o: &&Observation| o.access == Access::Read && o.uid == uid;
        timeline.iter().filter(|o| o.actor == *actor).filter(reads).collect()
    };
    let (mut lost, mut blind) = (Vec::new(), Vec::new());
    let mut readers = 0;
    for spec in plan.with_role(Role::Consumer) {
        let seen: Vec<&Observation> = of(&Actor::workload(spec.name.clone()));
        if !seen.iter().any(|o| o.outcome.is_ok()) {
            blind.push(spec.name.as_str());
            continue;
        }
        readers += 1;
        if seen.last().is_some_and(|o| !o.outcome.is_ok()) {
            lost.push(spec.name.as_str());
        }
    }
    let node: Vec<&Observation> = of(&Actor::Node);
    if plan.with_role(Role::Consumer).next().is_none() {
        let words = "there is no consumer, so nothing follows for any".into();
        return (VerdictOutcome::Inconclusive, words);
    }
    if readers == 0 {
        return match node.iter().any(|o| o.outcome.is_ok()) {
            true => {
                let words = "the node could read the marker and no consumer ever did".into();
                (VerdictOutcome::FundamentalFailure, words)
            }
            false => (VerdictOutcome::Inconclusive, "nobody ever read the marker".into()),
        };
    }
    let mut words = Vec::new();
    if !lost.is_empty() {
        words.push(format!("at the end {} cannot read what they could", lost.join(", ")));
    }
    if !blind.is_empty() {
        words.push(format!("{} never could read the marker", blind.join(", ")));
    }
    if !words.is_empty() {
        return (VerdictOutcome::PartialSuccess, words.join("; "));
    }
    match helped(plan, &plan.steps) {
        true => {
            let words = "every consumer reads at the end, after an intervention".to_owned();
            (VerdictOutcome::PartialSuccess, words)
        }
        false => {
            let words = "every consumer reads at the end, with no intervention".to_owned();
            (VerdictOutcome::FullSuccess, words)
        }
    }
}

/// Whether a step helps consumers, beyond starting the producer again.
fn helped(plan: &Plan, steps: &[Step]) -> bool {
    let producer = |name: &String| plan.workload(name).is_some_and(|w| w.role == Role::Producer);
    steps.iter().any(|step| match &step.action {
        Action::Restart(names) | Action::Recreate(names) => !names.as_slice().iter().all(producer),
        Action::Repair(repair) => !matches!(
            repair,
            Repair::None
                | Repair::UnmountMount
                | Repair::LazyUnmountMount
                | Repair::MountOnTop
                | Repair::Remount
                | Repair::HandOver
        ),
        Action::Repeat { steps, .. } => helped(plan, steps),
        _ => false,
    })
}

#[cfg(all(test, feature = "fake"))]
mod tests {
    use super::*;
    use crate::fake::FakeBackend;
    use crate::{Runner, scenario};

    const ONE: &str = "{name: p, role: producer}, {name: c, role: consumer}";

    async fn verdict_of(workloads: &str, steps: &str) -> Verdict {
        let text = format!("workloads: [{workloads}]\nsteps:\n{steps}");
        let plan = scenario::parse("s.yaml", &text).expect("a scenario");
        let runner = Runner::new(plan).expect("a plan that can be run");
        runner.run(&FakeBackend::default()).await.expect("a report").verdict
    }

    #[tokio::test]
    async fn a_restart_of_the_producer_is_no_intervention_and_one_of_a_consumer_is() {
        let steps = |who: &str| format!("- start: all\n- fault: kill\n- restart: {who}\n");
        let alone = verdict_of(ONE, &steps("p")).await;
        assert_eq!(alone.outcome, VerdictOutcome::FullSuccess, "{}", alone.summary);
        for who in ["[p, c]", "all"] {
            let both = verdict_of(ONE, &steps(who)).await;
            assert_eq!(both.outcome, VerdictOutcome::PartialSuccess, "{}", both.summary);
        }
    }

    #[tokio::test]
    async fn a_consumer_that_never_could_read_is_no_success() {
        let two = format!(
            "{ONE}, {{name: deaf, role: consumer, propagation: None, order: before_mount}}"
        );
        let verdict = verdict_of(&two, "- start: all\n").await;
        assert_eq!(verdict.outcome, VerdictOutcome::PartialSuccess);
        assert!(verdict.summary.contains("deaf never could read"), "{}", verdict.summary);
    }
}
