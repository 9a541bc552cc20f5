//! The command line on a real cluster: that of `KUBECONFIG`, whose nodes the ssh configuration of
//! `PROPAGATION_SSH_CONFIG` knows by their names. Without one every test is skipped, and counted.

macro_rules! lab {
    () => {
        match crate::Lab::find() {
            Ok(lab) => lab,
            Err(reason) => return crate::support::skip("k8s", &reason),
        }
    };
}

/// The scripts that stop and start the nodes of a test cluster.
macro_rules! scripts {
    () => {
        match std::env::var_os("PROPAGATION_CLUSTER_SCRIPTS") {
            Some(directory) => crate::Scripts(directory.into()),
            None => {
                return crate::support::skip(
                    "k8s-scripts",
                    "PROPAGATION_CLUSTER_SCRIPTS names no scripts of a test cluster",
                );
            }
        }
    };
}

#[path = "cluster/carried_out.rs"]
mod carried_out;
#[path = "cluster/compared.rs"]
mod compared;
#[path = "cluster/directory.rs"]
mod directory;
#[path = "cluster/printed.rs"]
mod printed;
mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use propagation_backend_k8s::{Access, K8sBackend, K8sOptions, SshOptions};
use propagation_conformance::cluster_named;
use propagation_core::journal::HostChange;
use propagation_core::marker::Marker;
use propagation_core::observation::Actor;
use propagation_core::{Backend, Node, Plan, Run, RunId};
use serde_json::{Value, json};
use support::nodes::{self, kubectl, kubectl_says};
use support::{PASSED, TestResult, expect_code, expect_part, scratch, stderr, stdout, tests};

fn main() {
    support::main(tests![
        over_ssh_it_is_full_success_and_nothing_is_left,
        an_imported_image_will_do,
        a_producer_whose_pod_is_deleted_comes_back_as_another,
        through_a_host_pod_it_is_full_success_too,
        one_node_that_fails_does_not_spoil_the_other,
        a_pod_that_somebody_takes_away_is_named,
        an_interrupted_run_is_cleaned_up,
        without_room_for_all_pods_nothing_is_left,
        a_read_only_bridge_is_named_and_nothing_is_left,
        interrupted_again_it_writes_the_report_and_waits_no_more,
        what_a_killed_run_leaves_is_found_and_removed,
        strangers_are_told_nothing,
        what_is_executed_in_a_container_may_do_what_it_may,
        a_run_ends_when_its_host_agent_is_killed,
        a_run_ends_when_its_node_is_started_again,
        a_named_image_will_do_through_a_pod,
        bridges_that_cannot_be_one_are_refused,
        a_path_below_a_link_is_where_it_leads,
        what_a_run_has_not_made_is_left,
        what_a_run_makes_it_removes,
        a_sub_path_that_the_kubelet_has_made_is_removed,
        a_disk_that_may_not_execute_is_named_and_left_as_it_was,
        a_full_disk_is_named_and_left_as_it_was,
        what_only_a_node_has_of_a_run_is_found_and_removed,
        what_cannot_be_cleaned_is_given_up_on_demand,
        what_cannot_be_removed_has_its_own_exit_status,
        directory::a_clean_up_that_fails_is_told_of_its_scenario,
        a_run_that_goes_on_is_named_and_one_that_is_silent_is_removed,
        an_image_that_is_not_there_leaves_nothing,
        few_rights_are_enough,
        a_run_goes_on_when_the_api_server_was_away,
        what_is_wrong_with_ssh_is_said,
        a_namespace_of_somebody_else_is_refused,
        the_manifests_work_by_hand,
        printed::a_native_sidecar_is_a_producer,
        carried_out::daemons_and_programs_of_the_node_run_in_pods,
        carried_out::a_daemon_stuck_in_the_kernel_leaves_nothing_on_a_node,
        carried_out::programs_of_a_named_image_run_in_pods,
        carried_out::a_program_that_the_node_has_not_is_a_skip,
        carried_out::processes_of_the_node_are_workloads,
        carried_out::pods_with_user_namespaces_receive_mounts_and_send_none,
        carried_out::faults_of_answers_and_supervisors_are_carried_out,
        carried_out::a_mount_is_handed_over_to_the_next_container,
        compared::transports_are_compared_in_pods,
        compared::transports_are_compared_through_a_host_pod,
        compared::a_transport_that_does_not_stand_in_pods_is_left_out,
        compared::an_interrupted_comparison_is_shown_and_removed,
        compared::what_a_killed_comparison_leaves_is_removed,
        compared::a_comparison_ends_when_a_server_hangs,
        compared::two_comparisons_on_a_node_leave_each_other_alone,
        carried_out::scenarios_run_on_several_nodes,
        carried_out::doctor_looks_at_every_node,
        printed::the_commands_of_a_report_work_as_printed,
        printed::the_probe_of_a_report_can_be_applied_as_printed,
        printed::the_report_comes_before_the_clean_up,
        printed::a_clean_up_in_the_background_leaves_nothing,
        printed::a_silent_kubelet_is_named
    ]);
}

/// What the environment has for these tests.
struct Lab {
    ssh_config: PathBuf,
    node: String,
    scratch: tempfile::TempDir,
}

impl Lab {
    fn find() -> Result<Self, String> {
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

    fn command(&self, words: &[&str]) -> Command {
        support::propagation(self.scratch.path(), words)
    }

    /// A run over ssh with further words.
    fn run(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["run", "--backend", "k8s", "--node", &self.node]);
        command.args(["--access", "ssh", "--ssh-config"]).arg(&self.ssh_config).args(words);
        command
    }

    /// A run through a host pod with further words.
    fn run_through_a_pod(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["run", "--backend", "k8s", "--node", &self.node]);
        command.args(["--access", "pod"]).args(words);
        command
    }

    /// A clean-up with further words.
    fn clean(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["clean", "--backend", "k8s"]);
        command.arg("--ssh-config").arg(&self.ssh_config).args(words);
        command
    }

    /// Runs a shell line on the node.
    fn on_node(&self, line: &str) -> Result<String, Failed> {
        nodes::on_node(&self.ssh_config, &self.node, line)
    }

    /// Nothing of any run is in the cluster or on its nodes.
    fn expect_nothing_left(&self) -> Result<(), Failed> {
        nodes::expect_nothing_left(&self.ssh_config)
    }

    /// An image of the node that has a shell.
    fn busybox(&self) -> Result<String, Failed> {
        let images = "jsonpath={.status.images[*].names[*]}";
        let images = kubectl_says(&["get", "node", &self.node, "--output", images])?;
        let with_shell = images.split_whitespace().find(|name| name.contains("busybox"));
        Ok(with_shell.ok_or("the node has no busybox")?.to_owned())
    }

    /// A kubeconfig that was changed.
    fn kubeconfig(&self, change: impl FnOnce(&mut Value)) -> Result<PathBuf, Failed> {
        let view = kubectl_says(&["config", "view", "--raw", "--output", "json"])?;
        let mut config: Value = serde_json::from_str(&view)?;
        change(&mut config);
        let path = self.scratch.path().join("kubeconfig");
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }
}

/// Scripts that do something to a node.
struct Scripts(PathBuf);

impl Scripts {
    fn run(&self, name: &str, node: &str) -> Result<(), Failed> {
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

fn full_success(output: &Output) -> Result<(), Failed> {
    expect_code(output, 0)?;
    expect_part(&stdout(output), "Verdict: full_success (scenario A)")?;
    let printed = stderr(output);
    expect_part(&printed, "verdict full_success")
}

fn over_ssh_it_is_full_success_and_nothing_is_left() -> TestResult {
    let lab = lab!();
    let report = lab.scratch.path().join("result");
    let output = lab.run(&["--report"]).arg(&report).output()?;
    full_success(&output)?;
    let json: Value = serde_json::from_slice(&std::fs::read(report.join("report.json"))?)?;
    for (field, value) in [("backend", "k8s"), ("node", &*lab.node)] {
        if json[field] != value {
            return Err(format!("{field} is {}", json[field]).into());
        }
    }
    // The consumer's log is as `kubectl logs` shows it.
    expect_part(&json["logs"].to_string(), "SUCCESS: Producer marker found")?;
    expect_part(&json["logs"].to_string(), "ERROR: Mount became inaccessible!")?;
    expect_part(&json["environment"]["kubelet"].to_string(), "v1.")?;
    lab.expect_nothing_left()?;
    PASSED
}

fn an_imported_image_will_do() -> TestResult {
    let lab = lab!();
    full_success(&lab.run(&["--import-image"]).output()?)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn through_a_host_pod_it_is_full_success_too() -> TestResult {
    let lab = lab!();
    let words = ["run", "--backend", "k8s", "--node", &lab.node, "--access", "pod"];
    full_success(&lab.command(&words).output()?)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn one_node_that_fails_does_not_spoil_the_other() -> TestResult {
    let lab = lab!();
    let nodes = format!("{},no-such-node", lab.node);
    let words = ["run", "--backend", "k8s", "--access", "pod", "--node", &nodes];
    let output = lab.command(&words).output()?;
    expect_code(&output, 1)?;
    let text = stdout(&output);
    expect_part(&text, "Verdict: full_success (scenario A)")?;
    expect_part(
        &text,
        "nodes \"no-such-node\" not found (list the nodes with: kubectl get nodes)",
    )?;
    lab.expect_nothing_left()?;
    PASSED
}

/// Starts a run and waits until a line of its progress says that it is well under way.
fn under_way(command: &mut Command, line: &str) -> Result<Child, Failed> {
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

fn signal(child: &Child, signal: &str) -> Result<(), Failed> {
    let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).output()?;
    expect_code(&kill, 0)
}

fn an_interrupted_run_is_cleaned_up() -> TestResult {
    let lab = lab!();
    for name in ["INT", "HUP"] {
        let mut child = under_way(&mut lab.run(&[]), "producer passed")?;
        signal(&child, name)?;
        let status = child.wait()?;
        if status.code() != Some(130) {
            return Err(format!("a run interrupted by {name} ended with {status}").into());
        }
        lab.expect_nothing_left()?;
    }
    PASSED
}

/// Pods that are being made, or wait for room, when the run ends.
fn without_room_for_all_pods_nothing_is_left() -> TestResult {
    let lab = lab!();
    let output = lab.run(&["--consumers", "40"]).output()?;
    let there = lab.on_node("ls -d /tmp/fuse-test-bridge 2>/dev/null; true")?;
    if !there.is_empty() || stdout(&output).contains("could not clean up") {
        return Err(format!("left: {there}{}", stdout(&output)).into());
    }
    expect_part(&stdout(&output), "Verdict: ")?;
    lab.expect_nothing_left()?;
    PASSED
}

fn a_read_only_bridge_is_named_and_nothing_is_left() -> TestResult {
    let lab = lab!();
    lab.on_node("mkdir -p /srv/ro; mount -t tmpfs -o ro none /srv/ro")?;
    let mut ran = Vec::new();
    for bridge in ["/srv/ro", "/srv/ro/below"] {
        ran.push(lab.run(&["--bridge", bridge]).output());
    }
    lab.on_node("umount /srv/ro; rmdir /srv/ro")?;
    for run in ran {
        let run = run?;
        let said = format!("{}{}", stdout(&run), stderr(&run));
        if run.status.success() || said.contains("could not clean up") {
            return Err(format!("{}: {said}", run.status).into());
        }
        expect_part(&said, "ead-only file system")?;
    }
    lab.expect_nothing_left()?;
    PASSED
}

fn interrupted_again_it_writes_the_report_and_waits_no_more() -> TestResult {
    let lab = lab!();
    let report = lab.scratch.path().join("result");
    let mut child = under_way(lab.run(&["--report"]).arg(&report), "verdict ")?;
    // The pods take seconds to go.
    for _ in 0..2 {
        signal(&child, "INT")?;
        thread::park_timeout(Duration::from_millis(300));
    }
    let status = child.wait()?;
    if status.code() != Some(130) {
        return Err(format!("it ended with {status}").into());
    }
    let json: Value = serde_json::from_slice(&std::fs::read(report.join("report.json"))?)?;
    expect_part(&json["cleanup"]["could_not"].to_string(), "it was interrupted")?;
    expect_part(&std::fs::read_to_string(report.join("junit.xml"))?, "clean_up")?;
    expect_code(&lab.clean(&[]).output()?, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn a_producer_whose_pod_is_deleted_comes_back_as_another() -> TestResult {
    let lab = lab!();
    for fault in ["delete", "force_delete"] {
        let run = lab.run(&["--evidence", "--fault", fault]).output()?;
        // It unmounts cleanly: consumers see an empty directory, and nothing tells them.
        let text = stdout(&run);
        expect_part(&text, "evidence: pod producer-")?;
        expect_part(&text, "deleted; its program exited with 0")?;
        expect_part(&text, "recovers_by_itself: every consumer, with no intervention")?;
        lab.expect_nothing_left()?;
    }
    PASSED
}

fn a_pod_that_somebody_takes_away_is_named() -> TestResult {
    let lab = lab!();
    let child = under_way(&mut lab.run(&[]), "producer passed")?;
    let ours = "app.kubernetes.io/managed-by=propagation,propagation/run-id";
    let pods = ["get", "pods", "--all-namespaces", "--selector", ours, "--output"];
    let columns = "custom-columns=:metadata.namespace,:metadata.name";
    let listed = kubectl_says(&[&pods[..], &[columns]].concat())?;
    let early = listed.lines().find(|line| line.contains("consumer-early"));
    let (space, name) = early.and_then(|line| line.split_once(' ')).ok_or("no early consumer")?;
    let taken = kubectl(&["--namespace", space, "delete", "pod", name.trim(), "--wait=false"])?;
    let result = child.wait_with_output()?;
    expect_code(&taken, 0)?;
    expect_code(&result, 5)?;
    expect_part(&stdout(&result), "somebody ")?;
    expect_part(&stdout(&result), &format!("pod {}", name.trim()))?;
    lab.expect_nothing_left()?;
    PASSED
}

fn what_a_killed_run_leaves_is_found_and_removed() -> TestResult {
    let lab = lab!();
    let clean = |words: &[&str]| lab.clean(words);
    for line in ["is ready", "host_setup passed", "consumer passed"] {
        let mut child = under_way(&mut lab.run(&[]), line)?;
        signal(&child, "KILL")?;
        let status = child.wait()?;
        if status.code().is_some() {
            return Err(format!("it ended with {status} before it was killed").into());
        }
        let listed = clean(&["--list"]).output()?;
        expect_code(&listed, 0)?;
        expect_part(&stdout(&listed), &format!("node {}", lab.node))?;
        expect_code(&clean(&[]).output()?, 0)?;
        lab.expect_nothing_left()?;
        let again = clean(&[]).output()?;
        expect_code(&again, 0)?;
        expect_part(&stdout(&again), "nothing is left")?;
    }
    PASSED
}

/// The namespace and the name of a run's pod.
fn pod_of(workload: &str) -> Result<(String, String), Failed> {
    let ours = format!("propagation/run-id,propagation/workload={workload}");
    let columns = "custom-columns=:metadata.namespace,:metadata.name";
    let pods = ["get", "pods", "--all-namespaces", "--no-headers", "--selector", &ours, "--output"];
    let listed = kubectl_says(&[&pods[..], &[columns]].concat())?;
    let mut words = listed.split_whitespace().map(ToOwned::to_owned);
    let found = words.next().zip(words.next());
    found.ok_or_else(|| format!("no pod of {workload}").into())
}

/// A user of the node, and a pod of somebody else that has the run's directory and says to be every
/// container of the run there could be.
fn strangers_are_told_nothing() -> TestResult {
    const CONTAINERS: u32 = 10;
    let lab = lab!();
    let child = under_way(&mut lab.run(&[]), "producer passed")?;
    let (space, early) = pod_of("consumer-early")?;
    let path = "jsonpath={.spec.containers[0].image}";
    let image = kubectl_says(&["--namespace", &space, "get", "pod", &early, "--output", path])?;
    let run = space.trim_start_matches("fuse-test-");
    let directory = format!("/var/lib/propagation/{run}");
    let user = format!("setpriv --reuid 65534 --clear-groups ls {directory} 2>&1 || true");
    expect_part(&lab.on_node(&user)?, "Permission denied")?;
    let containers: Vec<Value> = (0..CONTAINERS)
        .map(|number| {
            json!({
                "name": format!("c{number}"), "image": image, "imagePullPolicy": "IfNotPresent",
                "command": [
                    "/run/propagation/agent", "program", "--container", number.to_string(),
                    "--socket", "/run/propagation/programs.sock",
                ],
                "env": [{ "name": "PROPAGATION_SECRET", "value": "guessed" }],
                "volumeMounts": [{ "name": "run", "mountPath": "/run/propagation" }],
            })
        })
        .collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "stranger" },
        "spec": {
            "nodeName": lab.node, "restartPolicy": "Never", "containers": containers,
            "securityContext": { "runAsUser": 65534, "runAsGroup": 65534 },
            "volumes": [{ "name": "run", "hostPath": { "path": directory } }],
        },
    });
    let file = lab.scratch.path().join("stranger.json");
    std::fs::write(&file, pod.to_string())?;
    kubectl_says(&["apply", "--filename", file.to_str().ok_or("a path that is text")?])?;
    let result = child.wait_with_output()?;
    let logs = ["logs", "stranger", "--all-containers", "--prefix"];
    let told = kubectl_says(&logs);
    kubectl_says(&["delete", "pod", "stranger", "--grace-period=1"])?;
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "Verdict: full_success (scenario A)")?;
    let told = told?;
    if !told.trim().is_empty() {
        return Err(format!("a stranger was told something: {told}").into());
    }
    lab.expect_nothing_left()?;
    PASSED
}

/// Through the library, as process 1 there.
fn what_is_executed_in_a_container_may_do_what_it_may() -> TestResult {
    let lab = lab!();
    let options = K8sOptions {
        node: Some(lab.node.clone()),
        access: Access::Ssh,
        ssh: SshOptions { config: Some(lab.ssh_config.clone()), ..SshOptions::default() },
        image: Some(lab.busybox()?),
        ..K8sOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let run = Run { id: RunId::generate()?, started: Instant::now(), keep: false };
        let node = K8sBackend::connect(options).await?.open(&Plan::default(), &run).await?;
        let compared = as_process_1(&*node).await;
        let cleanup = node.close().await;
        compared?;
        if cleanup.could_not.is_empty() {
            Ok(())
        } else {
            Err(Failed::from(format!("{cleanup:?}")))
        }
    })?;
    lab.expect_nothing_left()?;
    PASSED
}

/// Compares what a program has that is executed in a consumer's container with what process 1 there has.
async fn as_process_1(node: &dyn Node) -> Result<(), Failed> {
    let plan = Plan::default();
    let early = plan.workloads.iter().find(|spec| spec.name == "consumer-early");
    let early = early.ok_or("the plan has an early consumer")?.clone();
    let directory = HostChange::MakeDirectory { path: plan.bridge.path.clone(), owner: 0 };
    node.apply(&directory).await?;
    let marker = Marker { started: "now".into(), generation: 1, nonce: "n0nce".into() };
    let started = node.start(std::slice::from_ref(&early), &marker).await?;
    for started in started {
        started.map_err(|refusal| refusal.text)?;
    }
    let actor = Actor::Workload { name: early.name, replica: 0 };
    let mut seen = Vec::new();
    for process in ["1", "self"] {
        let line = format!(
            "grep -E '^(Uid|Gid|Cap.*|NoNewPrivs|Seccomp):' /proc/{process}/status; \
             cut -d: -f2- /proc/{process}/cgroup; \
             for kind in user pid mnt net ipc uts; do readlink /proc/{process}/ns/$kind; done"
        );
        let command = ["sh".to_owned(), "-c".to_owned(), line];
        let executed = node.execute(&actor, &command, Duration::from_secs(10)).await??;
        if executed.exit_code() != Some(0) {
            return Err(format!("{executed:?}").into());
        }
        seen.push(executed.output);
    }
    expect_part(&seen[0], "CapEff:")?;
    if seen[0] != seen[1] {
        return Err(format!("process 1 has\n{}\nand the program\n{}", seen[0], seen[1]).into());
    }
    let (slow, late) = (["sleep".to_owned(), "60".to_owned()], Duration::from_millis(300));
    let executed = node.execute(&actor, &slow, late).await??;
    if executed.state.is_some() {
        return Err(format!("it was not ended: {executed:?}").into());
    }
    Ok(())
}

fn a_run_ends_when_its_host_agent_is_killed() -> TestResult {
    const WITHIN: Duration = Duration::from_secs(240);
    let lab = lab!();
    let child = under_way(&mut lab.run(&[]), "producer passed")?;
    lab.on_node(
        "for p in /proc/[0-9]*; do \
             if tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q ' [h]ost --run-id '; then \
                 kill -KILL ${p#/proc/}; \
             fi; \
         done; true",
    )?;
    let result = ended_within(child, WITHIN)?;
    expect_code(&result, 5)?;
    expect_part(&stdout(&result), "another host agent answers")?;
    lab.expect_nothing_left()?;
    PASSED
}

/// How a run has ended, which may take so long.
fn ended_within(mut child: Child, limit: Duration) -> Result<Output, Failed> {
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

/// Power is cut and comes back: the processes, the mounts and /run of the node are gone, its disk is as it was.
fn a_run_ends_when_its_node_is_started_again() -> TestResult {
    const WITHIN: Duration = Duration::from_secs(240);
    let lab = lab!();
    let scripts = scripts!();
    for (mut run, words) in [
        (lab.run(&[]), "the node was started again"),
        (lab.run_through_a_pod(&[]), "the host agent"),
    ] {
        let child = under_way(&mut run, "producer passed")?;
        scripts.run("restart-node", &lab.node)?;
        let result = ended_within(child, WITHIN)?;
        // What the kubelet has not ended in time is left, and named.
        if !matches!(result.status.code(), Some(5 | 7)) {
            return Err(format!("{}: {}", result.status, stdout(&result)).into());
        }
        expect_part(&stdout(&result), "Verdict: inconclusive")?;
        expect_part(&stdout(&result), words)?;
        expect_code(&lab.clean(&[]).output()?, 0)?;
        lab.expect_nothing_left()?;
    }
    PASSED
}

fn import_image(lab: &Lab) -> Result<(), Failed> {
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

/// Through a host pod whose image has the agent; and what is left of such a run is removed by a clean-up that
/// knows nothing of the image.
fn a_named_image_will_do_through_a_pod() -> TestResult {
    let lab = lab!();
    import_image(&lab)?;
    let image = propagation_backend_k8s::oci::image_name();
    let run = || {
        let words = ["run", "--backend", "k8s", "--node", &lab.node, "--access", "pod", "--image"];
        let mut command = lab.command(&words);
        command.arg(&image);
        command
    };
    full_success(&run().output()?)?;
    lab.expect_nothing_left()?;
    let mut child = under_way(&mut run(), "producer passed")?;
    signal(&child, "KILL")?;
    child.wait()?;
    expect_code(&lab.command(&["clean", "--backend", "k8s"]).output()?, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn bridges_that_cannot_be_one_are_refused() -> TestResult {
    let lab = lab!();
    lab.on_node("mkdir -p /srv/there/dfs; mount -t tmpfs somebody /srv/there/dfs")?;
    lab.on_node("ln -s /srv /tmp/l; ln -s /srv /srv/theirs; chown -h 65534 /srv/theirs")?;
    lab.on_node("mkdir /srv/led; ln -s /srv /srv/led/dfs")?;
    let bridges = ["/tmp/l/x", "/srv/theirs/x", "/srv/led", "/srv/a\"b", "/srv/there"];
    let runs: Result<Vec<Output>, _> =
        bridges.iter().map(|bridge| lab.run(&["--bridge", bridge]).output()).collect();
    let mounted = lab.on_node("grep -c somebody /proc/self/mountinfo; umount /srv/there/dfs");
    lab.on_node("rmdir /srv/there/dfs /srv/there")?;
    expect_part(&mounted?, "1")?;
    lab.on_node("rm -r /tmp/l /srv/theirs /srv/led")?;
    let words = [
        "\"/tmp\" belongs to UID 0 and has the mode 1777\n  fix: name what it leads to: /srv/x",
        "\"/srv/theirs\" belongs to UID 65534",
        "it is a symbolic link",
        "path of the bridge with a quote",
        "there is already a mount",
    ];
    for (run, words) in runs?.iter().zip(words) {
        if run.status.success() {
            return Err(format!("it is not refused: {}", stdout(run)).into());
        }
        expect_part(&stderr(run), words)?;
    }
    lab.expect_nothing_left()?;
    PASSED
}

/// Paths are resolved once, on the node; what they lead to is made, mounted, reported and removed. Both ways; and a run
/// that is killed is cleaned at the path that its record has.
fn a_path_below_a_link_is_where_it_leads() -> TestResult {
    let lab = lab!();
    lab.on_node("mkdir -p /srv/disk/data; ln -s disk /srv/link; ln -s /srv/link/data /srv/data")?;
    let runs = below_links_of(&lab);
    let left = lab.on_node("find /srv/disk /run/x /var/run/x 2>/dev/null; true");
    lab.on_node("rm -r --one-file-system /srv/disk /srv/link /srv/data; rm -rf /run/x")?;
    runs?;
    let left = left?;
    if left.trim() != "/srv/disk\n/srv/disk/data" {
        return Err(format!("not as it was: {left}").into());
    }
    lab.expect_nothing_left()?;
    PASSED
}

fn below_links_of(lab: &Lab) -> Result<(), Failed> {
    let report = lab.scratch.path().join("result");
    for (mut run, asked, on_node) in [
        (lab.run(&["--report"]), "/var/run/x", "/run/x"),
        (lab.run_through_a_pod(&["--report"]), "/srv/data/x/y", "/srv/disk/data/x/y"),
    ] {
        let output = run.arg(&report).args(["--bridge", asked]).output()?;
        full_success(&output)?;
        expect_part(&stdout(&output), &format!("{asked} leads to {on_node}"))?;
        let text = std::fs::read_to_string(report.join("report.json"))?;
        let json: Value = serde_json::from_str(&text)?;
        let resolved = json!([{ "asked": asked, "on_node": on_node }]);
        if json["plan"]["bridge"]["path"] != on_node || json["resolved"] != resolved {
            return Err(format!("{}, {}", json["plan"]["bridge"], json["resolved"]).into());
        }
        let mount = format!("{on_node}/dfs");
        let mounts = json["captures"].to_string();
        expect_part(&mounts, &format!("\"mount_point\":\"{mount}\""))?;
        for words in ["reproduce.sh", "report.md"] {
            let text = std::fs::read_to_string(report.join(words)).unwrap_or_default();
            if text.contains(&format!("--bridge {asked}")) {
                return Err(format!("{words} names {asked}").into());
            }
        }
    }
    // The causes of a mount that does not come are found there too.
    let output = lab.run(&["--bridge", "/var/run/x", "--propagation", "None"]).output()?;
    expect_code(&output, 4)?;
    expect_part(&stdout(&output), "consumer-mode-none")?;
    let mut child = under_way(&mut lab.run(&["--bridge", "/var/run/x"]), "producer passed")?;
    signal(&child, "KILL")?;
    child.wait()?;
    expect_code(&lab.clean(&[]).output()?, 0)
}

/// What cannot be taken back is named, and is not a success; once it can be, a clean-up does it.
fn what_cannot_be_removed_has_its_own_exit_status() -> TestResult {
    let lab = lab!();
    let mut child = under_way(&mut lab.run(&["--bridge", "/srv/m"]), "consumer passed")?;
    lab.on_node("chattr +i /srv/m")?;
    let status = child.wait()?;
    let clean = |words: &[&str]| lab.clean(words);
    let stuck = clean(&[]).output()?;
    lab.on_node("chattr -i /srv/m")?;
    let cleaned = clean(&[]).output()?;
    if status.code() != Some(7) {
        return Err(format!("it ended with {status}").into());
    }
    expect_code(&stuck, 7)?;
    expect_part(&stdout(&stuck), "could not")?;
    expect_code(&cleaned, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn a_run_that_goes_on_is_named_and_one_that_is_silent_is_removed() -> TestResult {
    let lab = lab!();
    let clean = || {
        let mut command = lab.command(&["clean", "--backend", "k8s"]);
        command.arg("--ssh-config").arg(&lab.ssh_config).output()
    };
    let mut child = under_way(&mut lab.run(&[]), "producer passed")?;
    let (space, _) = pod_of("consumer-early")?;
    let run = space.trim_start_matches("fuse-test-");
    let spared = clean()?;
    signal(&child, "KILL")?;
    child.wait()?;
    expect_code(&spared, 0)?;
    expect_part(&stdout(&spared), &format!("run {run} goes on"))?;
    expect_part(&stdout(&spared), "last sign")?;
    // As if it had been another machine's.
    let record = format!("run-{run}");
    let patch = |patch: Value| {
        let patch = patch.to_string();
        let words = ["--namespace", &space, "patch", "configmap", &record, "--type", "merge"];
        kubectl_says(&[&words[..], &["--patch", &patch]].concat())
    };
    patch(json!({ "data": { "operator": "another-machine/1:1" } }))?;
    expect_part(&stdout(&clean()?), "another-machine")?;
    patch(json!({ "metadata": { "annotations": { "propagation/sign-of-life": "1" } } }))?;
    expect_code(&clean()?, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn an_image_that_is_not_there_leaves_nothing() -> TestResult {
    let lab = lab!();
    let words = ["run", "--backend", "k8s", "--node", &lab.node, "--access", "pod", "--image"];
    let output = lab.command(&words).arg("localhost/nosuch:1").output()?;
    expect_code(&output, 1)?;
    expect_part(&stderr(&output), "nosuch")?;
    lab.expect_nothing_left()?;
    PASSED
}

/// What others have in the run's directories, or mount there meanwhile, is named, and in nobody's way.
fn what_a_run_has_not_made_is_left() -> TestResult {
    let lab = lab!();
    let mut child = under_way(&mut lab.run(&["--bridge", "/srv/m"]), "host_setup passed")?;
    lab.on_node("echo kept > /srv/m/of-somebody")?;
    let status = child.wait()?;
    let kept = lab.on_node("cat /srv/m/of-somebody; rm -r --one-file-system /srv/m")?;
    expect_part(&kept, "kept")?;
    if status.code() != Some(0) {
        return Err(format!("it ended with {status}").into());
    }
    lab.expect_nothing_left()?;
    PASSED
}

fn what_a_run_makes_it_removes() -> TestResult {
    let lab = lab!();
    lab.on_node("mkdir /srv/m")?;
    for bridge in ["/srv/m", "/srv/deep/a/b"] {
        full_success(&lab.run(&["--bridge", bridge]).output()?)?;
    }
    let there = lab.on_node("find /srv/m /srv/deep 2>/dev/null; rm -r --one-file-system /srv/m");
    let there = there?;
    if there.trim() != "/srv/m" {
        return Err(format!("not as it was: {there}").into());
    }
    lab.expect_nothing_left()?;
    PASSED
}

/// A kubelet makes the directory of a subPath where it is not there.
fn a_sub_path_that_the_kubelet_has_made_is_removed() -> TestResult {
    let lab = lab!();
    let file = lab.scratch.path().join("sub-paths.yaml");
    let text = "name: sub-paths
bridge: {path: /srv/m}
workloads:
  - {name: daemon, role: producer}
  - {name: app, role: consumer, order: before_mount, sub_path: data/deep}
steps:
  - start: app
  - start: daemon
";
    std::fs::write(&file, text)?;
    let mut runs = Vec::new();
    for mut run in [lab.run(&["--scenario"]), lab.run_through_a_pod(&["--scenario"])] {
        runs.push(run.arg(&file).output()?);
    }
    let there = lab.on_node("find /srv/m; rm -r --one-file-system /srv/m 2>/dev/null; true")?;
    if !there.is_empty() {
        return Err(format!("left: {there}{}", stdout(&runs[0])).into());
    }
    runs.iter().try_for_each(|run| expect_code(run, 0))?;
    lab.expect_nothing_left()?;
    PASSED
}

impl Lab {
    /// Runs both ways with another filesystem where the node has the files of runs; both fail with these words, and
    /// what is there then, which is nothing.
    fn with_files_on(&self, options: &str, words: &str, fix: &str) -> Result<(), Failed> {
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

fn a_disk_that_may_not_execute_is_named_and_left_as_it_was() -> TestResult {
    lab!().with_files_on("noexec", "mounted noexec", "remount,exec")?;
    PASSED
}

fn a_full_disk_is_named_and_left_as_it_was() -> TestResult {
    let lab = lab!();
    let agent = propagation_agent_embed::AGENT.len().div_ceil(4096);
    // No room for the agent; and room for it, and for next to nothing else.
    for pages in [agent / 2, agent + 1] {
        let size = format!("size={}k", pages * 4);
        lab.with_files_on(&size, "o space left on device", "free space")
            .map_err(|failed| format!("{size}: {failed:?}"))?;
    }
    PASSED
}

/// Somebody has deleted the namespace of a run, with its record.
fn what_only_a_node_has_of_a_run_is_found_and_removed() -> TestResult {
    let lab = lab!();
    for (mut run, mut clean) in [
        (lab.run(&["--bridge", "/srv/m"]), lab.clean(&[])),
        (
            lab.run_through_a_pod(&["--bridge", "/srv/m"]),
            lab.command(&["clean", "--backend", "k8s"]),
        ),
    ] {
        let mut child = under_way(&mut run, "producer passed")?;
        let (space, _) = pod_of("consumer-early")?;
        signal(&child, "KILL")?;
        child.wait()?;
        kubectl_says(&["delete", "namespace", &space, "--timeout=120s"])?;
        let listed = lab.clean(&["--list"]).output()?;
        expect_part(&stdout(&listed), &format!("node {}, without a record", lab.node))?;
        let cleaned = clean.output()?;
        expect_code(&cleaned, 0)?;
        expect_part(&stdout(&cleaned), "removed /var/lib/propagation")?;
        let bridge = lab.on_node("ls -d /srv/m 2>/dev/null; true")?;
        if !bridge.is_empty() {
            return Err(format!("the bridge is left: {}", stdout(&cleaned)).into());
        }
        lab.expect_nothing_left()?;
    }
    PASSED
}

fn what_cannot_be_cleaned_is_given_up_on_demand() -> TestResult {
    let lab = lab!();
    let mut child = under_way(&mut lab.run(&["--bridge", "/srv/m"]), "consumer passed")?;
    let (space, _) = pod_of("consumer-early")?;
    signal(&child, "KILL")?;
    child.wait()?;
    lab.on_node("chattr +i /srv/m")?;
    let given_up = lab.clean(&["--force"]).output()?;
    let there = kubectl(&["get", "namespace", &space])?;
    lab.on_node("chattr -i /srv/m")?;
    let cleaned = lab.clean(&[]).output()?;
    expect_code(&given_up, 7)?;
    expect_part(&stdout(&given_up), &format!("given up: what node {} has", lab.node))?;
    if there.status.success() {
        return Err("its namespace is still there".into());
    }
    expect_code(&cleaned, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn few_rights_are_enough() -> TestResult {
    let lab = lab!();
    let manifests = lab.scratch.path().join("manifests");
    expect_code(&lab.command(&["manifests"]).arg(&manifests).output()?, 0)?;
    let rbac = manifests.join("rbac.yaml");
    let rbac = rbac.to_str().ok_or("a path that is text")?;
    kubectl_says(&["apply", "--filename", rbac])?;
    let account = "system:serviceaccount:default:propagation-operator";
    let kubeconfig = lab.kubeconfig(|config| config["users"][0]["user"]["as"] = json!(account))?;
    let words = ["run", "--backend", "k8s", "--node", &lab.node, "--access", "pod", "--kubeconfig"];
    let with_role = lab.command(&words).arg(&kubeconfig).output()?;
    kubectl_says(&["delete", "--filename", rbac])?;
    let without = lab.command(&words).arg(&kubeconfig).output()?;
    full_success(&with_role)?;
    expect_code(&without, 1)?;
    expect_part(&stderr(&without), "cannot get resource \"nodes\"")?;
    expect_part(&stderr(&without), "rbac.yaml")?;
    lab.expect_nothing_left()?;
    PASSED
}

/// A relay before the API server that can be cut.
struct Relay {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Relay {
    fn before(server: String) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let cut = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cut);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if flag.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&server) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let flag = Arc::clone(&flag);
                    thread::spawn(move || carry(from, to, &flag));
                }
            }
        });
        Ok(Self { port, cut })
    }
}

/// Carries bytes until either side ends or the relay is cut.
fn carry(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    let mut chunk = vec![0; 64 * 1024];
    while !cut.load(Ordering::SeqCst) {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) if to.write_all(&chunk[..count]).is_err() => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn a_run_goes_on_when_the_api_server_was_away() -> TestResult {
    let lab = lab!();
    let server = "jsonpath={.clusters[0].cluster.server}";
    let server = kubectl_says(&["config", "view", "--output", server])?;
    let address = server.trim_start_matches("https://").to_owned();
    let relay = Relay::before(address)?;
    let kubeconfig = lab.kubeconfig(|config| {
        let cluster = &mut config["clusters"][0]["cluster"];
        cluster["server"] = json!(format!("https://127.0.0.1:{}", relay.port));
    })?;
    let words = ["run", "--backend", "k8s", "--node", &lab.node, "--access", "pod", "--kubeconfig"];
    // In the middle, and while it is cleaned up.
    for line in ["producer passed", "verdict "] {
        let mut command = lab.command(&words);
        let mut child = under_way(command.arg(&kubeconfig), line)?;
        relay.cut.store(true, Ordering::SeqCst);
        let cut = Instant::now();
        // Long enough that whatever was under way has noticed; a pause is what is tested.
        while cut.elapsed() < Duration::from_secs(2) {
            thread::park_timeout(Duration::from_millis(100));
        }
        relay.cut.store(false, Ordering::SeqCst);
        let mut text = String::new();
        child.stdout.take().ok_or("no standard output")?.read_to_string(&mut text)?;
        let status = child.wait()?;
        expect_part(&text, "Verdict: full_success (scenario A)")?;
        if !status.success() {
            return Err(format!("it ended with {status}").into());
        }
        lab.expect_nothing_left().map_err(|left| format!("{left:?} after {text}"))?;
    }
    PASSED
}

fn what_is_wrong_with_ssh_is_said() -> TestResult {
    let lab = lab!();
    let good = std::fs::read_to_string(&lab.ssh_config)?;
    let write = |name: &str, text: &str| -> Result<PathBuf, Failed> {
        let path = lab.scratch.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    // The first value that ssh finds counts.
    let nobody = write("nobody", &format!("Host *\n  Port 1\n{good}"))?;
    let known = write("known_hosts", "")?;
    let unknown = format!("Host *\n  UserKnownHostsFile {}\n{good}", known.display());
    let unknown = write("unknown", &unknown)?;
    for (config, words, fix) in [
        (nobody, "refused", "--access pod"),
        (unknown, "Host key verification failed", "ssh-keygen -R"),
    ] {
        let mut command = lab.command(&["run", "--backend", "k8s", "--node", &lab.node]);
        let output = command.args(["--access", "ssh", "--ssh-config"]).arg(config).output()?;
        expect_code(&output, 1)?;
        expect_part(&stderr(&output), words)?;
        expect_part(&stderr(&output), fix)?;
    }
    lab.expect_nothing_left()?;
    PASSED
}

fn a_namespace_of_somebody_else_is_refused() -> TestResult {
    let lab = lab!();
    let output = lab.run(&["--namespace", "default"]).output()?;
    expect_code(&output, 2)?;
    expect_part(&stderr(&output), "this program has not made it")?;
    PASSED
}

fn the_manifests_work_by_hand() -> TestResult {
    let lab = lab!();
    import_image(&lab)?;
    let tree = lab.scratch.path().join("tree");
    let mut command = lab.command(&["manifests", "--liveness-probe", "--node", &lab.node]);
    expect_code(&command.arg(&tree).output()?, 0)?;
    let directory = tree.to_str().ok_or("a path that is text")?;
    kubectl_says(&["apply", "-k", directory])?;
    let followed = ["--namespace", "fuse-test", "wait", "--for=condition=Ready", "--timeout=60s"];
    let ready = kubectl(&[&followed[..], &["pod", "--all"]].concat())?;
    let mut logs = Command::new("kubectl")
        .args(["--namespace", "fuse-test", "logs", "--follow", "consumer-late"])
        .stdout(Stdio::piped())
        .spawn()?;
    let output = logs.stdout.take().ok_or("no standard output")?;
    let found = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("[Consumer Ready]"));
    logs.kill()?;
    logs.wait()?;
    kubectl_says(&["delete", "-k", directory, "--wait=false"])?;
    kubectl_says(&["wait", "--for=delete", "namespace/fuse-test", "--timeout=120s"])?;
    lab.on_node(
        "umount --lazy /tmp/fuse-test-bridge/dfs; rm -rf --one-file-system /tmp/fuse-test-bridge",
    )?;
    expect_code(&ready, 0)?;
    if !found {
        return Err("the consumer's log does not get to [Consumer Ready]".into());
    }
    lab.expect_nothing_left()?;
    PASSED
}
