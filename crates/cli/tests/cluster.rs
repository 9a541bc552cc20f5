//! The command line on a real cluster: that of `KUBECONFIG`, whose nodes the ssh configuration of
//! `PROPAGATION_SSH_CONFIG` knows by their names. Without one every test is skipped, and counted.

mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use propagation_conformance::cluster_named;
use serde_json::{Value, json};
use support::nodes::{self, kubectl, kubectl_says};
use support::{PASSED, TestResult, expect_code, expect_part, scratch, skip, stderr, stdout, test};

fn main() {
    support::main(vec![
        test("over_ssh_it_is_full_success_and_nothing_is_left", over_ssh),
        test("an_imported_image_will_do", imported_image),
        test("a_producer_whose_pod_is_deleted_comes_back_as_another", deleted),
        test("through_a_host_pod_it_is_full_success_too", through_a_pod),
        test("one_node_that_fails_does_not_spoil_the_other", many_nodes),
        test("a_pod_that_somebody_takes_away_is_named", taken_away),
        test("an_interrupted_run_is_cleaned_up", interrupted),
        test("what_a_killed_run_leaves_is_found_and_removed", killed),
        test("few_rights_are_enough", few_rights),
        test("a_run_goes_on_when_the_api_server_was_away", api_server_away),
        test("what_is_wrong_with_ssh_is_said", bad_ssh),
        test("a_namespace_of_somebody_else_is_refused", foreign_namespace),
        test("the_manifests_work_by_hand", by_hand),
    ]);
}

/// What the environment has for these tests.
struct Lab {
    ssh_config: PathBuf,
    node: String,
    scratch: tempfile::TempDir,
}

macro_rules! lab {
    () => {
        match Lab::find() {
            Ok(lab) => lab,
            Err(reason) => return skip("k8s", &reason),
        }
    };
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

    /// Runs a shell line on the node.
    fn on_node(&self, line: &str) -> Result<String, Failed> {
        nodes::on_node(&self.ssh_config, &self.node, line)
    }

    /// Nothing of any run is in the cluster or on its nodes.
    fn expect_nothing_left(&self) -> Result<(), Failed> {
        nodes::expect_nothing_left(&self.ssh_config)
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

fn full_success(output: &Output) -> Result<(), Failed> {
    expect_code(output, 0)?;
    expect_part(&stdout(output), "Verdict: full_success (scenario A)")?;
    let printed = stderr(output);
    expect_part(&printed, "verdict full_success")
}

fn over_ssh() -> TestResult {
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

fn imported_image() -> TestResult {
    let lab = lab!();
    full_success(&lab.run(&["--import-image"]).output()?)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn through_a_pod() -> TestResult {
    let lab = lab!();
    let words = ["run", "--backend", "k8s", "--node", &lab.node, "--access", "pod"];
    full_success(&lab.command(&words).output()?)?;
    lab.expect_nothing_left()?;
    PASSED
}

fn many_nodes() -> TestResult {
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
fn under_way(command: &mut Command, line: &str) -> Result<std::process::Child, Failed> {
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

fn signal(child: &std::process::Child, signal: &str) -> Result<(), Failed> {
    let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).output()?;
    expect_code(&kill, 0)
}

fn interrupted() -> TestResult {
    let lab = lab!();
    let mut child = under_way(&mut lab.run(&[]), "producer passed")?;
    signal(&child, "INT")?;
    let status = child.wait()?;
    if status.code() != Some(130) {
        return Err(format!("an interrupted run ended with {status}").into());
    }
    lab.expect_nothing_left()?;
    PASSED
}

fn deleted() -> TestResult {
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

fn taken_away() -> TestResult {
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

fn killed() -> TestResult {
    let lab = lab!();
    let clean = |words: &[&str]| {
        let mut command = lab.command(&["clean", "--backend", "k8s"]);
        command.arg("--ssh-config").arg(&lab.ssh_config).args(words);
        command
    };
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

fn few_rights() -> TestResult {
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

fn api_server_away() -> TestResult {
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
    let mut command = lab.command(&words);
    let mut child = under_way(command.arg(&kubeconfig), "producer passed")?;
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
    PASSED
}

fn bad_ssh() -> TestResult {
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

fn foreign_namespace() -> TestResult {
    let lab = lab!();
    let output = lab.run(&["--namespace", "default"]).output()?;
    expect_code(&output, 2)?;
    expect_part(&stderr(&output), "this program has not made it")?;
    PASSED
}

fn by_hand() -> TestResult {
    let lab = lab!();
    let (archive, tree) = (lab.scratch.path().join("agent.tar"), lab.scratch.path().join("tree"));
    expect_code(&lab.command(&["image"]).arg(&archive).output()?, 0)?;
    let import = Command::new("ssh")
        .arg("-F")
        .arg(&lab.ssh_config)
        .args([&lab.node, "ctr -n k8s.io images import -"])
        .stdin(std::fs::File::open(&archive)?)
        .output()?;
    expect_code(&import, 0)?;
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
