//! Parts of a plan that contradict each other, or have no effect.

use std::collections::BTreeSet;

use super::expectation::same_looks;
use super::problem::Problem;
use super::{Action, Plan, Role, Step, WorkloadSpec, capability};

/// Contradictions of the plan as a whole.
pub(super) fn contradictions(plan: &Plan) -> Vec<Problem> {
    let mut problems = Vec::new();
    if plan.workloads.is_empty() {
        let fix = "leave out `workloads` for the default ones, or add one";
        problems.push(Problem::new("workloads", "no workloads", fix));
    }
    problems
}

impl Plan {
    /// What nobody means who writes a scenario file, and what does no harm in a plan that a program has altered:
    /// expectations of one look, and what only the five phases do where no step is one of them.
    pub(crate) fn file_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        looks(self, "steps", &self.steps, &mut problems);
        problems.extend(self.unused());
        problems
    }

    fn unused(&self) -> Vec<Problem> {
        let is_phase = |step: &Step| matches!(step.action, Action::Phase(_));
        if self.steps.is_empty() || self.steps.iter().any(is_phase) {
            return Vec::new();
        }
        let usual = Self::default();
        let keys = [
            ("fault", "fault", self.fault != usual.fault),
            ("recovery", "repair", self.recovery != usual.recovery),
        ];
        let given = keys.into_iter().filter(|(.., given)| *given);
        let unused = given.map(|(key, step, _)| {
            let reason = "only the five phases do this, and no step is one of them";
            Problem::new(key, reason, format!("write a step: `- {step}: …`"))
        });
        unused.collect()
    }
}

fn looks(plan: &Plan, at: &str, steps: &[Step], problems: &mut Vec<Problem>) {
    for (index, step) in steps.iter().enumerate() {
        let at = format!("{at}[{index}]");
        problems.extend(same_looks(plan, &at, step));
        if let Action::Repeat { steps, .. } = &step.action {
            looks(plan, &format!("{at}.steps"), steps, problems);
        }
    }
}

/// The first contradiction in a workload.
pub(super) fn in_workload(plan: &Plan, at: &str, workload: &WorkloadSpec) -> Option<Problem> {
    of_the_node(at, workload)
        .or_else(|| unknown_capability(at, workload))
        .or_else(|| same_destination(plan, at, workload))
        .or_else(|| in_fuse(plan, at, workload))
}

/// What a process of the node cannot have.
fn of_the_node(at: &str, workload: &WorkloadSpec) -> Option<Problem> {
    let keys = [
        ("user_namespace", workload.user_namespace),
        ("outside_runtime", workload.outside_runtime),
    ];
    let (key, _) = keys.into_iter().find(|(_, given)| *given && workload.host)?;
    let reason = "a process of the node is in no container";
    Some(Problem::new(format!("{at}.{key}"), reason, format!("leave out `{key}` or `host`")))
}

fn unknown_capability(at: &str, workload: &WorkloadSpec) -> Option<Problem> {
    workload.capabilities.iter().enumerate().find_map(|(index, word)| {
        let (reason, fix) = capability::unknown(word)?;
        Some(Problem::new(format!("{at}.capabilities[{index}]"), reason, fix))
    })
}

/// A second volume at one destination: the API server refuses it (`must be unique`).
fn same_destination(plan: &Plan, at: &str, workload: &WorkloadSpec) -> Option<Problem> {
    let mut taken = BTreeSet::new();
    if !workload.host {
        taken.insert(workload.paths(&plan.bridge).destination);
    }
    workload.volumes.iter().enumerate().find_map(|(number, volume)| {
        let destination = &volume.destination;
        (!taken.insert(destination.clone())).then(|| {
            let reason = format!("another volume is at {destination:?}");
            let at = format!("{at}.volumes[{number}].destination");
            Problem::new(at, reason, "give every volume its own destination")
        })
    })
}

fn in_fuse(plan: &Plan, at: &str, workload: &WorkloadSpec) -> Option<Problem> {
    if workload.role != Role::Producer {
        return None;
    }
    let fuse = plan.fuse_of(workload);
    let at = if workload.fuse.is_some() { format!("{at}.fuse") } else { "fuse".into() };
    let contradicts = |option: &str| match option {
        "allow_other" => (!fuse.allow_other).then_some("allow_other: false"),
        "rw" => fuse.read_only.then_some("read_only: true"),
        _ => None,
    };
    let options = fuse.options.iter().enumerate();
    let mut options = options.filter_map(|(index, option)| Some((index, contradicts(option)?)));
    if let Some((index, key)) = options.next() {
        let reason = format!("contradicts `{key}`");
        return Some(Problem::new(
            format!("{at}.options[{index}]"),
            reason,
            "leave out one of them",
        ));
    }
    let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    let wrong = fuse.environment.keys().find(|name| !is_name(name))?;
    let reason = format!("{wrong:?} cannot be the name of a variable");
    Some(Problem::new(format!("{at}.environment"), reason, "write a name without `=`"))
}
