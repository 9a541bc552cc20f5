//! Validation of a plan.

use std::collections::BTreeSet;

use super::bounds::bound_problems;
use super::contradiction::{contradictions, in_workload};
use super::problem::Problem;
use super::{Action, PhaseName, Plan, Propagation, Role, Step, WorkloadSpec, step_problems};
use crate::cause::CauseId;
use crate::error::Error;
use crate::suggest::nearest;

impl Plan {
    /// Checks that the plan can be run, before anything is touched.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) with the first of [`Plan::problems`].
    pub fn validate(&self) -> Result<(), Error> {
        match self.problems().into_iter().next() {
            None => Ok(()),
            Some(problem) => Err(problem.into()),
        }
    }

    /// All problems that keep the plan from being run: a name that is not a file name, a bridge that is not a clean
    /// absolute path, a mountpoint that is not one name, names that are not unique DNS labels, Bidirectional
    /// without privileged, a control that could see the mount, steps and expectations about unknown actors, …
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.name_problem());
        problems.extend(self.cause_problem());
        problems.extend(self.filesystem_problem());
        problems.extend(self.bridge_problem().or_else(|| self.mounts_problem()));
        let mut names = BTreeSet::new();
        for (index, workload) in self.workloads.iter().enumerate() {
            let at = format!("workloads[{index}]");
            if !names.insert(&workload.name) {
                problems.push(Problem::new(
                    format!("{at}.name"),
                    format!("duplicate name {:?}", workload.name),
                    "give every workload its own name",
                ));
            }
            problems.extend(self.workload_problem(&at, workload));
            problems.extend(in_workload(self, &at, workload));
        }
        problems.extend(contradictions(self));
        problems.extend(self.roles_problem());
        problems.extend(step_problems(self));
        problems.extend(bound_problems(self));
        problems
    }

    /// Reports lie in a directory of the plan's name.
    fn name_problem(&self) -> Option<Problem> {
        let name = self.name.as_deref()?;
        let is_file_name = !matches!(name, "" | "." | "..")
            && !name.contains(['/', '\\'])
            && !name.contains(char::is_control);
        (!is_file_name).then(|| {
            let reason = format!("{name:?} cannot be the name of a directory");
            Problem::new("name", reason, "use letters, digits and `-`, and say more in `title`")
        })
    }

    /// A cause is an id in kebab case, and a source names it.
    fn cause_problem(&self) -> Option<Problem> {
        let ids = self.cause.as_ref()?.ids();
        let is_id = |id: &str| {
            id.split('-').all(|word| {
                !word.is_empty()
                    && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            })
        };
        let problem = |reason: String, fix: &str| Some(Problem::new("cause", reason, fix));
        match ids.iter().map(CauseId::as_str).find(|id| !is_id(id)) {
            Some(id) => {
                problem(format!("{id:?} is not the id of a cause"), "write it as `daemon-dead`")
            }
            None if ids.is_empty() => problem("no cause in the list".into(), "leave `cause` out"),
            None if self.source.is_none() => problem(
                "a cause that no source names".into(),
                "add the address of the report as `source`, or leave `cause` out",
            ),
            None => ids.iter().find_map(misspelt_cause).and_then(|(id, near)| {
                problem(
                    format!("unknown cause {:?}", id.as_str()),
                    &format!("did you mean {near}?"),
                )
            }),
        }
    }

    /// The kernel names its filesystems without spaces (proc(5), filesystems).
    fn filesystem_problem(&self) -> Option<Problem> {
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
        let index = self.filesystems.iter().position(|name| !is_name(name))?;
        Some(Problem::new(
            format!("filesystems[{index}]"),
            format!("{:?} cannot be a filesystem of the kernel", self.filesystems[index]),
            "use a name of /proc/filesystems, such as cifs",
        ))
    }

    /// The five phases need one producer and at least one consumer.
    fn roles_problem(&self) -> Option<Problem> {
        let phases = |step: &Step| matches!(step.action, Action::Phase(_));
        if !self.steps.iter().any(phases) {
            return None;
        }
        let producers = self.with_role(Role::Producer).count();
        if producers != 1 {
            return Some(Problem::new(
                "workloads",
                format!("{producers} producers; the five phases need exactly 1"),
                "keep one workload with role producer",
            ));
        }
        let sends =
            |spec: &WorkloadSpec| spec.host || spec.propagation == Propagation::Bidirectional;
        if let Some(producer) = self.producer().filter(|spec| !sends(spec)) {
            return Some(Problem::new(
                "workloads",
                format!(
                    "a producer with {} does not propagate its mount to the node",
                    producer.propagation
                ),
                "use Bidirectional for the producer",
            ));
        }
        let breaks = |step: &Step| matches!(step.action, Action::Phase(PhaseName::StaleMount));
        if self.fault.ends_a_fault() && self.steps.iter().any(breaks) {
            return Some(Problem::new(
                "fault",
                format!("{} breaks nothing, it ends a fault", self.fault),
                "use a fault that the producer suffers, such as kill",
            ));
        }
        if self.with_role(Role::Consumer).next().is_none() {
            return Some(Problem::new(
                "workloads",
                "no consumer; the five phases need at least 1",
                "add a workload with role consumer",
            ));
        }
        None
    }

    /// Replaces `{bridge}` and `{mountpoint}` by the paths of the node.
    pub fn fill_paths(&self, text: &str) -> String {
        self.bridge.fill(text)
    }
}

/// An id that is no known cause and near to one; those of custom phases are their own.
fn misspelt_cause(id: &CauseId) -> Option<(&CauseId, &'static str)> {
    let CauseId::Custom(word) = id else { return None };
    Some((id, nearest(word, CauseId::ALL.iter().map(CauseId::as_str))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Bridge, StartOrder, Volume};

    #[test]
    fn the_default_plan_is_valid() {
        Plan::default().validate().expect("the five phases");
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_directory_of_reports() {
        for (name, possible) in [
            ("hand-over", true),
            ("fault=kill,repair=none", true),
            ("..", false),
            ("../x", false),
            ("/etc/x", false),
            ("a\0", false),
            ("", false),
        ] {
            let plan = Plan { name: Some(name.into()), ..Plan::default() };
            assert_eq!(plan.validate().is_ok(), possible, "{name:?}");
        }
    }

    #[test]
    fn a_filesystem_that_no_kernel_can_have_is_refused() {
        for (name, possible) in [("nfs4", true), ("cifs", true), ("", false), ("nfs 4", false)] {
            let filesystems = vec!["ext4".into(), name.into()];
            let problems = Plan { filesystems, ..Plan::default() }.problems();
            assert_eq!(problems.is_empty(), possible, "{name:?}: {problems:?}");
        }
    }

    #[test]
    fn roles_are_checked() {
        let mut plan = Plan::default();
        plan.workloads[0].propagation = Propagation::HostToContainer;
        assert!(plan.validate().is_err(), "a producer that cannot send");
        let mut plan = Plan::default();
        plan.workloads[3].order = StartOrder::AfterMount;
        assert!(plan.validate().is_err(), "a control that would see the mount");
        let mut plan = Plan::default();
        plan.workloads.remove(0);
        assert!(plan.validate().is_err(), "no producer");
        let mut plan = Plan::default();
        plan.workloads[1].name = plan.workloads[2].name.clone();
        assert!(plan.validate().is_err(), "a name twice");
    }

    #[test]
    fn an_ancestor_at_the_top_is_the_root() {
        let bridge = Bridge { path: "/bridge".into(), mountpoint: "dfs".into() };
        let mut consumer = WorkloadSpec::consumer("c", StartOrder::AfterMount);
        consumer.volume = Volume::Ancestor;
        let paths = consumer.paths(&bridge);
        assert_eq!((paths.source.as_str(), paths.fuse.as_str()), ("/", "/mnt/bridge/dfs"));
    }
}
