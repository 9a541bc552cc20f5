//! Finds and removes the remains of a killed run, by its record in the cluster.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{DeleteParams, ListParams};
use propagation_core::plan::Bridge;
use propagation_core::report::Cleanup;
use propagation_core::{Error, ErrorKind, RunId};

use crate::cluster::Cluster;
use crate::failure::{api, or_gone, persist, persist_until};
use crate::finish::{self, Going, OnNode, finish};
use crate::host::{Host, programs};
use crate::kinds::{ConfigMap, Kind, Namespace, Node as NodeObject, Pod, ServiceAccount};
use crate::namespaces::{self, made_for};
use crate::objects::host::host_pod;
use crate::objects::{FIELD_MANAGER, MANAGED_BY, RUN_ID, Record, service_account};
use crate::reach::{Way, connect, reach};
use crate::requests::Api;
use crate::{operator, search, sign};

/// How long a kubelet may take to end a host pod.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// The remains of one run.
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
    /// Whether the cluster has a record of it; otherwise only the node has something of it.
    pub is_recorded: bool,
    record: Record,
}

/// The remains of runs in a cluster and on its nodes.
#[derive(Debug, Clone, Default)]
pub struct Leftovers {
    /// The runs, also runs that are still going on.
    pub runs: Vec<Leftover>,
    /// Nodes that could not be looked at, each with the reason.
    pub unknown: BTreeMap<String, String>,
}

impl Leftover {
    /// Whether it is not left over but goes on: the program that runs it still runs on this machine, or is
    /// another machine's and has given a sign of life not long ago.
    pub fn goes_on(&self) -> bool {
        operator::runs_still(&self.record.operator, self.silent())
    }

    /// Since when the program that runs it has given no sign of life, if it gives any.
    pub fn silent(&self) -> Option<Duration> {
        let sign = self.record.sign?;
        Some(Duration::from_secs(sign::now().saturating_sub(sign)))
    }

    /// The program that runs it: its machine and its process.
    pub fn operator(&self) -> &str {
        &self.record.operator
    }
}

/// The runs with objects in the cluster, also runs that are still going on.
pub(crate) async fn leftovers(cluster: &Cluster) -> Result<Vec<Leftover>, Error> {
    let client = &cluster.client;
    let ours = ListParams::default().labels(&format!("{MANAGED_BY}={FIELD_MANAGER}"));
    let spaces = match &cluster.options.namespace {
        Some(name) => vec![(name.clone(), None)],
        None => {
            let all: Api<Namespace> = Api::all(client.clone());
            let list = all.list(&ours).await;
            let list = list.map_err(|error| api("list this program's namespaces", error))?;
            list.iter().map(|space| (space.name(), made_for(space))).collect()
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
                pods: pods.len(),
                is_recorded: true,
                record,
            });
        }
    }
    Ok(found)
}

/// The runs with objects in the cluster, and those that only a node has something of.
pub(crate) async fn search(cluster: &Cluster, nodes: &[String]) -> Result<Leftovers, Error> {
    // First the nodes: a run has its record before it has anything there.
    let on_nodes = search::on_nodes(cluster, nodes).await?;
    let mut runs = leftovers(cluster).await?;
    for ((node, run), over_ssh) in on_nodes.runs {
        if runs.iter().any(|known| known.run_id == run) {
            continue;
        }
        let image = cluster.options.image.clone();
        let (bridge, operator, sign) = (Bridge::default(), String::new(), None);
        runs.push(Leftover {
            run_id: run.clone(),
            namespace: namespaces::of_run(&run),
            node: node.clone(),
            pods: 0,
            is_recorded: false,
            record: Record { run, node, bridge, over_ssh, image, operator, sign },
        });
    }
    Ok(Leftovers { runs, unknown: on_nodes.unknown })
}

/// Removes the remains of a run: its pods, its mounts and changes on its node, its namespace. Idempotent. Lists
/// what could not be undone, with what to do about it.
pub(crate) async fn remove(cluster: &Cluster, leftover: &Leftover) -> Cleanup {
    let (space, record) = (&leftover.namespace, &leftover.record);
    if !leftover.is_recorded && !record.over_ssh {
        // For the host pod.
        let account = service_account(space);
        let made = async {
            namespaces::make_named(&cluster.client, space, Some(&record.run)).await?;
            cluster.apply::<ServiceAccount>(space, &account).await
        };
        if let Err(error) = made.await {
            return Cleanup::failed(error.to_string());
        }
    }
    remove_record(cluster, space, record).await
}

/// Gives up what the node of a run still has: removes what the cluster has of the run, and lists what stays.
pub(crate) async fn give_up(cluster: &Cluster, leftover: &Leftover) -> Cleanup {
    let (client, namespace) = (cluster.client.clone(), leftover.namespace.clone());
    let (record, tell) = (leftover.record.clone(), cluster.tell.clone());
    finish::give_up(&Going { client, namespace, record, tell }).await
}

pub(crate) async fn remove_record(cluster: &Cluster, namespace: &str, record: &Record) -> Cleanup {
    let going = Going {
        client: cluster.client.clone(),
        namespace: namespace.into(),
        record: record.clone(),
        tell: cluster.tell.clone(),
    };
    if record.node.is_empty() {
        return finish(&going, OnNode::Nothing).await;
    }
    match reconnect(cluster, namespace, record).await {
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
pub(crate) async fn remove_objects(cluster: &Cluster, namespace: &str, record: &Record) -> Cleanup {
    let (client, namespace) = (cluster.client.clone(), namespace.to_owned());
    let (record, tell) = (record.clone(), cluster.tell.clone());
    finish(&Going { client, namespace, record, tell }, OnNode::Nothing).await
}

/// Starts a host agent of this release for a run, in the place of one that there may be; none when its node
/// has left the cluster.
async fn reconnect(
    cluster: &Cluster,
    namespace: &str,
    record: &Record,
) -> Result<Option<Host>, Error> {
    let mut cluster = cluster.for_node(record.node.clone());
    cluster.options.image = cluster.options.image.or_else(|| record.image.clone());
    if !record.over_ssh {
        cluster.options.access = crate::options::Access::Pod;
    }
    let nodes: Api<NodeObject> = Api::all(cluster.client.clone());
    let operation = format!("look at node {}", record.node);
    let Some(node) = persist(&operation, || nodes.get_opt(&record.node)).await? else {
        return Ok(None);
    };
    let way = Way::find(&cluster).await?;
    match &way {
        #[cfg(unix)]
        Way::Ssh(over) => over.end_agent(&record.run).await?,
        Way::Pod => remove_host_pod(&cluster.client, namespace, &record.run).await?,
    }
    let reached = reach(&cluster, &node, namespace, record, &way).await?;
    let (run, programs) = (&record.run, programs(Instant::now()));
    let connected = connect(&cluster, namespace, run, reached.link, &way, programs).await;
    connected.map(Some).map_err(Error::from)
}

/// Deletes the host pod and waits until it is gone: one that has ended does not start again, and one of
/// another kind of run cannot be made into another.
async fn remove_host_pod(client: &Client, space: &str, run: &RunId) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), space);
    let name = host_pod(run);
    let operation = format!("delete the host pod {space}/{name}");
    let now = DeleteParams::default().grace_period(1);
    persist(&operation, || async { or_gone(pods.delete(&name, &now).await) }).await?;
    let gone = persist_until(&operation, &pods, &name, |pod: Option<&Pod>| pod.is_none());
    match tokio::time::timeout(GONE_WITHIN, gone).await {
        Ok(gone) => gone.map(drop),
        Err(_) => {
            let reason = format!("not gone in {} s", GONE_WITHIN.as_secs());
            Err(Error::new(ErrorKind::Timeout, operation, reason)
                .with_fix("see whether its kubelet runs; kubectl delete pod --force gives it up"))
        }
    }
}
