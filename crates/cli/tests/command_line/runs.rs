//! Runs: their answers, exit statuses and words.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::support::{
    PASSED, TestResult, expect_code, expect_part, output, scratch, skip, stderr, stdout,
};

pub(crate) fn five_phases_give_full_success() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run"]);
    expect_code(&result, 0)?;
    let text = stdout(&result);
    for phase in ["host_setup", "producer", "consumer", "stale_mount", "recovery"] {
        expect_part(&text, &format!("{phase}: passed"))?;
    }
    expect_part(&text, "Verdict: full_success (scenario A)")?;
    expect_part(&stderr(&result), "log: ")?;
    let logs: Vec<_> = fs::read_dir(scratch.path().join("propagation"))?.collect();
    if logs.len() != 1 {
        return Err(format!("{} log files", logs.len()).into());
    }
    let log = fs::read_to_string(logs[0].as_ref().expect("an entry").path())?;
    expect_part(&log, "verdict full_success")?;
    PASSED
}

pub(crate) fn partial_success_is_3_and_names_the_intervention() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--volume", "mountpoint"]);
    expect_code(&result, 3)?;
    let text = stdout(&result);
    expect_part(&text, "re-bind inside the consumers' mount namespaces")?;
    expect_part(&text, "transport endpoint is not connected")?;
    expect_part(&text, "livenessProbe:")?;
    PASSED
}

pub(crate) fn a_private_covering_mount_is_5_with_the_fix() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--covering", "private"]);
    expect_code(&result, 5)?;
    expect_part(&stdout(&result), "mount --make-rshared /tmp")?;
    PASSED
}

pub(crate) fn a_stopped_daemon_is_a_hang_and_ends() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--fault", "stop"]);
    expect_code(&result, 3)?;
    expect_part(&stdout(&result), "no_hang: node, consumer-early, consumer-late: hang")?;
    PASSED
}

pub(crate) fn a_probe_of_the_producer_ends_a_stopped_daemon() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--fault", "stop", "--producer-liveness-probe"]);
    expect_code(&result, 0)?;
    let text = stdout(&result);
    expect_part(&text.replace("\n  ", " "), "the producer's liveness probe ended the daemon")?;
    expect_part(&text, "propagation run --fault stop --producer-liveness-probe")?;
    PASSED
}

pub(crate) fn a_clean_unmount_is_told_from_a_crash() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--fault", "terminate", "--evidence"]);
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "breakage_seen: node, consumer-early, consumer-late: absent")?;
    PASSED
}

pub(crate) fn odd_bridges_work() -> TestResult {
    let scratch = scratch();
    for path in [
        "/tmp/trailing/",
        "/tmp/with space",
        "/tmp/new\nline",
        "/srv/deep/er/bridge",
        "/bridge",
        "/tmp/ü#\\\t",
    ] {
        let result = output(scratch.path(), &["run", "--bridge", path]);
        expect_code(&result, 0)?;
        if stdout(&result).contains('\t') {
            return Err("a control character of the path reached the terminal".into());
        }
    }
    PASSED
}

pub(crate) fn the_five_phases_run_with_any_daemon() -> TestResult {
    if !Path::new("/usr/bin/bindfs").exists() {
        return skip("bindfs", "bindfs is not installed");
    }
    let scratch = scratch();
    let command = "bindfs -f {source} {mountpoint}";
    let result = output(scratch.path(), &["run", "--producer-command", command]);
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "Verdict: full_success")?;
    PASSED
}

/// Options for two files that each only start a producer, the second with another line.
fn two_files(directory: &Path, more: &str) -> std::io::Result<[String; 4]> {
    let text = "workloads: [{name: d, role: producer}]\nsteps: [{start: d, expect: {node: ok}}]\n";
    let [a, b] = ["a.yaml", "b.yaml"].map(|name| directory.join(name));
    fs::write(&a, text)?;
    fs::write(&b, format!("{more}{text}"))?;
    let option = || "--scenario".to_owned();
    Ok([option(), a.display().to_string(), option(), b.display().to_string()])
}

pub(crate) fn a_file_that_is_skipped_is_counted_as_skipped_everywhere() -> TestResult {
    let scratch = scratch();
    let files = two_files(scratch.path(), "since: \"99.0\"\n")?;
    let out = scratch.path().join("out").display().to_string();
    let mut arguments = vec!["run", "--report", &out];
    arguments.extend(files.iter().map(String::as_str));
    let result = output(scratch.path(), &arguments);
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "1 as expected, 0 otherwise, 1 skipped")?;
    let page = fs::read_to_string(scratch.path().join("out/index.html"))?;
    if page.contains("No report") {
        return Err("the index has a skipped file without a report".into());
    }
    expect_part(&page, "expected from Linux 99.0 on")?;
    PASSED
}

pub(crate) fn kept_nodes_are_named_for_several_files_and_with_q() -> TestResult {
    let scratch = scratch();
    let files = two_files(scratch.path(), "")?;
    let run_id = Regex::new(r"--run-id ([a-z0-9-]+)")?;
    for (quiet, files) in [(false, &files[..]), (true, &files[..]), (true, &files[..2])] {
        let mut arguments = vec!["run", "--keep"];
        arguments.extend(quiet.then_some("-q"));
        arguments.extend(files.iter().map(String::as_str));
        let result = output(scratch.path(), &arguments);
        let text = stdout(&result);
        let kept: Vec<_> = run_id.captures_iter(&text).map(|found| found[1].to_owned()).collect();
        for run in &kept {
            expect_code(&output(scratch.path(), &["clean", "--run-id", run]), 0)?;
        }
        expect_code(&result, 0)?;
        if kept.len() * 2 != files.len() {
            return Err(format!("{} kept nodes in {text}", kept.len()).into());
        }
    }
    PASSED
}
