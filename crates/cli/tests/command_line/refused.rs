//! Input that is refused before anything runs.

use std::fs;

use crate::support::{
    PASSED, TestResult, expect_code, expect_part, output, scratch, stderr, stdout,
};

pub(crate) fn bad_bridges_are_2_with_the_fix() -> TestResult {
    let scratch = scratch();
    for path in ["relative", "/", "/tmp/../x", "/tmp//x", "/proc/x", ""] {
        let result = output(scratch.path(), &["run", "--bridge", path]);
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), "fix: ")?;
    }
    PASSED
}

pub(crate) fn values_that_cannot_be_meant_are_2() -> TestResult {
    let scratch = scratch();
    let axes = scratch.path().join("axes.yaml");
    fs::write(&axes, "{}\n")?;
    let axes = axes.to_str().ok_or("the path is not text")?;
    for (arguments, part) in [
        (&["probe", "/proc", "--sentinel", "../x"][..], "it is a path"),
        (&["run", "--producer-command", ""], "it is empty"),
        (&["run", "--transport", "native"], "possible values: fuse, fuse-passthrough, smb-rclone"),
        (&["run", "--transport", "nfs", "--producer-uid", "1000"], "cannot be used with"),
        (&["run", "--producer-command", "bindfs -f {source} {mountpoint"], "has no {mountpoint}"),
        (&["matrix", "--axes", axes], "no axis in it"),
        (&["manifests", "out", "--namespace", "Bad_NS"], "cannot be the name of a namespace"),
        (&["manifests", "out", "--node", "x y"], "cannot be the name of a node"),
        (&["manifests", "out", "--tolerate", "a b"], "is not a taint"),
    ] {
        let result = output(scratch.path(), arguments);
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), part)?;
        if stderr(&result).contains("propagation-agent") {
            return Err(format!("{arguments:?} shows the agent's usage").into());
        }
    }
    PASSED
}

pub(crate) fn a_misspelt_flag_gets_a_suggestion() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--brigde", "/tmp/x"]);
    expect_code(&result, 2)?;
    expect_part(&stderr(&result), "--bridge")?;
    PASSED
}

pub(crate) fn clean_has_no_options_of_runs() -> TestResult {
    let scratch = scratch();
    let help = stdout(&output(scratch.path(), &["clean", "--help"]));
    for (option, words) in [("--apply", &["--apply"][..]), ("--parallel", &["--parallel", "2"])] {
        if help.contains(option) {
            return Err(format!("{option} is in the help of clean").into());
        }
        let all = [&["clean", "--backend", "k8s"], words].concat();
        let result = output(scratch.path(), &all);
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), &format!("{option} is an option of `propagation run`"))?;
    }
    PASSED
}

pub(crate) fn a_damaged_report_is_2() -> TestResult {
    let scratch = scratch();
    let path = scratch.path().join("r.json");
    let name = path.to_str().expect("UTF-8");
    for content in ["", "{", "[]", "{\"schema_version\": 99}", "{\"schema_version\": 1}"] {
        fs::write(&path, content)?;
        let result = output(scratch.path(), &["report", name]);
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), "fix: ")?;
    }
    expect_code(&output(scratch.path(), &["report", "/nonexistent.json"]), 2)?;
    PASSED
}

pub(crate) fn input_that_has_no_end_is_2() -> TestResult {
    let scratch = scratch();
    let fifo = scratch.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status()?;
    if !made.success() {
        return Err("mkfifo failed".into());
    }
    let large = scratch.path().join("large.json");
    fs::File::create(&large)?.set_len(1 << 40)?;
    let (fifo, large) = (fifo.to_str().expect("UTF-8"), large.to_str().expect("UTF-8"));
    for (words, reason) in [
        (["report", "/dev/zero"].as_slice(), "it is not a regular file"),
        (&["report", fifo], "it is not a regular file"),
        (&["report", large], "it is larger than"),
        (&["run", "--scenario", fifo], "it is not a regular file"),
        (&["run", "--scenario", large], "it is larger than"),
        (&["matrix", "--axes", fifo], "it is not a regular file"),
    ] {
        let result = crate::support::propagation_within(scratch.path(), words, "20");
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), reason)?;
    }
    PASSED
}

pub(crate) fn an_unwritable_report_directory_is_2_before_anything_runs() -> TestResult {
    let scratch = scratch();
    let file = scratch.path().join("file");
    fs::write(&file, "")?;
    let below = file.join("below");
    let result = output(scratch.path(), &["run", "--report", below.to_str().expect("UTF-8")]);
    expect_code(&result, 2)?;
    expect_part(&stderr(&result), "--report")?;
    PASSED
}

pub(crate) fn a_comparison_takes_one_node() -> TestResult {
    let scratch = scratch();
    for (words, part) in [
        (&["--backend", "k8s", "--all-nodes"][..], "transports are compared on one node"),
        (&["--backend", "k8s", "--node", "a,b"], "name one node with --node"),
        (&["--node", "a"], "add --backend k8s"),
    ] {
        let result = output(scratch.path(), &[&["compare"], words].concat());
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), part)?;
    }
    PASSED
}
