//! The kernel's filesystems that a scenario needs.

use std::process::Stdio;

use propagation_core::plan::Plan;

/// Which filesystem of a plan this kernel does not have, in words; none when it has all.
pub(crate) fn missing(plan: &Plan) -> Option<String> {
    plan.filesystems.iter().find_map(|name| missing_one(name))
}

/// Why a filesystem of the kernel cannot be had, in words; none when it can.
pub(crate) fn missing_one(name: &str) -> Option<String> {
    match has(name) {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "this kernel has no filesystem {name}, and no module for it (modprobe {name})"
        )),
        Err(reason) => Some(format!("whether this kernel has {name}: {reason}")),
    }
}

/// Whether the kernel has a filesystem: what the agent says.
fn has(name: &str) -> Result<bool, String> {
    let asked = propagation_agent_embed::command()
        .and_then(|mut agent| agent.args(["filesystem", name]).stdin(Stdio::null()).output())
        .map_err(|error| format!("ask the agent: {error}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match said(&asked.stdout).parse() {
        Ok(has) if asked.status.success() => Ok(has),
        _ => Err(said(&asked.stderr)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
