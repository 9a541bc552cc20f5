//! Text to copy for a change: commands, and fragments of manifests, with the paths of the changed plan.

use crate::diagnosis::text::{shell, yaml};
use crate::diagnosis::{FixKind, RESUME};
use crate::plan::{Plan, Repair, Role, WorkloadSpec};
use crate::report::{Change, What};

/// A text and its kind.
pub(super) type Text = (FixKind, String);

pub(super) fn none(_: &Change, _: &Plan) -> Text {
    (FixKind::None, String::new())
}

fn command(text: String) -> Text {
    (FixKind::Command, text)
}

fn fragment(text: impl Into<String>) -> Text {
    (FixKind::Yaml, text.into())
}

/// The volume of the first affected workload, with the change.
pub(super) fn volume(change: &Change, plan: &Plan) -> Text {
    let name = change.on.first().map_or("", String::as_str);
    let Some(spec) = plan.workload(name) else {
        return none(change, plan);
    };
    let paths = spec.paths(&plan.bridge);
    let sub_path = spec.sub_path.as_ref();
    let sub_path =
        sub_path.map_or_else(String::new, |path| format!("    subPath: {}\n", yaml(path)));
    fragment(format!(
        "volumes:\n  - name: fuse\n    hostPath:\n      path: {}\nvolumeMounts:\n  - name: fuse\n    \
         mountPath: {}\n{sub_path}    mountPropagation: {}\n",
        yaml(&paths.source),
        yaml(&paths.destination),
        spec.propagation
    ))
}

pub(super) fn writable_volume(change: &Change, plan: &Plan) -> Text {
    let name = change.on.first().map_or("", String::as_str);
    let Some(spec) = plan.workload(name) else {
        return none(change, plan);
    };
    fragment(format!(
        "volumeMounts:\n  - name: fuse\n    mountPath: {}\n    readOnly: false\n",
        yaml(&spec.paths(&plan.bridge).destination)
    ))
}

/// The key of the plan; an external daemon takes it as its option.
pub(super) fn writable_mount(_: &Change, _: &Plan) -> Text {
    fragment("fuse:\n  read_only: false   # leave out the option -o ro of the daemon\n")
}

pub(super) fn producer(_: &Change, _: &Plan) -> Text {
    fragment(
        "securityContext:\n  privileged: true\nvolumeMounts:\n  - name: fuse\n    mountPropagation: \
         Bidirectional\n",
    )
}

pub(super) fn privileged(_: &Change, _: &Plan) -> Text {
    fragment("securityContext:\n  privileged: true\n")
}

pub(super) fn root(_: &Change, _: &Plan) -> Text {
    fragment("securityContext:\n  runAsUser: 0\n")
}

pub(super) fn host_users(_: &Change, _: &Plan) -> Text {
    fragment("hostUsers: true\n")
}

/// The key of the plan; an external daemon takes it as the option `-o allow_other`.
pub(super) fn allow_other(_: &Change, _: &Plan) -> Text {
    fragment("fuse:\n  allow_other: true   # the option -o allow_other of the daemon\n")
}

pub(super) fn user_allow_other(_: &Change, _: &Plan) -> Text {
    command("echo user_allow_other >> /etc/fuse.conf   # where fusermount3 runs\n".into())
}

pub(super) fn unmount_first(_: &Change, plan: &Plan) -> Text {
    let unmount = |path: &String| format!("umount --lazy {path}   # before the daemon starts\n");
    command(places(plan, plan.with_role(Role::Producer)).iter().map(unmount).collect())
}

/// The paths on the node of the mounts of workloads, each once, as words of a shell.
fn places<'a>(plan: &Plan, of: impl Iterator<Item = &'a WorkloadSpec>) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for path in of.map(|spec| shell(&plan.mountpoint_of(spec))) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// A probe that every image with a shell can run; the timeout is the kubelet's.
pub(super) fn producer_probe(_: &Change, plan: &Plan) -> Text {
    let path = plan
        .producer()
        .map_or_else(|| plan.bridge.fuse_path(), |spec| spec.paths(&plan.bridge).fuse);
    fragment(format!(
        "livenessProbe:   # propagation run --producer-liveness-probe\n  exec:\n    command: [ls, {}]\n  \
         timeoutSeconds: 2\n  periodSeconds: 5   # accesses wait for up to 7 s; tried with a probe at once\n  \
         failureThreshold: 1\n",
        yaml(&path)
    ))
}

pub(super) fn make_shared(_: &Change, plan: &Plan) -> Text {
    let path = shell(&plan.bridge.path);
    command(format!(
        "mount --make-rshared \"$(findmnt --noheadings --output TARGET --target {path})\"\n"
    ))
}

pub(super) fn install(_: &Change, _: &Plan) -> Text {
    command("apt-get install fuse3\n".into())
}

pub(super) fn restart(change: &Change, _: &Plan) -> Text {
    command(each(&change.on, |name| format!("kubectl exec {name} -- kill 1")))
}

pub(super) fn recreate(change: &Change, _: &Plan) -> Text {
    command(each(&change.on, |name| format!("kubectl delete pod {name}")))
}

pub(super) fn resume(_: &Change, _: &Plan) -> Text {
    command(format!("{RESUME}\n"))
}

pub(super) fn move_away(_: &Change, plan: &Plan) -> Text {
    command(format!("mv {0} {0}.before   # on the node\n", shell(&plan.bridge.path)))
}

/// The keys of the plan; of a real runtime the options of its unit.
pub(super) fn runtime_on_node(_: &Change, _: &Plan) -> Text {
    fragment("node:\n  runtime:\n    namespace: host\n    user_namespace: false\n")
}

fn each(names: &[String], line: impl Fn(&str) -> String) -> String {
    names.iter().map(|name| line(&shell(name)) + "\n").collect()
}

pub(super) fn repair(change: &Change, plan: &Plan) -> Text {
    let What::Repair(repair) = change.what else { return none(change, plan) };
    // Without a name it is about the first producer.
    let named: Vec<&WorkloadSpec> =
        change.on.iter().filter_map(|name| plan.workload(name)).collect();
    let concerned = if named.is_empty() { plan.producer().into_iter().collect() } else { named };
    let paths = places(plan, concerned.into_iter());
    let on_each = |line: fn(&String) -> String| -> String { paths.iter().map(line).collect() };
    let restart = || each(&change.on, |name| format!("kubectl exec {name} -- kill 1"));
    match repair {
        Repair::UnmountMount => command(on_each(|path| format!("umount {path}\n")) + &restart()),
        Repair::LazyUnmountMount => {
            command(on_each(|path| format!("umount --lazy {path}\n")) + &restart())
        }
        Repair::MountOnTop | Repair::Remount | Repair::RestartConsumer => command(restart()),
        Repair::RebindHost | Repair::RebindHostDeduplicated => {
            command(on_each(|path| format!("mount --bind {path} {path}\n")))
        }
        Repair::RecreateConsumer => recreate(change, plan),
        _ => none(change, plan),
    }
}
