//! The kernel's filesystems that a scenario needs.

use std::fs;

use propagation_core::plan::Plan;

/// Which filesystem of a plan this kernel does not have, in words; none when it has all.
pub(crate) fn missing(plan: &Plan) -> Option<String> {
    if plan.filesystems.is_empty() {
        return None;
    }
    match fs::read_to_string("/proc/filesystems") {
        Ok(known) => missing_in(&plan.filesystems, &known),
        Err(error) => Some(format!("read /proc/filesystems: {error}")),
    }
}

/// As [`missing`], of a list as the kernel prints it (proc(5)).
fn missing_in(wanted: &[String], known: &str) -> Option<String> {
    let has = |name: &str| known.lines().any(|line| line.split_whitespace().last() == Some(name));
    let name = wanted.iter().find(|name| !has(name))?;
    Some(format!(
        "this kernel has no filesystem {name}, or its module is not loaded (modprobe {name})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_missing_is_named() {
        let known = "nodev\tsysfs\nnodev\tnfs4\n\text4\n";
        let missing = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            missing_in(&names, known)
        };
        assert_eq!(missing(&["ext4", "nfs4"]), None);
        let reason = missing(&["ext4", "cifs"]).expect("it is missing");
        assert!(reason.starts_with("this kernel has no filesystem cifs"), "{reason}");
        // No name is a part of another.
        assert!(missing(&["nfs"]).is_some());
    }
}
