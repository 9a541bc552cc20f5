//! Runtimes and containers in namespaces of their own.

use super::cause::{Cause, CauseId, Confidence, Fix};
use super::commands::{ON_THE_NODE, verify_in};
use super::scene::{Scene, Stranded};
use super::text::{SHARED_SUBTREES, line, names, shell};
use super::visibility::{Broken, Explanation, visibility_of_existing};
use crate::mountinfo::{MountEntry, MountRef};
use crate::observation::Actor;
use crate::plan::RuntimeNamespace;
use crate::report::Capture;

/// Mounts made below a workload's volume do not propagate to the node: its namespace is a slave of the node's.
pub(super) fn only_receives(
    scene: &Scene<'_>,
    capture: &Capture,
    name: &str,
    volume: &MountEntry,
) -> Cause {
    let node = capture.table(&Actor::Node).and_then(|table| table.covering(&scene.fuse_path));
    let runtime = capture.table(&Actor::Runtime).and_then(|table| table.covering(&scene.fuse_path));
    let mut evidence: Vec<String> = node.iter().map(|mount| line("node", mount)).collect();
    evidence.extend(runtime.iter().map(|mount| line("runtime", mount)));
    let known = in_user_namespace(scene, name);
    match runtime {
        Some(_) if !known => runtime_own_namespace(scene, name, volume, evidence),
        _ => user_namespace(scene, name, volume, evidence, known),
    }
}

/// Whether the plan puts a workload, or the runtime that makes it, into a user namespace.
pub(super) fn in_user_namespace(scene: &Scene<'_>, name: &str) -> bool {
    let plan = &scene.report.plan;
    plan.node.runtime.user_namespace
        || plan.workloads.iter().any(|spec| spec.name == name && spec.user_namespace)
}

/// Why the mount namespace in which the runtime makes a consumer lacks the node's mount: there was nothing to bind,
/// whatever the mode of its volume.
pub(super) fn never_had_the_mount(
    scene: &Scene<'_>,
    capture: &Capture,
    stranded: &Stranded<'_>,
) -> Option<Explanation> {
    capture.table(&Actor::Runtime).filter(|_| !stranded.spec.outside_runtime)?;
    visibility_of_existing(&capture.graph(), "node", &scene.fuse_path, "runtime").filter(|answer| {
        // What is hidden there has arrived, and what the node does not send is the node's matter.
        let own_matter =
            matches!(answer.broken, None | Some(Broken::Hidden { .. } | Broken::Source { .. }));
        !own_matter
    })
}

/// Consumers that were made in such a namespace.
pub(super) fn without_the_mount(
    scene: &Scene<'_>,
    found: &[(&Stranded<'_>, &MountEntry)],
) -> Option<Cause> {
    let (first, _) = found.first()?;
    let capture = scene.capture_for(first.sample())?;
    let answer = never_had_the_mount(scene, capture, first)?;
    let runtime = capture.table(&Actor::Runtime)?.covering(&scene.fuse_path);
    let mut evidence = vec![answer.to_string(), line("node", &answer.covering)];
    evidence.extend(runtime.map(|mount| line("runtime", mount)));
    for (stranded, volume) in found {
        evidence.extend([stranded.sample().to_string(), line(stranded.name, volume)]);
    }
    let titles: Vec<String> = found.iter().map(|(stranded, _)| stranded.title()).collect();
    let title = format!(
        "the container runtime lives in a mount namespace of its own, to which the node's mounts do not \
         propagate: when it made {} there was nothing to bind",
        names(titles.iter().map(String::as_str))
    );
    let whose = found.iter().flat_map(|(stranded, _)| stranded.actors());
    Some(Cause {
        actors: std::iter::once(Actor::Runtime).chain(whose).collect(),
        mounts: found.iter().map(|(s, volume)| MountRef::new(s.name, volume.mount_id)).collect(),
        ..apart(title, &scene.report.plan.bridge.path, is_simulated(scene), evidence)
    })
}

pub(super) fn runtime_own_namespace(
    scene: &Scene<'_>,
    name: &str,
    volume: &MountEntry,
    evidence: Vec<String>,
) -> Cause {
    let title = format!(
        "the container runtime lives in a mount namespace of its own, and its mounts are not peers \
         of the node's: {name} is connected to the runtime's, not to the node's"
    );
    Cause {
        actors: vec![Actor::Runtime, Actor::workload(name)],
        mounts: vec![MountRef::new(name, volume.mount_id)],
        ..apart(title, &scene.report.plan.bridge.path, is_simulated(scene), evidence)
    }
}

/// The cause for a runtime `process` with its own mounts, when a mount made on one side does not show
/// on the other; for a look at a host on which nothing runs yet.
pub fn runtime_apart(process: &str, bridge: &str, travel: &[Explanation]) -> Option<Cause> {
    let stopped: Vec<&Explanation> = travel.iter().filter(|way| way.broken.is_some()).collect();
    let places = stopped.iter().filter_map(|way| way.broken.as_ref()?.place());
    let mounts = places.map(|place| place.mount.clone()).collect();
    let title = format!(
        "{process} lives in a mount namespace of its own, and its mounts are not peers of the \
         node's"
    );
    let evidence = stopped.iter().map(ToString::to_string).collect();
    (!stopped.is_empty()).then(|| Cause { mounts, ..apart(title, bridge, false, evidence) })
}

/// The cause for a runtime with a mount namespace of its own; `simulated` where the plan asks for one.
pub(super) fn apart(title: String, bridge: &str, simulated: bool, evidence: Vec<String>) -> Cause {
    const UNIT: &str = "[Service]\\nPrivateMounts=no\\nPrivateTmp=no\\nMountFlags=shared\\n";
    let bridge = shell(bridge);
    let words = format!(
        "run the runtime in the node's mount namespace (systemd: no PrivateMounts, PrivateTmp or MountFlags in its unit); \
         start a node that is a container with --volume {bridge}:{bridge}:shared"
    );
    let fix = match simulated {
        true => {
            Fix::yaml(words, "node:\n  runtime:\n    namespace: host\n    user_namespace: false\n")
        }
        false => {
            let unit = format!("/etc/systemd/system/{RUNTIME}.service.d");
            Fix::command(
                words,
                format!(
                    "mkdir -p {unit} && printf '{UNIT}' > {unit}/mounts.conf && systemctl daemon-reload && systemctl \
                     restart {RUNTIME}{ON_THE_NODE}"
                ),
            )
        }
    };
    Cause {
        id: CauseId::RuntimeOwnNamespace,
        from_step: None,
        until_step: None,
        title,
        confidence: Confidence::Likely,
        actors: vec![Actor::Runtime],
        mounts: Vec::new(),
        evidence,
        fix,
        verify: "readlink /proc/1/ns/mnt /proc/$(pidof -s containerd)/ns/mnt   # the same twice"
            .into(),
        source: format!("{SHARED_SUBTREES}; systemd.exec(5), MountFlags="),
    }
}

/// The unit of the runtime, as in `verify`.
const RUNTIME: &str = "containerd";

pub(super) fn is_simulated(scene: &Scene<'_>) -> bool {
    scene.report.plan.node.runtime.namespace != RuntimeNamespace::Host
}

pub(super) fn user_namespace(
    scene: &Scene<'_>,
    name: &str,
    volume: &MountEntry,
    evidence: Vec<String>,
    known: bool,
) -> Cause {
    let rootless = scene.report.plan.node.runtime.user_namespace;
    let fix = match rootless {
        true => Fix::yaml(
            "run the producer with root's engine, or as a process of the node",
            "node:\n  runtime:\n    namespace: host\n    user_namespace: false\n",
        ),
        false => Fix::yaml(
            "run the producer in the node's user namespace: no rootless engine, and",
            "hostUsers: true\n",
        ),
    };
    Cause {
        id: CauseId::UserNamespaceBoundary,
        from_step: None,
        until_step: None,
        title: format!(
            "the mount namespace of {name} belongs to another user namespace than the node's: it \
             receives mounts as a slave and sends none"
        ),
        confidence: if known { Confidence::Likely } else { Confidence::Possible },
        actors: vec![Actor::workload(name)],
        mounts: vec![MountRef::new(name, volume.mount_id)],
        evidence,
        fix,
        verify: verify_in(name, volume, "shared:N and no master:N"),
        source: "mount_namespaces(7), Restrictions on mount namespaces; user_namespaces(7)".into(),
    }
}
