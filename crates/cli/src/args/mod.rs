//! The arguments. Nothing here does anything.

pub(crate) mod cluster;
pub(crate) mod compare;
pub(crate) mod manifests;
pub(crate) mod matrix;
mod parse;
pub(crate) mod run;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use propagation_core::plan::Bridge;
use propagation_report::text::Detail;

use cluster::ClusterOptions;
use parse::{parse_bridge, parse_duration, parse_file_name};

/// Can a FUSE mount made in one container be used from another, what happens when its producer
/// dies, and what brings it back? Answered with evidence.
#[derive(Debug, Parser)]
#[command(name = "propagation", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the five phases and give a verdict.
    #[command(after_help = "Example:\n  propagation run --report ./result\n\n\
        Exit status: 0 full_success, 3 partial_success, 4 fundamental_failure, 5 inconclusive,\n\
        2 bad usage, 1 the tool failed, 130 interrupted; with --scenario 0 everything as expected,\n\
        5 every scenario was skipped, 6 a scenario came out otherwise (or, with --require all,\n\
        something was skipped), 7 something of the run is left and was named. SIGINT, SIGTERM and\n\
        SIGHUP interrupt: what was made is removed, and what was found until then is shown.")]
    Run(Box<run::RunOptions>),
    /// Run every combination of axes and draw the atlas.
    #[command(after_help = "Examples:\n  propagation matrix --out ./atlas\n  \
        propagation matrix --axis fault=kill --axis volume=all\n  \
        propagation matrix --cell covering=shared,propagation=None,volume=bridge,\
        order=after_mount,fault=kill,repair=remount\n\n\
        Writes cells.jsonl, atlas.html and atlas.md. Exit status: 0 all cells were run,\n\
        1 some failed, 2 bad usage, 130 interrupted (--resume goes on).")]
    Matrix(matrix::MatrixOptions),
    /// Compare transports between containers: FUSE, SMB and others, also while their servers die.
    #[command(after_help = "Examples:\n  propagation compare --report ./transports\n  \
        propagation compare --quick --transports native,fuse,smb-rclone\n  \
        propagation compare --transports fuse,daemon \\\n    \
        --producer-command 'rclone mount {source} {mountpoint} --allow-other'\n\n\
        Everything happens on a simulated node with a network of its own; data lie in its memory.\n\
        Exit status: 0 measured, also where a transport was left out; 1 the tool failed, 2 bad usage,\n\
        7 something of the run is left and was named, 130 interrupted (what was measured is shown).")]
    Compare(compare::CompareOptions),
    /// Check whether this machine can share FUSE mounts; change nothing.
    #[command(after_help = "Example:\n  propagation doctor --bridge /srv/media\n\n\
        Exit status: 0 everything in order, 5 a check failed, 1 this machine cannot be examined.",
        mut_arg("apply", |arg| arg.hide(true)), mut_arg("parallel", |arg| arg.hide(true)),
        mut_arg("detach_cleanup", |arg| arg.hide(true)), mut_arg("program_image", |arg| arg.hide(true)))]
    Doctor(DoctorOptions),
    /// Probe a mount once without hanging; for liveness probes.
    ///
    /// A child process looks, and is given up when the time is over: a daemon that does not answer
    /// cannot block the probe. In a container use `propagation-agent probe`, which does the same as one
    /// static binary.
    #[command(after_help = "Example:\n  propagation probe /mnt/dfs --timeout 4s\n\n\
        Exit status:\n  \
        0 ok: mounted, and it answers\n  \
        10 stale: the daemon is gone, or answers with an error\n  \
        11 hung: no answer in time\n  \
        12 empty: mounted, and empty or without its sentinel\n  \
        13 not mounted: the path lies on the filesystem around it\n  \
        1 another error, such as a path that is not there; 2 bad usage\n\n\
        A liveness probe restarts the container. That helps when its volume is the directory above\n\
        the mountpoint, and when the producer serves again; while the source of the volume itself is\n\
        dead the runtime refuses the start. Files that are open do not recover by anything but a\n\
        restart.")]
    Probe(ProbeOptions),
    /// Render a saved report again.
    #[command(after_help = "Example:\n  propagation report ./result/report.json --evidence\n  \
        propagation report ./result/report.json --format html > report.html")]
    Report(ReportOptions),
    /// Remove the remains of killed or kept runs.
    #[command(after_help = "Example:\n  propagation clean --list\n  \
        propagation clean --run-id 20261123t053012-ab12cd34",
        mut_arg("apply", |arg| arg.hide(true)), mut_arg("parallel", |arg| arg.hide(true)),
        mut_arg("detach_cleanup", |arg| arg.hide(true)), mut_arg("all_nodes", |arg| arg.hide(true)),
        mut_arg("selector", |arg| arg.hide(true)), mut_arg("program_image", |arg| arg.hide(true)))]
    Clean(CleanOptions),
    /// Write manifests for the same test by hand: kubectl apply -k DIR.
    #[command(after_help = "Example:\n  propagation manifests ./fuse-propagation-test\n  \
        kubectl apply -k ./fuse-propagation-test")]
    Manifests(manifests::ManifestsOptions),
    /// Write the agent as a container image archive, for nodes without a registry.
    #[command(after_help = "Example:\n  propagation image agent.tar\n  \
        k3s ctr images import agent.tar")]
    Image(ImageOptions),
    /// Print the JSON Schema of reports, or of scenario files.
    #[command(after_help = "Example:\n  propagation schema > report.schema.json\n  \
        propagation schema --scenario > scenario.schema.json")]
    Schema {
        /// Print the schema of scenario files.
        #[arg(long)]
        scenario: bool,
    },
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  propagation completions bash > \
        /etc/bash_completion.d/propagation")]
    Completions {
        /// Shell to complete for.
        shell: clap_complete::Shell,
    },
}

/// Output format of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Output format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people, in a terminal.
    Text,
    /// For programs: everything that was recorded.
    Json,
    /// For an issue or a wiki: the filled results template.
    Markdown,
    /// For people, in a browser: one file with timeline and mount graph.
    Html,
    /// For CI systems: JUnit XML, a test case for each check.
    Junit,
    /// The mount graph alone, for Graphviz.
    Dot,
    /// The mount graph alone, as a picture.
    Svg,
    /// The plan alone, which `run --scenario` takes to do the same again.
    Plan,
}

/// Where a plan is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// A simulated node on this machine's kernel.
    Local,
    /// Nodes of a Kubernetes cluster.
    K8s,
}

/// How much of a report to show.
#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// Show all details: the evidence of checks, the mount graph, logs and latencies.
    #[arg(long, short = 'v', visible_alias = "verbose")]
    evidence: bool,
    /// Show the result only, with its fix; no progress.
    #[arg(long, short = 'q', conflicts_with = "evidence")]
    pub(crate) quiet: bool,
}

impl Shown {
    pub(crate) fn detail(&self) -> Detail {
        match (self.quiet, self.evidence) {
            (true, _) => Detail::Brief,
            (false, false) => Detail::Normal,
            (false, true) => Detail::Full,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Where to look: this machine, or nodes of a cluster.
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) backend: BackendName,
    /// Directory that the workloads will share.
    #[arg(long, value_name = "PATH", value_parser = parse_bridge,
          default_value_t = Bridge::default().path)]
    pub(crate) bridge: String,
    /// UID of the producer.
    #[arg(long, value_name = "UID", default_value_t = 0)]
    pub(crate) producer_uid: u32,
    /// Output format.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// Time limit of the check of this machine.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeOptions {
    /// The mountpoint.
    pub(crate) path: String,
    /// Time limit for an answer.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2s")]
    pub(crate) timeout: Duration,
    /// File that must be readable in the mount.
    #[arg(long, value_name = "NAME", value_parser = parse_file_name)]
    pub(crate) sentinel: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// report.json of a run.
    pub(crate) file: PathBuf,
    /// Output format.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: ReportFormat,
    #[command(flatten)]
    pub(crate) shown: Shown,
}

#[derive(Debug, Args)]
pub(crate) struct CleanOptions {
    /// Clean this run only, even while it is running.
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// Clean runs that are still running too.
    #[arg(long)]
    pub(crate) all: bool,
    /// List the remains and remove nothing.
    #[arg(long)]
    pub(crate) list: bool,
    /// With --backend k8s: remove what the cluster has of a run also when its node cannot be cleaned, and say what
    /// stays there.
    #[arg(long, conflicts_with = "list")]
    pub(crate) force: bool,
    /// Where to clean.
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) backend: BackendName,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ImageOptions {
    /// Archive to write.
    pub(crate) file: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use propagation_core::Plan;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn paths_and_propagation_may_be_written_as_shells_and_docker_do() {
        let plan = |words: &[&str]| {
            let all = ["propagation", "run"].iter().chain(words);
            match Arguments::try_parse_from(all).expect("valid").command {
                Command::Run(options) => options.plan(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(plan(&["--bridge", "/srv/media/"]), plan(&["--bridge", "/srv/media"]));
        assert_eq!(plan(&["--bridge", "/"]).bridge.path, "/");
        for (docker, kubernetes) in
            [("rprivate", "None"), ("rslave", "HostToContainer"), ("rshared", "Bidirectional")]
        {
            let same = plan(&["--propagation", kubernetes]);
            assert_eq!(plan(&["--propagation", docker]), same);
            assert_eq!(plan(&["--propagation", &docker[1..]]), same);
        }
    }

    #[test]
    fn consumers_are_split_between_early_and_late() {
        let options = |words: &[&str]| {
            let all = ["propagation", "run"].iter().chain(words);
            match Arguments::try_parse_from(all).expect("valid").command {
                Command::Run(options) => options.plan(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(options(&[]), Plan::default());
        let plan = options(&["--consumers", "1001"]);
        let replicas: Vec<u32> = plan.workloads.iter().map(|w| w.replicas).collect();
        assert_eq!(replicas, [1, 500, 501, 1]);
        let plan = options(&["--consumers", "1"]);
        assert_eq!(plan.workloads.len(), 3);
    }
}
