//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::ClusterOptions;
use clap::{Args, Parser, Subcommand, ValueEnum};
use propagation_core::experiments::Budget;
use propagation_core::plan::{
    Bridge, Covering, Fault, NodeSpec, Plan, Propagation, StartOrder, Volume, WorkloadSpec,
};
use propagation_core::{Error, ErrorKind};

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
        6 something else happened than a scenario expects; 7 something of the run is left and was named.\n\
        SIGINT, SIGTERM and SIGHUP interrupt: what was made is removed, and what was found until then is\n\
        shown.")]
    Run(Box<RunOptions>),
    /// Run every combination of axes, each on a node of its own, and draw the atlas.
    #[command(after_help = "Examples:\n  propagation matrix --out ./atlas\n  \
        propagation matrix --axis fault=kill --axis volume=all\n  \
        propagation matrix --cell covering=shared,propagation=None,volume=bridge,\
        order=after_mount,fault=kill,repair=remount\n\n\
        Writes cells.jsonl, atlas.html and atlas.md. Exit status: 0 all cells were run,\n\
        1 some failed, 2 bad usage, 130 interrupted (--resume goes on).")]
    Matrix(MatrixOptions),
    /// Check whether this host can share FUSE mounts; starts and changes nothing.
    #[command(after_help = "Example:\n  propagation doctor --bridge /srv/media\n\n\
        Exit status: 0 everything in order, 5 something is not, 1 this host cannot be looked at.")]
    Doctor(DoctorOptions),
    /// Look once at a mount, without ever hanging; for liveness probes.
    ///
    /// The look is made by a child process that is given up when the time is over, so that a daemon
    /// that does not answer cannot hold the probe. In a container use `propagation-agent probe`: the
    /// same in a file of its own, without any library.
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
    /// Remove what dead runs have left behind.
    #[command(after_help = "Example:\n  propagation clean --list\n  \
        propagation clean --run-id 20261123t053012-ab12cd34",
        mut_arg("apply", |arg| arg.hide(true)), mut_arg("parallel", |arg| arg.hide(true)))]
    Clean(CleanOptions),
    /// Write manifests that do the same by hand: kubectl apply -k DIR.
    #[command(after_help = "Example:\n  propagation manifests ./fuse-propagation-test\n  \
        kubectl apply -k ./fuse-propagation-test")]
    Manifests(crate::manifests::ManifestsOptions),
    /// Write the agent as an image, for nodes without a registry.
    #[command(after_help = "Example:\n  propagation image agent.tar\n  \
        k3s ctr images import agent.tar")]
    Image(crate::image::ImageOptions),
    /// Print the JSON Schema of reports, or of scenario files.
    #[command(after_help = "Example:\n  propagation schema > report.schema.json\n  \
        propagation schema --scenario > scenario.schema.json")]
    Schema {
        /// Of scenario files.
        #[arg(long)]
        scenario: bool,
    },
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  propagation completions bash > \
        /etc/bash_completion.d/propagation")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How a report is printed.
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
    /// SIGKILL, and the namespaces go.
    Kill,
    /// SIGTERM: a clean unmount.
    Terminate,
    /// The pod is deleted: SIGTERM, then SIGKILL.
    Delete,
    /// The same by force, as `kubectl delete --force` does.
    ForceDelete,
    /// SIGSTOP: the daemon hangs.
    Stop,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum VolumeName {
    /// The bridge; the FUSE mountpoint is a directory in it.
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
    /// Receives, does not send.
    Slave,
    /// As without systemd.
    Private,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Where to run.
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) backend: BackendName,
    /// A scenario file, or a directory of them, instead of the five phases as the options below shape
    /// them. Its name may be repeated.
    #[arg(long, value_name = "FILE|DIR", conflicts_with_all = ["bridge", "fault", "volume",
          "propagation", "consumers", "producer_uid", "no_allow_other", "covering",
          "container_fuse_conf"])]
    pub(crate) scenario: Vec<PathBuf>,
    /// What makes the containers of every scenario, whatever it says itself: `builtin`, `runc`, `crun`, or
    /// the path of an OCI runtime.
    #[arg(long, value_name = "NAME|PATH", requires = "scenario")]
    pub(crate) runtime: Option<String>,
    /// How many scenarios run at a time: 2, or 1 on a cluster's node, where all use the same bridge.
    #[arg(long, value_name = "N", requires = "scenario",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// The host directory that the workloads share.
    #[arg(long, value_name = "PATH", value_parser = parse_bridge,
          default_value_t = Bridge::default().path)]
    pub(crate) bridge: String,
    /// What happens to the producer.
    #[arg(long, value_enum, default_value = "kill")]
    fault: FaultName,
    /// Which directory the consumers' volume is.
    #[arg(long, value_enum, default_value = "bridge")]
    volume: VolumeName,
    /// Mount propagation of the consumers; Docker's names rprivate, rslave and rshared will do.
    #[arg(long, value_enum, ignore_case = true, default_value = "HostToContainer")]
    propagation: PropagationName,
    /// How many consumers, half of them started before the mount.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..))]
    consumers: u32,
    /// As which user the producer runs; others than 0 mount through fusermount3.
    #[arg(long, value_name = "UID", default_value_t = 0)]
    producer_uid: u32,
    /// Mount without allow_other.
    #[arg(long)]
    no_allow_other: bool,
    /// Propagation of the mount that covers the bridge on a simulated node.
    #[arg(long, value_enum, default_value = "shared")]
    covering: CoveringName,
    /// Content of the containers' own /etc/fuse.conf on a simulated node.
    #[arg(long, value_name = "TEXT")]
    container_fuse_conf: Option<String>,
    /// Try single changes of the plan on simulated nodes, and say which of them heal: within this time (1 s
    /// where a run of one plan on this machine does not come out as it should), `all` for as long as it
    /// takes, or `off`.
    #[arg(long, value_name = "TIME|all|off", value_parser = parse_experiments)]
    pub(crate) experiments: Option<Experiments>,
    /// Each run ends after this time at the latest: 5m, or what a scenario says itself.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// How the result is printed; of several scenarios or nodes as text or json.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: ReportFormat,
    /// Write the report in every format, and the log, into this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Keep the values of `fuse.environment` in the report, which otherwise holds their names only.
    #[arg(long, requires = "scenario")]
    pub(crate) with_secrets: bool,
    /// Where the log of the run goes.
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
    /// Leave everything standing at the end, to look at it.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Show the evidence of every check, not only of those that failed.
    #[arg(long)]
    pub(crate) evidence: bool,
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

    /// How long experiments may take; none where there are to be none.
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

    /// Gives a plan the time that was asked for, if any was.
    pub(crate) fn limit(&self, plan: &mut Plan) {
        if let Some(timeout) = self.timeout {
            plan.deadlines.run_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        }
    }

    /// Refuses formats that hold one report only, where there are several.
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
    /// Values of an axis, `NAME=VALUE,VALUE`; `all` is every value. May be repeated.
    #[arg(long, value_name = "NAME=VALUES")]
    pub(crate) axis: Vec<String>,
    /// A file with the values of axes, as a YAML map.
    #[arg(long, value_name = "FILE")]
    pub(crate) axes: Option<PathBuf>,
    /// Run one cell only and print its report.
    #[arg(long, value_name = "ID", conflicts_with_all = ["axis", "axes", "resume", "reports"])]
    pub(crate) cell: Option<String>,
    /// Where the results go.
    #[arg(long, value_name = "DIR", default_value = "./propagation-matrix")]
    pub(crate) out: PathBuf,
    /// How many cells run at a time.
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: u16,
    /// Run only the cells that the questions of atlas.md are about.
    #[arg(long)]
    pub(crate) only_documented: bool,
    /// Keep the report of every cell, about 40 kB each, and link to it from atlas.html.
    #[arg(long)]
    pub(crate) reports: bool,
    /// Go on where an earlier run with the same axes and directory ended.
    #[arg(long)]
    pub(crate) resume: bool,
    /// How the report of one cell is printed.
    #[arg(long, value_enum, default_value = "text", requires = "cell")]
    pub(crate) format: ReportFormat,
    /// Show the evidence of every check of one cell.
    #[arg(long, requires = "cell")]
    pub(crate) evidence: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// The host directory that workloads are to share.
    #[arg(long, value_name = "PATH", value_parser = parse_bridge,
          default_value_t = Bridge::default().path)]
    pub(crate) bridge: String,
    /// As which user the producer will run.
    #[arg(long, value_name = "UID", default_value_t = 0)]
    pub(crate) producer_uid: u32,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// How long looking may take.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeOptions {
    /// The mountpoint.
    pub(crate) path: String,
    /// How long an answer may take.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "2s")]
    pub(crate) timeout: Duration,
    /// A file that must be readable in the mount.
    #[arg(long, value_name = "NAME")]
    pub(crate) sentinel: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// The report.json of a run.
    pub(crate) file: PathBuf,
    /// How it is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: ReportFormat,
    /// Show the evidence of every check, not only of those that failed.
    #[arg(long)]
    pub(crate) evidence: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CleanOptions {
    /// Only this run, even if it goes on.
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// Also runs that go on right now.
    #[arg(long)]
    pub(crate) all: bool,
    /// Only say what is left.
    #[arg(long)]
    pub(crate) list: bool,
    /// Where to look.
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) backend: BackendName,
    #[command(flatten)]
    pub(crate) cluster: ClusterOptions,
}

/// A path without the slash that completion in a shell puts at its end.
#[expect(clippy::unnecessary_wraps, reason = "as clap wants it")]
pub(crate) fn parse_bridge(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    Ok(if path.is_empty() { text } else { path }.to_owned())
}

/// How long experiments may take.
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
