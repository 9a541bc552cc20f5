//! When a run waited for others.

use serde::{Deserialize, Serialize};

/// A time in which the run could only wait for another program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Wait {
    /// For which.
    pub on: WaitedOn,
    /// What was to come: a workload, or `host agent`.
    pub subject: String,
    /// From when, in microseconds since the start of the run.
    pub started_us: u64,
    /// Until when, on the same clock.
    pub ended_us: u64,
}

/// Whom a run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitedOn {
    /// The kubelet, with the scheduler before it and the pod's sandbox and volumes: until there is a
    /// process of the container; or until it has ended the program of a pod that is deleted.
    Kubelet,
    /// The container runtime: from its first process until the container's own program runs.
    Runtime,
}
