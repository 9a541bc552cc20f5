//! Whether a plan can be run at all.

use super::{Plan, Propagation, Role, StartOrder, WorkloadSpec};
use crate::error::{Error, ErrorKind};

impl Plan {
    /// Checks that the plan can be run at all, before anything is touched.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a bridge that is not a clean absolute path, a mountpoint
    /// that is not one name, names that are not unique DNS labels, no producer or several, a
    /// producer that is not Bidirectional, a control that could see the mount.
    pub fn validate(&self) -> Result<(), Error> {
        self.validate_bridge()?;
        let mut names: Vec<&str> = self.workloads.iter().map(|w| w.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(invalid(
                format!("workload {:?}", pair[0]),
                "the name is used twice",
                "give every workload its own name",
            ));
        }
        for workload in &self.workloads {
            validate_workload(workload)?;
        }
        let producers = self.with_role(Role::Producer).count();
        if producers != 1 {
            return Err(invalid(
                "workloads",
                format!("{producers} producers, and exactly 1 is needed"),
                "keep one workload with role producer",
            ));
        }
        if self.with_role(Role::Consumer).next().is_none() {
            return Err(invalid(
                "workloads",
                "no consumer, so nothing can be said about one",
                "add a workload with role consumer",
            ));
        }
        Ok(())
    }

    fn validate_bridge(&self) -> Result<(), Error> {
        let path = self.bridge.path.as_str();
        let refuse =
            |reason: &str, fix: &str| Err(invalid(format!("bridge {path:?}"), reason, fix));
        if !path.starts_with('/') {
            return refuse(
                "is not an absolute path",
                "write it from the root: /tmp/fuse-test-bridge",
            );
        }
        if path.contains('\0') || self.bridge.mountpoint.contains('\0') {
            return refuse("contains a NUL byte", "remove it: no path can contain one");
        }
        if path.len() > 4000 {
            return refuse("is longer than a path can be (4,095 bytes)", "use a shorter path");
        }
        let mut parts = path[1..].split('/');
        if parts.any(|part| part.is_empty() || part == "." || part == "..") {
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
        if ["/proc", "/sys", "/dev"]
            .iter()
            .any(|top| path == *top || path.starts_with(&format!("{top}/")))
        {
            return refuse(
                "lies on a kernel filesystem",
                "use a directory on a disk or tmpfs, such as /tmp/fuse-test-bridge",
            );
        }
        let name = self.bridge.mountpoint.as_str();
        if name.is_empty() || name == "." || name == ".." || name.contains('/') || name.len() > 255
        {
            return Err(invalid(
                format!("mountpoint {name:?}"),
                "is not the name of one directory in the bridge",
                "use a single name such as dfs",
            ));
        }
        Ok(())
    }
}

fn validate_workload(workload: &WorkloadSpec) -> Result<(), Error> {
    let subject = format!("workload {:?}", workload.name);
    let name = &workload.name;
    let label = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !label {
        return Err(invalid(
            subject,
            "the name is not a DNS label",
            "use 1 to 63 of a-z, 0-9 and -, not starting or ending with -",
        ));
    }
    if workload.replicas == 0 {
        return Err(invalid(subject, "0 replicas", "use 1 or more, or leave the workload out"));
    }
    match workload.role {
        Role::Producer if workload.propagation != Propagation::Bidirectional => Err(invalid(
            subject,
            format!("a producer with {} cannot send its mount to the host", workload.propagation),
            "use Bidirectional for the producer",
        )),
        Role::Producer if workload.replicas != 1 => {
            Err(invalid(subject, "several replicas of a producer", "use 1 replica"))
        }
        Role::Control
            if workload.propagation != Propagation::None
                || workload.order != StartOrder::BeforeMount =>
        {
            Err(invalid(
                subject,
                "a control must be None and start before the mount: started later it copies the \
                 mount with its first bind",
                "use propagation None and order before_mount",
            ))
        }
        _ => Ok(()),
    }
}

fn invalid(subject: impl Into<String>, reason: impl Into<String>, fix: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, subject, reason).with_fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;
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
