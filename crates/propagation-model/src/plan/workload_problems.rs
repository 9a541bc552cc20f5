//! Validation of one workload: its role, its volumes, its filesystem.

use super::bounds::time_problem;
use super::path_problems::{absolute_problem, path_problem};
use super::placeholder;
use super::problem::Problem;
use super::transport::transport_problem;
use super::{BindSpec, Plan, Propagation, Role, StartOrder, Volume, WorkloadSpec};

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
    pub(super) fn workload_problem(&self, at: &str, workload: &WorkloadSpec) -> Option<Problem> {
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
            Role::Consumer | Role::Control if workload.liveness_probe => problem(
                "liveness_probe",
                "only the probe of a producer can end the daemon",
                "leave it out, and use the repair `liveness_probe` for a consumer",
            ),
            Role::Producer if workload.liveness_probe && workload.host => problem(
                "liveness_probe",
                "a process of the node has no container that a probe could end",
                "leave out `host` or `liveness_probe`",
            ),
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
        if workload.liveness_probe && self.is_supervised(workload) {
            return Some(Problem::new(
                format!("{at}.liveness_probe"),
                format!(
                    "{} has a supervisor, which outlives its daemon: there is nothing for a probe to end",
                    workload.name
                ),
                "leave out `liveness_probe`, or `supervised` and `transport`",
            ));
        }
        let fuse = self.fuse_of(workload);
        let at = if workload.fuse.is_some() { format!("{at}.fuse") } else { "fuse".into() };
        if let Some(problem) = transport_problem(&at, fuse, workload) {
            return Some(problem);
        }
        if fuse.keeper && !fuse.is_builtin() {
            return Some(Problem::new(
                format!("{at}.keeper"),
                "only the built-in filesystem can hand its descriptor to a keeper",
                "leave out `keeper`, or `command`",
            ));
        }
        if fuse.keeper && workload.supervised {
            return Some(Problem::new(
                format!("{at}.keeper"),
                format!(
                    "{} is supervised, and a supervisor gives no descriptor to a keeper",
                    workload.name
                ),
                "leave out `supervised`, or give this producer a `fuse` without `keeper`",
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
}

fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}
