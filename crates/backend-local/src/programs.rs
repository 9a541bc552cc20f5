//! The programs that a scenario needs: a node has the programs of the machine.

use std::path::Path;

use propagation_core::plan::Plan;
use propagation_core::program::PATH;

/// The first program of a scenario that this machine lacks. Nodes without the machine's programs do not count.
pub(crate) fn missing(plan: &Plan) -> Option<&str> {
    if plan.node.without_host_tools {
        return None;
    }
    plan.programs().into_iter().find(|program| !exists(program))
}

/// Whether there is a program. Paths below a node's own directories are the scenario's own business.
pub(crate) fn exists(program: &str) -> bool {
    let mut directories = PATH.split(':');
    if program.contains('/') {
        let machines = directories.any(|directory| program.starts_with(directory));
        return !machines || Path::new(program).exists();
    }
    directories.any(|directory| Path::new(directory).join(program).exists())
}
