//! From a plan to the manifests of Kubernetes objects: pure functions.

pub(crate) mod host;
pub mod manifests;
#[cfg(test)]
mod tests;
pub(crate) mod workload;

use std::collections::BTreeMap;

use propagation_core::RunId;
use propagation_core::plan::Bridge;
use serde_json::{Value, json};

use crate::kinds::ConfigMap;

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
pub(crate) fn namespace(name: &str, made_for: Option<(&RunId, &str)>) -> Value {
    let mut labels = labels(made_for.map(|(run, _)| run));
    for mode in ["enforce", "warn", "audit"] {
        labels.insert(format!("pod-security.kubernetes.io/{mode}"), "privileged".into());
    }
    let annotations = made_for.map(|(_, operator)| json!({ OPERATOR: operator }));
    without_nulls(json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "labels": labels, "annotations": annotations },
    }))
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

    /// As a manifest.
    pub(crate) fn to_manifest(&self, namespace: &str) -> Value {
        without_nulls(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": Self::name(&self.run),
                "namespace": namespace,
                "labels": labels(Some(&self.run)),
                "annotations": self.sign.map(|sign| json!({ SIGN: sign.to_string() })),
            },
            "data": {
                "node": self.node,
                "bridge": self.bridge.path,
                "mountpoint": self.bridge.mountpoint,
                "over-ssh": self.over_ssh.to_string(),
                "operator": self.operator,
                "image": self.image.as_deref().unwrap_or_default(),
            },
        }))
    }

    /// From an object; none for another kind of config map.
    pub(crate) fn from_object(object: &ConfigMap) -> Option<Self> {
        let run = RunId::parse(object.metadata.label(RUN_ID)?).ok()?;
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
            sign: object.metadata.annotation(SIGN).and_then(|text| text.parse().ok()),
        })
    }
}

/// The service account of a run's pods.
pub(crate) fn service_account(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": SERVICE_ACCOUNT, "namespace": namespace, "labels": labels(None) },
        "automountServiceAccountToken": false,
    })
}

/// A manifest without what is null in it: the API server is to decide about that.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let said = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(said.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        value => value,
    }
}
