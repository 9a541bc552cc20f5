//! What these tests have: the cluster of the environment, its nodes, and runs on them.
#![allow(dead_code, unused_imports, unused_macros)] // each test binary uses a part of it

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use propagation_conformance::cluster_named;
use serde_json::Value;

use crate::support::nodes::{kubectl, kubectl_says};
use crate::support::{expect_code, expect_part, nodes, scratch, stderr, stdout};

/// The cluster, or a skip.
macro_rules! lab {
    () => {
        match crate::lab::Lab::find() {
            Ok(lab) => lab,
            Err(reason) => return crate::support::skip("k8s", &reason),
        }
    };
}

/// The scripts that stop and start the nodes of a test cluster.
macro_rules! scripts {
    () => {
        match std::env::var_os("PROPAGATION_CLUSTER_SCRIPTS") {
            Some(directory) => crate::lab::Scripts(directory.into()),
            None => {
                return crate::support::skip(
                    "k8s-scripts",
                    "PROPAGATION_CLUSTER_SCRIPTS names no scripts of a test cluster",
                );
            }
        }
    };
}

pub(crate) use {lab, scripts};

/// What the environment has for these tests.
pub(crate) struct Lab {
    pub(crate) ssh_config: PathBuf,
    pub(crate) node: String,
    pub(crate) scratch: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn find() -> Result<Self, String> {
        cluster_named()?;
        let ssh_config = std::env::var_os("PROPAGATION_SSH_CONFIG");
        let ssh_config = ssh_config.ok_or("PROPAGATION_SSH_CONFIG names no ssh configuration")?;
        let listed = kubectl(&["get", "nodes", "--output", "name"]);
        let listed = listed.map_err(|error| format!("kubectl does not start: {error}"))?;
        if !listed.status.success() {
            return Err(format!("the cluster cannot be reached: {}", stderr(&listed).trim()));
        }
        let text = stdout(&listed);
        let node = text.lines().next().and_then(|line| line.strip_prefix("node/"));
        let node = node.ok_or("the cluster has no node")?.to_owned();
        Ok(Self { ssh_config: ssh_config.into(), node, scratch: scratch() })
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        crate::support::propagation(self.scratch.path(), words)
    }

    /// A run over ssh with further words.
    pub(crate) fn run(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["run", "--backend", "k8s", "--node", &self.node]);
        command.args(["--access", "ssh", "--ssh-config"]).arg(&self.ssh_config).args(words);
        command
    }

    /// A run through a host pod with further words.
    pub(crate) fn run_through_a_pod(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["run", "--backend", "k8s", "--node", &self.node]);
        command.args(["--access", "pod"]).args(words);
        command
    }

    /// A clean-up with further words.
    pub(crate) fn clean(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["clean", "--backend", "k8s"]);
        command.arg("--ssh-config").arg(&self.ssh_config).args(words);
        command
    }

    /// Runs a shell line on the node.
    pub(crate) fn on_node(&self, line: &str) -> Result<String, Failed> {
        nodes::on_node(&self.ssh_config, &self.node, line)
    }

    /// Nothing of any run is in the cluster or on its nodes.
    pub(crate) fn expect_nothing_left(&self) -> Result<(), Failed> {
        nodes::expect_nothing_left(&self.ssh_config)
    }

    /// An image of the node that has a shell. Its runtime is asked: the kubelet tells of new images minutes later.
    pub(crate) fn busybox(&self) -> Result<String, Failed> {
        let images = self.on_node("ctr --namespace k8s.io images list --quiet")?;
        let with_shell = images.split_whitespace().find(|name| name.contains("busybox"));
        Ok(with_shell.ok_or("the node has no busybox")?.to_owned())
    }

    /// A kubeconfig that was changed.
    pub(crate) fn kubeconfig(&self, change: impl FnOnce(&mut Value)) -> Result<PathBuf, Failed> {
        let view = kubectl_says(&["config", "view", "--raw", "--output", "json"])?;
        let mut config: Value = serde_json::from_str(&view)?;
        change(&mut config);
        let path = self.scratch.path().join("kubeconfig");
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }
}

/// Scripts that do something to a node.
pub(crate) struct Scripts(pub(crate) PathBuf);

impl Scripts {
    pub(crate) fn run(&self, name: &str, node: &str) -> Result<(), Failed> {
        let script = Command::new(self.0.join(name)).arg(node).output()?;
        expect_code(&script, 0)?;
        // Whoever comes next finds the node as it was.
        if name.starts_with("stop-") {
            return Ok(());
        }
        let node = format!("node/{node}");
        kubectl_says(&["wait", "--for=condition=Ready", "--timeout=120s", &node]).map(drop)
    }
}

pub(crate) fn full_success(output: &Output) -> Result<(), Failed> {
    expect_code(output, 0)?;
    expect_part(&stdout(output), "Verdict: full_success (scenario A)")?;
    let printed = stderr(output);
    expect_part(&printed, "verdict full_success")
}

/// Starts a run and waits until a line of its progress says that it is well under way.
pub(crate) fn under_way(command: &mut Command, line: &str) -> Result<Child, Failed> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take().ok_or("no standard error")?;
    let mut lines = BufReader::new(stderr).lines();
    let mut said = String::new();
    for read in &mut lines {
        let read = read?;
        if read.contains(line) {
            // Somebody has to go on reading.
            thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
            return Ok(child);
        }
        said.push_str(&read);
    }
    Err(format!("it ended before {line:?}: {said}").into())
}

pub(crate) fn signal(child: &Child, signal: &str) -> Result<(), Failed> {
    let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).output()?;
    expect_code(&kill, 0)
}

/// The namespace and the name of a run's pod.
pub(crate) fn pod_of(workload: &str) -> Result<(String, String), Failed> {
    let ours = format!("propagation/run-id,propagation/workload={workload}");
    let columns = "custom-columns=:metadata.namespace,:metadata.name";
    let pods = ["get", "pods", "--all-namespaces", "--no-headers", "--selector", &ours, "--output"];
    let listed = kubectl_says(&[&pods[..], &[columns]].concat())?;
    let mut words = listed.split_whitespace().map(ToOwned::to_owned);
    let found = words.next().zip(words.next());
    found.ok_or_else(|| format!("no pod of {workload}").into())
}

/// How a run has ended, which may take so long.
pub(crate) fn ended_within(mut child: Child, limit: Duration) -> Result<Output, Failed> {
    let end = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
            return Err("the run does not end".into());
        }
        thread::park_timeout(Duration::from_millis(200));
    }
    Ok(child.wait_with_output()?)
}

pub(crate) fn import_image(lab: &Lab) -> Result<(), Failed> {
    let archive = lab.scratch.path().join("agent.tar");
    expect_code(&lab.command(&["image"]).arg(&archive).output()?, 0)?;
    let import = Command::new("ssh")
        .arg("-F")
        .arg(&lab.ssh_config)
        .args([&lab.node, "ctr -n k8s.io images import -"])
        .stdin(std::fs::File::open(&archive)?)
        .output()?;
    expect_code(&import, 0)
}

impl Lab {
    /// Runs both ways with another filesystem where the node has the files of runs; both fail with these words, and
    /// what is there then, which is nothing.
    pub(crate) fn with_files_on(
        &self,
        options: &str,
        words: &str,
        fix: &str,
    ) -> Result<(), Failed> {
        self.on_node(&format!(
            "mkdir -p -m 700 /var/lib/propagation; mount -t tmpfs -o {options} own /var/lib/propagation"
        ))?;
        let report = self.scratch.path().join("result");
        let mut ran = Vec::new();
        for mut run in [self.run(&["--report"]), self.run_through_a_pod(&["--report"])] {
            let run = run.arg(&report).output();
            ran.push((run, self.on_node("find /var/lib/propagation -mindepth 1")));
        }
        self.on_node("umount /var/lib/propagation; rmdir /var/lib/propagation")?;
        for (run, left) in ran {
            let (run, left) = (run?, left?);
            let said = format!("{}{}", stdout(&run), stderr(&run));
            if run.status.success() || !left.is_empty() {
                return Err(format!("{}, left: {left}, said: {said}", run.status).into());
            }
            expect_part(&said, words)?;
            expect_part(&said, fix)?;
        }
        self.expect_nothing_left()
    }
}
