//! From a plan to Kubernetes objects: pure functions.

pub(crate) mod host;
pub mod manifests;
#[cfg(test)]
mod tests;
pub(crate) mod workload;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount, Toleration};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use propagation_core::RunId;
use propagation_core::plan::Bridge;

/// The field manager of everything that is applied.
pub const FIELD_MANAGER: &str = "propagation";

/// The label that names the creator of an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The label of the run that an object belongs to.
pub const RUN_ID: &str = "propagation/run-id";

/// The annotation of a run's namespace that says which program runs it.
pub(crate) const OPERATOR: &str = "propagation/operator";

/// The annotation of a run's record that says when its program was there last, in seconds of Unix time.
pub(crate) const SIGN: &str = "propagation/sign-of-life";

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
/// the Pod Security Standards allow at the level `privileged` only. With it go the run that it is made
/// for and the program that runs that, if there is one.
pub(crate) fn namespace(name: &str, made_for: Option<(&RunId, &str)>) -> Namespace {
    let mut labels = labels(made_for.map(|(run, _)| run));
    for mode in ["enforce", "warn", "audit"] {
        labels.insert(format!("pod-security.kubernetes.io/{mode}"), "privileged".into());
    }
    let operator = made_for.map(|(_, operator)| (OPERATOR.to_owned(), operator.to_owned()));
    let metadata = ObjectMeta {
        name: Some(name.into()),
        labels: Some(labels),
        annotations: operator.map(|operator| [operator].into()),
        ..ObjectMeta::default()
    };
    Namespace { metadata, ..Namespace::default() }
}

/// What a later clean-up has to know of a run: kept in a config map of the run's namespace, made
/// before anything on a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) run: RunId,
    pub(crate) node: String,
    pub(crate) bridge: Bridge,
    /// Whether the node was reached over ssh.
    pub(crate) over_ssh: bool,
    /// The image with the agent, if one was named.
    pub(crate) image: Option<String>,
    /// The program that runs it: host name, process id and when it started.
    pub(crate) operator: String,
    /// When that was there last, in seconds of Unix time; none where no other machine is to know.
    pub(crate) sign: Option<u64>,
}

impl Record {
    /// Of a run that has a namespace and nothing else.
    pub(crate) fn of_namespace(run: RunId, operator: String) -> Self {
        Self {
            run,
            node: String::new(),
            bridge: Bridge::default(),
            over_ssh: false,
            image: None,
            operator,
            sign: None,
        }
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
            ("over-ssh", self.over_ssh.to_string()),
            ("operator", self.operator.clone()),
            ("image", self.image.clone().unwrap_or_default()),
        ];
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(Self::name(&self.run)),
                namespace: Some(namespace.into()),
                labels: Some(labels(Some(&self.run))),
                annotations: self.sign.map(|sign| [(SIGN.to_owned(), sign.to_string())].into()),
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
        Some(Self {
            run,
            node: get("node")?,
            bridge: Bridge { path: get("bridge")?, mountpoint: get("mountpoint")? },
            over_ssh: get("over-ssh").is_some_and(|value| value == "true"),
            image: get("image").filter(|image| !image.is_empty()),
            operator: get("operator").unwrap_or_default(),
            sign: object.annotations().get(SIGN).and_then(|text| text.parse().ok()),
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
