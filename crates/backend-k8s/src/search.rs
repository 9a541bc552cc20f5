//! Finds on the nodes what runs have left there, also runs that the cluster has no record of any more.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::ListParams;
use propagation_core::host::RUNS;
use propagation_core::report::Cleanup;
use propagation_core::{Error, ErrorKind, RunId};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::failure::{api, persist_until};
use crate::kinds::{Kind, Node as NodeObject, Pod};
use crate::objects::CONTAINER;
use crate::objects::host::{PARENT, metadata};
use crate::objects::workload::{host_path, resources};
use crate::reach::Way;
use crate::requests::Api;
use crate::toleration::Toleration;
use crate::{images, namespaces};

/// How many nodes are looked at at a time.
const AT_ONCE: usize = 8;

/// Time for the pod that looks at a node.
const LOOKS_WITHIN: Duration = Duration::from_secs(60);

/// Where that pod has the node's directory.
const NODE: &str = "/node";

/// What the nodes have of runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct OnNodes {
    /// The runs, each with its node and whether that was reached over ssh.
    pub(crate) runs: BTreeMap<(String, RunId), bool>,
    /// Nodes that could not be looked at, each with the reason.
    pub(crate) unknown: BTreeMap<String, String>,
}

/// Looks at these nodes, or at all.
pub(crate) async fn on_nodes(cluster: &Cluster, wanted: &[String]) -> Result<OnNodes, Error> {
    let nodes: Api<NodeObject> = Api::all(cluster.client.clone());
    let list = nodes.list(&ListParams::default()).await.map_err(|e| api("list the nodes", e))?;
    let is_wanted = |node: &NodeObject| wanted.is_empty() || wanted.contains(&node.name());
    let looks = list.into_iter().filter(is_wanted).map(|node| async move {
        let looked = match Way::find(&cluster.for_node(node.name())).await {
            #[cfg(unix)]
            Ok(Way::Ssh(over)) => {
                let words = ["sh".to_owned(), "-c".to_owned(), script(RUNS)];
                let looked = tokio::time::timeout(LOOKS_WITHIN, over.run(&words, &[])).await;
                Some(looked.unwrap_or_else(|_| {
                    let operation = format!("look at node {}", node.name());
                    let reason = format!("no answer in {} s", LOOKS_WITHIN.as_secs());
                    Err(Error::new(ErrorKind::Timeout, operation, reason))
                }))
            }
            Ok(Way::Pod) => None,
            Err(error) => Some(Err(error)),
        };
        (node, looked)
    });
    let looks = futures_util::stream::iter(looks).buffer_unordered(AT_ONCE);
    let (mut found, mut by_pod) = (OnNodes::default(), Vec::new());
    for (node, looked) in looks.collect::<Vec<_>>().await {
        match looked {
            Some(looked) => found.add(&node.name(), true, looked),
            None => by_pod.push(node),
        }
    }
    if !by_pod.is_empty() {
        by_pods(cluster, &by_pod, &mut found).await?;
    }
    Ok(found)
}

impl OnNodes {
    fn add(&mut self, node: &str, over_ssh: bool, looked: Result<String, Error>) {
        match looked {
            Ok(text) => {
                let runs = text.split_whitespace().filter_map(run_of);
                self.runs.extend(runs.map(|run| ((node.to_owned(), run), over_ssh)));
            }
            Err(error) => drop(self.unknown.insert(node.to_owned(), error.to_string())),
        }
    }
}

/// A run, by the name of its directory or of what its mounts call their source.
fn run_of(word: &str) -> Option<RunId> {
    RunId::parse(word.strip_prefix("propagation-").unwrap_or(word)).ok()
}

/// Prints the names of directories of runs, and the sources of their mounts.
fn script(runs: &str) -> String {
    format!("ls {runs} 2> /dev/null; tr ' ' '\\n' < /proc/1/mountinfo | grep '^propagation-'; true")
}

/// Looks at nodes through pods, in a namespace of their own, which is gone again afterwards.
async fn by_pods(
    cluster: &Cluster,
    nodes: &[NodeObject],
    found: &mut OnNodes,
) -> Result<(), Error> {
    let run = RunId::generate()?;
    let space = namespaces::make(cluster, &run).await?;
    let (run, space) = (&run, space.as_str());
    let looks = nodes.iter().cloned().map(|node| async move {
        let looked = look(cluster, run, space, &node).await;
        (node.name(), looked)
    });
    let looks = futures_util::stream::iter(looks).buffer_unordered(AT_ONCE);
    let looked: Vec<_> = looks.collect().await;
    looked.into_iter().for_each(|(name, looked)| found.add(&name, false, looked));
    let mut cleanup = Cleanup::default();
    namespaces::delete_unused(&cluster.client, space, &mut cleanup).await;
    match cleanup.could_not.pop() {
        Some(reason) => Err(Error::new(ErrorKind::Environment, "look at the nodes", reason)),
        None => Ok(()),
    }
}

/// What the script prints on a node.
async fn look(
    cluster: &Cluster,
    run: &RunId,
    space: &str,
    node: &NodeObject,
) -> Result<String, Error> {
    let name = node.name();
    cluster.apply::<Pod>(space, &pod(run, space, node)?).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), space);
    let operation = format!("look at node {name}");
    let ended = |pod: Option<&Pod>| pod.is_none_or(|pod| said(pod).is_some());
    let pod_name = pod_name(node);
    let waited = persist_until(&operation, &pods, &pod_name, ended);
    let failed = |reason: String| {
        Error::new(ErrorKind::Environment, operation.clone(), reason)
            .with_fix("see whether its kubelet runs: kubectl describe node")
    };
    match tokio::time::timeout(LOOKS_WITHIN, waited).await {
        Ok(pod) => {
            let said = pod?.as_ref().and_then(said);
            said.ok_or_else(|| failed("the pod that looks was deleted".into()))
        }
        Err(_) => Err(failed(format!("not in {} s", LOOKS_WITHIN.as_secs()))),
    }
}

/// A pod that reads, changes nothing, and says by its end what it has found.
fn pod(run: &RunId, space: &str, node: &NodeObject) -> Result<Value, Error> {
    let script = script(&format!("{NODE}/propagation"));
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(space, run, &pod_name(node)),
        "spec": {
            "containers": [{
                "name": CONTAINER,
                "image": images::with_shell(node)?,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", format!("{{ {script}; }} > /dev/termination-log")],
                "resources": resources(),
                "volumeMounts": [{ "name": "node", "mountPath": NODE, "readOnly": true }],
            }],
            "volumes": [host_path("node", PARENT, Some("Directory"))],
            "hostPID": true,
            "nodeName": node.name(),
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "tolerations": [Toleration::everything()],
        },
    }))
}

fn pod_name(node: &NodeObject) -> String {
    format!("look-at-{}", node.name())
}

/// What a pod has said by its end.
fn said(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    Some(ended.message.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_known_by_its_directory_and_by_its_mounts() {
        let mut found = OnNodes::default();
        let text = "20260101t000000-0123abcd\nlost+found\npropagation-20260101t000000-89abcdef\n\
                    propagation-../x\n";
        found.add("w1", true, Ok(text.into()));
        let runs: Vec<&str> = found.runs.keys().map(|(_, run)| run.as_str()).collect();
        assert_eq!(runs, ["20260101t000000-0123abcd", "20260101t000000-89abcdef"]);
    }
}
