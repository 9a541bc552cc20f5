//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::ClusterOptions;
use clap::{Args, Parser, Subcommand, ValueEnum};
use propagation_core::experiments::Budget;
use propagation_core::plan::{
    Bridge, Covering, Engine, Fault, NodeSpec, Plan, Propagation, StartOrder, Volume, WorkloadSpec,
};
use propagation_core::{Error, ErrorKind};
use propagation_report::text::Detail;

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
    Run(Box<RunOptions>),
    /// Run every combination of axes and draw the atlas.
    #[command(after_help = "Examples:\n  propagation matrix --out ./atlas\n  \
        propagation matrix --axis fault=kill --axis volume=all\n  \
        propagation matrix --cell covering=shared,propagation=None,volume=bridge,\
        order=after_mount,fault=kill,repair=remount\n\n\
        Writes cells.jsonl, atlas.html and atlas.md. Exit status: 0 all cells were run,\n\
        1 some failed, 2 bad usage, 130 interrupted (--resume goes on).")]
    Matrix(MatrixOptions),
    /// Compare transports between containers: FUSE, SMB and others, also while their servers die.
    #[command(after_help = "Examples:\n  propagation compare --report ./transports\n  \
        propagation compare --quick --transports native,fuse,smb-rclone\n  \
        propagation compare --transports fuse,daemon \\\n    \
        --producer-command 'rclone mount {source} {mountpoint} --allow-other'\n\n\
        Everything happens on a simulated node with a network of its own; data lie in its memory.\n\
        Exit status: 0 measured, also where a transport was left out; 1 the tool failed, 2 bad usage,\n\
        7 something of the run is left and was named, 130 interrupted (what was measured is shown).")]
    Compare(crate::compare::CompareOptions),
    /// Check whether this host can share FUSE mounts; change nothing.
    #[command(after_help = "Example:\n  propagation doctor --bridge /srv/media\n\n\
        Exit status: 0 everything in order, 5 a check failed, 1 this host cannot be examined.")]
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
        mut_arg("apply", |arg| arg.hide(true)), mut_arg("parallel", |arg| arg.hide(true)))]
    Clean(CleanOptions),
    /// Write manifests for the same test by hand: kubectl apply -k DIR.
    #[command(after_help = "Example:\n  propagation manifests ./fuse-propagation-test\n  \
        kubectl apply -k ./fuse-propagation-test")]
    Manifests(crate::manifests::ManifestsOptions),
    /// Write the agent as a container image archive, for nodes without a registry.
    #[command(after_help = "Example:\n  propagation image agent.tar\n  \
        k3s ctr images import agent.tar")]
    Image(crate::image::ImageOptions),
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

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum FaultName {
    /// SIGKILL; the container's namespaces go with it.
    Kill,
    /// SIGTERM: a clean unmount.
    Terminate,
    /// The pod is deleted: SIGTERM, then SIGKILL.
    Delete,
    /// As `kubectl delete --force` does it.
    ForceDelete,
    /// SIGSTOP: the daemon hangs.
    Stop,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum VolumeName {
    /// The bridge, which contains the FUSE mountpoint.
    Bridge,
    /// The FUSE mountpoint itself.
    Mountpoint,
    /// The directory above the bridge.
    Ancestor,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PropagationName {
    /// rprivate
    #[value(name = "None", aliases = ["rprivate", "private"])]
    None,
    /// rslave
    #[value(name = "HostToContainer", aliases = ["rslave", "slave"])]
    HostToContainer,
    /// rshared
    #[value(name = "Bidirectional", aliases = ["rshared", "shared"])]
    Bidirectional,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CoveringName {
    /// As systemd leaves `/`.
    Shared,
    /// Receives mounts, sends none.
    Slave,
    /// As on a node without systemd.
    Private,
}

/// What must not be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Required {
    /// Every scenario and every expectation.
    All,
}

/// How much of a report to show.
#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// Show every check with its evidence, the mount graph and the logs.
    #[arg(long, short = 'v', visible_alias = "verbose")]
    evidence: bool,
    /// Show the verdict and its fix only; no progress.
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
pub(crate) struct RunOptions {
    /// Where to run.
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) backend: BackendName,
    /// Scenario file or directory to run instead of the five phases; may be repeated.
    #[arg(long, value_name = "FILE|DIR", conflicts_with_all = ["bridge", "fault", "volume",
          "propagation", "consumers", "producer_uid", "producer_command", "no_allow_other",
          "covering", "container_fuse_conf"])]
    pub(crate) scenario: Vec<PathBuf>,
    /// Container runtime for every scenario, instead of the scenario's own: `builtin`, `runc`, `crun`, or the
    /// path of an OCI runtime.
    #[arg(long, value_name = "NAME|PATH", requires = "scenario")]
    pub(crate) runtime: Option<Engine>,
    /// Scenarios to run at a time [default: 2; on a cluster 1, because all use the same bridge].
    #[arg(long, value_name = "N", requires = "scenario",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// Factor on every deadline of every scenario, for slow machines.
    #[arg(long, value_name = "TIMES", requires = "scenario", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) patience: u32,
    /// Directory of the node that the workloads share.
    #[arg(long, value_name = "PATH", value_parser = parse_bridge,
          default_value_t = Bridge::default().path)]
    pub(crate) bridge: String,
    /// Fault to inject into the producer.
    #[arg(long, value_enum, default_value = "kill")]
    fault: FaultName,
    /// Directory that the consumers mount as their volume.
    #[arg(long, value_enum, default_value = "bridge")]
    volume: VolumeName,
    /// Mount propagation of the consumers, by Kubernetes' name or Docker's (rprivate, rslave, rshared).
    #[arg(long, value_enum, ignore_case = true, default_value = "HostToContainer")]
    propagation: PropagationName,
    /// Number of consumers; half of them start before the mount.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..))]
    consumers: u32,
    /// UID of the producer; a non-root producer mounts through fusermount3.
    #[arg(long, value_name = "UID", default_value_t = 0)]
    producer_uid: u32,
    /// FUSE daemon of the producer instead of the built-in filesystem, with {source}, {mountpoint} and {work}; it
    /// must stay in the foreground.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["producer_uid", "no_allow_other"])]
    producer_command: Option<String>,
    /// Mount without allow_other.
    #[arg(long)]
    no_allow_other: bool,
    /// Propagation of the mount under the bridge on a simulated node.
    #[arg(long, value_enum, default_value = "shared")]
    covering: CoveringName,
    /// Shape the simulated node by this host: the mount that covers the bridge, fuse.conf, fusermount3, what lies at the
    /// bridge, and the mount namespace of the container runtime.
    #[arg(long, conflicts_with_all = ["scenario", "covering"])]
    pub(crate) like_this_host: bool,
    /// Content of /etc/fuse.conf in the containers of a simulated node.
    #[arg(long, value_name = "TEXT")]
    container_fuse_conf: Option<String>,
    /// Try single changes of the plan on simulated nodes and say which heal: for this time, `all` for as long as
    /// it takes, or `off` [default: 1s for one plan on this machine that does not succeed, else off].
    #[arg(long, value_name = "TIME|all|off", value_parser = parse_experiments)]
    pub(crate) experiments: Option<Experiments>,
    /// Time limit of a run [default: 5m, or what the scenario says].
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Output format; text or json for several scenarios or nodes.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: ReportFormat,
    /// Directory to write the report to, in every format, with the log.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Keep the values of `fuse.environment` in the report, not only their names.
    #[arg(long, requires = "scenario")]
    pub(crate) with_secrets: bool,
    /// Directory for the log of the run.
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
    /// Leave the node standing at the end.
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) shown: Shown,
    /// Count a skip as a failure: exit status 6 when a scenario or an expectation was skipped.
    #[arg(long, value_enum, value_name = "all", requires = "scenario")]
    pub(crate) require: Option<Required>,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

impl RunOptions {
    /// The plan that the options describe.
    pub(crate) fn plan(&self) -> Plan {
        let late = self.consumers.div_ceil(2);
        let early = self.consumers - late;
        let consumer = |name: &str, order, replicas| WorkloadSpec {
            volume: self.volume(),
            propagation: self.propagation(),
            replicas,
            ..WorkloadSpec::consumer(name, order)
        };
        let mut workloads =
            vec![WorkloadSpec { uid: self.producer_uid, ..WorkloadSpec::producer() }];
        if early > 0 {
            workloads.push(consumer("consumer-early", StartOrder::BeforeMount, early));
        }
        if late > 0 {
            workloads.push(consumer("consumer-late", StartOrder::AfterMount, late));
        }
        workloads.push(WorkloadSpec::control());
        let mut plan = Plan { workloads, ..Plan::default() };
        plan.bridge.path.clone_from(&self.bridge);
        plan.fault = match self.fault {
            FaultName::Kill => Fault::Kill,
            FaultName::Terminate => Fault::Terminate,
            FaultName::Delete => Fault::Delete,
            FaultName::ForceDelete => Fault::ForceDelete,
            FaultName::Stop => Fault::Stop,
        };
        plan.fuse.allow_other = !self.no_allow_other;
        if let Some(command) = &self.producer_command {
            plan.fuse.command =
                ["/bin/sh", "-c", &format!("exec {command}")].map(str::to_owned).into();
        }
        self.limit(&mut plan);
        plan.node = NodeSpec {
            covering: match self.covering {
                CoveringName::Shared => Covering::Shared,
                CoveringName::Slave => Covering::Slave,
                CoveringName::Private => Covering::Private,
            },
            // fusermount3 ignores a last line without an end.
            container_fuse_conf: self.container_fuse_conf.as_ref().map(|text| format!("{text}\n")),
            ..NodeSpec::default()
        };
        plan
    }

    /// Time for experiments; none without experiments.
    pub(crate) fn budget(&self) -> Option<Budget> {
        let one_plan = match self.scenario.as_slice() {
            [] => true,
            [one] => !one.is_dir(),
            _ => false,
        };
        match self.experiments {
            Some(Experiments::Off) => None,
            Some(Experiments::All) => Some(Budget::all()),
            Some(Experiments::For(time)) => Some(Budget::of(time)),
            None => (one_plan && self.backend == BackendName::Local).then(Budget::default),
        }
    }

    /// Gives a plan the requested time limit, if any.
    pub(crate) fn limit(&self, plan: &mut Plan) {
        if let Some(timeout) = self.timeout {
            plan.deadlines.run_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        }
    }

    /// Refuses formats for a single report when there are several.
    pub(crate) fn format_of_several(&self) -> Result<(), Error> {
        if matches!(self.format, ReportFormat::Text | ReportFormat::Json) {
            return Ok(());
        }
        let reason = "this format holds one report, and there are several";
        Err(Error::new(ErrorKind::InvalidInput, "read --format", reason)
            .with_fix("use text or json; --report DIR writes each report in every format"))
    }

    fn volume(&self) -> Volume {
        match self.volume {
            VolumeName::Bridge => Volume::Bridge,
            VolumeName::Mountpoint => Volume::Mountpoint,
            VolumeName::Ancestor => Volume::Ancestor,
        }
    }

    fn propagation(&self) -> Propagation {
        match self.propagation {
            PropagationName::None => Propagation::None,
            PropagationName::HostToContainer => Propagation::HostToContainer,
            PropagationName::Bidirectional => Propagation::Bidirectional,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct MatrixOptions {
    /// Values of an axis, such as fault=kill,stop, or fault=all; may be repeated.
    #[arg(long, value_name = "NAME=VALUES")]
    pub(crate) axis: Vec<String>,
    /// YAML file with the values of axes.
    #[arg(long, value_name = "FILE")]
    pub(crate) axes: Option<PathBuf>,
    /// Run one cell only and print its report.
    #[arg(long, value_name = "ID", conflicts_with_all = ["axis", "axes", "resume", "reports"])]
    pub(crate) cell: Option<String>,
    /// Directory for the results.
    #[arg(long, value_name = "DIR", default_value = "./propagation-matrix")]
    pub(crate) out: PathBuf,
    /// Cells to run at a time.
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: u16,
    /// Run only the cells that docs/atlas.md asks about.
    #[arg(long)]
    pub(crate) only_documented: bool,
    /// Keep the report of every cell (about 40 kB each), linked from atlas.html.
    #[arg(long)]
    pub(crate) reports: bool,
    /// Continue an earlier run with the same axes and directory.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Output format of one cell.
    #[arg(long, value_enum, default_value = "text", requires = "cell")]
    pub(crate) format: ReportFormat,
    /// Show the evidence of every check of one cell.
    #[arg(long, requires = "cell")]
    pub(crate) evidence: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
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
    /// Time limit of the check.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeOptions {
    /// The mountpoint.
    pub(crate) path: String,
    /// Time limit for an answer.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2s")]
    pub(crate) timeout: Duration,
    /// File that must be readable in the mount.
    #[arg(long, value_name = "NAME")]
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
    /// Where to clean.
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) backend: BackendName,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

/// A path without the final slash that shell completion adds.
#[expect(clippy::unnecessary_wraps, reason = "as clap wants it")]
pub(crate) fn parse_bridge(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    Ok(if path.is_empty() { text } else { path }.to_owned())
}

/// Time limit of experiments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Experiments {
    Off,
    All,
    For(Duration),
}

fn parse_experiments(text: &str) -> Result<Experiments, String> {
    match text {
        "off" => Ok(Experiments::Off),
        "all" => Ok(Experiments::All),
        time => parse_duration(time)
            .map(Experiments::For)
            .map_err(|why| format!("{why}; or `all`, or `off`")),
    }
}

/// `90s`, `4m30s`, `1500ms`, or a bare number of seconds.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => text.parse::<jiff::SignedDuration>().ok().and_then(|d| d.try_into().ok()),
    };
    let duration =
        parsed.ok_or("write a time such as 500ms, 30s or 4m30s, or a number of seconds")?;
    match duration.as_millis() {
        0 => Err("it must be longer than 0".into()),
        milliseconds if u64::try_from(milliseconds).is_err() => Err("it is too long".into()),
        _ => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(parse_duration("4m30s"), Ok(Duration::from_secs(270)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3_600)));
        let too_long = ["99999999999999999999s", "18446744073709551615m", "18446744073709551615"];
        for bad in ["", "s", "0s", "0", "-1s", "1 s ago", "m30", "banana"].iter().chain(&too_long) {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
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
