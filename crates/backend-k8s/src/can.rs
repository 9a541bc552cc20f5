//! The capabilities of cluster nodes.

use propagation_core::observation::Access;
use propagation_core::plan::{FaultKind, Repair};
use propagation_core::{Capabilities, Feature};

/// The declaration. Faults are signals, deletions of pods and unmounts on the node: the built-in daemon takes
/// other orders only from a supervisor, which a pod does not have.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities::all()
        .without_faults(&[
            FaultKind::Exit,
            FaultKind::Abort,
            FaultKind::Slow,
            FaultKind::Errors,
            FaultKind::Oom,
        ])
        .without_repairs(&[Repair::HandOver])
        // Only a pod's own program holds a descriptor.
        .without_accesses(&[Access::Held])
        .without(&[
            // A node is what it is.
            Feature::ShapedNode,
            Feature::DiskSize,
            Feature::OciRuntime,
            Feature::RuntimeNamespace,
            Feature::SecondRuntime,
            // A kubelet cannot read its mount table while something is mounted at such a path, and starts no pods
            // any more.
            Feature::AnyPath,
            // A pod has one container with one volume, whose process 1 is the daemon.
            Feature::HostProcess,
            Feature::Supervisor,
            Feature::FurtherVolumes,
            Feature::Keeper,
            Feature::Load,
            // A driver publishes volumes on a cluster, and the run has none; its volumes are bound with all mounts
            // below them.
            Feature::Publishing,
            Feature::SingleBind,
            Feature::Reopening,
            // Pods with a user namespace need a newer cluster than is asked for.
            Feature::UserNamespace,
            // The pods' image has the built-in filesystem only, and no fusermount3.
            Feature::ExternalDaemon,
            Feature::UnprivilegedProducer,
            // It would change a node that is not the run's own, or is not in the pods' image.
            Feature::Programs,
        ])
}

#[cfg(test)]
mod tests {
    use propagation_core::Plan;
    use propagation_core::plan::{Fault, FuseSpec, Role, WorkloadSpec};

    use super::*;

    fn reason(plan: &Plan) -> Option<String> {
        capabilities().lack(&plan.requires())
    }

    #[test]
    fn the_five_phases_are_carried_out() {
        assert_eq!(reason(&Plan::default()), None);
    }

    #[test]
    fn paths_that_a_kubelet_cannot_read_are_refused() {
        for path in ["/srv/a\"b", "/srv/a\\b", "/srv/a\nb", "/srv/a:b"] {
            let mut plan = Plan::default();
            plan.bridge.path = path.into();
            assert!(reason(&plan).is_some_and(|reason| reason.contains("any_path")), "{path}");
        }
        let mut plan = Plan::default();
        plan.bridge.path = "/srv/my movies".into();
        assert_eq!(reason(&plan), None);
    }

    #[test]
    fn what_is_not_done_is_named() {
        let keeper = FuseSpec { keeper: true, ..FuseSpec::default() };
        for (plan, words) in [
            (Plan { fault: Fault::Oom, ..Plan::default() }, "oom"),
            (Plan { fuse: keeper, ..Plan::default() }, "keeper"),
            (
                Plan {
                    workloads: vec![WorkloadSpec {
                        host: true,
                        ..WorkloadSpec::new("outside", Role::Consumer)
                    }],
                    ..Plan::default()
                },
                "workload \"outside\"",
            ),
        ] {
            assert!(reason(&plan).is_some_and(|reason| reason.contains(words)), "{words}");
        }
    }
}
