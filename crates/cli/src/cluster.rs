//! The options of `--backend k8s`, and runs on one node or many.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use propagation_backend_k8s::{
    Access, K8sBackend, K8sOptions, Leftover, Leftovers, parse_toleration,
};
use propagation_core::{Error, ErrorKind, RunId};
use propagation_report::text::one_line;

use crate::args::{CleanOptions, ReportFormat, RunOptions};
use crate::exit::{self, Exit};
use crate::interrupt::Interruption;
use crate::log::Log;
use crate::progress::{Progress, say};
use crate::report::save_index;
use crate::run::{LATER, Ran, carry_out};
use crate::{output, run};

/// How to reach the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum AccessName {
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
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current one].
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Node, or several separated by commas [default: the first that can carry a run].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    node: Vec<String>,
    /// Run on every node.
    #[arg(long, conflicts_with_all = ["node", "selector"])]
    all_nodes: bool,
    /// Run on the nodes with these labels.
    #[arg(long, value_name = "LABELS", conflicts_with = "node")]
    selector: Option<String>,
    /// Nodes to run on at a time [default: 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    parallel: Option<u16>,
    /// Namespace to use instead of one made for the run; it must have this program's label.
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Image with the agent, for nodes that it cannot be copied to.
    #[arg(long, value_name = "REF")]
    image: Option<String>,
    /// Image with the programs that scenarios start in containers [default: the node's own, read-only].
    #[arg(long, value_name = "REF")]
    program_image: Option<String>,
    /// How to reach the node itself.
    #[arg(long, value_enum)]
    access: Option<AccessName>,
    /// Ssh configuration [default: ~/.ssh/config].
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
    /// Ssh user [default: as the ssh configuration says]; a non-root user needs sudo without a password.
    #[arg(long, value_name = "NAME")]
    ssh_user: Option<String>,
    /// Suffix that makes a node's name a host name, such as .lan.
    #[arg(long, value_name = "SUFFIX")]
    ssh_domain: Option<String>,
    /// Import the agent as an image over ssh, instead of using one that the node has.
    #[arg(long)]
    import_image: bool,
    /// Taint to tolerate: KEY[=VALUE][:EFFECT], or * for all.
    #[arg(long, value_name = "TAINT")]
    tolerate: Vec<String>,
    /// Add user_allow_other to the node's /etc/fuse.conf during the run.
    #[arg(long)]
    apply: bool,
    /// Leave the clean-up to a process in the background; it can also be done by `propagation clean --backend k8s`.
    #[arg(long)]
    detach_cleanup: bool,
}

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
        let given = [
            (self.apply, "--apply"),
            (self.parallel.is_some(), "--parallel"),
            (self.detach_cleanup, "--detach-cleanup"),
        ];
        match given.iter().find(|(given, _)| *given) {
            None => Ok(()),
            Some((_, name)) => Err(Error::new(
                ErrorKind::InvalidInput,
                "read the arguments",
                format!("{name} is an option of `propagation run`"),
            )
            .with_fix("leave it out")),
        }
    }

    /// Connects to the cluster.
    pub(crate) async fn backend(&self) -> Result<K8sBackend, Error> {
        let tolerations = self.tolerate.iter().map(|text| parse_toleration(text));
        let tolerations = tolerations.collect::<Result<_, _>>().map_err(bad_toleration)?;
        #[cfg(unix)]
        let ssh = propagation_backend_k8s::SshOptions {
            config: self.ssh_config.clone(),
            user: self.ssh_user.clone(),
            domain: self.ssh_domain.clone(),
        };
        K8sBackend::connect(K8sOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            node: self.node.first().cloned(),
            namespace: self.namespace.clone(),
            image: self.image.clone(),
            program_image: self.program_image.clone(),
            access: match self.access.unwrap_or_default() {
                AccessName::Found => Access::Found,
                AccessName::Ssh => Access::Ssh,
                AccessName::Pod => Access::Pod,
            },
            #[cfg(unix)]
            ssh,
            import_image: self.import_image,
            tolerations,
            apply: self.apply,
        })
        .await
    }

    /// Whether the clean-up is left to a process in the background.
    pub(crate) fn detaches(&self) -> bool {
        self.detach_cleanup
    }

    /// Starts the clean-up of a run in the background; what goes on, in words.
    pub(crate) fn clean_in_background(&self, run: &str, log: Option<&Log>) -> String {
        let by_hand = format!("propagation clean --backend k8s --run-id {run}");
        match self.start_clean(run, log) {
            Ok(process) => format!(
                "everything, for process {process} in the background, which removes it; should that be ended \
                 before: {by_hand}"
            ),
            Err(error) => {
                format!("everything: no process could be started ({error}); remove it: {by_hand}")
            }
        }
    }

    fn start_clean(&self, run: &str, log: Option<&Log>) -> std::io::Result<u32> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["clean", "--backend", "k8s", "--run-id", run]);
        for (name, value) in [
            ("--kubeconfig", self.kubeconfig.as_ref().map(|path| path.as_os_str())),
            ("--context", self.context.as_ref().map(OsStr::new)),
            ("--ssh-config", self.ssh_config.as_ref().map(|path| path.as_os_str())),
            ("--ssh-user", self.ssh_user.as_ref().map(OsStr::new)),
            ("--ssh-domain", self.ssh_domain.as_ref().map(OsStr::new)),
        ] {
            if let Some(value) = value {
                command.arg(name).arg(value);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(path) = log.and_then(Log::path) {
            let file = std::fs::OpenOptions::new().append(true).open(path)?;
            command.stderr(file.try_clone()?).stdout(file);
        }
        // The signals of the terminal are not for it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn().map(|child| child.id())
    }

    /// The nodes that were asked for, in order.
    pub(crate) async fn nodes(&self, backend: &K8sBackend) -> Result<Vec<String>, Error> {
        let mut nodes = self.node.clone();
        if nodes.is_empty() {
            nodes = backend.nodes(self.selector.as_deref()).await?;
        }
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// Nodes to use at a time.
    pub(crate) fn at_a_time(&self) -> usize {
        usize::from(self.parallel.unwrap_or(8))
    }

    pub(crate) fn is_one_node(&self) -> bool {
        self.node.len() <= 1 && !self.all_nodes && self.selector.is_none()
    }
}

/// Why `--tolerate` cannot be read.
pub(crate) fn bad_toleration(reason: String) -> Error {
    Error::new(ErrorKind::InvalidInput, "read --tolerate", reason)
}

/// Runs on the nodes that were asked for.
pub(crate) async fn run(options: &RunOptions, interruption: &Interruption) -> Result<Exit, Error> {
    let cluster = &options.cluster;
    if cluster.is_one_node() {
        let backend = told(cluster.backend().await?, options, None);
        let exit = run::one(options, &backend, interruption).await;
        // An interrupted opening goes on until it can be taken back.
        interruption.settle(&backend).await;
        return exit;
    }
    options.format_of_several()?;
    let backend = cluster.backend().await?;
    let nodes = cluster.nodes(&backend).await?;
    let runs = nodes.into_iter().map(|node| {
        let backend = told(backend.for_node(&node), options, Some(&node));
        async move {
            let show = |log| match options.shown.quiet {
                true => Progress::quiet(log),
                false => Progress::of_many(log, &node),
            };
            let ran = carry_out(options, options.plan(), &backend, interruption, show, LATER).await;
            (node, ran)
        }
    });
    let limit = cluster.at_a_time();
    let mut results: Vec<_> =
        futures_util::stream::iter(runs).buffer_unordered(limit).collect().await;
    interruption.settle(&backend).await;
    results.sort_by(|(a, _), (b, _)| a.cmp(b));
    summarise(options, &results)
}

/// A backend whose clean-up says on standard error what it waits for. On a terminal the bar says that it goes on.
pub(crate) fn told(backend: K8sBackend, options: &RunOptions, node: Option<&str>) -> K8sBackend {
    if options.shown.quiet || io::stderr().is_terminal() {
        return backend;
    }
    let prefix = node.map_or_else(String::new, |node| format!("{node}: "));
    backend.with_progress(Arc::new(move |words| say(&format!("{prefix}{}", one_line(words)))))
}

/// Each report, and a table of all of them; the worst of them decides the exit status.
fn summarise(options: &RunOptions, results: &[(String, Ran)]) -> Result<Exit, Error> {
    let mut lines = vec![format!("{:<24} {:<20} {:>9}  {}", "NODE", "VERDICT", "TIME", "SUMMARY")];
    let mut worst = Exit::Success;
    for (node, ran) in results {
        match &ran.result {
            Ok(report) => {
                let exit = Exit::of(report);
                if rank(exit) > rank(worst) {
                    worst = exit;
                }
                match options.format {
                    ReportFormat::Text => {
                        output::text(&format!("Node {}", one_line(node)))?;
                        run::show_report(report, options, Some(node), ran.log.as_deref())?;
                    }
                    _ => run::save_for(report, options, Some(node), ran.log.as_deref())?,
                }
                let seconds = report.duration_ms / 1e3;
                let verdict = report.verdict.outcome().as_str();
                lines.push(format!(
                    "{node:<24} {verdict:<20} {seconds:>8.1}s  {}",
                    report.verdict.summary()
                ));
            }
            Err(error) => {
                worst = Exit::Failed;
                let fix = error.fix().map(|fix| format!(" ({fix})")).unwrap_or_default();
                lines.push(format!("{node:<24} {:<20} {:>9}  {error}{fix}", "error", "-"));
            }
        }
    }
    if let Some(directory) = &options.report {
        let entries: Vec<_> =
            results.iter().map(|(node, ran)| run::index_entry(node, &ran.result)).collect();
        save_index(&entries, directory)?;
    }
    if options.format == ReportFormat::Text {
        output::text(&lines.join("\n"))?;
    } else {
        let reports: Vec<_> = results
            .iter()
            .map(|(node, ran)| match &ran.result {
                Ok(report) => serde_json::json!({ "node": node, "report": report }),
                Err(error) => serde_json::json!({ "node": node, "error": error.to_string() }),
            })
            .collect();
        output::json(&serde_json::json!(reports))?;
    }
    Ok(worst)
}

/// From the best to the worst.
fn rank(exit: Exit) -> u8 {
    match exit {
        Exit::Success => 0,
        Exit::Outcome(outcome) => 1 + exit::status(outcome),
        Exit::Left => u8::MAX - 1,
        _ => u8::MAX,
    }
}

/// Removes the remains of runs on the cluster.
pub(crate) async fn clean_up(options: &CleanOptions) -> Result<Exit, Error> {
    let wanted = options.run_id.as_deref().map(RunId::parse).transpose()?;
    let backend = options.cluster.backend().await?;
    let Leftovers { runs: found, unknown: not_seen } =
        found(&backend, options, wanted.as_ref()).await?;
    for (node, reason) in &not_seen {
        output::text(&format!("node {node} was not looked at: {reason}"))?;
    }
    let (found, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|leftover| match &wanted {
        Some(run) => leftover.run_id == *run,
        None => options.all || options.list || !leftover.goes_on(),
    });
    for leftover in others.iter().filter(|leftover| wanted.is_none() && leftover.goes_on()) {
        let run = &leftover.run_id;
        let words = "is not touched; --all or --run-id removes it";
        output::text(&format!("run {run} goes on{} and {words}", sign_of(leftover)))?;
    }
    if found.is_empty() {
        return match &wanted {
            Some(run) => Err(unknown(run)),
            None if others.is_empty() && not_seen.is_empty() => {
                output::text("nothing is left").map(|()| Exit::Success)
            }
            None => output::text("nothing else is left").map(|()| Exit::Success),
        };
    }
    let mut exit = Exit::Success;
    for leftover in found {
        let (run, space, node) = (&leftover.run_id, &leftover.namespace, &leftover.node);
        if options.list {
            let state = match leftover.goes_on() {
                true => format!(", goes on{}", sign_of(&leftover)),
                false => String::new(),
            };
            let words = match leftover.is_recorded {
                true => {
                    format!("run {run}: namespace {space}, node {node}, {} pods", leftover.pods)
                }
                false => format!("run {run}: node {node}, without a record in the cluster"),
            };
            output::text(&format!("{words}{state}"))?;
            continue;
        }
        let mut cleanup = backend.remove(&leftover).await;
        if options.force && !cleanup.could_not.is_empty() {
            let given_up = backend.give_up(&leftover).await;
            cleanup.undone.extend(given_up.undone);
            cleanup.could_not.extend(given_up.could_not);
            cleanup.kept.extend(given_up.kept);
        }
        for line in &cleanup.undone {
            output::text(&format!("run {run}: {line}"))?;
        }
        for line in &cleanup.could_not {
            exit = Exit::Left;
            output::text(&format!("run {run}: could not {line}"))?;
        }
        for line in &cleanup.kept {
            output::text(&format!("run {run}: given up: {line}"))?;
        }
    }
    Ok(exit)
}

/// The remains of runs: also those that only a node has, unless one run or one namespace is asked for that is
/// there.
async fn found(
    backend: &K8sBackend,
    options: &CleanOptions,
    wanted: Option<&RunId>,
) -> Result<Leftovers, Error> {
    let in_cluster = backend.leftovers().await?;
    let is_there = |run: &RunId| in_cluster.iter().any(|leftover| leftover.run_id == *run);
    if options.cluster.namespace.is_some() || wanted.is_some_and(is_there) {
        return Ok(Leftovers { runs: in_cluster, ..Leftovers::default() });
    }
    backend.search(&options.cluster.node).await
}

/// The operator of a run, and its last sign of life.
fn sign_of(leftover: &Leftover) -> String {
    let sign = leftover.silent().map(|silent| format!(", last sign {} s ago", silent.as_secs()));
    format!(" ({}{})", leftover.operator(), sign.unwrap_or_default())
}

fn unknown(run: &RunId) -> Error {
    let operation = format!("clean run {run}");
    Error::new(ErrorKind::InvalidInput, operation, "nothing of it is in the cluster")
        .with_fix("list what is there: propagation clean --backend k8s --list")
}
