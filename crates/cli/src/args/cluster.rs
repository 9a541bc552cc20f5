//! Options of `--backend k8s`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use propagation_core::{Error, ErrorKind};

/// How to reach the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum AccessName {
    /// Over ssh if the ssh configuration names the node, otherwise through a pod.
    #[default]
    Found,
    /// Over ssh, with the user's own configuration.
    Ssh,
    /// Through a privileged pod that shares the node's process ids.
    Pod,
}

/// Options of `--backend k8s`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Options of --backend k8s")]
pub(crate) struct ClusterOptions {
    /// Kubeconfig [default: $KUBECONFIG or ~/.kube/config]; it is only read.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current one].
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Node, or several separated by commas [default: the first that can carry a run].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) node: Vec<String>,
    /// Run on every node.
    #[arg(long, conflicts_with_all = ["node", "selector"])]
    pub(crate) all_nodes: bool,
    /// Run on the nodes with these labels.
    #[arg(long, value_name = "LABELS", conflicts_with = "node")]
    pub(crate) selector: Option<String>,
    /// Nodes to run on at a time [default: 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) parallel: Option<u16>,
    /// Namespace to use instead of one made for the run; it must have this program's label.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Image with the agent, for nodes that it cannot be copied to.
    #[arg(long, value_name = "REF")]
    pub(crate) image: Option<String>,
    /// Image with the programs that scenarios start in containers [default: the node's own, read-only].
    #[arg(long, value_name = "REF")]
    pub(crate) program_image: Option<String>,
    /// How to reach the node itself.
    #[arg(long, value_enum)]
    pub(crate) access: Option<AccessName>,
    /// Ssh configuration [default: ~/.ssh/config].
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_config: Option<PathBuf>,
    /// Ssh user [default: as the ssh configuration says]; a non-root user needs sudo without a password.
    #[arg(long, value_name = "NAME")]
    pub(crate) ssh_user: Option<String>,
    /// Suffix that makes a node's name a host name, such as .lan.
    #[arg(long, value_name = "SUFFIX")]
    pub(crate) ssh_domain: Option<String>,
    /// Import the agent as an image over ssh, instead of using one that the node has.
    #[arg(long)]
    pub(crate) import_image: bool,
    /// Taint to tolerate: KEY[=VALUE][:EFFECT], or * for all.
    #[arg(long, value_name = "TAINT")]
    pub(crate) tolerate: Vec<String>,
    /// Add user_allow_other to the node's /etc/fuse.conf during the run.
    #[arg(long)]
    pub(crate) apply: bool,
    /// Leave the clean-up to a process in the background; it can also be done by `propagation clean --backend k8s`.
    #[arg(long)]
    pub(crate) detach_cleanup: bool,
}

/// Nodes of a cluster that are used at a time, unless the options say otherwise.
const NODES_AT_A_TIME: u16 = 8;

impl ClusterOptions {
    /// Refuses options that do not apply to the backend.
    pub(crate) fn refuse_any(&self) -> Result<(), Error> {
        if *self == Self::default() {
            return Ok(());
        }
        let reason = "options of --backend k8s were given for another backend";
        Err(Error::new(ErrorKind::InvalidInput, "read the arguments", reason)
            .with_fix("add --backend k8s"))
    }

    /// Refuses options that apply to runs only.
    pub(crate) fn refuse_those_of_runs(&self) -> Result<(), Error> {
        refuse(&[
            (self.apply, "--apply"),
            (self.parallel.is_some(), "--parallel"),
            (self.detach_cleanup, "--detach-cleanup"),
            (self.program_image.is_some(), "--program-image"),
        ])
    }

    /// Refuses options that `compare` has no use for.
    pub(crate) fn refuse_those_of_many_runs(&self) -> Result<(), Error> {
        refuse(&[
            (self.parallel.is_some(), "--parallel"),
            (self.detach_cleanup, "--detach-cleanup"),
        ])
    }

    /// Nodes to use at a time.
    pub(crate) fn at_a_time(&self) -> usize {
        usize::from(self.parallel.unwrap_or(NODES_AT_A_TIME))
    }

    /// Whether it is one node that was asked for.
    pub(crate) fn is_one_node(&self) -> bool {
        self.node.len() <= 1 && !self.all_nodes && self.selector.is_none()
    }
}

/// Refuses the first option that was given.
fn refuse(options: &[(bool, &str)]) -> Result<(), Error> {
    match options.iter().find(|(given, _)| *given) {
        None => Ok(()),
        Some((_, name)) => {
            let reason = format!("{name} is an option of `propagation run`");
            Err(Error::new(ErrorKind::InvalidInput, "read the arguments", reason)
                .with_fix("leave it out"))
        }
    }
}
