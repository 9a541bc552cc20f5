//! The decision that follows from an answer: the texts of the original test plan, one set for each of its
//! scenarios. Only renderings use them.

use propagation_model::Report;
use propagation_model::plan::{Plan, Role};
use propagation_model::verdict::{Answer, VerdictOutcome};

use crate::reproduce::quoted;

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
    /// The liveness probe to add to consumers, as YAML, if one helps.
    pub liveness_probe: Option<String>,
}

impl Decision {
    /// The decision for the answer of a report; none for a scenario.
    pub fn of(report: &Report) -> Option<Self> {
        let mut decision = report.verdict.answer().map(Self::by)?;
        if report.verdict.is(VerdictOutcome::PartialSuccess) {
            decision.liveness_probe = Some(liveness_probe(&report.plan));
        }
        Some(decision)
    }

    fn by(answer: &Answer) -> Self {
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
                    "Give consumers a liveness probe: it notices a stale, hung or empty mount.",
                    "Accept a short interruption with automatic recovery, or keep the present layer.",
                ]),
                migration_timeline: "1 week: add probes to existing pods.",
                liveness_probe: None,
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

/// Restarts a consumer within 45 s of breakage: 3 failures, 10 s apart, 5 s each at the most. A container
/// restart binds the volume anew, so it heals a consumer whose volume is the bridge or an ancestor; while
/// the source itself is stale the start is refused until it is unmounted.
///
/// It runs in every image that has a shell, `grep` and `ls`: the mount is in the mount table, it answers, and it is not
/// empty. The kubelet ends a look that gets no answer.
fn liveness_probe(plan: &Plan) -> String {
    let consumer = plan.with_role(Role::Consumer).next();
    let path =
        consumer.map_or_else(|| plan.bridge.fuse_path(), |spec| spec.paths(&plan.bridge).fuse);
    let look = format!(
        "grep -q {} /proc/self/mountinfo && ls {} | grep -q .",
        quoted(&format!(" {path} .* - fuse")),
        quoted(&path)
    );
    // A YAML scalar in single quotes.
    format!(
        "livenessProbe:\n  exec:\n    command: [sh, -c, '{}']\n  periodSeconds: 10\n  timeoutSeconds: 5\n  \
         failureThreshold: 3\n",
        look.replace('\'', "''")
    )
}
