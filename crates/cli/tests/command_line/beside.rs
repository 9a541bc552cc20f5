//! Commands that start no run.

use std::fs;
use std::path::Path;

use crate::support::{PASSED, TestResult, expect_code, expect_part, output, scratch, stdout};

pub(crate) fn every_help_has_an_example() -> TestResult {
    let scratch = scratch();
    for command in ["run", "doctor", "probe", "report", "clean", "schema", "completions"] {
        let result = output(scratch.path(), &[command, "--help"]);
        expect_code(&result, 0)?;
        expect_part(&stdout(&result), &format!("Example:\n  propagation {command}"))?;
    }
    PASSED
}

pub(crate) fn the_schema_is_json() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["schema"]);
    expect_code(&result, 0)?;
    let schema: serde_json::Value = serde_json::from_slice(&result.stdout)?;
    expect_part(&schema["title"].to_string(), "Report")?;
    PASSED
}

pub(crate) fn completions_for_every_shell() -> TestResult {
    let scratch = scratch();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let result = output(scratch.path(), &["completions", shell]);
        expect_code(&result, 0)?;
        expect_part(&stdout(&result), "propagation")?;
    }
    PASSED
}

pub(crate) fn doctor_reads_this_host() -> TestResult {
    let scratch = scratch();
    let result = output(scratch.path(), &["doctor", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&result.stdout)?;
    // What covers the bridge decides, whatever else this machine has.
    for (propagation, status) in [("shared", 0), ("slave", 5), ("private", 5)] {
        if crate::support::is_root() {
            let script = format!(
                "mkdir \"$SCRATCH/disk\"\nmount -t tmpfs none \"$SCRATCH/disk\"\n\
                 mount --make-{propagation} \"$SCRATCH/disk\"\n\
                 exec \"$PROPAGATION\" doctor --bridge \"$SCRATCH/disk/bridge\""
            );
            expect_code(&crate::support::in_private_namespace(&script), status)?;
        }
    }
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    if json["facts"]["kernel_release"] != kernel.trim() {
        return Err("doctor reports another kernel".into());
    }
    let features = json["facts"]["kernel"].as_array().ok_or("nothing of the kernel's features")?;
    let of = |name: &str| features.iter().find(|fact| fact["feature"] == name);
    // What can be asked without a right is asked.
    for name in ["listmount", "mount_events"] {
        let fact = of(name).ok_or("a feature is missing")?;
        if fact["known"] != "probed" || fact["state"] == "off" {
            return Err(format!("{name}: {fact}").into());
        }
    }
    let timeout = Path::new("/proc/sys/fs/fuse/default_request_timeout");
    let off = fs::read_to_string(timeout).is_ok_and(|value| value.trim() == "0");
    let text = output(scratch.path(), &["doctor"]);
    expect_part(&stdout(&text), "covering_mount")?;
    if off != stdout(&text).contains("sysctl -w fs.fuse.default_request_timeout=") {
        return Err("the line that sets the timeout is there when it is 0, and only then".into());
    }
    if !features.iter().all(|fact| stdout(&text).contains(fact["feature"].as_str().unwrap_or("?")))
    {
        return Err("a feature is not in the text".into());
    }
    PASSED
}

pub(crate) fn probe_tells_states_apart() -> TestResult {
    let scratch = scratch();
    let path = scratch.path().to_str().expect("UTF-8").to_owned();
    expect_code(&output(scratch.path(), &["probe", &path]), 13)?;
    expect_code(&output(scratch.path(), &["probe", "/nonexistent"]), 1)?;
    expect_code(&output(scratch.path(), &["probe", "/proc"]), 0)?;
    expect_code(&output(scratch.path(), &["probe", "/proc", "--sentinel", "nothing-here"]), 12)?;
    expect_code(&output(scratch.path(), &["probe", "/proc", "--timeout", "0s"]), 2)?;
    // As the liveness probe of the verdict calls the agent.
    let agent = |timeout: &str| {
        propagation_agent_embed::command()?.args(["probe", "/proc", "--timeout", timeout]).output()
    };
    expect_code(&agent("4s")?, 0)?;
    expect_code(&agent("500ms")?, 0)?;
    expect_code(&agent("4h")?, 2)?;
    PASSED
}
