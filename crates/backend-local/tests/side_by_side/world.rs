//! The simulated node that both containers of a case are on.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Failed;
use propagation_backend_local::{LocalNode, leftovers};
use propagation_core::marker::Marker;
use propagation_core::mountinfo::MountTable;
use propagation_core::node::mount_table;
use propagation_core::observation::Actor;
use propagation_core::plan::WorkloadSpec;
use propagation_core::program::StartRefused;
use propagation_core::workload::Until;
use propagation_core::{Node, Run, RunId, Workload};
use tempfile::TempDir;

use super::case::{Case, REPLICAS, SUBJECT};
use super::inside::{Step, act};

/// How long a program may take to mount, or to look: far above what it does on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The only generation of the marker.
const GENERATION: u64 = 1;

/// What the marker says otherwise.
const NAME: &str = "side-by-side";

/// A node, and the way into its namespaces that its API does not give.
pub(super) struct World {
    node: LocalNode,
    run_id: RunId,
    /// As the directory of the node's first process in our /proc, but that its root and its mount namespace are those
    /// of the node all the time: the process is in another one while it reads that one's mount table.
    process: PathBuf,
    /// Where that directory is, and what its links lead to.
    _held: (TempDir, [File; 2]),
}

impl World {
    /// Makes the node of a case.
    pub(super) async fn open(case: Case) -> Result<Self, Failed> {
        let run = Run::new(RunId::generate()?);
        let node = LocalNode::open(&case.plan(), &run).await?;
        let depth = namespace_pids(Path::new("/proc/self"))?.len();
        let found = find_process(&run.id, |pids, _| pids.len() == depth + 1)?;
        let directory = tempfile::tempdir()?;
        let process = directory.path().join(found.file_name().unwrap_or_default());
        fs::create_dir_all(process.join("ns"))?;
        let held = [File::open(found.join("root"))?, File::open(found.join("ns/mnt"))?];
        for (name, file) in ["root", "ns/mnt"].iter().zip(&held) {
            let link = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            symlink(link, process.join(name))?;
        }
        for name in ["ns/pid", "status", "comm"] {
            symlink(found.join(name), process.join(name))?;
        }
        Ok(Self { node, run_id: run.id, process, _held: (directory, held) })
    }

    /// What stands for the directory of the node's first process in our /proc.
    pub(super) fn process(&self) -> &Path {
        &self.process
    }

    /// Where a path of the node is for us.
    pub(super) fn path(&self, on_node: &str) -> PathBuf {
        self.process.join("root").join(on_node.trim_start_matches('/'))
    }

    /// Does a step on the node.
    pub(super) fn act(&self, step: Step) -> Result<(), Failed> {
        Ok(act(&self.process, step)?)
    }

    /// The mount table of the node.
    pub(super) async fn mount_table(&self) -> Result<MountTable, Failed> {
        Ok(mount_table(&self.node, &Actor::Node).await?)
    }

    /// The mount tables of all replicas of the simulated container.
    pub(super) async fn mount_tables_of_subject(&self) -> Result<Vec<MountTable>, Failed> {
        let mut tables = Vec::new();
        for replica in 0..REPLICAS {
            let actor = Actor::Workload { name: SUBJECT.into(), replica };
            tables.push(mount_table(&self.node, &actor).await?);
        }
        Ok(tables)
    }

    /// The directory in our /proc of the first process of the simulated container.
    pub(super) fn process_of_subject(&self) -> Result<PathBuf, Failed> {
        let depth = namespace_pids(&self.process)?.len();
        Ok(find_process(&self.run_id, |pids, name| pids.len() == depth + 1 && name == SUBJECT)?)
    }

    async fn start(
        &self,
        spec: &WorkloadSpec,
    ) -> Result<Result<Arc<dyn Workload>, StartRefused>, Failed> {
        let marker = Marker { started: NAME.into(), generation: GENERATION, nonce: NAME.into() };
        let mut started = self.node.start(std::slice::from_ref(spec), &marker).await?;
        Ok(started.pop().ok_or("the node answered for no container")?)
    }

    /// Starts the simulated container of a case and waits until its program has looked at its mount
    /// once: by then it is where and what it is going to be.
    pub(super) async fn start_subject(
        &self,
        case: Case,
    ) -> Result<Result<(), StartRefused>, Failed> {
        let subject = match self.start(&case.subject()).await? {
            Ok(subject) => subject,
            Err(refused) => return Ok(Err(refused)),
        };
        let status = tokio::select! {
            status = subject.wait(Until::SeesGeneration(GENERATION), READY_WITHIN) => status?,
            status = subject.wait(Until::SeesBreakage, READY_WITHIN) => status?,
        };
        match status.seen {
            Some(_) => Ok(Ok(())),
            None => Err(format!("the simulated container's program: {}", status.program).into()),
        }
    }

    /// Makes the submounts of a case.
    pub(super) async fn make_submounts(&self, case: Case) -> Result<(), Failed> {
        if case.is_fuse() {
            let producer = self.start(&WorkloadSpec::producer()).await?;
            let producer = producer.map_err(|refused| refused.text)?;
            let status = producer.wait(Until::Mounted, READY_WITHIN).await?;
            if !Until::Mounted.is_met_by(&status) {
                return Err(format!("the producer did not mount: {:?}", status.failure).into());
            }
            return Ok(());
        }
        for at in case.submounts() {
            fs::create_dir_all(self.path(&at))?;
            self.act(Step::Mount { source: "submount".into(), at })?;
        }
        Ok(())
    }

    /// Ends the node and checks that nothing of it is left.
    pub(super) async fn close(self) -> Result<(), Failed> {
        let cleanup = self.node.close().await;
        if !cleanup.could_not.is_empty() {
            return Err(cleanup.could_not.join("\n").into());
        }
        match leftovers()?.into_iter().find(|leftover| leftover.run_id == self.run_id) {
            Some(left) => Err(format!("processes are left: {:?}", left.processes).into()),
            None => Ok(()),
        }
    }
}

/// Finds the process of a run that is process 1 of a pid namespace and meets the condition on its
/// process ids, outermost first, and its name.
fn find_process(run_id: &RunId, fits: impl Fn(&[u32], &str) -> bool) -> Result<PathBuf, String> {
    let leftovers = leftovers().map_err(|e| e.to_string())?;
    let processes = leftovers.into_iter().filter(|leftover| leftover.run_id == *run_id);
    processes
        .flat_map(|leftover| leftover.processes)
        .map(|pid| Path::new("/proc").join(pid.to_string()))
        .find(|process| {
            // A process may end while it is looked at.
            let Ok(pids) = namespace_pids(process) else { return false };
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            pids.last() == Some(&1) && fits(&pids, name.trim_end())
        })
        .ok_or_else(|| format!("no such process of run {run_id}"))
}

/// The ids of a process in its pid namespaces, outermost first.
fn namespace_pids(process: &Path) -> Result<Vec<u32>, String> {
    let status = process.join("status");
    let text = fs::read_to_string(&status).map_err(|e| format!("{}: {e}", status.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:")).ok_or("no NSpid")?;
    line.split_whitespace().map(|word| word.parse().map_err(|e| format!("NSpid: {e}"))).collect()
}
