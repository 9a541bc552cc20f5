//! The kinds of objects that a run reads, with the fields that it reads.
//!
//! The types of k8s-openapi have all fields: reading pods with every volume, affinity and probe there is takes 2 MB of
//! the program.

mod node;
mod pod;

use std::collections::BTreeMap;

pub(crate) use node::{Node, Taint};
pub(crate) use pod::{ContainerState, Pod};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A kind of object.
pub(crate) trait Kind: DeserializeOwned {
    /// The name of the kind.
    const KIND: &str;
    /// Its name in paths.
    const PLURAL: &str;
    /// The group of its API; none for the core.
    const GROUP: &str = "";

    /// The metadata of an object.
    fn metadata(&self) -> &Metadata;

    /// The name of an object; empty where it has none yet.
    fn name(&self) -> String {
        self.metadata().name.clone().unwrap_or_default()
    }
}

/// What every object has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    /// When it was told to go, as RFC 3339 writes it; none for an object that is to stay.
    pub(crate) deletion_timestamp: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Metadata {
    /// The value of a label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The value of an annotation.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// A condition of a pod, a node or a namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
}

/// A namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    pub(crate) metadata: Metadata,
    pub(crate) status: Option<NamespaceStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamespaceStatus {
    pub(crate) conditions: Option<Vec<Condition>>,
}

/// A config map.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigMap {
    pub(crate) metadata: Metadata,
    pub(crate) data: Option<BTreeMap<String, String>>,
}

/// A service account.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceAccount {
    pub(crate) metadata: Metadata,
}

/// Something that has happened to an object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Event {
    pub(crate) metadata: Metadata,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    /// As RFC 3339 writes it, in UTC and seconds.
    pub(crate) last_timestamp: Option<String>,
}

/// A lease, which its holder renews.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Lease {
    pub(crate) metadata: Metadata,
    pub(crate) spec: Option<LeaseSpec>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct LeaseSpec {
    /// As RFC 3339 writes it.
    pub(crate) renew_time: Option<String>,
}

/// Implements [`Kind`] for a type that is called as its kind is.
macro_rules! kind {
    ($kind:ident, $plural:literal $(, $group:literal)?) => {
        impl Kind for $kind {
            const KIND: &str = stringify!($kind);
            const PLURAL: &str = $plural;
            $(const GROUP: &str = $group;)?

            fn metadata(&self) -> &Metadata {
                &self.metadata
            }
        }
    };
}

kind!(ConfigMap, "configmaps");
kind!(Event, "events");
kind!(Lease, "leases", "coordination.k8s.io");
kind!(Namespace, "namespaces");
kind!(Node, "nodes");
kind!(Pod, "pods");
kind!(ServiceAccount, "serviceaccounts");
