//! Options of `propagation run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use propagation_core::comparison::Transport;
use propagation_core::experiments::Budget;
use propagation_core::plan::{
    Bridge, Covering, Engine, Fault, NodeSpec, Plan, Propagation, RuntimeSpec, StartOrder, Volume,
    WorkloadSpec,
};
use propagation_core::{Error, ErrorKind};

use super::cluster::ClusterOptions;
use super::parse::{
    Experiments, one_of, parse_bridge, parse_duration, parse_experiments, parse_producer_command,
};
use super::{BackendName, ReportFormat, Shown};

/// What must not be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Required {
    /// Every scenario and every expectation.
    All,
}

/// What there are several results of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Several {
    /// Nodes of a cluster, with the same plan.
    Nodes,
    /// Scenarios, on the same node.
    Scenarios,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Where to run.
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) backend: BackendName,
    /// Scenario file or directory to run instead of the five phases; may be repeated.
    #[arg(long, value_name = "FILE|DIR", conflicts_with_all = ["bridge", "fault", "volume",
          "propagation", "consumers", "producer_uid", "producer_command", "producer_liveness_probe",
          "transport", "no_allow_other",
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
    #[arg(long, value_parser = one_of(faults()), default_value = "kill")]
    fault: Fault,
    /// Directory that the consumers mount as their volume.
    #[arg(long, value_parser = one_of(volumes()), default_value = "bridge")]
    volume: Volume,
    /// Mount propagation of the consumers, by Kubernetes' name or Docker's (rprivate, rslave, rshared).
    #[arg(long, value_parser = one_of(propagations()), ignore_case = true,
          default_value = "HostToContainer")]
    propagation: Propagation,
    /// Number of consumers; half of them start before the mount.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..))]
    consumers: u32,
    /// UID of the producer; a non-root producer mounts through fusermount3.
    #[arg(long, value_name = "UID", default_value_t = 0)]
    producer_uid: u32,
    /// FUSE daemon of the producer instead of the built-in filesystem, with {source}, {mountpoint} and {work}; it
    /// must stay in the foreground.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["producer_uid", "no_allow_other"],
          value_parser = parse_producer_command)]
    producer_command: Option<String>,
    /// Give the producer a liveness probe, which ends a daemon that does not answer after the fault.
    #[arg(long)]
    producer_liveness_probe: bool,
    /// Transport in the FUSE daemon's place: a server and its client, made as `propagation compare` makes them. The fault hits
    /// the server; its client stays, and nothing is mounted anew. One whose client is the kernel has its containers made by
    /// crun.
    #[arg(long, value_name = "NAME", value_parser = one_of(transports()),
          conflicts_with_all = ["producer_uid", "producer_command", "no_allow_other"])]
    transport: Option<Transport>,
    /// Let servers of NFS in scenarios open files by their handles, which reaches every file of the machine.
    #[arg(long, requires = "scenario")]
    files_by_handle: bool,
    /// Mount without allow_other.
    #[arg(long)]
    no_allow_other: bool,
    /// Propagation of the mount under the bridge on a simulated node.
    #[arg(long, value_parser = one_of(coverings()), default_value = "shared")]
    covering: Covering,
    /// Shape the simulated node by this host: the mounts on the way to the bridge, fuse.conf, fusermount3, what lies at the
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
    #[arg(long, conflicts_with = "detach_cleanup")]
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
        let consumer = |name: &str, order, replicas| {
            WorkloadSpec::consumer(name, order).with(|spec| {
                spec.volume = self.volume.clone();
                spec.propagation = self.propagation;
                spec.replicas = replicas;
            })
        };
        let mut workloads = vec![WorkloadSpec::producer().with(|spec| {
            spec.uid = self.producer_uid;
            spec.liveness_probe = self.producer_liveness_probe;
        })];
        if early > 0 {
            workloads.push(consumer("consumer-early", StartOrder::BeforeMount, early));
        }
        if late > 0 {
            workloads.push(consumer("consumer-late", StartOrder::AfterMount, late));
        }
        workloads.push(WorkloadSpec::control());
        let mut plan = Plan::default();
        plan.workloads = workloads;
        plan.bridge.path.clone_from(&self.bridge);
        plan.fault = self.fault.clone();
        plan.fuse.allow_other = !self.no_allow_other;
        if let Some(command) = &self.producer_command {
            plan.fuse.command =
                ["/bin/sh", "-c", &format!("exec {command}")].map(str::to_owned).into();
        }
        plan.fuse.transport = self.transport;
        self.limit(&mut plan);
        plan.node = NodeSpec {
            runtime: self.transport.map(runtime_for).unwrap_or_default(),
            covering: self.covering,
            // fusermount3 ignores a last line without an end.
            container_fuse_conf: self.container_fuse_conf.as_ref().map(|text| format!("{text}\n")),
            ..NodeSpec::default()
        };
        plan
    }

    /// Whether servers of NFS may open files by their handles: where the user says so, or has named such a transport.
    pub(crate) fn files_by_handle(&self) -> bool {
        self.files_by_handle || self.transport.is_some_and(Transport::is_nfs)
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

    /// Whether the report of a run is printed before the clean-up: a cluster is cleaned up long after its run is decided.
    pub(crate) fn is_told_early(&self, several: Option<Several>) -> bool {
        self.backend == BackendName::K8s && self.format == ReportFormat::Text && several.is_none()
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
}

/// The runtime of a transport.
fn runtime_for(transport: Transport) -> RuntimeSpec {
    let engine = if transport.needs_machine_rights() { Engine::Crun } else { Engine::default() };
    RuntimeSpec { engine, ..RuntimeSpec::default() }
}

/// The transports that mount something, except for `daemon`, which is `--producer-command`.
fn transports() -> Vec<(PossibleValue, Transport)> {
    let mounts = |one: &Transport| !matches!(one, Transport::Native | Transport::Daemon);
    let all = Transport::ALL.into_iter().filter(mounts);
    all.map(|one| (PossibleValue::new(one.as_str()), one)).collect()
}

fn faults() -> Vec<(PossibleValue, Fault)> {
    vec![
        (word("kill", "SIGKILL; the container's namespaces go with it"), Fault::Kill),
        (word("terminate", "SIGTERM: a clean unmount"), Fault::Terminate),
        (word("delete", "The pod is deleted: SIGTERM, then SIGKILL"), Fault::Delete),
        (word("force_delete", "As `kubectl delete --force` does it"), Fault::ForceDelete),
        (word("stop", "SIGSTOP: the daemon hangs"), Fault::Stop),
    ]
}

fn volumes() -> Vec<(PossibleValue, Volume)> {
    vec![
        (word("bridge", "The bridge, which contains the FUSE mountpoint"), Volume::Bridge),
        (word("mountpoint", "The FUSE mountpoint itself"), Volume::Mountpoint),
        (word("ancestor", "The directory above the bridge"), Volume::Ancestor),
    ]
}

fn propagations() -> Vec<(PossibleValue, Propagation)> {
    vec![
        (word("None", "rprivate").aliases(["rprivate", "private"]), Propagation::None),
        (
            word("HostToContainer", "rslave").aliases(["rslave", "slave"]),
            Propagation::HostToContainer,
        ),
        (
            word("Bidirectional", "rshared").aliases(["rshared", "shared"]),
            Propagation::Bidirectional,
        ),
    ]
}

fn coverings() -> Vec<(PossibleValue, Covering)> {
    vec![
        (word("shared", "As systemd leaves `/`"), Covering::Shared),
        (word("slave", "Receives mounts, sends none"), Covering::Slave),
        (word("private", "As on a node without systemd"), Covering::Private),
    ]
}

fn word(name: &'static str, help: &'static str) -> PossibleValue {
    PossibleValue::new(name).help(help)
}
