//! Control groups that a killed run has made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::files::{scenario, wait_until};
use crate::support::{PASSED, TestResult, expect_code, expect_part, output, scratch, skip, stdout};

/// Where control groups of memory are made.
fn group_parent() -> Option<PathBuf> {
    let version1 = PathBuf::from("/sys/fs/cgroup/memory");
    let version2 = PathBuf::from("/sys/fs/cgroup");
    if version1.join("memory.limit_in_bytes").exists() {
        Some(version1)
    } else {
        version2.join("cgroup.procs").exists().then_some(version2)
    }
}

/// Control groups of runs that are over.
fn groups(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok);
    let named =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("propagation-"));
    named
        .map(|entry| entry.path())
        .filter(|path| fs::read(path.join("cgroup.procs")).is_ok_and(|it| it.is_empty()))
        .collect()
}

pub(crate) fn a_killed_run_leaves_no_control_group() -> TestResult {
    needs_root!();
    let Some(parent) = group_parent() else {
        return skip("cgroup", "there are no control groups of memory");
    };
    let scratch = scratch();
    let file = scenario(
        scratch.path(),
        "workloads: [{name: daemon, role: producer}]\nsteps: [{start: daemon}, {fault: oom}]\n",
    );
    let before = groups(&parent);
    let left =
        || groups(&parent).into_iter().filter(|one| !before.contains(one)).collect::<Vec<_>>();
    // At the moment when there is a group.
    for _ in 0..20 {
        let mut child = crate::support::propagation(scratch.path(), &["run", "--scenario"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let started = Instant::now();
        while fs::read_dir(&parent)?.filter_map(Result::ok).all(|entry| {
            before.contains(&entry.path())
                || !entry.file_name().to_string_lossy().starts_with("propagation-")
        }) && child.try_wait()?.is_none()
            && started.elapsed() < Duration::from_secs(20)
        {}
        child.kill()?;
        child.wait()?;
        wait_until("the node is gone", || crate::support::agents().is_empty())?;
        if !left().is_empty() {
            return Err(format!("left: {:?}", left()).into());
        }
    }
    PASSED
}

pub(crate) fn clean_finds_and_removes_control_groups() -> TestResult {
    needs_root!();
    let Some(parent) = group_parent() else {
        return skip("cgroup", "there are no control groups of memory");
    };
    let scratch = scratch();
    let run_id = "20200101t000000-00c0ffee";
    let group = parent.join(format!("propagation-{run_id}-0"));
    if fs::create_dir(&group).is_err() {
        return skip("cgroup", "control groups cannot be written here");
    }
    let listed = stdout(&output(scratch.path(), &["clean", "--list"]));
    let cleaned = output(scratch.path(), &["clean", "--run-id", run_id]);
    let gone = !group.exists();
    let _ = fs::remove_dir(&group);
    expect_part(&listed, &format!("run {run_id}: 0 processes, 1 control group"))?;
    expect_code(&cleaned, 0)?;
    expect_part(&stdout(&cleaned), "removed 1 control group")?;
    if gone { PASSED } else { Err("the control group is still there".into()) }
}
