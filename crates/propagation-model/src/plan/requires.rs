//! Requirements of a plan on the backend that carries it out.

use super::{Action, Fault, NodeSpec, PhaseName, Plan, Role, Step, Volume, WorkloadSpec};
use crate::capabilities::{Feature, Need, Requirement};

impl Plan {
    /// All requirements of the plan that not every backend meets. The rungs of the ladder of repairs are not among
    /// them: unsupported rungs are skipped.
    pub fn requires(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = self.of_the_node().map(needed).collect();
        for spec in &self.workloads {
            let workload = Some(spec.name.clone());
            let features = self.of_workload(spec);
            needs.extend(
                features.map(|what| Need { what: what.into(), workload: workload.clone() }),
            );
        }
        self.of_steps(&self.steps, &mut needs);
        needs
    }

    fn of_the_node(&self) -> impl Iterator<Item = Feature> {
        let runtime = &self.node.runtime;
        let odd = |path: &str| {
            path.contains(|sign: char| matches!(sign, '"' | '\\' | ':') || sign.is_control())
        };
        [
            (self.node != NodeSpec::default(), Feature::ShapedNode),
            (self.node.disk_bytes > 0, Feature::DiskSize),
            (!runtime.is_builtin(), Feature::OciRuntime),
            (runtime.is_apart(), Feature::RuntimeNamespace),
            (odd(&self.bridge.path) || odd(&self.bridge.mountpoint), Feature::AnyPath),
            (!self.filesystems.is_empty(), Feature::KernelFilesystems),
        ]
        .into_iter()
        .filter_map(|(needed, feature)| needed.then_some(feature))
    }

    fn of_workload(&self, spec: &WorkloadSpec) -> impl Iterator<Item = Feature> + use<> {
        let serves = spec.role == Role::Producer;
        let fuse = self.fuse_of(spec);
        let usual = matches!(spec.volume, Volume::Bridge | Volume::Mountpoint | Volume::Ancestor);
        [
            (spec.host, Feature::HostProcess),
            (spec.user_namespace, Feature::UserNamespace),
            (spec.outside_runtime, Feature::SecondRuntime),
            (spec.supervised, Feature::Supervisor),
            (spec.sub_path.is_some(), Feature::SubPath),
            (!usual, Feature::OtherVolume),
            (!spec.volumes.is_empty(), Feature::FurtherVolumes),
            (!spec.bind.is_default(), Feature::CheckedBind),
            (
                !spec.bind.recursive || spec.volumes.iter().any(|volume| !volume.bind.recursive),
                Feature::SingleBind,
            ),
            (spec.readers + spec.writers > 0, Feature::Load),
            (serves && !fuse.command.is_empty(), Feature::ExternalDaemon),
            (serves && fuse.transport.is_some(), Feature::Transport),
            (serves && spec.uid != 0, Feature::UnprivilegedProducer),
            (serves && fuse.keeper, Feature::Keeper),
            (spec.replicas > 1, Feature::Replicas),
        ]
        .into_iter()
        .filter_map(|(needed, feature)| needed.then_some(feature))
    }

    fn of_steps(&self, steps: &[Step], needs: &mut Vec<Need>) {
        let fault = |fault: &Fault| Requirement::Fault(fault.kind());
        for step in steps {
            match &step.action {
                Action::Phase(PhaseName::StaleMount) => needs.push(needed(fault(&self.fault))),
                Action::Fault(what) => needs.push(needed(fault(what))),
                Action::Repair(repair) => needs.push(needed(Requirement::Repair(*repair))),
                Action::Execute { inside, .. } => {
                    let container = self.workloads.iter().any(|it| it.name == *inside && !it.host);
                    let where_it_runs =
                        if container { Feature::Programs } else { Feature::NodePrograms };
                    needs.push(needed(where_it_runs));
                }
                Action::Publish(_) | Action::Unpublish(_) => {
                    needs.push(needed(Feature::Publishing))
                }
                Action::Reopen(_) => needs.push(needed(Feature::Reopening)),
                Action::Repeat { steps, .. } => self.of_steps(steps, needs),
                Action::Phase(_)
                | Action::Start(_)
                | Action::Stop(_)
                | Action::Restart(_)
                | Action::Recreate(_)
                | Action::Observe
                | Action::Wait(_)
                | Action::Pause(_) => {}
            }
        }
    }
}

fn needed(what: impl Into<Requirement>) -> Need {
    Need { what: what.into(), workload: None }
}
