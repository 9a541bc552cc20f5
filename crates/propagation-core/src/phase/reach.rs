//! Whether a mount of the node can still reach a consumer by itself.
//!
//! mount(2) propagates a mount to all peers and slaves before it returns (Documentation/filesystems/sharedsubtree.rst).
//! A namespace that has not got the mount when the node has it does not get it later, so nobody waits for that.

use crate::context::RunContext;
use crate::error::Error;
use crate::mountinfo::MountTable;
use crate::observation::Actor;
use crate::plan::{Plan, WorkloadSpec};

/// The consumers, of these, whose mount namespaces the node's mount has not reached.
///
/// # Errors
/// As [`Node::mount_tables`](crate::Node::mount_tables).
pub(super) async fn beyond<'s>(
    context: &RunContext<'_>,
    consumers: &'s [WorkloadSpec],
) -> Result<Vec<&'s str>, Error> {
    let workloads = consumers.iter().map(|spec| Actor::workload(spec.name.clone()));
    let actors: Vec<Actor> = std::iter::once(Actor::Node).chain(workloads).collect();
    let tables = context.node.mount_tables(&actors).await?;
    let Some((Some(node), of_consumers)) = tables.split_first() else { return Ok(Vec::new()) };
    let all = consumers.iter().zip(of_consumers).filter_map(|(spec, table)| {
        let beyond = is_beyond(context.plan, node, spec, table.as_ref()?);
        beyond.then_some(spec.name.as_str())
    });
    Ok(all.collect())
}

/// Whether the node's FUSE mount is not in a consumer's mount table. An overlay at its volume may have a layer on
/// that mount, and then the table does not say.
fn is_beyond(plan: &Plan, node: &MountTable, spec: &WorkloadSpec, table: &MountTable) -> bool {
    let mounted = node.at(&plan.bridge.fuse_path().as_str().into());
    let Some(mounted) = mounted.filter(|mount| mount.is_served()) else { return false };
    let volume = spec.paths(&plan.bridge).destination.as_str().into();
    !table.iter().any(|mount| {
        let overlaid = mount.fs_type == "overlay" && mount.mount_point.starts_with(&volume);
        mount.device == mounted.device || overlaid
    })
}
