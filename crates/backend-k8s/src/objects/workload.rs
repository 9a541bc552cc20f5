//! A workload as a pod.

use std::collections::BTreeMap;

use propagation_core::RunId;
use propagation_core::host::{Layout, ProgramId, SECRET_VARIABLE};
use propagation_core::plan::{Bridge, Deadlines, Role, WorkloadSpec};
use serde_json::{Value, json};

use super::{CONTAINER, SERVICE_ACCOUNT, WORKLOAD, labels, without_nulls};
use crate::toleration::Toleration;

/// Which nodes a pod may run on.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Placement {
    /// Labels that the node has to have; none lets the scheduler choose.
    pub(crate) node_selector: BTreeMap<String, String>,
    /// Taints that do not matter.
    pub(crate) tolerations: Vec<Toleration>,
}

/// What the pods of a plan have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) run: Option<&'a RunId>,
    pub(crate) bridge: &'a Bridge,
    pub(crate) image: &'a str,
    pub(crate) placement: &'a Placement,
}

/// Directories and files of the node that a container gets, read-only, when it runs programs of the node.
pub(crate) fn node_trees(architecture: &str) -> Vec<&'static str> {
    // In images of busybox /sbin is a link to /bin: what is mounted there last is what is seen.
    let mut trees = vec!["/usr", "/sbin", "/bin", "/lib", "/etc/passwd", "/etc/group"];
    // Where the dynamic linker is.
    trees.extend((architecture == "amd64").then_some("/lib64"));
    trees
}

/// What the program of a pod does.
#[derive(Debug, Clone)]
pub(crate) enum Task<'a> {
    /// What the host agent says; the files of the run come in a volume, and so does what is to be the container's of
    /// the node.
    AsTold { program: ProgramId, secret: &'a str, run: &'a RunId, trees: &'a [&'static str] },
    /// What its command line says: for pods that are applied by hand.
    ByItself { deadlines: &'a Deadlines, allow_other: bool, liveness_probe: bool },
}

/// The pod of a workload.
pub(crate) fn pod(name: &str, spec: &WorkloadSpec, common: &Common<'_>, task: &Task<'_>) -> Value {
    let paths = spec.paths(common.bridge);
    let kind = spec.bind.kind.map(|kind| kind.to_string());
    let kind = kind.as_deref().or_else(|| kind_of(task));
    let mut volumes = vec![host_path("bridge", &paths.source, kind)];
    let mut mounts = vec![json!({
        "name": "bridge",
        "mountPath": paths.destination,
        "mountPropagation": spec.propagation.to_string(),
        "subPath": spec.sub_path,
        "readOnly": spec.bind.read_only.then_some(true),
        "recursiveReadOnly": spec.bind.recursive_read_only.then_some("Enabled"),
    })];
    for (number, volume) in spec.volumes.iter().enumerate() {
        let (name, how) = (format!("further-{number}"), &volume.bind);
        let kind = how.kind.map(|kind| kind.to_string());
        let source = common.bridge.fill(&volume.source);
        volumes.push(host_path(&name, &source, kind.as_deref()));
        mounts.push(json!({
            "name": name,
            "mountPath": volume.destination,
            "mountPropagation": volume.propagation.to_string(),
            "readOnly": how.read_only.then_some(true),
            "recursiveReadOnly": how.recursive_read_only.then_some("Enabled"),
        }));
    }
    if let Task::AsTold { run, trees, .. } = task {
        for (number, tree) in trees.iter().enumerate() {
            let name = format!("node-{number}");
            volumes.push(host_path(&name, tree, None));
            mounts.push(json!({ "name": name, "mountPath": tree, "readOnly": true }));
        }
        if !trees.is_empty() {
            volumes.push(json!({ "name": "tmp", "emptyDir": {} }));
            mounts.push(json!({ "name": "tmp", "mountPath": "/tmp" }));
        }
        let on_node = Layout::on_node(run.as_str());
        volumes.push(host_path("run", on_node.directory(), Some("Directory")));
        let inside = Layout::inside();
        mounts.push(json!({ "name": "run", "mountPath": inside.directory(), "readOnly": true }));
    }
    let env = match task {
        // Not an argument: those everybody on the node can read.
        Task::AsTold { secret, .. } => Some(json!([{ "name": SECRET_VARIABLE, "value": secret }])),
        Task::ByItself { .. } => None,
    };
    let liveness_probe = match task {
        Task::ByItself { liveness_probe: true, .. } if spec.role == Role::Consumer => {
            Some(liveness(&paths.fuse))
        }
        _ => None,
    };
    let capabilities = Some(&spec.capabilities).filter(|names| !names.is_empty());
    let mut labels = labels(common.run);
    labels.insert(WORKLOAD.into(), spec.name.clone());
    // Kubernetes has no groups of a single container.
    let groups = Some(&spec.groups).filter(|groups| !groups.is_empty());
    let placement = common.placement;
    let selector = Some(&placement.node_selector).filter(|labels| !labels.is_empty());
    let tolerations = Some(&placement.tolerations).filter(|list| !list.is_empty());
    without_nulls(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": common.namespace, "labels": labels },
        "spec": {
            "containers": [{
                "name": CONTAINER,
                "image": common.image,
                "imagePullPolicy": "IfNotPresent",
                "command": command(spec, common, task),
                "env": env,
                "resources": resources(),
                "securityContext": {
                    "privileged": spec.privileged(),
                    "capabilities": capabilities.map(|names| json!({ "add": names })),
                    "runAsUser": spec.uid,
                    "runAsGroup": spec.uid,
                },
                "volumeMounts": mounts,
                "livenessProbe": liveness_probe,
            }],
            "hostUsers": spec.user_namespace.then_some(false),
            "securityContext": groups.map(|groups| json!({ "supplementalGroups": groups })),
            "volumes": volumes,
            "restartPolicy": "Always",
            // Programs end at SIGTERM at once; who hangs is not waited for.
            "terminationGracePeriodSeconds": 1,
            "serviceAccountName": SERVICE_ACCOUNT,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "nodeSelector": selector,
            "tolerations": tolerations,
        },
    }))
}

/// By hand the directory may have to be made; a run has made and journaled it.
fn kind_of(task: &Task<'_>) -> Option<&'static str> {
    match task {
        // No check by the kubelet: the runtime's own words say what is wrong with a stale source.
        Task::AsTold { .. } => None,
        Task::ByItself { .. } => Some("DirectoryOrCreate"),
    }
}

pub(crate) fn host_path(name: &str, path: &str, kind: Option<&str>) -> Value {
    without_nulls(json!({ "name": name, "hostPath": { "path": path, "type": kind } }))
}

/// Small, as the programs are.
pub(crate) fn resources() -> Value {
    json!({ "requests": { "cpu": "50m", "memory": "32Mi" } })
}

/// Where the image has the agent.
pub(crate) const IN_IMAGE: &str = "/propagation-agent";

fn command(spec: &WorkloadSpec, common: &Common<'_>, task: &Task<'_>) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    match task {
        Task::AsTold { program, run, .. } => {
            let inside = Layout::inside();
            let (agent, socket) = (inside.agent(), inside.programs());
            let source = format!("propagation-{run}");
            let numbers = [program.container.to_string(), program.replica.to_string()];
            words(&[
                &agent,
                "program",
                "--socket",
                &socket,
                "--source",
                &source,
                "--container",
                &numbers[0],
                "--replica",
                &numbers[1],
            ])
        }
        Task::ByItself { deadlines, allow_other, .. } => {
            let paths = spec.paths(common.bridge);
            if spec.role == Role::Producer {
                let mut command = words(&[
                    IN_IMAGE,
                    "producer",
                    "--volume",
                    &paths.destination,
                    "--mountpoint",
                    &paths.fuse,
                    "--nonce",
                    "by-hand",
                ]);
                command.extend((!allow_other).then(|| "--no-allow-other".to_owned()));
                return command;
            }
            let (marker, probe) = (deadlines.marker_ms.to_string(), deadlines.probe_ms.to_string());
            words(&[
                IN_IMAGE,
                "consumer",
                "--mountpoint",
                &paths.fuse,
                "--marker-ms",
                &marker,
                "--probe-ms",
                &probe,
            ])
        }
    }
}

/// Looks every 10 s and gives a look 4 s: a dead mount restarts the container after at most
/// 3 × 10 s + 5 s, a hung one as well, because the look itself cannot hang. It waits 60 s for the
/// first mount.
fn liveness(mountpoint: &str) -> Value {
    json!({
        "exec": { "command": [IN_IMAGE, "probe", mountpoint, "--timeout", "4s"] },
        "initialDelaySeconds": 60,
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 3,
    })
}
