//! The namespaces of runs: made for one run or shared by several, and always made by this program.

use std::time::Duration;

use kube::Client;
use kube::api::{DeleteParams, ListParams};
use propagation_core::report::Cleanup;
use propagation_core::{Error, ErrorKind, RunId};

use crate::cluster::Cluster;
use crate::failure::{api, or_gone, persist, persist_until};
use crate::kinds::{ConfigMap, Kind, Namespace};
use crate::objects::{FIELD_MANAGER, MANAGED_BY, OPERATOR, RUN_ID, Record, namespace};
use crate::operator;
use crate::requests::Api;

/// How long a namespace may take to go: an API server of an old release needs half a minute.
const NAMESPACE_WITHIN: Duration = Duration::from_secs(120);

/// The namespace of a run, made for it when it is not there.
pub(crate) async fn make(cluster: &Cluster, run: &RunId) -> Result<String, Error> {
    match &cluster.options.namespace {
        Some(name) => {
            make_named(&cluster.client, name, Some(run)).await?;
            Ok(name.clone())
        }
        None => {
            let name = of_run(run);
            create(&cluster.client, &name, Some(run)).await?;
            Ok(name)
        }
    }
}

/// The name of the namespace that is made for a run.
pub(crate) fn of_run(run: &RunId) -> String {
    format!("fuse-test-{run}")
}

/// A namespace of this name, if this program has made it; otherwise a new one, that goes with the run
/// it is made for.
pub(crate) async fn make_named(
    client: &Client,
    name: &str,
    made_for: Option<&RunId>,
) -> Result<(), Error> {
    let spaces: Api<Namespace> = Api::all(client.clone());
    let there = spaces.get_opt(name).await;
    match there.map_err(|error| api(format!("look at namespace {name}"), error))? {
        Some(there) => check_ours(&there),
        None => create(client, name, made_for).await,
    }
}

async fn create(client: &Client, name: &str, made_for: Option<&RunId>) -> Result<(), Error> {
    let spaces: Api<Namespace> = Api::all(client.clone());
    let operator = operator::this_program();
    let object = namespace(name, made_for.map(|run| (run, operator.as_str())));
    let made = spaces.create(&object).await;
    made.map(drop).map_err(|error| api(format!("make namespace {name}"), error))
}

/// Begins to delete a namespace that this program has made.
pub(crate) async fn delete(client: &Client, name: &str) -> Result<(), Error> {
    let spaces: Api<Namespace> = Api::all(client.clone());
    let operation = format!("delete namespace {name}");
    let there = spaces.get_opt(name).await.map_err(|error| api(operation.clone(), error))?;
    let Some(there) = there else { return Ok(()) };
    check_ours(&there)?;
    let deleted = spaces.delete(name, &DeleteParams::default()).await;
    or_gone(deleted).map_err(|error| api(operation, error))
}

/// Refuses a namespace that another program has made.
fn check_ours(namespace: &Namespace) -> Result<(), Error> {
    let name = namespace.name();
    let label = namespace.metadata.label(MANAGED_BY);
    if label != Some(FIELD_MANAGER) {
        let reason =
            format!("this program has not made it: it has no label {MANAGED_BY}={FIELD_MANAGER}");
        return Err(Error::new(ErrorKind::InvalidInput, format!("use namespace {name}"), reason)
            .with_fix(format!(
                "leave out --namespace, or name one that is not there; or allow it: kubectl label \
                 namespace {name} {MANAGED_BY}={FIELD_MANAGER}"
            )));
    }
    if namespace.metadata.deletion_timestamp.is_some() {
        let reason = "it is being deleted";
        return Err(Error::new(ErrorKind::Environment, format!("use namespace {name}"), reason)
            .with_fix("wait until it is gone, or name another with --namespace"));
    }
    Ok(())
}

/// The record of a run that has a namespace and nothing else.
pub(crate) fn made_for(namespace: &Namespace) -> Option<Record> {
    let run = RunId::parse(namespace.metadata.label(RUN_ID)?).ok()?;
    let operator = namespace.metadata.annotation(OPERATOR).unwrap_or_default().to_owned();
    Some(Record::of_namespace(run, operator))
}

/// Deletes the namespace when it was made for a run and no other uses it, and waits until it is gone.
pub(crate) async fn delete_unused(client: &Client, name: &str, cleanup: &mut Cleanup) {
    let spaces: Api<Namespace> = Api::all(client.clone());
    let deleted = async {
        let operation = format!("delete namespace {name}");
        let Some(there) = persist(&operation, || spaces.get_opt(name)).await? else {
            return Ok(None);
        };
        if there.metadata.deletion_timestamp.is_none() {
            check_ours(&there)?;
            let records: Api<ConfigMap> = Api::namespaced(client.clone(), name);
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
    tracing::info!(namespace = name, "waiting until the namespace is gone");
    let is_gone = |there: Option<&Namespace>| {
        there.is_none_or(|there| there.metadata.uid.as_deref() != Some(&uid))
    };
    let operation = format!("wait until namespace {name} is gone");
    let gone = persist_until(&operation, &spaces, name, is_gone);
    match tokio::time::timeout(NAMESPACE_WITHIN, gone).await {
        Ok(Ok(_)) => cleanup.undone.push(format!("deleted namespace {name}")),
        Ok(Err(error)) => cleanup.could_not.push(error.to_string()),
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
