//! What is printed works when it is pasted: commands, manifests; and when it is printed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use propagation_core::Report;
use serde_json::Value;

use super::support::nodes::{self, kubectl, kubectl_says};
use super::support::{PASSED, TestResult, expect_code, expect_part, stdout};
use crate::lab::{Lab, import_image, lab};
use libtest_mimic::Failed;

/// Runs a line in a shell that finds this program.
fn pasted(lab: &Lab, line: &str) -> Result<std::process::Output, Failed> {
    let program = lab.command(&[]);
    let directory = std::path::Path::new(program.get_program()).parent();
    let directory = directory.ok_or("the program has a directory")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(lab.scratch.path())
        .env("PATH", format!("{}:{path}", directory.display()))
        .env("XDG_STATE_HOME", lab.scratch.path())
        .output()?;
    Ok(output)
}

/// The command that repeats a run leads to the same node in the same way; so does each that verifies a fix.
pub(crate) fn the_commands_of_a_report_work_as_printed() -> TestResult {
    let lab = lab!();
    let report = lab.scratch.path().join("report.json");
    let words = ["--propagation", "None", "--tolerate", "*", "--format", "json"];
    let run = lab.run(&words).output()?;
    expect_code(&run, 4)?;
    std::fs::write(&report, &run.stdout)?;
    let shown = lab.command(&["report", "report.json"]).current_dir(lab.scratch.path()).output()?;
    let text = stdout(&shown);
    let command = |line: &str| {
        let line = line.trim();
        let found = line.strip_prefix("Reproduce: ").or_else(|| line.strip_prefix("verify: "));
        found.map(ToOwned::to_owned)
    };
    let mut lines: Vec<String> = text.lines().filter_map(command).collect();
    lines.sort();
    lines.dedup();
    if !lines.iter().any(|line| line.contains("# after the fix")) || lines.len() < 2 {
        return Err(format!("no command to verify a fix:\n{text}").into());
    }
    for line in lines {
        expect_part(&line, "--access ssh")?;
        expect_part(&line, "--tolerate '*'")?;
        let output = pasted(&lab, &line)?;
        // The same plan gives the same answer.
        expect_code(&output, 4)?;
    }
    lab.expect_nothing_left()?;
    PASSED
}

/// The manifest that causes print is applied; its probe restarts the consumer when the mount is dead.
pub(crate) fn the_probe_of_a_report_can_be_applied_as_printed() -> TestResult {
    let lab = lab!();
    import_image(&lab)?;
    let file = lab.scratch.path().join("probe.yaml");
    let incident = "scenarios/011-juicefs-ls-empty-after-recover.yaml";
    let incident = super::support::library::root().join(incident);
    let mut run = lab.command(&["run", "--experiments", "off", "--format", "json", "--scenario"]);
    let run = run.arg(&incident).output()?;
    expect_code(&run, 0)?;
    let report = Report::from_json(&run.stdout)?;
    let mut printed = report.diagnosis.iter().map(|cause| &cause.fix.text);
    let manifest = printed.find(|text| text.contains("kind: Pod"));
    std::fs::write(&file, manifest.ok_or("no cause prints a manifest")?)?;
    let file = file.to_str().ok_or("a path that is text")?.to_owned();
    // On the node that has the image, with something mounted that is alive.
    lab.on_node(
        "mkdir -p /srv/probed /tmp/fuse-test-bridge/dfs && touch /srv/probed/producer-marker.txt && \
         bindfs /srv/probed /tmp/fuse-test-bridge/dfs",
    )?;
    let pinned = format!(
        "kubectl apply --filename {file} && \
         kubectl wait --for=condition=Ready --timeout=60s pod/probed-consumer"
    );
    let cordoned: Vec<String> =
        nodes::names()?.into_iter().filter(|name| *name != lab.node).collect();
    cordoned.iter().try_for_each(|name| kubectl_says(&["cordon", name]).map(drop))?;
    let applied = pasted(&lab, &pinned);
    let probed = [
        "exec",
        "probed-consumer",
        "--container",
        "consumer",
        "--",
        "/probe/propagation-agent",
        "probe",
        "/mnt/dfs",
        "--sentinel",
        "producer-marker.txt",
        "--timeout",
        "4s",
    ];
    let alive = kubectl(&probed);
    let killed = lab.on_node("pkill -KILL -f '[b]indfs /srv/probed /tmp/fuse-test-bridge/dfs'");
    let dead = kubectl(&probed);
    let restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
    let restarted = kubectl(&["wait", restarted, "--timeout=120s", "pod/probed-consumer"]);
    cordoned.iter().try_for_each(|name| kubectl_says(&["uncordon", name]).map(drop))?;
    let deleted = kubectl(&["delete", "pod", "probed-consumer", "--grace-period=1"]);
    lab.on_node(
        "umount --lazy /tmp/fuse-test-bridge/dfs; rm -r --one-file-system /tmp/fuse-test-bridge /srv/probed",
    )?;
    expect_code(&applied?, 0)?;
    expect_code(&alive?, 0)?;
    killed?;
    expect_code(&dead?, 10)?;
    expect_code(&restarted?, 0)?;
    expect_code(&deleted?, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}

/// The image volume of docs/k8s.md brings the probe into a container whose image has nothing of ours.
pub(crate) fn an_image_volume_brings_the_probe() -> TestResult {
    let lab = lab!();
    import_image(&lab)?;
    let document = std::fs::read_to_string(super::support::library::root().join("docs/k8s.md"))?;
    let volume = document.lines().find(|line| line.contains("{name: probe, image: "));
    let volume = volume.ok_or("docs/k8s.md has no image volume")?;
    expect_part(volume, &format!("\"{}\"", propagation_backend_k8s::oci::image_name()))?;
    let file = lab.scratch.path().join("pod.yaml");
    let (node, image) = (&lab.node, lab.busybox()?);
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: with-probe}}\nspec:\n  nodeName: {node}\n  containers:\n  \
         - name: consumer\n    image: {image}\n    command: [sleep, \"600\"]\n    \
         volumeMounts: [{{name: probe, mountPath: /probe}}]\n  volumes:\n{volume}\n"
    );
    std::fs::write(&file, pod)?;
    kubectl_says(&["apply", "--filename", file.to_str().ok_or("a path that is text")?])?;
    let ready = kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/with-probe"]);
    let look = ["exec", "with-probe", "--", "/probe/propagation-agent", "probe", "/tmp"];
    let looked = kubectl(&look);
    kubectl_says(&["delete", "pod", "with-probe", "--grace-period=1"])?;
    expect_code(&ready?, 0)?;
    // It looks: nothing is mounted there.
    expect_code(&looked?, 13)?;
    PASSED
}

/// The verdict and the whole report stand on standard output while the pods are still there.
pub(crate) fn the_report_comes_before_the_clean_up() -> TestResult {
    let lab = lab!();
    let mut child = lab.run(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut errors = child.stderr.take().ok_or("no standard error")?;
    let said = thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let output = child.stdout.take().ok_or("no standard output")?;
    let (mut lines, mut there) = (Vec::new(), String::new());
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.contains("Verdict: full_success") {
            let ours = "propagation/run-id";
            there = kubectl_says(&["get", "namespaces", "--output", "name", "--selector", ours])?;
        }
        lines.push(line);
    }
    let status = child.wait()?;
    let said = said.join().map_err(|_| "standard error was not read")??;
    if status.code() != Some(0) {
        return Err(format!("it ended with {status}: {said}").into());
    }
    if there.is_empty() {
        return Err("the report came when everything had been cleaned up".into());
    }
    let last = lines.last().cloned().unwrap_or_default();
    expect_part(&last, "cleaned up in")?;
    for part in [": waited for the kubelet ", ", for the namespace ", ", ours "] {
        expect_part(&last, part)?;
    }
    for part in ["phase producer", "cleaning up: the kubelet ends", "cleaning up: node"] {
        expect_part(&said, part)?;
    }
    lab.expect_nothing_left()?;
    PASSED
}

pub(crate) fn a_clean_up_in_the_background_leaves_nothing() -> TestResult {
    const WITHIN: Duration = Duration::from_secs(180);
    let lab = lab!();
    let report = lab.scratch.path().join("result");
    let output = lab.run(&["--detach-cleanup", "--report"]).arg(&report).output()?;
    expect_code(&output, 0)?;
    expect_part(&stdout(&output), "in the background")?;
    let json: Value = serde_json::from_slice(&std::fs::read(report.join("report.json"))?)?;
    expect_part(&json["cleanup"]["kept"].to_string(), "propagation clean --backend k8s --run-id")?;
    let end = Instant::now() + WITHIN;
    while let Err(left) = lab.expect_nothing_left() {
        if Instant::now() > end {
            return Err(left);
        }
        thread::park_timeout(Duration::from_millis(500));
    }
    PASSED
}

/// A producer that is a native sidecar: the consumer of its pod reads the mount, notices the death of the sidecar, and
/// reads the fresh mount of the next one.
pub(crate) fn a_native_sidecar_is_a_producer() -> TestResult {
    let lab = lab!();
    import_image(&lab)?;
    let tree = lab.scratch.path().join("tree");
    let mut command = lab.command(&["manifests", "--sidecar", "--node", &lab.node]);
    expect_code(&command.arg(&tree).output()?, 0)?;
    let directory = tree.to_str().ok_or("a path that is text")?;
    kubectl_says(&["apply", "-k", directory])?;
    let space = ["--namespace", "fuse-test"];
    let ready = ["wait", "--for=condition=Ready", "--timeout=90s", "pod/consumer"];
    let ready = kubectl(&[&space[..], &ready].concat())?;
    lab.on_node("pkill -KILL -f '[p]ropagation-agent producer '")?;
    let logs = [&space[..], &["logs", "consumer", "--container", "agent"]].concat();
    let (end, mut log) = (Instant::now() + Duration::from_secs(60), String::new());
    while Instant::now() < end && !log.contains("Mount became inaccessible") {
        thread::park_timeout(Duration::from_millis(500));
        log = kubectl_says(&logs)?;
    }
    let looked = [&space[..], &["exec", "consumer", "--container", "agent", "--"]].concat();
    let look = ["/propagation-agent", "probe", "/mnt/dfs", "--timeout", "4s"];
    let mut seen = kubectl(&[&looked[..], &look].concat())?;
    while Instant::now() < end && !seen.status.success() {
        thread::park_timeout(Duration::from_millis(500));
        seen = kubectl(&[&looked[..], &look].concat())?;
    }
    kubectl_says(&["delete", "-k", directory, "--wait=false"])?;
    kubectl_says(&["wait", "--for=delete", "namespace/fuse-test", "--timeout=120s"])?;
    lab.on_node(
        "umount --lazy /tmp/fuse-test-bridge/dfs; rm -rf --one-file-system /tmp/fuse-test-bridge",
    )?;
    expect_code(&ready, 0)?;
    expect_part(&log, "Producer marker found")?;
    expect_part(&log, "Mount became inaccessible")?;
    expect_code(&seen, 0)?;
    lab.expect_nothing_left()?;
    PASSED
}
