//! The programs that a plan starts besides the built-in ones.

use super::{Action, Plan, Role, Step, WorkloadSpec};

/// The exit code of a shell for a program that it does not find.
const NOT_FOUND: i32 = 127;

impl Plan {
    /// The programs that its daemons and steps start, except those that a step expects to be absent.
    pub fn programs(&self) -> Vec<&str> {
        let of_daemons = self.with_role(Role::Producer).flat_map(|spec| {
            let fuse = self.fuse_of(spec);
            fuse.prepare.iter().chain(std::iter::once(&fuse.command)).filter_map(|it| it.first())
        });
        let mut programs: Vec<&str> = of_daemons.map(String::as_str).collect();
        of_steps(&self.steps, &mut programs);
        programs
    }

    /// Whether a workload needs programs besides the built-in ones: a FUSE daemon, fusermount3 for a producer that
    /// is not root, or what steps run in it.
    pub fn needs_programs(&self, spec: &WorkloadSpec) -> bool {
        spec.uid != 0 || !self.fuse_of(spec).is_builtin() || self.runs_programs_in(&spec.name)
    }
}

fn of_steps<'a>(steps: &'a [Step], programs: &mut Vec<&'a str>) {
    for step in steps {
        match &step.action {
            Action::Execute { command, .. } => {
                let expected = step.expect.get("run").and_then(|expected| expected.exit);
                if expected != Some(NOT_FOUND) {
                    programs.extend(command.first().map(String::as_str));
                }
            }
            Action::Repeat { steps, .. } => of_steps(steps, programs),
            _ => {}
        }
    }
}
