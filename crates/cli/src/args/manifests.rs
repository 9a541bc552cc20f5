//! Options of `propagation manifests`.

use std::path::PathBuf;

use clap::Args;
use propagation_core::plan::Bridge;

use super::parse::parse_bridge;

#[derive(Debug, Args)]
pub(crate) struct ManifestsOptions {
    /// Directory to write the manifests to; it is created.
    pub(crate) directory: PathBuf,
    /// Directory of the node that the pods share.
    #[arg(long, value_name = "PATH", value_parser = parse_bridge,
          default_value_t = Bridge::default().path)]
    pub(crate) bridge: String,
    /// Node for all pods.
    #[arg(long, value_name = "NAME", conflicts_with = "selector")]
    pub(crate) node: Option<String>,
    /// Labels of the nodes for the pods: KEY=VALUE, separated by commas.
    #[arg(long, value_name = "LABELS")]
    pub(crate) selector: Option<String>,
    /// The namespace.
    #[arg(long, value_name = "NAME", default_value = "fuse-test")]
    pub(crate) namespace: String,
    /// Image with the agent; see `propagation image`.
    #[arg(long, value_name = "REF")]
    pub(crate) image: Option<String>,
    /// Taint to tolerate: KEY[=VALUE][:EFFECT], or * for all.
    #[arg(long, value_name = "TAINT")]
    pub(crate) tolerate: Vec<String>,
    /// Give the consumers a liveness probe that restarts them when the mount is dead or hangs.
    #[arg(long)]
    pub(crate) liveness_probe: bool,
}
