//! Validation of paths: the bridge, and where directories are made.

use std::path::Path;

use super::Plan;
use super::problem::Problem;

impl Plan {
    pub(super) fn bridge_problem(&self) -> Option<Problem> {
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

    /// Problem of the mounts on the way from `/` to the bridge.
    pub(super) fn mounts_problem(&self) -> Option<Problem> {
        let mut above: Option<&str> = None;
        for (number, mount) in self.node.mounts.iter().enumerate() {
            let (at, path) = (format!("node.mounts[{number}].at"), mount.at.as_str());
            if let Some(problem) = absolute_problem(&at, path).filter(|_| path != "/") {
                return Some(problem);
            }
            if !lies_in(&self.bridge.path, path) {
                let reason = format!("{path:?} is not on the way to {}", self.bridge.path);
                return Some(Problem::new(at, reason, "use a directory above the bridge"));
            }
            if let Some(above) = above.filter(|above| *above == path || !lies_in(path, above)) {
                let reason = format!("{path:?} does not lie below {above:?}");
                return Some(Problem::new(at, reason, "list every mount once, from / downwards"));
            }
            above = Some(path);
        }
        None
    }
}

/// Whether a path is a directory or lies below it.
fn lies_in(path: &str, directory: &str) -> bool {
    Path::new(path).starts_with(directory)
}

pub(super) fn absolute_problem(at: &str, path: &str) -> Option<Problem> {
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
pub(super) fn path_problem(at: &str, path: &str) -> Option<Problem> {
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
    use crate::plan::{Bridge, Covering, NodeMount};

    fn with_bridge(path: &str) -> Plan {
        Plan { bridge: Bridge { path: path.into(), ..Bridge::default() }, ..Plan::default() }
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
    fn mounts_lie_on_the_way_to_the_bridge_in_order() {
        let with_mounts = |paths: &[&str]| {
            let mut plan = with_bridge("/srv/x/bridge");
            plan.node.mounts.extend(
                paths
                    .iter()
                    .map(|at| NodeMount { at: (*at).into(), propagation: Covering::Private }),
            );
            plan.validate()
        };
        with_mounts(&["/", "/srv", "/srv/x", "/srv/x/bridge"]).expect("a way");
        for wrong in [&["srv"][..], &["/srv/"], &["/var"], &["/srv/x", "/srv"], &["/srv", "/srv"]] {
            let error = with_mounts(wrong).expect_err("not a way");
            assert!(error.fix().is_some(), "{wrong:?}");
        }
    }
}
