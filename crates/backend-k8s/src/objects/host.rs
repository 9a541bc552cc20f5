//! The host pod: the host agent in a privileged pod that shares the node's process ids.

use k8s_openapi::ByteString;
use propagation_core::RunId;
use propagation_core::host::{Layout, RUNS};
use propagation_core::plan::Bridge;
use serde_json::{Value, json};

use super::workload::{IN_IMAGE, host_path, resources};
use super::{CONTAINER, SERVICE_ACCOUNT, labels};
use crate::toleration::Toleration;

/// The name of a run's host pod.
pub(crate) fn host_pod(run: &RunId) -> String {
    format!("host-agent-{run}")
}

/// The directory of the node that the directories of runs are made below.
pub(crate) const PARENT: &str = "/var/lib";

/// Where the config maps are mounted.
const PARTS: &str = "/agent";

/// Where the agent of a host pod comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentFrom {
    /// The image has it.
    Image(String),
    /// Config maps have it, compressed; this image has a shell and gunzip.
    ConfigMaps {
        /// An image that is on the node.
        shell_image: String,
        /// How many config maps there are.
        parts: usize,
    },
}

/// The most bytes of the agent in one config map: an API server takes 1 MiB with all around it.
const PART_BYTES: usize = 900 * 1024;

/// The config maps with the compressed agent, in parts.
pub(crate) fn config_maps(namespace: &str, run: &RunId, compressed: &[u8]) -> Vec<Value> {
    let parts = compressed.chunks(PART_BYTES).enumerate();
    parts
        .map(|(number, part)| {
            json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": metadata(namespace, run, &part_name(run, number)),
                "binaryData": { file_name(number): ByteString(part.to_vec()) },
            })
        })
        .collect()
}

fn part_name(run: &RunId, number: usize) -> String {
    format!("{}-{number}", host_pod(run))
}

/// Sorted as their numbers are.
fn file_name(number: usize) -> String {
    format!("agent.gz.{number:03}")
}

/// The metadata of an object of a run.
pub(crate) fn metadata(namespace: &str, run: &RunId, name: &str) -> Value {
    json!({ "name": name, "namespace": namespace, "labels": labels(Some(run)) })
}

/// The words after the agent's path with which it looks after a run.
pub(crate) fn arguments(command: &str, run: &RunId, bridge: &Bridge) -> Vec<String> {
    let words = [
        command,
        "--run-id",
        run.as_str(),
        "--bridge",
        &bridge.path,
        "--mountpoint",
        &bridge.mountpoint,
    ];
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The part of a shell script that fails, with the reason, where the agent may not be executed. For root `test -x`
/// may look at nothing but the file's mode.
pub(crate) fn may_be_executed(file: &str) -> String {
    format!(
        "{{ \"{file}\" version > /dev/null || \
         {{ echo \"if permission is denied: {RUNS} is on a filesystem that is mounted noexec\" >&2; false; }}; }}"
    )
}

/// The host pod. It goes to the node without asking the scheduler, whatever its taints.
pub(crate) fn pod(
    namespace: &str,
    run: &RunId,
    node: &str,
    bridge: &Bridge,
    agent: &AgentFrom,
) -> Value {
    let layout = Layout::on_node(run.as_str());
    // Of a directory that is there: a kubelet would make another before the image is, and leave it.
    let mut volumes = vec![host_path("node", PARENT, Some("Directory"))];
    let mut mounts = vec![mount("node", PARENT)];
    let mut command;
    let image = match agent {
        AgentFrom::Image(image) => {
            command = vec![IN_IMAGE.to_owned()];
            command.extend(arguments("host", run, bridge));
            image
        }
        AgentFrom::ConfigMaps { shell_image, parts } => {
            let sources: Vec<Value> = (0..*parts).map(|number| part(run, number)).collect();
            volumes.push(json!({ "name": "agent", "projected": { "sources": sources } }));
            mounts.push(mount("agent", PARTS));
            // The words that follow are the script's arguments, so that none has to be quoted.
            let script = format!(
                "mkdir -p -m 0700 {RUNS} && mkdir -p \"${{0%/*}}\" && \
                 cat {PARTS}/agent.gz.* | gunzip -c > \"$0\" && chmod 0755 \"$0\" && \
                 {MAY_BE_EXECUTED} && exec \"$0\" \"$@\"; \
                 rm -f \"$0\"; rmdir \"${{0%/*}}\" {RUNS}; exit 1",
                MAY_BE_EXECUTED = may_be_executed("$0"),
            );
            command = vec!["sh".into(), "-c".into(), script, layout.agent()];
            command.extend(arguments("host", run, bridge));
            shell_image
        }
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(namespace, run, &host_pod(run)),
        "spec": {
            "containers": [{
                "name": CONTAINER,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "resources": resources(),
                // What it says when it cannot serve is in the pod's status then.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "securityContext": { "privileged": true, "runAsUser": 0, "runAsGroup": 0 },
                "volumeMounts": mounts,
            }],
            "volumes": volumes,
            "hostPID": true,
            "nodeName": node,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "serviceAccountName": SERVICE_ACCOUNT,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [Toleration::everything()],
        },
    })
}

fn mount(name: &str, path: &str) -> Value {
    json!({ "name": name, "mountPath": path })
}

fn part(run: &RunId, number: usize) -> Value {
    json!({ "configMap": { "name": part_name(run, number) } })
}
