//! `propagation compare` in pods of a node.

use std::process::Output;

use propagation_core::comparison::{
    Comparison, Healing, Metric, SkipKind, Transport, TransportResult,
};

use super::support::{PASSED, TestResult, expect_code, expect_part, skip, stdout};
use crate::lab::{Lab, lab, signal, under_way};
use libtest_mimic::Failed;

/// A comparison with further words.
fn compare(lab: &Lab, access: &str, words: &[&str]) -> std::process::Command {
    let mut command = lab.command(&["compare", "--backend", "k8s", "--node", &lab.node]);
    command.args(["--access", access]);
    if access == "ssh" {
        command.arg("--ssh-config").arg(&lab.ssh_config);
    }
    command.args(words);
    command
}

fn read(output: &Output) -> Result<Comparison, Failed> {
    expect_code(output, 0)?;
    let found: Comparison = serde_json::from_slice(&output.stdout)?;
    match found.cleanup.could_not.as_slice() {
        [] => Ok(found),
        left => Err(format!("left: {left:?}").into()),
    }
}

fn of(comparison: &Comparison, transport: Transport) -> Result<&TransportResult, Failed> {
    comparison.transport(transport).ok_or_else(|| format!("no {transport}").into())
}

fn ensure(holds: bool, what: impl std::fmt::Debug) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(format!("{what:#?}").into()) }
}

/// Neither objects nor directories, mounts and servers of a comparison are left.
fn nothing_is_left(lab: &Lab) -> Result<(), Failed> {
    let line = "ls -d /run/propagation-compare-* 2>/dev/null; \
                grep propagation-compare /proc/self/mountinfo; \
                for p in /proc/[0-9]*; do \
                    tr '\\0' '\\n' < $p/environ 2>/dev/null | grep ^PROPAGATION_TAG=; \
                done; true";
    let left = lab.on_node(line)?;
    ensure(left.is_empty(), left)?;
    lab.expect_nothing_left()
}

fn has_all(lab: &Lab, programs: &[&str]) -> bool {
    programs.iter().all(|program| lab.on_node(&format!("command -v {program}")).is_ok())
}

/// Every transport gives its figures or says why not; FUSE and SMB die and heal as on a simulated node.
pub(crate) fn transports_are_compared_in_pods() -> TestResult {
    let lab = lab!();
    let report = lab.scratch.path().join("transports");
    let names = "native,fuse,fuse-passthrough,daemon,smb-rclone,smb-cifs";
    let words = ["--quick", "--rounds", "1", "--transports", names, "--format", "json", "--report"];
    let output = compare(&lab, "ssh", &words).arg(&report).output()?;
    let comparison = read(&output)?;
    expect_part(&comparison.machine.engine, &format!("on node {}", lab.node))?;
    for transport in [Transport::Native, Transport::Fuse] {
        let one = of(&comparison, transport)?;
        ensure(one.skipped.is_none(), one)?;
        for metric in [Metric::SequentialRate, Metric::Seek, Metric::ScanCold, Metric::Open] {
            let measure = one.measure(metric).ok_or("not measured")?;
            ensure(measure.median.is_some() && measure.failed.is_empty(), measure)?;
        }
    }
    let fuse = of(&comparison, Transport::Fuse)?;
    let server = fuse.measure(Metric::Open).ok_or("not measured")?.server;
    ensure(server.cpu_ms > 0.0 && server.peak_bytes > 0, server)?;
    let death = fuse.death.as_ref().ok_or("its server was not killed")?;
    let errno = death.first_error.as_ref().map(|(_, errno)| errno.as_str());
    ensure(matches!(errno, Some("ENOTCONN" | "ECONNABORTED")), death)?;
    ensure(death.healing == Healing::NewMount && death.fresh[0].from_ms < 0.0, death)?;
    let passthrough = of(&comparison, Transport::FusePassthrough)?;
    if let Some(skip) = &passthrough.skipped {
        // Its producer is privileged: what is missing is the kernel's.
        ensure(skip.kind != SkipKind::NotPermitted, skip)?;
    }
    if has_all(&lab, &["bindfs"]) {
        let daemon = of(&comparison, Transport::Daemon)?;
        ensure(daemon.skipped.is_none() && daemon.death.is_some(), daemon)?;
    }
    let smb = of(&comparison, Transport::SmbRclone)?;
    if has_all(&lab, &["smbd", "rclone"]) {
        ensure(smb.measure(Metric::Open).is_some_and(|open| open.median.is_some()), smb)?;
        let death = smb.death.as_ref().ok_or("its server was not killed")?;
        ensure(death.killed == "smbd" && death.healing == Healing::Reconnect, death)?;
    } else {
        let skip = smb.skipped.as_ref().ok_or("smb was measured without its programs")?;
        ensure(skip.kind == SkipKind::ProgramMissing && skip.fix.is_some(), skip)?;
    }
    let known = lab.on_node("cat /proc/filesystems")?;
    let cifs = of(&comparison, Transport::SmbCifs)?;
    if !known.lines().any(|line| line.trim_end().ends_with("cifs")) {
        let skip = cifs.skipped.as_ref().ok_or("cifs was mounted without a kernel that has it")?;
        ensure(skip.kind == SkipKind::KernelLacks && skip.reason.contains(&lab.node), skip)?;
    }
    let names = ["comparison.json", "comparison.txt", "comparison.md", "comparison.html"];
    for name in names {
        let content = std::fs::read_to_string(report.join(name))?;
        expect_part(&content, &lab.node)?;
    }
    nothing_is_left(&lab)?;
    PASSED
}

/// Through a host pod, without ssh.
pub(crate) fn transports_are_compared_through_a_host_pod() -> TestResult {
    let lab = lab!();
    let words = ["--quick", "--rounds", "1", "--transports", "fuse", "--workloads", "open,write"];
    let output = compare(&lab, "pod", &words).args(["--format", "json"]).output()?;
    let comparison = read(&output)?;
    let fuse = of(&comparison, Transport::Fuse)?;
    for metric in [Metric::Open, Metric::WriteRate] {
        let measure = fuse.measure(metric).ok_or("not measured")?;
        ensure(measure.median.is_some() && measure.failed.is_empty(), measure)?;
    }
    nothing_is_left(&lab)?;
    PASSED
}

/// A program that ends or never serves leaves its transport out; so does one that pods have not.
pub(crate) fn a_transport_that_does_not_stand_in_pods_is_left_out() -> TestResult {
    let lab = lab!();
    let words = ["--quick", "--rounds", "1", "--workloads", "open", "--format", "json"];
    let run = |command: &str| {
        let mut comparison = compare(&lab, "ssh", &words);
        comparison.args(["--transports", "daemon", "--producer-command", command]).output()
    };
    for (command, kind, part) in [
        ("no-such-daemon {mountpoint}", SkipKind::ProgramMissing, "no-such-daemon"),
        ("sh -c 'echo no such remote; exit 3' {mountpoint}", SkipKind::NotReady, "no such remote"),
        ("sleep 1000 # {mountpoint}", SkipKind::NotReady, "nothing is mounted at /mnt/daemon"),
    ] {
        let comparison = read(&run(command)?)?;
        let daemon = of(&comparison, Transport::Daemon)?;
        let skip = daemon.skipped.as_ref().ok_or("it was measured")?;
        ensure(skip.kind == kind && skip.reason.contains(part), skip)?;
    }
    nothing_is_left(&lab)?;
    PASSED
}

/// What was measured is shown, and everything is removed.
pub(crate) fn an_interrupted_comparison_is_shown_and_removed() -> TestResult {
    let lab = lab!();
    let words = ["--quick", "--transports", "fuse", "--workloads", "open", "--rounds", "1000"];
    let mut command = compare(&lab, "ssh", &words);
    let child = under_way(command.args(["--format", "json"]), "round 3 ")?;
    signal(&child, "TERM")?;
    let output = child.wait_with_output()?;
    expect_code(&output, 130)?;
    let comparison: Comparison = serde_json::from_slice(&output.stdout)?;
    let open = of(&comparison, Transport::Fuse)?.measure(Metric::Open);
    ensure(comparison.cut_short && open.is_some_and(|open| open.median.is_some()), &comparison)?;
    nothing_is_left(&lab)?;
    PASSED
}

/// Killed while servers run and while they die: a clean-up finds all of it.
pub(crate) fn what_a_killed_comparison_leaves_is_removed() -> TestResult {
    let lab = lab!();
    let transports = match has_all(&lab, &["smbd", "rclone"]) {
        true => "fuse,smb-rclone",
        false => "fuse",
    };
    for line in ["fuse stands", "round 1 ", "servers are killed"] {
        let words = ["--quick", "--rounds", "1", "--transports", transports];
        let mut child = under_way(&mut compare(&lab, "ssh", &words), line)?;
        signal(&child, "KILL")?;
        let status = child.wait()?;
        ensure(status.code().is_none(), status)?;
        let listed = lab.clean(&["--list"]).output()?;
        expect_code(&listed, 0)?;
        expect_part(&stdout(&listed), &format!("node {}", lab.node))?;
        expect_code(&lab.clean(&[]).output()?, 0)?;
        nothing_is_left(&lab)?;
    }
    PASSED
}

/// A server that is stopped, and so answers nobody, keeps neither the comparison nor its clean-up from ending.
pub(crate) fn a_comparison_ends_when_a_server_hangs() -> TestResult {
    let lab = lab!();
    let stops = "sh -c '(sleep 6; kill -STOP $$) & exec bindfs -f {source} {mountpoint}'";
    if !has_all(&lab, &["bindfs"]) {
        return skip("bindfs", "the node has no bindfs");
    }
    let words = ["--quick", "--rounds", "30", "--transports", "daemon", "--workloads", "open"];
    let mut command = compare(&lab, "ssh", &words);
    let output = command.args(["--format", "json", "--producer-command", stops]).output()?;
    let comparison = read(&output)?;
    let daemon = of(&comparison, Transport::Daemon)?;
    let gave_up: u32 = daemon.measures.iter().map(|measure| measure.gave_up).sum();
    ensure(gave_up > 1, daemon)?;
    nothing_is_left(&lab)?;
    PASSED
}

/// Two comparisons on one node leave each other alone.
pub(crate) fn two_comparisons_on_a_node_leave_each_other_alone() -> TestResult {
    let lab = lab!();
    let words = ["--quick", "--transports", "fuse", "--workloads", "open,die", "--format", "json"];
    let mut first = compare(&lab, "ssh", &[&words[..], &["--rounds", "12"]].concat());
    let first = under_way(&mut first, "fuse stands")?;
    let second = compare(&lab, "ssh", &[&words[..], &["--rounds", "1"]].concat()).output()?;
    let first = first.wait_with_output()?;
    for output in [first, second] {
        let comparison = read(&output)?;
        let fuse = of(&comparison, Transport::Fuse)?;
        let open = fuse.measure(Metric::Open).ok_or("not measured")?;
        ensure(open.failed.is_empty() && open.gave_up == 0, open)?;
        ensure(fuse.death.is_some(), fuse)?;
    }
    nothing_is_left(&lab)?;
    PASSED
}
