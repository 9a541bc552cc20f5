//! Paths and disks of a node that are odd.

use std::process::Output;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::lab::{Lab, full_success, lab, signal, under_way};
use crate::support::{PASSED, TestResult, expect_code, expect_part, stderr, stdout};

pub(crate) fn a_read_only_bridge_is_named_and_nothing_is_left() -> TestResult {
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

pub(crate) fn bridges_that_cannot_be_one_are_refused() -> TestResult {
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
pub(crate) fn a_path_below_a_link_is_where_it_leads() -> TestResult {
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

/// A kubelet makes the directory of a subPath where it is not there.
pub(crate) fn a_sub_path_that_the_kubelet_has_made_is_removed() -> TestResult {
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

pub(crate) fn a_disk_that_may_not_execute_is_named_and_left_as_it_was() -> TestResult {
    lab!().with_files_on("noexec", "mounted noexec", "remount,exec")?;
    PASSED
}

pub(crate) fn a_full_disk_is_named_and_left_as_it_was() -> TestResult {
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
