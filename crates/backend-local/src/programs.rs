//! The programs that a scenario needs: a node has the programs of the machine.

use std::path::Path;

use propagation_core::plan::{Action, Plan, Role, Step};
use propagation_core::program::PATH;

/// The exit code of a shell for a program that there is not.
const NOT_FOUND: i32 = 127;

/// The first program of a scenario that this machine lacks. Programs that a step expects to be absent, and
/// nodes without the machine's programs, do not count.
pub(crate) fn missing(plan: &Plan) -> Option<&str> {
    if plan.node.without_host_tools {
        return None;
    }
    let of_daemons = plan.with_role(Role::Producer).flat_map(|spec| {
        let fuse = plan.fuse_of(spec);
        fuse.prepare.iter().chain(std::iter::once(&fuse.command)).filter_map(|words| words.first())
    });
    let mut words: Vec<&str> = of_daemons.map(String::as_str).collect();
    of_steps(&plan.steps, &mut words);
    words.into_iter().find(|program| !exists(program))
}

fn of_steps<'a>(steps: &'a [Step], words: &mut Vec<&'a str>) {
    for step in steps {
        match &step.action {
            Action::Execute { command, .. } => {
                let expected = step.expect.get("run").and_then(|expected| expected.exit);
                if expected != Some(NOT_FOUND) {
                    words.extend(command.first().map(String::as_str));
                }
            }
            Action::Repeat { steps, .. } => of_steps(steps, words),
            _ => {}
        }
    }
}

/// Whether there is a program. Paths below a node's own directories are the scenario's own business.
fn exists(program: &str) -> bool {
    let mut directories = PATH.split(':');
    if program.contains('/') {
        let machines = directories.any(|directory| program.starts_with(directory));
        return !machines || Path::new(program).exists();
    }
    directories.any(|directory| Path::new(directory).join(program).exists())
}
