//! The decision that follows from an answer: the texts of the original test plan, one set for each of its
//! scenarios. Only renderings use them.

use propagation_model::Report;
use propagation_model::facts::HostFacts;
use propagation_model::mountinfo::MountEntry;
use propagation_model::plan::{PhaseName, Plan, Role};
use propagation_model::report::{CheckId, Status};
use propagation_model::verdict::VerdictOutcome;

use crate::reproduce::quoted;

/// The consequences of an answer for replacing a network filesystem by FUSE mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The scenario of the test plan: A, B or C; none when inconclusive.
    pub letter: Option<char>,
    /// The decision.
    pub decision: String,
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
        let answer = report.verdict.answer()?;
        let mut decision = Self {
            letter: None,
            decision: String::new(),
            next_steps: answer.next_steps.clone(),
            migration_timeline: "Open until a run is conclusive.",
            liveness_probe: None,
        };
        decision.fill(report, answer.outcome);
        Some(decision)
    }

    fn fill(&mut self, report: &Report, outcome: VerdictOutcome) {
        let unlike = report.environment.as_ref().and_then(HostFacts::unlike_machine);
        let served = report.plan.served_by();
        let what = served.map_or("FUSE propagation".into(), |one| format!("Propagation of {one}"));
        let works = works(&what, unlike);
        match outcome {
            VerdictOutcome::FullSuccess => {
                let then = if unlike.is_some() { " once this host is alike" } else { "" };
                let replaces = format!(" It can replace an SMB/CIFS layer{then}.");
                let replaces = if served.is_some() { String::new() } else { replaces };
                self.say('A', format!("{works}.{replaces}"));
                self.then(&[
                    "Test with a real consumer of yours on a second node.",
                    "Measure throughput against the layer it would replace.",
                    "Add a liveness probe to consumers all the same: open files do not recover.",
                    "Plan the migration if performance is similar or better.",
                ]);
                self.migration_timeline = "1-2 weeks to roll out.";
            }
            VerdictOutcome::PartialSuccess => self.partial(report, &works),
            VerdictOutcome::FundamentalFailure => {
                self.say('C', format!("{what} does not work in this set-up."));
                if served.is_none() {
                    self.then(&["Keep the present SMB/CIFS layer until a run says otherwise."]);
                }
                self.migration_timeline = "No change needed.";
            }
            VerdictOutcome::Inconclusive => {
                let words = "No decision: the experiment does not answer the question yet.";
                words.clone_into(&mut self.decision);
            }
        }
    }

    /// What follows depends on what is not as it should be: the way back, the time before it, or who can read.
    fn partial(&mut self, report: &Report, works: &str) {
        let failed = |id: CheckId| {
            let mut checks = report.phases.iter().flat_map(|phase| &phase.checks);
            checks.any(|check| check.id == id && check.status == Status::Failed)
        };
        let failed_phase = |id: PhaseName| {
            report.phase(id.as_str()).is_some_and(|phase| phase.status == Status::Failed)
        };
        if failed_phase(PhaseName::Recovery) {
            self.say('B', format!("{works}, but stale mounts need an intervention."));
            self.then(&[
                "Give consumers a liveness probe: it notices a stale, hung or empty mount.",
                "Accept a short interruption with automatic recovery, or keep the present layer.",
            ]);
            self.migration_timeline = "1 week: add probes to existing pods.";
            self.liveness_probe = Some(liveness_probe(&report.plan));
        } else if failed(CheckId::NoHang) && report.plan.served_by().is_some() {
            self.say('B', format!("{works}, but accesses hang until the server is back."));
            self.then(&["Accept accesses that hang until then, and keep the server up."]);
            self.migration_timeline = "1-2 weeks to roll out.";
        } else if failed(CheckId::NoHang) {
            self.say(
                'B',
                format!(
                    "{works}, but accesses hang until a producer that does not answer is restarted."
                ),
            );
            self.then(&["Accept accesses that hang until then, or keep the present layer."]);
            self.migration_timeline = "1 week: add a probe to the producer.";
        } else if failed_phase(PhaseName::StaleMount) {
            self.say('B', format!("{works}, but not without harm while the producer is away."));
            self.then(&[
                "Accept a short interruption with automatic recovery, or keep the present layer.",
            ]);
            self.migration_timeline = "1-2 weeks to roll out, after the first step.";
        } else {
            self.say('B', format!("{works} for root only: no other user can read."));
            self.then(&["Run it again with the UIDs of your consumers."]);
            self.migration_timeline =
                "1-2 weeks to roll out, once the users of your consumers can read.";
        }
    }

    fn say(&mut self, letter: char, words: String) {
        (self.letter, self.decision) = (Some(letter), words);
    }

    fn then(&mut self, steps: &[&str]) {
        self.next_steps.extend(steps.iter().map(|step| (*step).to_owned()));
    }
}

/// What works, and where; `unlike` is the mount of a host to which the answer of the simulated node does not apply yet.
fn works(what: &str, unlike: Option<&MountEntry>) -> String {
    let Some(real) = unlike else { return format!("{what} works here") };
    let (at, kind) = (real.mount_point.to_string(), real.propagation());
    format!(
        "{what} works on the simulated node, whose mounts are not those of this host ({at} is {kind})"
    )
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

#[cfg(test)]
mod tests {
    use propagation_model::comparison::Transport;
    use propagation_model::mountinfo::MountTable;

    use super::*;
    use crate::tests::report;
    use crate::words::beside;

    /// The report on a machine whose `/` is private.
    fn unlike(mut report: Report) -> Report {
        let line = b"1 0 8:1 / / rw - ext4 d rw\n";
        let table = MountTable::parse(line).expect("mountinfo");
        let facts = report.environment.as_mut().expect("facts");
        facts.machine_covering_mount = table.covering(&"/tmp".into()).cloned();
        report
    }

    #[test]
    fn a_decision_speaks_of_the_node_that_the_line_about_this_host_names() {
        for name in ["full_success", "mountpoint_volume", "stopped_daemon"] {
            let here = Decision::of(&report(name)).expect("a decision").decision;
            assert!(here.starts_with("FUSE propagation works here"), "{here}");
            let unlike = unlike(report(name));
            let line = beside(&unlike).expect("a line about this host");
            assert!(line.contains("the answer here would be another"), "{line}");
            let decision = Decision::of(&unlike).expect("a decision").decision;
            assert!(!decision.contains("works here"), "{decision}");
            assert!(decision.contains("works on the simulated node"), "{decision}");
            assert!(decision.contains("(/ is private)"), "{decision}");
        }
    }

    #[test]
    fn a_decision_about_a_server_speaks_of_its_transport() {
        let mut report = report("full_success");
        report.plan.fuse.transport = Some(Transport::Nfs);
        let decision = Decision::of(&report).expect("a decision").decision;
        assert_eq!(decision, "Propagation of nfs works here.");
    }

    #[test]
    fn a_decision_fits_what_is_not_in_order() {
        let decision = |report: &Report| Decision::of(report).expect("a decision");
        let hangs = decision(&report("stopped_daemon"));
        assert!(hangs.decision.contains("accesses hang"), "{hangs:?}");
        assert_eq!(hangs.liveness_probe, None);
        let stale = decision(&report("mountpoint_volume"));
        assert!(stale.decision.contains("stale mounts need an intervention"), "{stale:?}");
        assert!(stale.liveness_probe.is_some());
        // Everything but the other users is in order.
        let mut root_only = report("full_success");
        root_only.verdict = report("stopped_daemon").verdict;
        let root_only = decision(&root_only);
        assert!(root_only.decision.contains("for root only"), "{root_only:?}");
        assert_eq!(root_only.liveness_probe, None);
    }
}
