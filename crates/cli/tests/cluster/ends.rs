//! Runs that something ends, or holds up: a signal, a node, a pod, an API server.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{ended_within, lab, scripts, signal, under_way};
use crate::support::nodes::{kubectl, kubectl_says};
use crate::support::{PASSED, TestResult, expect_code, expect_part, stderr, stdout};

pub(crate) fn an_interrupted_run_is_cleaned_up() -> TestResult {
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
pub(crate) fn without_room_for_all_pods_nothing_is_left() -> TestResult {
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

pub(crate) fn interrupted_again_it_writes_the_report_and_waits_no_more() -> TestResult {
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

pub(crate) fn a_producer_whose_pod_is_deleted_comes_back_as_another() -> TestResult {
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

pub(crate) fn a_pod_that_somebody_takes_away_is_named() -> TestResult {
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

pub(crate) fn a_run_ends_when_its_host_agent_is_killed() -> TestResult {
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

/// Power is cut and comes back: the processes, the mounts and /run of the node are gone, its disk is as it was.
pub(crate) fn a_run_ends_when_its_node_is_started_again() -> TestResult {
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

pub(crate) fn a_run_goes_on_when_the_api_server_was_away() -> TestResult {
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

/// Without the scripts that stop and start kubelets the test is skipped.
pub(crate) fn a_silent_kubelet_is_named() -> TestResult {
    let lab = lab!();
    let scripts = scripts!();
    let kubelet = |what: &str| scripts.run(what, &lab.node);
    kubelet("stop-kubelet")?;
    // Its lease is silent before the cluster calls the node not ready.
    let output = lab.run(&["--timeout", "120s"]).output();
    kubelet("start-kubelet")?;
    let output = output?;
    let all = format!("{}{}", stdout(&output), stderr(&output));
    expect_part(&all, &format!("the kubelet of {}", lab.node))?;
    let mut clean = lab.command(&["clean", "--backend", "k8s"]);
    expect_code(&clean.arg("--ssh-config").arg(&lab.ssh_config).output()?, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}
