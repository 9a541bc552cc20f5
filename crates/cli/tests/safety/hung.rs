//! Daemons that are stuck in the kernel, and looks that are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::files::{run, scenario, step, unchanged, wait_until};
use crate::support::{
    Machine, TestResult, expect_code, expect_part, output, scratch, skip, stdout, stuck,
};

/// The daemon as a `fuse` of a scenario, its lines indented.
fn stuck_fuse(indent: &str) -> String {
    stuck::fuse_of(stuck::DAEMON, indent)
}

pub(crate) fn a_consumer_whose_look_is_stuck_sees_the_next_mount() -> TestResult {
    needs_root!();
    if let Some(skipped) = needs_python() {
        return skipped;
    }
    let before = Machine::now();
    let scratch = scratch();
    let text = format!(
        "deadlines: {{probe_ms: 200, marker_ms: 1500}}\nworkloads:\n  \
         - name: stuck\n    role: producer\n    fuse:\n      {}\n  \
         - {{name: fresh, role: producer}}\n  \
         - {{name: app, role: consumer, order: before_mount}}\nsteps:\n  - start: app\n  \
         - {{start: stuck, expect: {{app: hang}}}}\n  - {{fault: lazy_unmount, on: stuck}}\n  \
         - {{start: fresh, expect: {{app: ok}}}}\n  - pause_ms: 2000\n",
        stuck_fuse("    ")
    );
    let file = scenario(scratch.path(), &text);
    let result =
        output(scratch.path(), &["run", "--format", "json", "--scenario", &file.to_string_lossy()]);
    let report: serde_json::Value = serde_json::from_slice(&result.stdout)?;
    let saw = |seen: &&serde_json::Value| {
        seen["actor"]["name"] == "app" && seen["via"] == "watch" && seen["outcome"]["class"] == "ok"
    };
    let timeline = report["timeline"].as_array().ok_or("the report has no timeline")?;
    if !timeline.iter().any(|seen| saw(&seen)) {
        return Err(format!("its own program never saw the fresh mount:\n{timeline:#?}").into());
    }
    unchanged(&before)
}

/// A step in which exactly one process of a name is stuck in the kernel.
fn one_is_stuck(name: &str) -> String {
    step(
        "node",
        &format!(
            "stuck=0
for process in /proc/[0-9]*; do
  if [ \"$(cat $process/comm 2>/dev/null)\" = {name} ] && grep -q '^State:.D' $process/status; then
    stuck=$((stuck + 1))
  fi
done
echo $stuck
test $stuck = 1"
        ),
    )
}

/// Consumers of the stuck daemon, of which each has one process that hangs, however long it goes on.
fn stuck_scenario(directory: &Path) -> PathBuf {
    let one_each = one_is_stuck("app");
    scenario(
        directory,
        &format!(
            "deadlines: {{probe_ms: 200, marker_ms: 1500}}\nfuse:\n  {}\nworkloads:\n  \
             - {{name: stuck, role: producer}}\n  \
             - {{name: app, role: consumer, order: before_mount}}\nsteps:\n  - start: app\n  \
             - {{start: stuck, expect: {{app: hang}}}}\n  - pause_ms: 3500\n{one_each}  \
             - pause_ms: 5000\n",
            stuck_fuse("")
        ),
    )
}

/// Of several consumers, each of which is looked from three times, one look stays in the kernel.
pub(crate) fn looks_at_a_hung_mount_leave_one_process_behind() -> TestResult {
    needs_root!();
    if let Some(skipped) = needs_python() {
        return skipped;
    }
    let before = Machine::now();
    let scratch = scratch();
    // It reads every lookup, and answers none.
    let (notify, refuse) = (
        "        write(0, 3, struct.pack(\"<QII\", 1, 1, 0) + b\"x\\0\")\n",
        "        write(unique, -2)\n",
    );
    let silent = stuck::DAEMON.replace(&format!("{notify}{refuse}"), "        pass\n");
    if silent == stuck::DAEMON {
        return Err("the daemon answers lookups".into());
    }
    let count = one_is_stuck("propagation");
    let text = format!(
        "deadlines: {{probe_ms: 200, marker_ms: 1500}}\nlooks: asked\nfuse:\n  {}\nworkloads:\n  \
         - {{name: silent, role: producer}}\n  \
         - {{name: app, role: consumer, order: before_mount, replicas: 4}}\nsteps:\n  - start: app\n  \
         - {{start: silent, expect: {{app: hang}}}}\n  - {{pause_ms: 1, expect: {{app: hang}}}}\n  \
         - {{pause_ms: 1, expect: {{app: hang}}}}\n{count}",
        stuck::fuse_of(&silent, "")
    );
    // The daemon is said not to answer; everything else is as expected.
    let text = stdout(&run(scratch.path(), &scenario(scratch.path(), &text)));
    expect_part(&text, "4 of 5 expectations are met")?;
    expect_part(&text, "Phase 5 5-run: passed")?;
    unchanged(&before)
}

pub(crate) fn needs_python() -> Option<TestResult> {
    let there = Path::new("/usr/bin/python3").exists();
    (!there).then(|| skip("python3", "the daemon is written in it"))
}

pub(crate) fn a_daemon_stuck_in_the_kernel_leaves_nothing() -> TestResult {
    needs_root!();
    if let Some(skipped) = needs_python() {
        return skipped;
    }
    let before = Machine::now();
    let scratch = scratch();
    let file = stuck_scenario(scratch.path());
    let result = run(scratch.path(), &file);
    let text = stdout(&result);
    expect_part(&text, "cleaned up in")?;
    if text.contains("could not clean up") {
        return Err(text.into());
    }
    expect_part(&text, "does not answer")?;
    if text.contains("✗ expect:run") {
        return Err(format!("a consumer has several processes that hang:\n{text}").into());
    }
    unchanged(&before)
}

/// The program in the background, with the stuck daemon's mount made.
fn with_stuck_daemon(directory: &Path, options: &[&str]) -> Result<Child, libtest_mimic::Failed> {
    let file = stuck_scenario(directory);
    let mut child = crate::support::propagation(directory, &["run", "--scenario"])
        .arg(&file)
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let hangs = wait_until("a look hangs", || hanging() > 1);
    if hangs.is_err() {
        child.kill()?;
        child.wait()?;
    }
    hangs?;
    Ok(child)
}

/// How many processes of this test's runs are in the kernel for good, or as it seems.
fn hanging() -> usize {
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let of_agents = processes.filter(|process| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        command.starts_with(b"propagation-agent\0node\0")
    });
    of_agents
        .filter(|process| {
            let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
            status.contains("\nState:\tD") && status.starts_with("Name:\tapp\n")
                || status.contains("\nState:\tD") && status.starts_with("Name:\tstuck\n")
        })
        .count()
}

pub(crate) fn killed_with_a_stuck_daemon_it_leaves_nothing() -> TestResult {
    needs_root!();
    if let Some(skipped) = needs_python() {
        return skipped;
    }
    let before = Machine::now();
    let scratch = scratch();
    let mut child = with_stuck_daemon(scratch.path(), &[])?;
    child.kill()?;
    child.wait()?;
    wait_until("the node is gone", || crate::support::agents().is_empty())?;
    unchanged(&before)
}

pub(crate) fn clean_frees_a_kept_node_with_a_stuck_daemon() -> TestResult {
    needs_root!();
    if let Some(skipped) = needs_python() {
        return skipped;
    }
    let before = Machine::now();
    let scratch = scratch();
    let child = with_stuck_daemon(scratch.path(), &["--keep"])?;
    let result = child.wait_with_output()?;
    let text = stdout(&result);
    let run_id = text
        .split("propagation clean --run-id ")
        .nth(1)
        .and_then(|rest| rest.split(|c: char| c.is_whitespace() || c == '`').next())
        .ok_or_else(|| format!("nothing was kept: {text}"))?;
    let cleaned = output(scratch.path(), &["clean", "--run-id", run_id]);
    expect_code(&cleaned, 0)?;
    expect_part(&stdout(&cleaned), "aborted 1 FUSE connection; ended ")?;
    unchanged(&before)
}
