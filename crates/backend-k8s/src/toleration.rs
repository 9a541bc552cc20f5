//! The taints of nodes that pods tolerate.

use serde::Serialize;

/// A taint that pods tolerate, in the words of the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Toleration {
    /// The key of the taint; none is every taint, with the operator `Exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Exists`, or `Equal`, which compares the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The value of the taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; none is every effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

impl Toleration {
    /// Tolerates whatever a node has been tainted with.
    pub(crate) fn everything() -> Self {
        Self { operator: Some("Exists".into()), ..Self::default() }
    }
}
