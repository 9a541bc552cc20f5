//! Runtimes and namespaces: mounts that do not propagate because of the namespace in which containers
//! are made, and containers that differ from their manifest.

use super::apart::{
    apart, in_user_namespace, is_simulated, only_receives, runtime_own_namespace, user_namespace,
};
use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{ON_THE_NODE, delete_pod, verify_in};
use super::elsewhere;
use super::host::covering_cause;
use super::place::Bound;
use super::scene::When;
use super::scene::{Scene, Stranded};
use super::text::{KUBERNETES_MODES, SHARED_SUBTREES, line, names, shell, yaml};
use super::visibility::{Broken, Explanation, visibility_of_existing};
use crate::mountinfo::{MountEntry, MountPath, MountRef, MountTable};
use crate::observation::{Actor, Observation, Outcome};
use crate::plan::{HostPathType, Propagation, Role, Volume, WorkloadSpec};
use crate::program::RefusalKind;
use crate::report::{Capture, CheckId, Failure};

pub(super) fn rule(scene: &Scene<'_>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = control_positive(scene).into_iter().collect();
    causes.extend(refused_for_propagation(scene));
    causes.extend(refused_for_its_type(scene));
    causes.extend(producer_not_sent(scene));
    causes.extend(elsewhere::mounted(scene));
    causes
}

/// The runtime refused a volume because the covering mount does not propagate as its mode needs.
fn refused_for_propagation(scene: &Scene<'_>) -> Option<Cause> {
    let refused = scene.refused(RefusalKind::NotShared);
    let first = *refused.first()?;
    let name = first.workload.as_str();
    let words: Vec<(&str, &str)> =
        refused.iter().map(|one| (one.workload.as_str(), one.words.as_str())).collect();
    let mut evidence = said_by_the_runtime(&words);
    // What counts is how it was when the start was refused.
    let source = scene.refused_volume(first)?.source;
    let covering = |actor| scene.table_in(actor, &first.step)?.covering(&source.as_str().into());
    let (node, runtime) = (covering(&Actor::Node), covering(&Actor::Runtime));
    if let Some(mount) = node {
        let table = scene.table_in(&Actor::Node, &first.step);
        if let Some(cause) = covering_cause(mount, &source, table) {
            evidence.extend(cause.evidence.iter().cloned());
            let actors = refused.iter().map(|one| Actor::workload(one.workload.clone()));
            let actors = std::iter::once(Actor::Node).chain(actors).collect();
            return Some(covered_until(scene, &refused, &source).of(Cause {
                evidence,
                actors,
                ..cause
            }));
        }
    }
    evidence.extend(node.map(|mount| line("node", mount)));
    evidence.extend(runtime.map(|mount| line("runtime", mount)));
    if in_user_namespace(scene, name) {
        let cause = user_namespace(scene, name, runtime.or(node)?, evidence, true);
        return Some(scene.when_failed(&refused).of(cause));
    }
    let runtime = runtime?;
    let title = format!(
        "the container runtime lives in a mount namespace of its own, in which the mount that \
         covers the volume does not send: it refuses to start {name}"
    );
    let cause = Cause {
        actors: vec![Actor::Runtime, Actor::workload(name)],
        mounts: vec![MountRef::new("runtime", runtime.mount_id)],
        ..apart(title, &scene.report.plan.bridge.path, is_simulated(scene), evidence)
    };
    Some(scene.when_failed(&refused).of(cause))
}

/// The period in which the mount that covers a volume's source kept workloads from starting: until it was shared,
/// or they started.
fn covered_until(scene: &Scene<'_>, refused: &[&Failure], source: &str) -> When {
    let when = scene.when_failed(refused);
    let place = |step: &str| scene.history.place(step);
    let last = refused.iter().map(|one| place(&one.step)).max().unwrap_or_default();
    let shared = scene.report.captures.iter().find(|capture| {
        let later = place(&capture.step) != usize::MAX && place(&capture.step) > last;
        let table = capture.table(&Actor::Node).filter(|_| later);
        let covering = table.and_then(|table| table.covering(&source.into()));
        covering.is_some_and(|mount| mount.shared.is_some())
    });
    match shared {
        Some(capture) => When { until: Some(capture.step.clone()), ..when },
        None => when,
    }
}

/// A file and a directory cannot be bound on each other, and the kubelet looks for the type that a hostPath names.
fn refused_for_its_type(scene: &Scene<'_>) -> Option<Cause> {
    let refused = scene.refused(RefusalKind::WrongType);
    let first = *refused.first()?;
    let words: Vec<(&str, &str)> =
        refused.iter().map(|one| (one.workload.as_str(), one.words.as_str())).collect();
    let name = &first.workload;
    let volume = scene.refused_volume(first)?;
    let spec = scene.spec(name)?;
    let title = match volume.bind.kind {
        Some(kind) => format!(
            "the volume of {name} is a hostPath of type {kind}, and what lies at {} is of another type",
            volume.source
        ),
        None => format!(
            "the volume of {name} binds {} to {}, and one of them is a file and the other a directory (ENOTDIR)",
            volume.source, volume.destination
        ),
    };
    let cause = Cause {
        id: CauseId::SourceTypeMismatch,
        from_step: None,
        until_step: None,
        title,
        confidence: Confidence::Likely,
        actors: refused.iter().map(|one| Actor::workload(one.workload.clone())).collect(),
        mounts: Vec::new(),
        evidence: said_by_the_runtime(&words),
        fix: other_type(spec, &volume),
        verify: format!("stat -c %F {}   # on the node", shell(&volume.source)),
        source: "mount(2), ENOTDIR; https://kubernetes.io/docs/concepts/storage/volumes/#hostpath"
            .into(),
    };
    Some(scene.when_failed(&refused).of(cause))
}

/// Fix for a source that is not of the type of its place.
fn other_type(spec: &WorkloadSpec, volume: &Bound<'_>) -> Fix {
    let words = "bind a directory to a directory and a file to a file: a source that is missing is made as a directory by the \
                 runtime, so start the producer first, or use hostPath with type File";
    // Of another volume nobody here knows what is to be there.
    if !volume.is_main {
        return Fix::words(format!(
            "{words}; look at {} on the node and at {} in the image, and correct the path or the type",
            volume.source, volume.destination
        ));
    }
    let wants_directory = matches!(
        volume.bind.kind,
        None | Some(HostPathType::Directory | HostPathType::DirectoryOrCreate)
    );
    match wants_directory && spec.volume != Volume::File {
        true => Fix::command(
            format!("{words}; here a file lies where a directory is to be"),
            format!("mv {0} {0}.before && mkdir {0}{ON_THE_NODE}", shell(&volume.source)),
        ),
        false => Fix::words(words),
    }
}

/// Messages of the runtime, each once.
pub(super) fn said_by_the_runtime(refused: &[(&str, &str)]) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for (_, words) in refused {
        let words = format!("the runtime: {words}");
        if !said.contains(&words) {
            said.push(words);
        }
    }
    said
}

/// A control that must not see the mount sees it.
fn control_positive(scene: &Scene<'_>) -> Option<Cause> {
    let controls = scene.failures().filter_map(|check| match &check.id {
        CheckId::Control(name) => Some(name.clone()),
        _ => None,
    });
    let controls: Vec<String> = controls.collect();
    let first = controls.first()?;
    let mut evidence: Vec<String> = Vec::new();
    let mut mounts = Vec::new();
    for name in &controls {
        let actor = Actor::workload(name.clone());
        let seen = scene.probes().filter(|seen| seen.actor == actor).last();
        evidence.extend(seen.map(ToString::to_string));
        let at = scene.last_table(&actor).and_then(|(_, t)| t.covering(&scene.path_of(&actor)));
        evidence.extend(at.map(|mount| line(name, mount)));
        mounts.extend(at.map(|mount| MountRef::new(name.clone(), mount.mount_id)));
    }
    Some(Cause {
        id: CauseId::ControlPositive,
        from_step: None,
        until_step: None,
        title: format!(
            "{} must not see the mount (None, started before it) and does: its container is not \
             isolated, so seeing the mount proves nothing",
            names(controls.iter().map(String::as_str))
        ),
        confidence: Confidence::Likely,
        actors: controls.iter().map(|name| Actor::workload(name.clone())).collect(),
        mounts,
        evidence,
        fix: Fix::words(
            "let the runtime make / of its containers rslave before it binds, and volumes of mode \
             None rprivate: look at rootfsPropagation in its config.json",
        ),
        verify: format!(
            "kubectl exec {first} -- cat /proc/self/mountinfo   # no shared:N anywhere"
        ),
        source: "https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md, Rootfs \
                 Mount Propagation"
            .into(),
    })
}

/// The producer has its FUSE mount and the node does not: the mount is not sent.
fn producer_not_sent(scene: &Scene<'_>) -> Option<Cause> {
    let producers = scene.report.plan.with_role(Role::Producer);
    producers
        .filter(|spec| scene.is_on_bridge(spec))
        .flat_map(|spec| scene.report.captures.iter().rev().map(move |capture| (spec, capture)))
        .find_map(|(spec, capture)| not_sent(scene, spec, capture))
}

/// A producer had its mount in a step in which the node looked and had none.
fn not_sent(scene: &Scene<'_>, spec: &WorkloadSpec, capture: &Capture) -> Option<Cause> {
    let actor = Actor::workload(spec.name.clone());
    let without =
        |seen: &&&Observation| seen.step == capture.step && matches!(seen.outcome, Outcome::Absent);
    let seen = scene.node.iter().rfind(without)?;
    let table = capture.table(&actor)?;
    let path = scene.path_of(&actor);
    let fuse = table.at(&path).filter(|entry| entry.is_served())?;
    let there = capture.table(&Actor::Node)?.at(&scene.fuse_path);
    there.is_none_or(|mount| !mount.is_served()).then_some(())?;
    let label = actor.to_string();
    let broken = visibility_of_existing(&capture.graph(), &label, &path, "node")?.broken?;
    let volume = table.by_id(fuse.parent_id)?;
    let evidence = vec![line(&spec.name, fuse), line(&spec.name, volume), seen.to_string()];
    let cause = match broken {
        Broken::Source { .. } if is_outside(scene, spec, volume) => {
            outside_volume(scene, &spec.name, spec, volume)
        }
        Broken::Source { .. } => not_shared(scene, capture, &spec.name, volume),
        Broken::Upstream { .. } => only_receives(scene, capture, &spec.name, volume),
        Broken::NoCopy | Broken::Private { .. } | Broken::OtherGroup { .. }
            if capture.table(&Actor::Runtime).is_some() =>
        {
            only_receives(scene, capture, &spec.name, volume)
        }
        _ => return None,
    };
    let cause = Cause { evidence: [evidence, cause.evidence].concat(), ..cause };
    let when = scene.history.when(&[seen]);
    // Another producer's mount on the node does not bring this one there.
    let until = when.until.filter(|_| !is_kept_to_the_end(scene, &actor, fuse));
    Some(When { until, ..when }.of(cause))
}

/// Whether a producer has its mount in the end, and the node has not.
fn is_kept_to_the_end(scene: &Scene<'_>, actor: &Actor, fuse: &MountEntry) -> bool {
    let Some(last) = scene.report.captures.last() else { return false };
    let has = |table: Option<&MountTable>| {
        table.is_some_and(|table| table.by_device(fuse.device).next().is_some())
    };
    has(last.table(actor)) && last.table(&Actor::Node).is_some() && !has(last.table(&Actor::Node))
}

/// Whether a producer with a shared volume mounted outside of it.
fn is_outside(scene: &Scene<'_>, spec: &WorkloadSpec, mount: &MountEntry) -> bool {
    let destination = scene.paths(spec).destination;
    spec.propagation == Propagation::Bidirectional
        && mount.mount_point != destination.as_str().into()
        && !MountPath::from(destination.as_str()).starts_with(&mount.mount_point)
}

fn outside_volume(scene: &Scene<'_>, name: &str, spec: &WorkloadSpec, mount: &MountEntry) -> Cause {
    let destination = scene.paths(spec).destination;
    Cause {
        id: CauseId::MountOutsideVolume,
        from_step: None,
        until_step: None,
        title: format!(
            "{name} mounts at a path that lies on {}, which is outside its shared volume ({destination}): what it \
             mounts there stays in its own namespace",
            mount.mount_point
        ),
        confidence: Confidence::Likely,
        actors: vec![Actor::workload(name)],
        mounts: vec![MountRef::new(name, mount.mount_id)],
        evidence: Vec::new(),
        fix: Fix::yaml(
            format!(
                "let {name} mount inside {destination}: this volume only, with Bidirectional, and none at {}",
                mount.mount_point
            ),
            format!(
                "volumeMounts:   # and none at {}\n  - name: fuse\n    mountPath: {}\n    mountPropagation: \
                 Bidirectional\n",
                mount.mount_point,
                yaml(&destination)
            ),
        ),
        verify: format!(
            "findmnt --target {}   # on the node",
            shell(&scene.on_node(spec).to_string_lossy())
        ),
        source: SHARED_SUBTREES.into(),
    }
}

fn not_shared(scene: &Scene<'_>, capture: &Capture, name: &str, volume: &MountEntry) -> Cause {
    const FRAGMENT: &str = "securityContext:\n  privileged: true\nvolumeMounts:\n  - name: fuse\n    \
                            mountPath: /mnt\n    mountPropagation: Bidirectional\n";
    let bridge = scene.report.plan.bridge.path.as_str();
    let covering = capture.table(&Actor::Node).and_then(|table| table.covering(&bridge.into()));
    // A container with Bidirectional is refused where what covers its volume is not shared.
    let first = covering.filter(|mount| mount.shared.is_none());
    let fix = match first {
        Some(mount) => Fix::yaml(
            format!(
                "first make the mount that covers the bridge shared ({}, on the node; a runtime refuses \
                 Bidirectional otherwise), then set mountPropagation: Bidirectional on the producer's volume, which \
                 needs privileged, and start the consumers anew",
                mount.mount_point
            ),
            format!(
                "# on the node, first: mount --make-rshared {}\n{FRAGMENT}",
                shell(&mount.mount_point.to_string_lossy())
            ),
        ),
        None => Fix::yaml(
            "set mountPropagation: Bidirectional on the producer's volume; it needs privileged",
            FRAGMENT,
        ),
    };
    Cause {
        id: CauseId::ProducerNotShared,
        from_step: None,
        until_step: None,
        title: format!(
            "the volume of {name} is {}, not shared: what it mounts stays in its own namespace",
            volume.propagation()
        ),
        confidence: Confidence::Likely,
        actors: vec![Actor::workload(name)],
        mounts: vec![MountRef::new(name, volume.mount_id)],
        evidence: covering.iter().map(|mount| line("node", mount)).collect(),
        fix,
        verify: verify_in(name, volume, "shared:N"),
        source: KUBERNETES_MODES.into(),
    }
}

/// A consumer whose volume is not downstream of the mount on which the producer's landed.
pub(super) fn not_connected(
    scene: &Scene<'_>,
    capture: &Capture,
    stranded: &Stranded<'_>,
    answer: &Explanation,
) -> Cause {
    let name = stranded.name;
    let at = answer.broken.as_ref().and_then(Broken::place);
    let table = capture.table(&Actor::workload(name));
    let volume = table.and_then(|table| table.by_id(at?.mount.mount_id));
    let mut evidence = vec![stranded.sample().to_string(), answer.to_string()];
    evidence.push(line("node", &answer.covering));
    evidence.extend(volume.map(|mount| line(name, mount)));
    let runtime = capture.table(&Actor::Runtime).and_then(|table| table.covering(&scene.fuse_path));
    if let (Some(runtime), Some(volume)) = (runtime, volume)
        && runtime.shared != answer.covering.shared
    {
        evidence.push(line("runtime", runtime));
        return Cause {
            actors: stranded.actors(),
            ..runtime_own_namespace(scene, name, volume, evidence)
        };
    }
    if let Some(cause) = elsewhere::renamed(scene, stranded, answer, volume, &evidence) {
        return cause;
    }
    Cause {
        id: CauseId::ConsumerNotConnected,
        from_step: None,
        until_step: None,
        title: format!(
            "the volume of {} is not connected to the node's mount on which the producer's landed",
            stranded.title()
        ),
        confidence: Confidence::Likely,
        actors: stranded.actors(),
        mounts: at.map(|place| place.mount.clone()).into_iter().collect(),
        evidence,
        fix: Fix::words(
            "let the runtime bind the volume from the namespace in which the mount shows, and the \
             volume be the directory in which it is made or one above it",
        ),
        verify: format!(
            "kubectl exec {name} -- cat /proc/self/mountinfo   # master:N of the volume is shared:N \
             of the node's covering mount"
        ),
        source: SHARED_SUBTREES.into(),
    }
}

/// A consumer whose volume is private although its manifest asks for more.
pub(super) fn not_applied(stranded: &Stranded<'_>, volume: &MountEntry) -> Cause {
    let name = stranded.name;
    let mode = stranded.spec.propagation;
    Cause {
        id: CauseId::PropagationNotApplied,
        from_step: None,
        until_step: None,
        title: format!(
            "the volume of {} is private although it asks for {mode}: the runtime did not apply it",
            stranded.title()
        ),
        confidence: Confidence::Likely,
        actors: stranded.actors(),
        mounts: vec![MountRef::new(name, volume.mount_id)],
        evidence: vec![line(name, volume), stranded.sample().to_string()],
        fix: Fix::command(
            "update the runtime: private first and slave afterwards leaves a mount private, and some releases of runc and \
             crun did so; then make the pod anew",
            delete_pod(name),
        ),
        verify: verify_in(name, volume, "master:N"),
        source: "https://github.com/opencontainers/runc/issues/5192; \
                 https://github.com/containers/crun/issues/2197"
            .into(),
    }
}
