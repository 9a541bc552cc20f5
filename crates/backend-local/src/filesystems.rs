//! The kernel's filesystems that a scenario needs.

use std::fs;

use propagation_core::plan::Plan;
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsopen};

/// Which filesystem of a plan this kernel does not have, in words; none when it has all.
pub(crate) fn missing(plan: &Plan) -> Option<String> {
    plan.filesystems.iter().find_map(|name| match has(name) {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "this kernel has no filesystem {name}, and no module for it (modprobe {name})"
        )),
        Err(reason) => Some(format!("whether this kernel has {name}: {reason}")),
    })
}

/// Whether the kernel has a filesystem. fsopen(2) loads its module, as mounting would. A user who may not mount is
/// answered from the list of those that are there.
fn has(name: &str) -> Result<bool, String> {
    match fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => Ok(true),
        Err(Errno::NODEV) => Ok(false),
        Err(Errno::PERM) => fs::read_to_string("/proc/filesystems")
            .map(|known| is_in(name, &known))
            .map_err(|error| format!("read /proc/filesystems: {error}")),
        Err(errno) => Err(format!("fsopen: {errno}")),
    }
}

/// Whether a filesystem is in a list as the kernel prints it (proc(5)).
fn is_in(name: &str, known: &str) -> bool {
    known.lines().any(|line| line.split_whitespace().last() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_whole_names() {
        let known = "nodev\tsysfs\nnodev\tnfs4\n\text4\n";
        assert!(is_in("ext4", known) && is_in("nfs4", known));
        assert!(!is_in("nfs", known) && !is_in("cifs", known));
    }

    #[test]
    fn the_first_that_is_missing_is_named() {
        let missing = |names: &[&str]| {
            let filesystems = names.iter().map(ToString::to_string).collect();
            missing(&Plan::default().with(|plan| plan.filesystems = filesystems))
        };
        // Every kernel has these two, and no kernel has the other.
        assert_eq!(missing(&["proc", "tmpfs"]), None);
        let reason = missing(&["proc", "no-such-filesystem"]).expect("it is missing");
        assert!(reason.starts_with("this kernel has no filesystem no-such-filesystem"), "{reason}");
    }
}
