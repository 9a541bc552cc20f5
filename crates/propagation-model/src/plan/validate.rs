//! Validation of a plan.

use std::collections::BTreeSet;

use super::bounds::{bound_problems, time_problem};
use super::contradiction::{contradictions, in_workload};
use super::placeholder;
use super::problem::Problem;
use super::{
    Action, BindSpec, PhaseName, Plan, Propagation, Role, StartOrder, Step, Volume, WorkloadSpec,
    step_problems,
};
use crate::cause::CauseId;
use crate::error::Error;
use crate::suggest::nearest;

/// The API server's rules for a volume that is read-only with everything below it.
fn bind_problem(at: &str, bind: &BindSpec, propagation: Propagation) -> Option<Problem> {
    if !bind.recursive_read_only {
        return None;
    }
    let at = format!("{at}.bind.recursive_read_only");
    if !bind.read_only {
        return Some(Problem::new(
            at,
            "may only be specified when `read_only` is true",
            "add `read_only: true`",
        ));
    }
    (propagation != Propagation::None).then(|| {
        let reason = "may only be specified when the propagation is None";
        Problem::new(at, reason, "use propagation None: what is mounted later would be writable")
    })
}

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
        problems.extend(self.bridge_problem());
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

    fn bridge_problem(&self) -> Option<Problem> {
        let name = self.bridge.mountpoint.as_str();
        if self.bridge.path.contains('\0') || name.contains('\0') {
            let fix = "remove it: no path can contain one";
            return Some(Problem::new("bridge", "contains a NUL byte", fix));
        }
        if let Some(problem) = path_problem("bridge.path", &self.bridge.path) {
            return Some(problem);
        }
        if name.is_empty() || name == "." || name == ".." || name.contains('/') || name.len() > 255
        {
            return Some(Problem::new(
                "bridge.mountpoint",
                format!("{name:?} is not the name of one directory in the bridge"),
                "use a single name such as dfs",
            ));
        }
        None
    }

    fn workload_problem(&self, at: &str, workload: &WorkloadSpec) -> Option<Problem> {
        let problem = |key: &str, reason: &str, fix: &str| {
            Some(Problem::new(format!("{at}.{key}"), reason, fix))
        };
        if !is_label(&workload.name) {
            return problem(
                "name",
                &format!("{:?} is not a DNS label", workload.name),
                "use 1 to 63 of a-z, 0-9 and -, not starting or ending with -",
            );
        }
        if ["all", "node", "runtime", "run"].contains(&workload.name.as_str()) {
            let reason = format!("{:?} is a reserved word in steps", workload.name);
            return problem("name", &reason, "use another name");
        }
        if workload.replicas == 0 {
            return problem("replicas", "0 replicas", "use 1 or more, or leave the workload out");
        }
        if workload.propagation == Propagation::Bidirectional && !workload.privileged() {
            return problem(
                "privileged",
                "Bidirectional mount propagation is available only to privileged containers: the \
                 API server refuses it otherwise",
                "leave out `privileged: false`, or use HostToContainer",
            );
        }
        let role = match workload.role {
            Role::Producer if workload.replicas != 1 => {
                problem("replicas", "a producer has one replica", "use 1 replica")
            }
            Role::Producer if workload.readers > 0 || workload.writers > 0 => problem(
                "readers",
                "readers and writers in a producer: a process that uses the mount it serves \
                 deadlocks",
                "give them to a consumer",
            ),
            Role::Control
                if workload.propagation != Propagation::None
                    || workload.order != StartOrder::BeforeMount =>
            {
                problem(
                    "propagation",
                    "a control must be None and start before the mount: started later it copies \
                     the mount with its first bind",
                    "use propagation None and order before_mount, or role consumer",
                )
            }
            Role::Consumer | Role::Control if workload.fuse.is_some() || workload.supervised => {
                let reason = "only a producer serves a filesystem";
                problem("role", reason, "leave out `fuse` and `supervised`, or use role producer")
            }
            _ => None,
        };
        role.or_else(|| self.volume_problem(at, workload))
            .or_else(|| self.fuse_problem(at, workload))
    }

    fn volume_problem(&self, at: &str, workload: &WorkloadSpec) -> Option<Problem> {
        if let Volume::Path(path) = &workload.volume
            && let Some(problem) = path_problem(&format!("{at}.volume.path"), path)
        {
            return Some(problem);
        }
        let relative = |path: &str| {
            !path.is_empty()
                && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        };
        if let Some(path) = workload.sub_path.as_deref() {
            let at = format!("{at}.sub_path");
            if !relative(path) {
                let reason = format!("{path:?} is not a clean relative path");
                let fix = "write a path relative to the volume, without `.`, `..` and a slash at its ends";
                return Some(Problem::new(at, reason, fix));
            }
            if workload.host || workload.volume == Volume::File {
                let reason = "sub_path needs a volume that is a directory";
                return Some(Problem::new(
                    at,
                    reason,
                    "use a container with a directory as volume",
                ));
            }
        }
        if workload.host && !workload.bind.is_default() {
            let reason = "a process of the node has no volume that is bound";
            return Some(Problem::new(format!("{at}.bind"), reason, "leave out `bind` or `host`"));
        }
        if let Some(problem) = bind_problem(at, &workload.bind, workload.propagation) {
            return Some(problem);
        }
        for (number, volume) in workload.volumes.iter().enumerate() {
            let at = format!("{at}.volumes[{number}]");
            if let Some(problem) = bind_problem(&at, &volume.bind, volume.propagation) {
                return Some(problem);
            }
            let source = self.fill_paths(&volume.source);
            let device = source.starts_with("/dev/");
            let problem = absolute_problem(&format!("{at}.source"), &source)
                .or_else(|| path_problem(&format!("{at}.source"), &source).filter(|_| !device))
                .or_else(|| absolute_problem(&format!("{at}.destination"), &volume.destination));
            if problem.is_some() {
                return problem;
            }
            if volume.propagation == Propagation::Bidirectional && !workload.privileged() {
                return Some(Problem::new(
                    format!("{at}.propagation"),
                    "Bidirectional mount propagation is available only to privileged containers",
                    "add `privileged: true` to the workload",
                ));
            }
        }
        None
    }

    fn fuse_problem(&self, at: &str, workload: &WorkloadSpec) -> Option<Problem> {
        if workload.role != Role::Producer {
            return None;
        }
        let fuse = self.fuse_of(workload);
        let at = if workload.fuse.is_some() { format!("{at}.fuse") } else { "fuse".into() };
        if fuse.keeper && !fuse.is_builtin() {
            return Some(Problem::new(
                format!("{at}.keeper"),
                "only the built-in filesystem can hand its descriptor to a keeper",
                "leave out `keeper`, or `command`",
            ));
        }
        if !fuse.is_builtin() && (!fuse.options.is_empty() || fuse.serve_after_ms > 0) {
            let key = if fuse.options.is_empty() { "serve_after_ms" } else { "options" };
            return Some(Problem::new(
                format!("{at}.{key}"),
                "only the built-in filesystem is mounted by this program",
                "say it in `command`, in the daemon's own way",
            ));
        }
        let clean = |option: &String| !option.is_empty() && !option.contains([',', '\n']);
        if let Some(index) = fuse.options.iter().position(|option| !clean(option)) {
            return Some(Problem::new(
                format!("{at}.options[{index}]"),
                "an option is one word, without a comma",
                "write a list: [default_permissions, noexec]",
            ));
        }
        if let Some(problem) = time_problem(&format!("{at}.serve_after_ms"), fuse.serve_after_ms) {
            return Some(problem);
        }
        if let Some(name) = fuse.hidden() {
            return Some(Problem::new(
                format!("{at}.environment.{name}"),
                "no value: reports hold only the names of variables",
                "write the value here, or ask for reports that hold the values too",
            ));
        }
        if let Some(index) = fuse.prepare.iter().position(Vec::is_empty) {
            return Some(Problem::new(
                format!("{at}.prepare[{index}]"),
                "no program given",
                "write a program and its arguments",
            ));
        }
        let command = fuse.command.iter().enumerate();
        let command = command.map(|(index, word)| (format!("{at}.command[{index}]"), word));
        let prepare = fuse.prepare.iter().enumerate().flat_map(|(number, words)| {
            let at = format!("{at}.prepare[{number}]");
            let words = words.iter().enumerate();
            words.map(move |(index, word)| (format!("{at}[{index}]"), word))
        });
        let environment = fuse.environment.iter().filter_map(|(name, value)| {
            Some((format!("{at}.environment.{name}"), value.as_ref()?))
        });
        let mut words = command.chain(prepare).chain(environment);
        words.find_map(|(at, word)| placeholder::misspelt(&at, word, &placeholder::OF_FUSE))
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

fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn absolute_problem(at: &str, path: &str) -> Option<Problem> {
    let refuse =
        |reason: &str, fix: &str| Some(Problem::new(at, format!("{path:?} {reason}"), fix));
    if !path.starts_with('/') {
        return refuse("is not an absolute path", "write it from the root: /tmp/fuse-test-bridge");
    }
    if path.contains('\0') {
        return refuse("contains a NUL byte", "remove it: no path can contain one");
    }
    if path.len() > 4000 {
        return refuse("is longer than a path can be (4,095 bytes)", "use a shorter path");
    }
    if path[1..].split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return refuse(
            "has an empty, `.` or `..` component",
            "write the path without `//`, `.`, `..` and without a slash at the end",
        );
    }
    if let Some(long) = path[1..].split('/').find(|part| part.len() > 255) {
        return refuse(
            &format!("has a component of {} bytes, and 255 is the most", long.len()),
            "use shorter names",
        );
    }
    None
}

/// Problem of a path that directories are made under.
fn path_problem(at: &str, path: &str) -> Option<Problem> {
    absolute_problem(at, path).or_else(|| {
        let kernels = ["/proc", "/sys", "/dev"]
            .iter()
            .any(|top| path == *top || path.starts_with(&format!("{top}/")));
        kernels.then(|| {
            let reason = format!("{path:?} lies on a kernel filesystem");
            Problem::new(
                at,
                reason,
                "use a directory on a disk or tmpfs, such as /tmp/fuse-test-bridge",
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::plan::{Bridge, Volume};

    fn with_bridge(path: &str) -> Plan {
        Plan { bridge: Bridge { path: path.into(), ..Bridge::default() }, ..Plan::default() }
    }

    #[test]
    fn the_default_plan_is_valid() {
        Plan::default().validate().expect("the five phases");
    }

    #[test]
    fn bridges_that_cannot_be_are_refused_with_a_fix() {
        let long = format!("/tmp/{}", "x".repeat(256));
        for path in [
            "",
            "bridge",
            "./x",
            "/tmp/../x",
            "/tmp//x",
            "/tmp/x/",
            "/",
            "/proc/x",
            &long,
            "/tmp/\0",
        ] {
            let error = with_bridge(path).validate().expect_err(path);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}");
            assert!(error.fix().is_some(), "{path:?}");
        }
    }

    #[test]
    fn odd_but_possible_bridges_are_accepted() {
        for path in ["/tmp/a b", "/tmp/new\nline", "/tmp/tab\there", "/tmp/ü#\\"] {
            with_bridge(path).validate().expect(path);
        }
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
