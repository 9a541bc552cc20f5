//! The decision that follows from an answer: the texts of the original test plan, one set for each of its
//! scenarios. Only renderings use them.

use propagation_model::Report;
use propagation_model::plan::Bridge;
use propagation_model::probed_consumer::probed_consumer;
use propagation_model::verdict::{Answer, VerdictOutcome};

/// The consequences of an answer for replacing a network filesystem by FUSE mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The scenario of the test plan: A, B or C; none when inconclusive.
    pub letter: Option<char>,
    /// The decision.
    pub decision: &'static str,
    /// The next steps, in order: the fixes of the causes, then the steps of the test plan.
    pub next_steps: Vec<String>,
    /// Duration of the migration, according to the test plan.
    pub migration_timeline: &'static str,
    /// A consumer with a liveness probe, as a manifest, if a probe helps.
    pub liveness_probe: Option<String>,
}

impl Decision {
    /// The decision for the answer of a report; none for a scenario.
    pub fn of(report: &Report) -> Option<Self> {
        report.verdict.answer().map(|answer| Self::by(answer, &report.plan.bridge))
    }

    fn by(answer: &Answer, bridge: &Bridge) -> Self {
        let then = |steps: &[&str]| {
            let own = steps.iter().map(|step| (*step).to_owned());
            answer.next_steps.iter().cloned().chain(own).collect()
        };
        match answer.outcome {
            VerdictOutcome::FullSuccess => Self {
                letter: Some('A'),
                decision: "FUSE propagation works here. It can replace an SMB/CIFS layer.",
                next_steps: then(&[
                    "Test with a real consumer of yours on a second node.",
                    "Measure throughput against the layer it would replace.",
                    "Add a liveness probe to consumers all the same: open files do not recover.",
                    "Plan the migration if performance is similar or better.",
                ]),
                migration_timeline: "1-2 weeks to roll out.",
                liveness_probe: None,
            },
            VerdictOutcome::PartialSuccess => Self {
                letter: Some('B'),
                decision: "FUSE propagation works, but stale mounts need an intervention.",
                next_steps: then(&[
                    "Give consumers a liveness probe, as the manifest below does: it notices a stale, hung or \
                     empty mount. Its image: propagation image agent.tar.",
                    "Accept a short interruption with automatic recovery, or keep the present layer.",
                ]),
                migration_timeline: "1 week: add probes to existing pods.",
                liveness_probe: Some(probed_consumer(bridge, false)),
            },
            VerdictOutcome::FundamentalFailure => Self {
                letter: Some('C'),
                decision: "FUSE propagation does not work in this set-up.",
                next_steps: then(&["Keep the present SMB/CIFS layer until a run says otherwise."]),
                migration_timeline: "No change needed.",
                liveness_probe: None,
            },
            VerdictOutcome::Inconclusive => Self {
                letter: None,
                decision: "No decision: the experiment does not answer the question yet.",
                next_steps: then(&[]),
                migration_timeline: "Open until a run is conclusive.",
                liveness_probe: None,
            },
        }
    }
}
