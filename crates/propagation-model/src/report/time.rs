//! Times in which a run waited for other programs.

use serde::{Deserialize, Serialize};

/// A time in which the run could only wait for another program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Wait {
    /// The program.
    pub on: WaitedOn,
    /// What it waited for: a workload, or `host agent`.
    pub subject: String,
    /// From when, in microseconds since the start of the run.
    pub started_us: u64,
    /// Until when, on the same clock.
    pub ended_us: u64,
}

/// A program that a run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitedOn {
    /// The kubelet, with the scheduler before it and the pod's sandbox and volumes: until the container has a
    /// process, or until the program of a deleted pod has ended.
    Kubelet,
    /// The container runtime: from its first process until the container's own program runs.
    Runtime,
}
