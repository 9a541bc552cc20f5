//! The capabilities of cluster nodes.

use propagation_core::observation::Access;
use propagation_core::plan::FaultKind;
use propagation_core::{Capabilities, Feature};

/// The declaration.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities::all()
        // A pod's memory limit is in its specification.
        .without_faults(&[FaultKind::Oom])
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
            Feature::Load,
            // A driver publishes volumes on a cluster, and the run has none; its volumes are bound with all mounts
            // below them.
            Feature::Publishing,
            Feature::SingleBind,
            Feature::Reopening,
            // It would change a node that is not the run's own.
            Feature::NodePrograms,
            // What a node's kernel has is known once there is a node, which is too late to skip a file.
            Feature::KernelFilesystems,
            // Its programs would need an image, and its client the node's kernel and rights: `compare` does that.
            Feature::Transport,
        ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use propagation_core::comparison::Transport;
    use propagation_core::plan::{Fault, Role, WorkloadSpec};
    use propagation_core::{Plan, scenario};

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
        let mounts = Plan::default().with(|plan| plan.filesystems = vec!["nfs4".into()]);
        let served = Plan::default().with(|plan| plan.fuse.transport = Some(Transport::SmbRclone));
        let loaded = WorkloadSpec::new("outside", Role::Consumer).with(|spec| spec.readers = 3);
        for (plan, words) in [
            (Plan::default().with(|plan| plan.fault = Fault::Oom), "oom"),
            (mounts, "kernel_filesystems"),
            (served, "no server and its client in the producer's place (transport)"),
            (Plan::default().with(|plan| plan.workloads = vec![loaded]), "workload \"outside\""),
        ] {
            assert!(reason(&plan).is_some_and(|reason| reason.contains(words)), "{words}");
        }
    }

    /// The library on a cluster: how many of its files are carried out, and why the others are not. The table of
    /// docs/k8s.md is this one.
    #[test]
    fn the_library_on_a_cluster_is_as_documented() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let files = scenario::files(&root.join("scenarios")).expect("the library");
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for file in &files {
            let plan = scenario::read(file).expect("a scenario");
            let kind = match capabilities().lacks(&plan.requires()) {
                None => "carried out".to_owned(),
                Some(need) => need.what.to_string(),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let mut rows: Vec<_> = kinds.into_iter().collect();
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let table: String =
            rows.iter().map(|(kind, count)| format!("| {kind} | {count} |\n")).collect();
        let document = std::fs::read_to_string(root.join("docs/k8s.md")).expect("the document");
        assert!(document.contains(&table), "docs/k8s.md does not have:\n{table}");
    }
}
