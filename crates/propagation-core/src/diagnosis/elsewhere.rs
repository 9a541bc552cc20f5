//! Consumers whose volume is another directory than the one in which the mount is: renamed, unpublished, or never the same.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{ON_THE_NODE, bind_again, verify_in};
use super::scene::{Scene, Stranded, first_replicas};
use super::text::{KUBERNETES_MODES, line, shell, yaml};
use super::visibility::Explanation;
use crate::mountinfo::{MountEntry, MountPath, MountRef};
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{Role, Volume};
use crate::report::Deed;

/// The directory that is a consumer's volume has been renamed since its start, and another one lies at its path.
pub(super) fn renamed(
    scene: &Scene<'_>,
    stranded: &Stranded<'_>,
    answer: &Explanation,
    volume: Option<&MountEntry>,
    evidence: &[String],
) -> Option<Cause> {
    let source = scene.paths(stranded.spec).source;
    let volume = volume.filter(|volume| volume.device == answer.covering.device)?;
    let now = answer.covering.directory_of(&source.as_str().into())?;
    if volume.root == now || volume.root_deleted || stranded.spec.host {
        return None;
    }
    let who = stranded.title();
    Some(Cause {
        id: CauseId::ConsumerNotConnected,
        from_step: None,
        until_step: None,
        title: format!(
            "the directory that is the volume of {who} is {} by now: it was renamed after {who} had started, and what lies at \
             {source} since then is another one",
            volume.root
        ),
        confidence: Confidence::Likely,
        actors: stranded.actors(),
        mounts: vec![MountRef::new(stranded.name, volume.mount_id)],
        evidence: evidence.to_vec(),
        fix: Fix::command(
            format!(
                "restart {who}, which binds the directory that is there now; empty a directory that is a volume instead of \
                 replacing it"
            ),
            bind_again(scene, stranded.spec),
        ),
        verify: verify_in(stranded.name, volume, &now.to_string_lossy()),
        source: "mount(2), MS_BIND; rename(2)".into(),
    })
}

/// All producers mount at other paths than a consumer looks at, and its volume contains none of these.
pub(super) fn mounted(scene: &Scene<'_>) -> Option<Cause> {
    let plan = &scene.report.plan;
    let spells = scene.history.spells.iter().filter(|spell| {
        let absent = matches!(spell.seen[0].outcome, Outcome::Absent);
        absent && spell.lasts() && scene.role_of(spell.actor) == Some(Role::Consumer)
    });
    let seen: Vec<&Observation> = spells.map(|spell| spell.seen[0]).collect();
    let first = *seen.first()?;
    let Actor::Workload { name, .. } = &first.actor else { return None };
    let source = scene.paths(scene.spec(name)?).source;
    let path = MountPath::from(source.as_str());
    let mut elsewhere = None;
    for producer in plan.with_role(Role::Producer) {
        let at = scene.on_node(producer);
        if at.starts_with(&path) || path.starts_with(&at) || at == scene.fuse_path {
            return None;
        }
        let table = scene.last_table(&Actor::Node)?.1;
        let mount = table.at(&at).filter(|mount| mount.is_fuse());
        elsewhere = elsewhere.or(mount.map(|mount| (producer, at, mount)));
    }
    let (producer, at, mount) = elsewhere?;
    let bridge = &plan.bridge;
    let spec = scene.spec(name).filter(|spec| spec.volume == Volume::Bridge)?;
    let destination = scene.paths(spec).destination;
    let cause = Cause {
        id: CauseId::ConsumerNotConnected,
        from_step: None,
        until_step: None,
        title: format!(
            "{} mounts at {at} of the node, and the volume of {name} ({source}) does not contain that path",
            producer.name
        ),
        confidence: Confidence::Likely,
        actors: first_replicas(&seen),
        mounts: vec![MountRef::new("node", mount.mount_id)],
        evidence: vec![first.to_string(), line("node", mount)],
        fix: Fix::yaml(
            format!(
                "give {} the volume of {name}, and let it mount in it; or {name} a volume that contains {at}",
                producer.name
            ),
            format!(
                "volumes:\n  - name: fuse\n    hostPath:\n      path: {}\nvolumeMounts:\n  - name: fuse\n    mountPath: {}\n    \
                 mountPropagation: Bidirectional\n",
                yaml(&bridge.path),
                yaml(&destination)
            ),
        ),
        verify: format!("findmnt {}   # on the node: the FUSE mount", shell(&bridge.fuse_path())),
        source: KUBERNETES_MODES.into(),
    };
    Some(scene.history.when(&seen).of(cause))
}

/// The mount was published on a consumer's path, was taken off there, and has not been published again.
pub(super) fn unpublished(scene: &Scene<'_>, stranded: &Stranded<'_>) -> Option<Cause> {
    let (name, seen) = (stranded.name, stranded.sample());
    let acts = scene.report.acts.iter().filter(|act| act.from_us <= seen.at_us);
    let of_it = acts.filter(|act| act.refused.is_none() && act.on.iter().any(|one| one == name));
    let mut of_it = of_it.filter(|act| matches!(act.deed, Deed::Publish | Deed::Unpublish));
    let last = of_it.next_back()?;
    if last.deed != Deed::Unpublish {
        return None;
    }
    let path = scene.paths(stranded.spec).source;
    let (at, source) = (shell(&path), shell(&scene.fuse_path.to_string_lossy()));
    Some(Cause {
        id: CauseId::MountGone,
        from_step: None,
        until_step: None,
        title: format!(
            "the volume of {} was unpublished in {} and has not been published again: what it started with is the directory at \
             {path}, on which nothing is mounted",
            stranded.title(),
            last.step
        ),
        confidence: Confidence::Likely,
        actors: stranded.actors(),
        mounts: Vec::new(),
        evidence: vec![seen.to_string(), stranded.node.to_string()],
        fix: Fix::command(
            format!("publish the volume of {name} again, which binds the mount there; then restart {name}"),
            format!(
                "mkdir -p {at} && mount --bind {source} {at}{ON_THE_NODE}\n{}",
                bind_again(scene, stranded.spec)
            ),
        ),
        verify: format!("findmnt --mountpoint {at}   # on the node"),
        source: "https://github.com/container-storage-interface/spec/blob/master/spec.md, NodePublishVolume".into(),
    })
}
