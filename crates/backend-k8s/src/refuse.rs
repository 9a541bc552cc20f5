//! What of a plan a real cluster cannot be made to do, or not yet.

use propagation_core::plan::{Action, Fault, NodeSpec, Plan, Repair, Role, Step, WorkloadSpec};

/// Why the plan is not carried out; none when it can be.
pub(crate) fn reason(plan: &Plan) -> Option<String> {
    if plan.node != NodeSpec::default() {
        return Some("a real node is what it is, and the plan shapes it".into());
    }
    for path in [&plan.bridge.path, &plan.bridge.mountpoint] {
        if path.contains(|sign: char| matches!(sign, '"' | '\\' | ':') || sign.is_control()) {
            return Some(format!(
                "a kubelet cannot read its mount table, and starts no pod of anybody, while something \
                 is mounted at a path with a quote, a backslash, a colon or a control character: {path:?}"
            ));
        }
    }
    let workload = plan.workloads.iter().find_map(|spec| of_workload(plan, spec));
    workload.or_else(|| of_fault(&plan.fault)).or_else(|| of_steps(&plan.steps))
}

fn of_workload(plan: &Plan, spec: &WorkloadSpec) -> Option<String> {
    let fuse = plan.fuse_of(spec);
    let why = [
        (spec.host, "a process of the node is not a pod"),
        (spec.user_namespace, "pods with a user namespace need a newer cluster than is asked for"),
        (spec.outside_runtime, "every pod is made by the node's one runtime"),
        (spec.supervised, "its daemon is process 1 of its container"),
        (!spec.volumes.is_empty(), "it has one volume"),
        (!spec.bind.recursive, "a kubelet's volumes are bound with all mounts below them"),
        (spec.readers + spec.writers > 0, "readers and writers run on simulated nodes only"),
        (!fuse.is_builtin(), "the pods' image has the built-in filesystem only"),
        (
            spec.role == Role::Producer && spec.uid != 0,
            "the pods' image has no fusermount3, without which only root can mount",
        ),
        (fuse.keeper, "nobody keeps the descriptor of a producer in a pod"),
    ];
    let found = why.iter().find(|(is_so, _)| *is_so);
    found.map(|(_, reason)| format!("workload {:?}: {reason}", spec.name))
}

fn of_fault(fault: &Fault) -> Option<String> {
    match fault {
        Fault::Kill
        | Fault::KillParent
        | Fault::Terminate
        | Fault::Delete
        | Fault::ForceDelete
        | Fault::Stop
        | Fault::Continue
        | Fault::Unmount
        | Fault::LazyUnmount => None,
        other => Some(format!("the fault \"{other}\" is not done to pods")),
    }
}

fn of_steps(steps: &[Step]) -> Option<String> {
    steps.iter().find_map(|step| {
        match &step.action {
        Action::Fault(fault) => of_fault(fault),
        Action::Repair(Repair::HandOver) => {
            Some("nothing is kept that could be handed over".into())
        }
        Action::Execute { .. } => Some(
            "a program of the scenario would change a node that is not the run's own, or is not in \
             the pods' image"
                .into(),
        ),
        Action::Reopen(_) => Some("nobody keeps a descriptor in a pod from outside".into()),
        Action::Publish(_) | Action::Unpublish(_) => {
            Some("a driver publishes volumes on a cluster, and the run has none".into())
        }
        Action::Repeat { steps, .. } => of_steps(steps),
        _ => None,
    }
    })
}

#[cfg(test)]
mod tests {
    use propagation_core::plan::FuseSpec;

    use super::*;

    #[test]
    fn the_five_phases_are_carried_out() {
        assert_eq!(reason(&Plan::default()), None);
    }

    #[test]
    fn paths_that_a_kubelet_cannot_read_are_refused() {
        for path in ["/srv/a\"b", "/srv/a\\b", "/srv/a\nb", "/srv/a:b"] {
            let mut plan = Plan::default();
            plan.bridge.path = path.into();
            assert!(reason(&plan).is_some_and(|reason| reason.contains("kubelet")), "{path}");
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
            (Plan { fuse: keeper, ..Plan::default() }, "keeps the descriptor"),
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
