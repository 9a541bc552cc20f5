//! From a plan to Kubernetes objects: pure functions.

pub(crate) mod host;
pub mod manifests;
#[cfg(test)]
mod tests;
pub(crate) mod workload;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount, Toleration};
use kube::api::ObjectMeta;
use propagation_core::RunId;
use propagation_core::plan::Bridge;

/// The field manager of everything that is applied.
pub const FIELD_MANAGER: &str = "propagation";

/// The label that says who has made an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The label of the run that an object belongs to.
pub const RUN_ID: &str = "propagation/run-id";

/// The label of the workload that a pod is.
pub const WORKLOAD: &str = "propagation/workload";

/// The service account of the run's pods, which has no rights and no token.
pub(crate) const SERVICE_ACCOUNT: &str = "propagation";

/// The only container of every pod.
pub const CONTAINER: &str = "agent";

/// Labels that everything of a run has.
pub(crate) fn labels(run: Option<&RunId>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned())]);
    labels.extend(run.map(|run| (RUN_ID.to_owned(), run.to_string())));
    labels
}

/// The namespace of a run: its producer has to be privileged and its volumes are host paths, which
/// the Pod Security Standards allow at the level `privileged` only.
pub(crate) fn namespace(name: &str, run: Option<&RunId>) -> Namespace {
    let mut labels = labels(run);
    for mode in ["enforce", "warn", "audit"] {
        labels.insert(format!("pod-security.kubernetes.io/{mode}"), "privileged".into());
    }
    let metadata =
        ObjectMeta { name: Some(name.into()), labels: Some(labels), ..ObjectMeta::default() };
    Namespace { metadata, ..Namespace::default() }
}

/// What a later clean-up has to know of a run: kept in a config map of the run's namespace, made
/// before anything on a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) run: RunId,
    pub(crate) node: String,
    pub(crate) bridge: Bridge,
    /// Whether the namespace was made for the run and goes with it.
    pub(crate) owns_namespace: bool,
    /// Whether the node was reached over ssh.
    pub(crate) over_ssh: bool,
    /// The program that runs it: host name and process id.
    pub(crate) operator: String,
}

impl Record {
    /// Of a run that has a namespace and nothing else.
    pub(crate) fn of_namespace(run: RunId) -> Self {
        let node = String::new();
        let (owns_namespace, over_ssh, operator) = (true, false, String::new());
        Self { run, node, bridge: Bridge::default(), owns_namespace, over_ssh, operator }
    }

    /// The name of the config map.
    pub(crate) fn name(run: &RunId) -> String {
        format!("run-{run}")
    }

    /// As an object.
    pub(crate) fn to_object(&self, namespace: &str) -> ConfigMap {
        let data = [
            ("node", self.node.clone()),
            ("bridge", self.bridge.path.clone()),
            ("mountpoint", self.bridge.mountpoint.clone()),
            ("owns-namespace", self.owns_namespace.to_string()),
            ("over-ssh", self.over_ssh.to_string()),
            ("operator", self.operator.clone()),
        ];
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(Self::name(&self.run)),
                namespace: Some(namespace.into()),
                labels: Some(labels(Some(&self.run))),
                ..ObjectMeta::default()
            },
            data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
            ..ConfigMap::default()
        }
    }

    /// From an object; none for another kind of config map.
    pub(crate) fn from_object(object: &ConfigMap) -> Option<Self> {
        let run = RunId::parse(object.metadata.labels.as_ref()?.get(RUN_ID)?).ok()?;
        if object.metadata.name.as_deref() != Some(&Self::name(&run)) {
            return None;
        }
        let data = object.data.as_ref()?;
        let get = |key: &str| data.get(key).cloned();
        let flag = |key: &str| get(key).is_some_and(|value| value == "true");
        Some(Self {
            run,
            node: get("node")?,
            bridge: Bridge { path: get("bridge")?, mountpoint: get("mountpoint")? },
            owns_namespace: flag("owns-namespace"),
            over_ssh: flag("over-ssh"),
            operator: get("operator").unwrap_or_default(),
        })
    }
}

/// The service account of a run's pods.
pub(crate) fn service_account(namespace: &str) -> ServiceAccount {
    let metadata = ObjectMeta {
        name: Some(SERVICE_ACCOUNT.into()),
        namespace: Some(namespace.into()),
        labels: Some(labels(None)),
        ..ObjectMeta::default()
    };
    ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Tolerates whatever the node has been tainted with.
pub(crate) fn tolerate_everything() -> Toleration {
    Toleration { operator: Some("Exists".into()), ..Toleration::default() }
}
