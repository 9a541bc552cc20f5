//! Ends a run: its pods, then its changes on the node, then its objects in the cluster.

use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{DeleteParams, ListParams};
use propagation_core::host::HostCall;
use propagation_core::protocol::Reply;
use propagation_core::report::Cleanup;
use propagation_core::{Error, ErrorKind};

use crate::cluster::Tell;
use crate::failure::{in_full, or_gone, persist};
use crate::host::Host;
use crate::kinds::{ConfigMap, Kind, Pod};
use crate::namespaces;
use crate::objects::host::host_pod;
use crate::objects::{RUN_ID, Record, WORKLOAD};
use crate::pods::Pods;
use crate::requests::Api;

/// Time for a kubelet to end pods and report it. Usually it takes two seconds; a pod whose state it did not
/// report before the deletion can take 40 s, and longer on a busy node.
const PODS_WITHIN: Duration = Duration::from_secs(90);

/// How long is waited for containers that are just being made.
const MADE_WITHIN: Duration = Duration::from_secs(10);

/// A run that is to end.
pub(crate) struct Going {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) record: Record,
    pub(crate) tell: Tell,
}

/// What there is to clean on the node of a run.
pub(crate) enum OnNode<'a> {
    /// The run never got there, or the node is gone.
    Nothing,
    /// Its host agent answers.
    Reached(&'a Host),
    /// It has to be cleaned, and cannot be reached.
    OutOfReach(&'a Error),
}

/// Ends a run: first the pods, so that no kubelet restarts what is killed afterwards; then the changes on the
/// node; last the objects in the cluster, because a clean-up starts from them.
pub(crate) async fn finish(going: &Going, on_node: OnNode<'_>) -> Cleanup {
    let mut cleanup = Cleanup::default();
    let (run, node) = (&going.record.run, &going.record.node);
    let host = match on_node {
        OnNode::Reached(host) => Some(host),
        OnNode::Nothing | OnNode::OutOfReach(_) => None,
    };
    let waits = Instant::now();
    let deleted = delete_pods(going, host).await;
    cleanup.kubelet_ms = Some(waits.elapsed().as_secs_f64() * 1e3);
    if let Err(error) = deleted {
        cleanup.could_not.push(format!("delete the pods of run {run}: {}", in_full(&error)));
    }
    going.tell.say(&format!("cleaning up: node {node}"));
    match on_node {
        OnNode::Nothing => {}
        OnNode::Reached(host) => clean_node(going, host, &mut cleanup).await,
        OnNode::OutOfReach(error) => {
            let error = in_full(error);
            cleanup.could_not.push(format!(
                "clean node {node}: {error}; by hand: umount --lazy {:?}, and remove \
                 /var/lib/propagation/{run}",
                going.record.bridge.fuse_path(),
            ));
        }
    }
    // What the node still has, a later clean-up has to find.
    if !cleanup.could_not.is_empty() {
        cleanup.could_not.push(format!(
            "namespace {} stays until then: `propagation clean --backend k8s --run-id {run}`",
            going.namespace
        ));
        return cleanup;
    }
    going.tell.say(&format!("cleaning up: namespace {}", going.namespace));
    match delete_objects(going).await {
        Ok(()) => cleanup
            .undone
            .push(format!("deleted what run {run} had in namespace {}", going.namespace)),
        Err(error) => {
            cleanup.could_not.push(format!("delete the objects of run {run}: {}", in_full(&error)))
        }
    }
    let waits = Instant::now();
    namespaces::delete_unused(&going.client, &going.namespace, &mut cleanup).await;
    cleanup.namespace_ms = Some(waits.elapsed().as_secs_f64() * 1e3);
    cleanup
}

/// Ends a run in the cluster alone, and lists what is given up. Pods that no kubelet ends are removed from the API
/// server.
pub(crate) async fn give_up(going: &Going) -> Cleanup {
    let (run, node) = (&going.record.run, &going.record.node);
    let mut cleanup = Cleanup::default();
    let pods: Api<Pod> = Api::namespaced(going.client.clone(), &going.namespace);
    let list = ListParams::default().labels(&format!("{RUN_ID}={run}"));
    let now = DeleteParams::default().grace_period(0);
    let operation = format!("delete the pods of run {run}");
    let deleted = async {
        for pod in persist(&operation, || pods.list(&list)).await? {
            let name = pod.name();
            persist(&operation, || async { or_gone(pods.delete(&name, &now).await) }).await?;
        }
        delete_objects(going).await
    };
    match deleted.await {
        Ok(()) => cleanup
            .undone
            .push(format!("deleted what run {run} had in namespace {}", going.namespace)),
        Err(error) => cleanup.could_not.push(format!("delete the objects of run {run}: {error}")),
    }
    namespaces::delete_unused(&going.client, &going.namespace, &mut cleanup).await;
    if !node.is_empty() {
        cleanup.kept.push(format!(
            "what node {node} has of run {run}: its mounts and directories, listed in \
             /var/lib/propagation/{run}; a later clean-up finds them there"
        ));
    }
    cleanup
}

async fn clean_node(going: &Going, host: &Host, cleanup: &mut Cleanup) {
    let node = &going.record.node;
    match host.ask(HostCall::Clean).await {
        Ok(Reply::Cleaned { undone, could_not }) => {
            cleanup.undone.extend(undone.into_iter().map(|line| format!("node {node}: {line}")));
            let lines = could_not.into_iter().map(|line| format!("clean node {node}: {line}"));
            cleanup.could_not.extend(lines);
            // The record of a run and the node's journal can have the same change.
            cleanup.could_not.dedup();
        }
        Ok(other) => cleanup.could_not.push(format!("clean node {node}: it answered {other:?}")),
        Err(error) => cleanup.could_not.push(format!("clean node {node}: {}", in_full(&error))),
    }
    if cleanup.could_not.is_empty() {
        if let Err(error) = host.ask(HostCall::End).await {
            tracing::debug!(%error, "the host agent did not say that it ends");
        }
        // It is not there to be connected to again.
        host.hang_up();
    }
}

/// Deletes the run's pods and waits until they are gone: a kubelet gives a pod up when none of its
/// containers runs or is being made any more. Until then a runtime may make the sources of volumes again.
async fn delete_pods(going: &Going, host: Option<&Host>) -> Result<(), Error> {
    let run = &going.record.run;
    let pods: Api<Pod> = Api::namespaced(going.client.clone(), &going.namespace);
    let selector = format!("{RUN_ID}={run},{WORKLOAD}");
    let list = ListParams::default().labels(&selector);
    let operation = format!("delete the pods in namespace {}", going.namespace);
    let left = persist(&operation, || pods.list(&list)).await?;
    let names: Vec<String> = left.iter().map(Kind::name).collect();
    let count = names.len();
    going.tell.say(&format!("cleaning up: the kubelet ends {count} pods"));
    let watched =
        (!names.is_empty()).then(|| Pods::watch(going.client.clone(), &going.namespace, run));
    if let Some(watched) = &watched {
        // What takes longer waits for something, and is not about to start.
        let _ = tokio::time::timeout(MADE_WITHIN, none_is_being_made(watched, &names)).await;
    }
    let gently = DeleteParams::default();
    for name in &names {
        persist(&operation, || async { or_gone(pods.delete(name, &gently).await) }).await?;
    }
    if let Some(host) = host {
        // It kills what the kubelet does not end.
        let _ = host.ask(HostCall::Ended).await;
    }
    let Some(watched) = watched else { return Ok(()) };
    let gone =
        watched.until(|known| names.iter().all(|name| !known.contains_key(name)).then_some(()));
    if tokio::time::timeout(PODS_WITHIN, gone).await.is_err() {
        let fix = "see whether its kubelet runs; kubectl delete pod --force gives it up";
        let reason = format!("not ended by the kubelet in {} s", PODS_WITHIN.as_secs());
        return Err(Error::new(ErrorKind::Timeout, operation, reason).with_fix(fix));
    }
    Ok(())
}

async fn none_is_being_made(pods: &Pods, names: &[String]) {
    let made = pods.until(|known| {
        names.iter().all(|name| known.get(name).is_none_or(|pod| !is_being_made(pod))).then_some(())
    });
    made.await;
}

/// Whether the kubelet is making the containers of a pod. One that is told to end it then may give up the
/// pod at once and start a container afterwards, for which the runtime makes the sources of volumes again.
fn is_being_made(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let nowhere = conditions.iter().any(|it| it.type_ == "PodScheduled" && it.status == "False");
    let containers = status.and_then(|status| status.container_statuses.as_deref());
    let making = containers.unwrap_or_default().iter().all(|container| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        matches!(reason, Some("ContainerCreating" | "PodInitializing"))
            && container.last_state.as_ref().is_none_or(|last| last.terminated.is_none())
    });
    pod.metadata.deletion_timestamp.is_none() && !nowhere && making
}

async fn delete_objects(going: &Going) -> Result<(), Error> {
    let run = &going.record.run;
    let operation = format!("delete what run {run} has in namespace {}", going.namespace);
    let pods: Api<Pod> = Api::namespaced(going.client.clone(), &going.namespace);
    let maps: Api<ConfigMap> = Api::namespaced(going.client.clone(), &going.namespace);
    let (now, name) = (DeleteParams::default().grace_period(0), host_pod(run));
    persist(&operation, || async { or_gone(pods.delete(&name, &now).await) }).await?;
    let record = Record::name(run);
    let ours = ListParams::default().labels(&format!("{RUN_ID}={run}"));
    for map in persist(&operation, || maps.list(&ours)).await? {
        let name = map.name();
        if name != record {
            persist(&operation, || async { or_gone(maps.delete(&name, &now).await) }).await?;
        }
    }
    persist(&operation, || async { or_gone(maps.delete(&record, &now).await) }).await
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn terminated(at: &str) -> Value {
        json!({ "terminated": { "exitCode": 137, "finishedAt": at } })
    }

    #[test]
    fn a_pod_is_being_made_until_its_container_has_a_state() {
        let pod = |metadata: Value, status: Value| -> Pod {
            serde_json::from_value(json!({ "metadata": metadata, "status": status }))
                .expect("a pod")
        };
        let container = |state: Value| {
            json!({ "containerStatuses": [{
                "name": "agent", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": state,
            }] })
        };
        let waiting = |reason: &str| container(json!({ "waiting": { "reason": reason } }));
        let made = |status: Value| !is_being_made(&pod(json!({}), status));
        assert!(!made(json!({})), "the kubelet has not told of it yet");
        assert!(!made(waiting("ContainerCreating")));
        assert!(made(waiting("CreateContainerError")));
        assert!(made(container(json!({ "running": { "startedAt": null } }))));
        assert!(made(container(terminated("2026-02-28T10:00:00Z"))));
        assert!(made(json!({ "conditions": [{ "type": "PodScheduled", "status": "False" }] })));
        let going = json!({ "deletionTimestamp": "2026-02-28T10:00:01Z" });
        assert!(!is_being_made(&pod(going, json!({}))), "it is too late for that");
    }
}
