//! Ending a run, and removing what a killed one has left, from nothing but labels.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node as NodeObject, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use propagation_core::host::{HostCall, HostReply};
use propagation_core::report::Cleanup;
use propagation_core::{Error, ErrorKind, RunId};

use crate::backend::K8sBackend;
use crate::failure::{api, or_gone, persist};
use crate::host::{Host, programs};
use crate::objects::host::host_pod;
use crate::objects::{FIELD_MANAGER, MANAGED_BY, OPERATOR, RUN_ID, Record, WORKLOAD};
use crate::open::{Way, check_ours, reach};
use crate::pods::Pods;

/// How long a namespace may take to go: an API server of an old release needs half a minute.
const NAMESPACE_WITHIN: Duration = Duration::from_secs(120);

/// How long a kubelet may take to end pods. As a rule it looks every second, and ends them in another;
/// what it has not told of before it was to go can take it 40 s, and longer when it is busy.
const PODS_WITHIN: Duration = Duration::from_secs(90);

/// What is there of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The run.
    pub run_id: RunId,
    /// Its namespace.
    pub namespace: String,
    /// Its node.
    pub node: String,
    /// How many pods it has.
    pub pods: usize,
    record: Record,
}

impl Leftover {
    /// Whether it is not left over but goes on, as far as can be told from here: the program that
    /// runs it is another machine's, or still runs on this one.
    pub fn goes_on(&self) -> bool {
        operator_runs(&self.record.operator)
    }
}

/// This program, as it stands in the records of its runs: host name, process id and when it started.
pub(crate) fn operator() -> String {
    let pid = std::process::id().to_string();
    format!("{}/{pid}/{}", host_name(), started(&pid).unwrap_or_default())
}

/// Whether the program of a record still runs, as far as can be told from here.
fn operator_runs(operator: &str) -> bool {
    let mut parts = operator.rsplitn(3, '/');
    let (Some(start), Some(pid), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    // Of another machine, or where there is no /proc, it cannot be told.
    host != host_name() || start.is_empty() || started(pid).as_deref() == Some(start)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    name.trim().to_owned()
}

/// When a process started, in clock ticks since boot (proc(5), field 22 of stat): its id alone may be
/// another's by now.
fn started(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_the_name) = stat.rsplit_once(") ")?;
    after_the_name.split(' ').nth(19).map(ToOwned::to_owned)
}

/// A run that is to end.
pub(crate) struct Going {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) record: Record,
}

/// The runs of which there is something in the cluster, also those that go on right now.
///
/// # Errors
/// [`ErrorKind::Environment`] when the cluster does not tell.
pub async fn leftovers(backend: &K8sBackend) -> Result<Vec<Leftover>, Error> {
    let client = &backend.client;
    let ours = ListParams::default().labels(&format!("{MANAGED_BY}={FIELD_MANAGER}"));
    let spaces = match &backend.options.namespace {
        Some(name) => vec![(name.clone(), None)],
        None => {
            let all: Api<Namespace> = Api::all(client.clone());
            let list = all.list(&ours).await;
            let list = list.map_err(|error| api("list this program's namespaces", error))?;
            list.iter().map(|space| (space.name_any(), made_for(space))).collect()
        }
    };
    let mut found = Vec::new();
    for (space, made_for) in spaces {
        let records: Api<ConfigMap> = Api::namespaced(client.clone(), &space);
        let pods: Api<Pod> = Api::namespaced(client.clone(), &space);
        let operation = format!("list what is in namespace {space}");
        let records = records.list(&ours).await.map_err(|e| api(operation.clone(), e))?;
        let mut records: Vec<Record> = records.iter().filter_map(Record::from_object).collect();
        // Killed between making the namespace and writing the record: nothing is on any node.
        records.extend(made_for.filter(|_| records.is_empty()));
        for record in records {
            let selector = ListParams::default().labels(&format!("{RUN_ID}={}", record.run));
            let pods = pods.list(&selector).await.map_err(|e| api(operation.clone(), e))?;
            found.push(Leftover {
                run_id: record.run.clone(),
                namespace: space.clone(),
                node: record.node.clone(),
                pods: pods.items.len(),
                record,
            });
        }
    }
    Ok(found)
}

/// The record of a run that has a namespace and nothing else.
fn made_for(namespace: &Namespace) -> Option<Record> {
    let run = RunId::parse(namespace.labels().get(RUN_ID)?).ok()?;
    let operator = namespace.annotations().get(OPERATOR).cloned().unwrap_or_default();
    Some(Record::of_namespace(run, operator))
}

/// Removes what is left of a run: its pods, what it has mounted and made on its node, its
/// namespace. Idempotent; what could not be undone is listed with what to do about it.
pub async fn remove(backend: &K8sBackend, leftover: &Leftover) -> Cleanup {
    remove_record(backend, &leftover.namespace, &leftover.record).await
}

pub(crate) async fn remove_record(
    backend: &K8sBackend,
    namespace: &str,
    record: &Record,
) -> Cleanup {
    let going = Going {
        client: backend.client.clone(),
        namespace: namespace.into(),
        record: record.clone(),
    };
    if record.node.is_empty() {
        return finish(&going, OnNode::Nothing).await;
    }
    match reconnect(backend, namespace, record).await {
        Ok(Some(host)) => {
            let cleanup = finish(&going, OnNode::Reached(&host)).await;
            host.hang_up();
            cleanup
        }
        Ok(None) => {
            let mut cleanup = finish(&going, OnNode::Nothing).await;
            cleanup.undone.push(format!("node {} is not in the cluster any more", record.node));
            cleanup
        }
        Err(error) => finish(&going, OnNode::OutOfReach(&error)).await,
    }
}

/// For a run that never got to its node: removes what is in the cluster.
pub(crate) async fn remove_objects(
    backend: &K8sBackend,
    namespace: &str,
    record: &Record,
) -> Cleanup {
    let (client, namespace) = (backend.client.clone(), namespace.to_owned());
    finish(&Going { client, namespace, record: record.clone() }, OnNode::Nothing).await
}

/// Reaches the host agent of a run again, or starts another for it; none when its node has left the
/// cluster.
async fn reconnect(
    backend: &K8sBackend,
    namespace: &str,
    record: &Record,
) -> Result<Option<Host>, Error> {
    let mut backend = backend.for_node(record.node.clone());
    if !record.over_ssh {
        backend.options.access = crate::options::Access::Pod;
    }
    let nodes: Api<NodeObject> = Api::all(backend.client.clone());
    let operation = format!("look at node {}", record.node);
    let Some(node) = persist(&operation, || nodes.get_opt(&record.node)).await? else {
        return Ok(None);
    };
    let way = Way::find(&backend).await?;
    if !way.is_ssh() {
        remove_ended_host_pod(&backend.client, namespace, &record.run).await?;
    }
    let (link, _) = reach(&backend, &node, namespace, record, &way).await?;
    Host::connect(link, programs(Instant::now())).await.map(Some)
}

/// A host pod that has ended does not start again: another takes its place.
async fn remove_ended_host_pod(client: &Client, space: &str, run: &RunId) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), space);
    let name = host_pod(run);
    let operation = format!("look at the host pod {space}/{name}");
    let pod = pods.get_opt(&name).await.map_err(|e| api(operation.clone(), e))?;
    let phase = pod.and_then(|pod| pod.status?.phase);
    if matches!(phase.as_deref(), Some("Failed" | "Succeeded")) {
        let now = DeleteParams::default().grace_period(0);
        persist(&operation, || async { or_gone(pods.delete(&name, &now).await) }).await?;
    }
    Ok(())
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

/// Ends a run: first the pods, so that no kubelet restarts what is killed then; with them gone the
/// node is cleaned, and what is in the cluster goes last, because it is what a clean-up starts from.
pub(crate) async fn finish(going: &Going, on_node: OnNode<'_>) -> Cleanup {
    let mut cleanup = Cleanup::default();
    let (run, node) = (&going.record.run, &going.record.node);
    let host = match on_node {
        OnNode::Reached(host) => Some(host),
        OnNode::Nothing | OnNode::OutOfReach(_) => None,
    };
    if let Err(error) = delete_pods(going, host).await {
        cleanup.could_not.push(format!("delete the pods of run {run}: {error}"));
    }
    match on_node {
        OnNode::Nothing => {}
        OnNode::Reached(host) => clean_node(going, host, &mut cleanup).await,
        OnNode::OutOfReach(error) => {
            let fix = error.fix().map(|fix| format!(" ({fix})")).unwrap_or_default();
            cleanup.could_not.push(format!(
                "clean node {node}: {error}{fix}; by hand: umount --lazy {:?}, and remove \
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
    match delete_objects(going).await {
        Ok(()) => cleanup
            .undone
            .push(format!("deleted what run {run} had in namespace {}", going.namespace)),
        Err(error) => cleanup.could_not.push(format!("delete the objects of run {run}: {error}")),
    }
    delete_namespace(going, &mut cleanup).await;
    cleanup
}

async fn clean_node(going: &Going, host: &Host, cleanup: &mut Cleanup) {
    let node = &going.record.node;
    match host.ask(HostCall::Clean).await {
        Ok(HostReply::Cleaned { undone, could_not }) => {
            cleanup.undone.extend(undone.into_iter().map(|line| format!("node {node}: {line}")));
            cleanup
                .could_not
                .extend(could_not.into_iter().map(|line| format!("node {node}: {line}")));
        }
        Ok(other) => cleanup.could_not.push(format!("clean node {node}: it answered {other:?}")),
        Err(error) => cleanup.could_not.push(format!("clean node {node}: {error}")),
    }
    if cleanup.could_not.is_empty() {
        if let Err(error) = host.ask(HostCall::End).await {
            tracing::debug!(%error, "the host agent did not say that it ends");
        }
        // It is not there to be connected to again.
        host.hang_up();
    }
}

/// Deletes the run's pods and waits until the kubelet has ended them. What is left of a pod then is
/// its entry in the API server, which old kubelets take 10 s to give up.
async fn delete_pods(going: &Going, host: Option<&Host>) -> Result<(), Error> {
    let run = &going.record.run;
    let pods: Api<Pod> = Api::namespaced(going.client.clone(), &going.namespace);
    let selector = format!("{RUN_ID}={run},{WORKLOAD}");
    let list = ListParams::default().labels(&selector);
    let operation = format!("delete the pods in namespace {}", going.namespace);
    let left = persist(&operation, || pods.list(&list)).await?;
    let names: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
    let gently = DeleteParams::default();
    for name in &names {
        persist(&operation, || async { or_gone(pods.delete(name, &gently).await) }).await?;
    }
    if let Some(host) = host {
        // It kills what the kubelet does not end.
        let _ = host.ask(HostCall::Ended).await;
    }
    if names.is_empty() {
        return Ok(());
    }
    let watched = Pods::watch(going.client.clone(), &going.namespace, run);
    let ended = watched.until(|known| {
        names.iter().all(|name| known.get(name).is_none_or(|pod| has_been_ended(pod))).then_some(())
    });
    if tokio::time::timeout(PODS_WITHIN, ended).await.is_err() {
        let fix = "see whether its kubelet runs; kubectl delete pod --force gives it up";
        let reason = format!("not ended by the kubelet in {} s", PODS_WITHIN.as_secs());
        return Err(Error::new(ErrorKind::Timeout, operation, reason).with_fix(fix));
    }
    let now = DeleteParams::default().grace_period(0);
    for name in &names {
        persist(&operation, || async { or_gone(pods.delete(name, &now).await) }).await?;
    }
    Ok(())
}

/// Whether the kubelet has ended the containers of a pod because it is to go, so that it starts none of
/// them again. A container that ended before may be under way again: its pod is waited for until it
/// is gone. One that fails to start is not waited for, which can take 40 s: should it start all the
/// same, its program waits for a word of the host agent, and ends with that. But one that is being
/// created is: the runtime makes the sources of its volumes if they are not there.
fn has_been_ended(pod: &Pod) -> bool {
    let Some(deletion) = &pod.metadata.deletion_timestamp else { return false };
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
    let asked_for = deletion.0.as_second() - grace;
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    containers.is_some_and(|containers| {
        containers.iter().all(|container| {
            let (state, last) = (container.state.as_ref(), container.last_state.as_ref());
            let ended = state.and_then(|state| state.terminated.as_ref());
            let ended = ended.and_then(|ended| ended.finished_at.as_ref());
            let waits = state.and_then(|state| state.waiting.as_ref());
            // One that has been removed "is being created" too, and is said to have ended before.
            let is_created = waits
                .is_some_and(|it| it.reason.as_deref() == Some("ContainerCreating"))
                && last.is_none_or(|last| last.terminated.is_none());
            (waits.is_some() && !is_created)
                || ended.is_some_and(|time| time.0.as_second() >= asked_for)
        })
    })
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
        let name = map.name_any();
        if name != record {
            persist(&operation, || async { or_gone(maps.delete(&name, &now).await) }).await?;
        }
    }
    persist(&operation, || async { or_gone(maps.delete(&record, &now).await) }).await
}

/// Deletes the namespace when it was made for a run and no other uses it, and waits until it is gone.
async fn delete_namespace(going: &Going, cleanup: &mut Cleanup) {
    let name = &going.namespace;
    let spaces: Api<Namespace> = Api::all(going.client.clone());
    let deleted = async {
        let operation = format!("delete namespace {name}");
        let Some(there) = persist(&operation, || spaces.get_opt(name)).await? else {
            return Ok(None);
        };
        if there.metadata.deletion_timestamp.is_none() {
            check_ours(&there)?;
            let records: Api<ConfigMap> = Api::namespaced(going.client.clone(), name);
            let ours = ListParams::default().labels(&format!("{MANAGED_BY}={FIELD_MANAGER}"));
            let records = persist(&operation, || records.list(&ours)).await?;
            let in_use = records.iter().any(|object| Record::from_object(object).is_some());
            if in_use || made_for(&there).is_none() {
                return Ok(None);
            }
        }
        persist(&operation, || async {
            or_gone(spaces.delete(name, &DeleteParams::default()).await)
        })
        .await?;
        Ok::<_, Error>(there.metadata.uid)
    };
    let uid = match deleted.await {
        Ok(Some(uid)) => uid,
        Ok(None) => return,
        Err(error) => {
            cleanup.could_not.push(error.to_string());
            return;
        }
    };
    tracing::info!(namespace = name.as_str(), "waiting until the namespace is gone");
    let gone = await_condition(spaces.clone(), name, conditions::is_deleted(&uid));
    match tokio::time::timeout(NAMESPACE_WITHIN, gone).await {
        Ok(Ok(_)) => cleanup.undone.push(format!("deleted namespace {name}")),
        Ok(Err(error)) => cleanup.could_not.push(format!("wait for namespace {name}: {error}")),
        Err(_) => {
            let there = spaces.get_opt(name).await.ok().flatten();
            cleanup.could_not.push(stuck(name, there.as_ref()));
        }
    }
}

/// Why a namespace does not go, in the cluster's own words.
fn stuck(name: &str, namespace: Option<&Namespace>) -> String {
    let conditions = namespace.iter().flat_map(|n| n.status.iter());
    let words: Vec<String> = conditions
        .flat_map(|status| status.conditions.iter().flatten())
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message.clone())
        .collect();
    format!(
        "namespace {name} is not gone after {} s: {}; a finalizer that nobody removes keeps it: \
         kubectl get namespace {name} --output yaml",
        NAMESPACE_WITHIN.as_secs(),
        if words.is_empty() { "the cluster does not say why".into() } else { words.join("; ") }
    )
}

/// An error when a run is not there.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] always.
pub fn unknown(run: &RunId) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("clean run {run}"),
        "nothing of it is in the cluster",
    )
    .with_fix("list what is there: propagation clean --backend k8s --list")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ended(state: Value, last: Value) -> bool {
        let pod = json!({
            "metadata": {
                "name": "p",
                "deletionTimestamp": "2026-02-28T10:00:01Z",
                "deletionGracePeriodSeconds": 1,
            },
            "status": { "containerStatuses": [{
                "name": "agent", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                "state": state, "lastState": last,
            }] },
        });
        has_been_ended(&serde_json::from_value(pod).expect("a pod"))
    }

    fn terminated(at: &str) -> Value {
        json!({ "terminated": { "exitCode": 137, "finishedAt": at } })
    }

    #[test]
    fn a_pod_that_is_to_go_has_ended_when_nothing_of_it_can_start_any_more() {
        let waiting = |reason: &str| json!({ "waiting": { "reason": reason } });
        let (creating, running) =
            (waiting("ContainerCreating"), json!({ "running": { "startedAt": null } }));
        assert!(!ended(running, json!({})));
        assert!(!ended(creating.clone(), json!({})), "the runtime is at it");
        assert!(ended(creating, terminated("2026-02-28T09:59:00Z")), "the kubelet has removed it");
        assert!(ended(waiting("CreateContainerError"), json!({})));
        assert!(ended(terminated("2026-02-28T10:00:00Z"), json!({})));
        assert!(!ended(terminated("2026-02-28T09:59:59Z"), json!({})), "it may be restarted");
    }
}
