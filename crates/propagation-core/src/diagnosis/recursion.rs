//! Trees of mounts of which only the top has the propagation that the volume asks for.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::ON_THE_NODE;
use super::scene::Scene;
use super::text::{SHARED_SUBTREES, line, shell};
use crate::mountinfo::{MountEntry, MountPath, MountRef, MountTable};
use crate::observation::Actor;
use crate::plan::{Role, WorkloadSpec};
use crate::report::Capture;

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let consumers = scene.report.plan.with_role(Role::Consumer);
    consumers.filter_map(|spec| sends_from_below(scene, spec)).collect()
}

/// A mount that was made below such a tree, and is on the node too.
struct Escaped<'t> {
    /// The top of the volume, which sends nothing.
    top: &'t MountEntry,
    /// The mount below it, which does.
    below: &'t MountEntry,
    /// What was mounted on that.
    made: &'t MountEntry,
    /// Where it is on the node.
    on_node: &'t MountEntry,
}

fn sends_from_below(scene: &Scene<'_>, spec: &WorkloadSpec) -> Option<Cause> {
    let actor = Actor::workload(spec.name.clone());
    let captures = || scene.report.captures.iter();
    let first = captures().find_map(|capture| capture.table(&actor))?;
    let (capture, escaped) =
        captures().find_map(|one| Some((one, escaped(scene, spec, one, first)?)))?;
    let Escaped { top, below, made, on_node } = escaped;
    let gone = captures().skip_while(|one| one.step != capture.step).find(|one| {
        one.table(&Actor::Node).is_some_and(|table| table.by_id(on_node.mount_id).is_none())
    });
    let name = &spec.name;
    let path = shell(&below.mount_point.to_string_lossy());
    Some(Cause {
        id: CauseId::PropagationNotRecursive,
        from_step: Some(capture.step.clone()),
        until_step: gone.map(|one| one.step.clone()),
        title: format!(
            "the volume of {name} is {} at its top only: {}, which lies below it, is still shared with the node, so \
             what {name} mounts there reaches the node and covers what is there",
            top.propagation(),
            below.mount_point
        ),
        confidence: Confidence::Likely,
        actors: vec![actor, Actor::Node],
        mounts: vec![MountRef::new(name.clone(), below.mount_id)],
        evidence: vec![
            line(name, top),
            line(name, below),
            line(name, made),
            line("node", on_node),
        ],
        fix: Fix::command(
            format!(
                "make the whole tree a slave, not its top (rslave; some releases of crun did not), and take off the node \
                 what reached it ({})",
                on_node.mount_point
            ),
            format!(
                "mount --make-rslave {}\numount --lazy {}{ON_THE_NODE}",
                shell(&top.mount_point.to_string_lossy()),
                shell(&on_node.mount_point.to_string_lossy())
            ),
        )
        .inside(name.clone()),
        verify: format!("grep -F {path} /proc/self/mountinfo   # in {name}: with master:N and no shared:N"),
        source: format!("{SHARED_SUBTREES}; https://github.com/containers/crun/pull/2225"),
    })
}

fn escaped<'r>(
    scene: &Scene<'_>,
    spec: &WorkloadSpec,
    capture: &'r Capture,
    first: &MountTable,
) -> Option<Escaped<'r>> {
    let table = capture.table(&Actor::workload(spec.name.clone()))?;
    let node = capture.table(&Actor::Node)?;
    let top = table.at(&MountPath::from(scene.paths(spec).destination.as_str()))?;
    if top.shared.is_some() {
        return None;
    }
    let own = |mount: &MountEntry| {
        spec.volumes.iter().any(|volume| mount.mount_point == volume.destination.as_str().into())
    };
    let below_top = |mount: &&MountEntry| {
        mount.mount_id != top.mount_id
            && mount.mount_point.starts_with(&top.mount_point)
            && mount.shared.is_some()
            && !own(mount)
    };
    table.iter().filter(below_top).find_map(|below| {
        let made =
            table.children(below.mount_id).find(|made| first.by_id(made.mount_id).is_none())?;
        let on_node = node.by_device(made.device).find(|copy| {
            let under = node.by_id(copy.parent_id);
            under.is_some_and(|under| under.shared == below.shared)
        })?;
        Some(Escaped { top, below, made, on_node })
    })
}
