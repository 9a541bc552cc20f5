//! Comparison of transports: ways to get a directory of one container into others.

mod death;
mod measure;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use death::{Death, Gave, Healing, Span};
pub use measure::{Measure, Metric, Ratio, Resources, Tendency, Versus};

use crate::report::Cleanup;
use crate::suggest::nearest;

/// Version of the comparison's shape. Grows when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// A way to get a directory from the producer's container into the consumer's.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A hostPath volume of the directory itself, without a transport.
    Native,
    /// The built-in FUSE filesystem, whose daemon reads every file.
    Fuse,
    /// The built-in FUSE filesystem with FUSE passthrough: the kernel reads open files.
    FusePassthrough,
    /// An external FUSE daemon; bindfs by default.
    Daemon,
    /// smbd, mounted by `rclone mount`.
    SmbRclone,
    /// smbd, mounted by smbnetfs.
    SmbSmbnetfs,
    /// smbd, mounted by the kernel.
    SmbCifs,
    /// nfs-ganesha, mounted by the kernel.
    Nfs,
    /// The built-in FUSE filesystem served again by smbd, mounted by `rclone mount`.
    FuseSmbRclone,
    /// The built-in FUSE filesystem served again by smbd, mounted by the kernel.
    FuseSmbCifs,
    /// The built-in FUSE filesystem served again by nfs-ganesha, mounted by the kernel.
    FuseNfs,
}

impl Transport {
    /// All transports, in the order in which they are shown.
    pub const ALL: [Self; 11] = [
        Self::Native,
        Self::Fuse,
        Self::FusePassthrough,
        Self::Daemon,
        Self::SmbRclone,
        Self::SmbSmbnetfs,
        Self::SmbCifs,
        Self::Nfs,
        Self::FuseSmbRclone,
        Self::FuseSmbCifs,
        Self::FuseNfs,
    ];

    /// The transports that are compared by default; kernels without CIFS leave out the last one.
    pub const DEFAULT: [Self; 6] = [
        Self::Native,
        Self::Fuse,
        Self::FusePassthrough,
        Self::Daemon,
        Self::SmbRclone,
        Self::SmbCifs,
    ];

    /// Its name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Fuse => "fuse",
            Self::FusePassthrough => "fuse-passthrough",
            Self::Daemon => "daemon",
            Self::SmbRclone => "smb-rclone",
            Self::SmbSmbnetfs => "smb-smbnetfs",
            Self::SmbCifs => "smb-cifs",
            Self::Nfs => "nfs",
            Self::FuseSmbRclone => "fuse-smb-rclone",
            Self::FuseSmbCifs => "fuse-smb-cifs",
            Self::FuseNfs => "fuse-nfs",
        }
    }

    /// Whether it uses FUSE alone.
    pub fn is_fuse(self) -> bool {
        matches!(self, Self::Fuse | Self::FusePassthrough | Self::Daemon)
    }

    /// Whether smbd serves the directory itself.
    pub fn is_smb(self) -> bool {
        matches!(self, Self::SmbRclone | Self::SmbSmbnetfs | Self::SmbCifs)
    }

    /// Whether a server serves a FUSE mount again.
    pub fn is_re_export(self) -> bool {
        matches!(self, Self::FuseSmbRclone | Self::FuseSmbCifs | Self::FuseNfs)
    }

    /// Whether nfs-ganesha is its server.
    pub fn is_nfs(self) -> bool {
        matches!(self, Self::Nfs | Self::FuseNfs)
    }

    /// Whether containers have to be in the machine's own user namespace: root of another one mounts no filesystem whose client
    /// is the kernel, and opens no backing file.
    pub fn needs_machine_rights(self) -> bool {
        self.is_mounted_by_the_kernel() || self == Self::FusePassthrough
    }

    /// Whether a server is between the directory and its mount: the mount outlives the server, and answers again once there
    /// is one.
    pub fn has_server(self) -> bool {
        self.is_smb() || self.is_nfs() || self.is_re_export()
    }

    /// Whether the kernel is the client of its server.
    pub fn is_mounted_by_the_kernel(self) -> bool {
        matches!(self, Self::SmbCifs | Self::Nfs | Self::FuseSmbCifs | Self::FuseNfs)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(text, "transport", &Self::ALL.map(|one| (one.as_str(), one)))
    }
}

/// A workload on a transport.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// One file read from its beginning, as fast as possible.
    Sequential,
    /// One file read at a fixed rate, as by a player: the first byte, and stalls.
    Play,
    /// 64 KiB at random places of a file.
    Seek,
    /// A directory of many entries: names and attributes, first after a remount, then again.
    Scan,
    /// Small files: open, 4 KiB, close.
    Open,
    /// A file written and synced; small files written, synced and renamed.
    Write,
    /// Four players, a scan and a writer at once.
    Many,
    /// The server is killed and comes back.
    Die,
}

impl Workload {
    /// All workloads, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Sequential,
        Self::Play,
        Self::Seek,
        Self::Scan,
        Self::Open,
        Self::Write,
        Self::Many,
        Self::Die,
    ];

    /// Its name on the command line and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Play => "play",
            Self::Seek => "seek",
            Self::Scan => "scan",
            Self::Open => "open",
            Self::Write => "write",
            Self::Many => "many",
            Self::Die => "die",
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(text, "workload", &Self::ALL.map(|one| (one.as_str(), one)))
    }
}

fn by_name<T: Copy>(text: &str, what: &str, all: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, one)) = all.iter().find(|(name, _)| *name == text) {
        return Ok(*one);
    }
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    let meant = nearest(text, names.iter().copied());
    let meant = meant.map(|name| format!(", did you mean {name}?")).unwrap_or_default();
    Err(format!("unknown {what} {text:?}{meant} (one of {})", names.join(", ")))
}

/// Why a transport was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Skip {
    /// The kind of reason.
    pub kind: SkipKind,
    /// The reason.
    pub reason: String,
    /// How to make it available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Kind of reason for which a transport is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SkipKind {
    /// A program is not installed.
    ProgramMissing,
    /// It needs rights that the node does not have.
    NotPermitted,
    /// It does not become ready: the reason is its own output.
    NotReady,
    /// The kernel does not have it.
    KernelLacks,
}

/// Result of one transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TransportResult {
    /// The transport.
    pub transport: Transport,
    /// How it was set up: the programs, server first.
    pub how: Vec<String>,
    /// Why it was left out, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skip>,
    /// Time from the start of its programs until consumers could read, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<f64>,
    /// Measurements, by metric.
    pub measures: Vec<Measure>,
    /// Effects of the death of its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death: Option<Death>,
}

impl TransportResult {
    /// The measurement of a metric.
    pub fn measure(&self, metric: Metric) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.metric == metric)
    }
}

/// The machine on which transports were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Machine {
    /// Its kernel.
    pub kernel_release: String,
    /// Its architecture.
    pub architecture: String,
    /// Number of processors.
    pub processors: u32,
    /// The engine that made the containers.
    pub engine: String,
}

/// The files that were measured with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DataSet {
    /// Size of the long file, in bytes.
    pub media_bytes: u64,
    /// Number of small files.
    pub entries: u64,
    /// Size of each small file, in bytes.
    pub entry_bytes: u64,
    /// The filesystem that they lie on.
    pub medium: String,
}

/// A comparison of transports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Comparison {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// The version of that program.
    pub tool_version: String,
    /// Id of the run.
    pub run_id: String,
    /// When it began.
    pub started_at: String,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// Seed of the order of rounds and of all random places.
    pub seed: u64,
    /// Number of rounds.
    pub rounds: u32,
    /// Whether it was the short form.
    pub quick: bool,
    /// Whether it was interrupted; the results so far are here.
    pub cut_short: bool,
    /// The machine.
    pub machine: Machine,
    /// The files.
    pub data_set: DataSet,
    /// Meaning of "cold" here.
    pub cold: String,
    /// The transports, in order.
    pub transports: Vec<TransportResult>,
    /// The native transport measured a second time, against itself: the difference by chance.
    pub noise: Vec<Versus>,
    /// FUSE against SMB, for the decision between them.
    pub decision: Vec<Versus>,
    /// What was left behind, if anything.
    pub cleanup: Cleanup,
}

impl Comparison {
    /// The result of a transport.
    pub fn transport(&self, transport: Transport) -> Option<&TransportResult> {
        self.transports.iter().find(|one| one.transport == transport)
    }

    /// The transports that were measured.
    pub fn measured(&self) -> impl Iterator<Item = &TransportResult> {
        self.transports.iter().filter(|one| one.skipped.is_none())
    }

    /// The JSON Schema of a comparison.
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for transport in Transport::ALL {
            assert_eq!(transport.as_str().parse(), Ok(transport));
            let json = serde_json::to_value(transport).expect("a name");
            assert_eq!(json, transport.as_str());
        }
        for workload in Workload::ALL {
            assert_eq!(workload.as_str().parse(), Ok(workload));
            assert_eq!(serde_json::to_value(workload).expect("a name"), workload.as_str());
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_one_that_was_meant() {
        let error = "fuze".parse::<Transport>().expect_err("unknown");
        assert!(error.starts_with("unknown transport \"fuze\", did you mean fuse?"), "{error}");
        assert!("".parse::<Workload>().is_err());
    }
}
