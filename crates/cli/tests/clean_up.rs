//! Nothing stays behind: after success, signals, a kill at any moment.

#[path = "clean_up/kills.rs"]
mod kills;
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use propagation_core::comparison::{Comparison, Metric, Transport};
use support::{
    Machine, PASSED, TestResult, expect_code, expect_part, output, scratch, skip, stderr, stdout,
    tests,
};

fn main() {
    let mut tests = tests![
        a_run_changes_nothing_on_the_machine,
        a_failed_run_changes_nothing_either,
        sigint_sigterm_and_sighup_clean_up_and_give_130,
        an_interrupted_comparison_shows_what_it_has_and_gives_130,
        under_nohup_a_hangup_does_not_matter,
        keep_leaves_the_node_and_clean_removes_it,
        clean_spares_runs_that_go_on_here_and_in_a_pid_namespace,
        another_users_process_that_calls_itself_the_runs_stays_alone,
        clean_refuses_what_is_not_a_run_id
    ];
    tests.extend(kills::tests());
    support::main(tests);
}

fn unchanged(before: &Machine) -> TestResult {
    let after = Machine::now();
    if after == *before {
        PASSED
    } else {
        Err(format!("the machine has changed\nbefore: {before:#?}\nafter: {after:#?}").into())
    }
}

fn a_run_changes_nothing_on_the_machine() -> TestResult {
    let before = Machine::now();
    let scratch = scratch();
    expect_code(&output(scratch.path(), &["run"]), 0)?;
    unchanged(&before)
}

fn a_failed_run_changes_nothing_either() -> TestResult {
    let before = Machine::now();
    let scratch = scratch();
    for (arguments, code) in [(["run", "--covering", "slave"], 5), (["run", "--fault", "stop"], 3)]
    {
        expect_code(&output(scratch.path(), &arguments), code)?;
        unchanged(&before)?;
    }
    PASSED
}

/// A run that would go on for half a minute: its consumers never see the mount. It does not inherit that
/// SIGHUP is ignored, as where the tests run under nohup.
fn long_run(scratch: &std::path::Path) -> Child {
    std::process::Command::new("env")
        .args(["--default-signal=HUP", support::PROPAGATION, "run", "--propagation", "None"])
        .env("XDG_STATE_HOME", scratch)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn sigint_sigterm_and_sighup_clean_up_and_give_130() -> TestResult {
    let before = Machine::now();
    let scratch = scratch();
    for signal in ["INT", "TERM", "HUP"] {
        let child = long_run(scratch.path());
        let pid = child.id().to_string();
        let stands = wait_until("the node stands", || !support::agents().is_empty());
        let sent = std::process::Command::new("kill").args(["-s", signal, &pid]).status();
        let result = child.wait_with_output()?;
        stands?;
        sent?;
        expect_code(&result, 130)?;
        unchanged(&before)?;
    }
    PASSED
}

fn an_interrupted_comparison_shows_what_it_has_and_gives_130() -> TestResult {
    let before = Machine::now();
    let scratch = scratch();
    let mut child = std::process::Command::new(support::PROPAGATION)
        .args(["compare", "--quick", "--transports", "fuse", "--workloads", "open"])
        .args(["--rounds", "1000", "--format", "json"])
        .env("XDG_STATE_HOME", scratch.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = child.id().to_string();
    let told = BufReader::new(child.stderr.take().ok_or("no standard error")?);
    let begun = told.lines().map_while(Result::ok).any(|line| line.starts_with("round 3 "));
    let sent = std::process::Command::new("kill").args(["-s", "TERM", &pid]).status();
    let result = child.wait_with_output()?;
    sent?;
    expect_code(&result, 130)?;
    let found: Comparison = serde_json::from_slice(&result.stdout)?;
    let open = found.transport(Transport::Fuse).and_then(|fuse| fuse.measure(Metric::Open));
    if !begun || !found.cut_short || open.and_then(|open| open.median).is_none() {
        return Err(format!("begun: {begun}, {found:#?}").into());
    }
    unchanged(&before)
}

fn under_nohup_a_hangup_does_not_matter() -> TestResult {
    let before = Machine::now();
    let scratch = scratch();
    let child = std::process::Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$0\" run --propagation None"])
        .arg(support::PROPAGATION)
        .env("XDG_STATE_HOME", scratch.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = child.id().to_string();
    let stands = wait_until("the node stands", || !support::agents().is_empty());
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let sent = std::process::Command::new("kill").args(["-s", "TERM", &pid]).status();
    let result = child.wait_with_output()?;
    stands?;
    sent?;
    let status = status?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.ok_or("no SigIgn")?.trim(), 16)?;
    if ignored & 1 == 0 {
        return Err("SIGHUP is not ignored any more".into());
    }
    expect_code(&result, 130)?;
    unchanged(&before)
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        if Instant::now() > end {
            return Err(format!("not in 20 s: {what}; agents: {:?}", support::agents()));
        }
        thread::yield_now();
    }
    Ok(())
}

fn keep_leaves_the_node_and_clean_removes_it() -> TestResult {
    let before = Machine::now();
    let scratch = scratch();
    let result = output(scratch.path(), &["run", "--keep"]);
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "kept: ")?;
    let listed = stdout(&output(scratch.path(), &["clean", "--list"]));
    let run_id = listed
        .strip_prefix("run ")
        .and_then(|rest| rest.split(':').next())
        .ok_or_else(|| format!("nothing was kept: {listed}"))?;
    let cleaned = output(scratch.path(), &["clean", "--run-id", run_id]);
    expect_code(&cleaned, 0)?;
    expect_part(&stdout(&cleaned), run_id)?;
    expect_part(&stdout(&output(scratch.path(), &["clean"])), "nothing is left")?;
    unchanged(&before)
}

fn clean_spares_runs_that_go_on_here_and_in_a_pid_namespace() -> TestResult {
    let before = Machine::now();
    let scratch = scratch();
    let user: &[&str] = if support::is_root() { &[] } else { &["--user", "--map-root-user"] };
    let namespace = ["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"];
    let nested = [&["unshare"], user, &namespace, &[support::PROPAGATION]].concat();
    for words in [&[support::PROPAGATION][..], &nested] {
        let mut child = std::process::Command::new(words[0])
            .args(&words[1..])
            .args(["run", "--propagation", "None"])
            .env("XDG_STATE_HOME", scratch.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let list = || stdout(&output(scratch.path(), &["clean", "--list"]));
        let stands = wait_until("the node stands", || list().contains(", goes on"));
        let cleaned = stdout(&output(scratch.path(), &["clean"]));
        let spared = list();
        child.kill()?;
        child.wait()?;
        stands?;
        expect_part(&cleaned, "nothing is left")?;
        expect_part(&spared, ", goes on")?;
        expect_code(&output(scratch.path(), &["clean"]), 0)?;
        wait_until("the node is gone", || list().contains("nothing is left"))?;
        unchanged(&before)?;
    }
    PASSED
}

/// It comes first, and cannot be killed, which is said; the run's own processes end all the same.
fn another_users_process_that_calls_itself_the_runs_stays_alone() -> TestResult {
    if !support::is_root() {
        return skip("root", "only root can be two other users");
    }
    let script =
        "mknod -m 666 $SCRATCH/fuse c 10 229; mount --bind $SCRATCH/fuse /dev/fuse; cd $SCRATCH
user='setpriv --reuid 1000 --regid 1000 --clear-groups'
echo 'read -r line' > node; mkfifo hold; exec 8<>hold
setpriv --reuid 4242 --regid 4242 --clear-groups bash -c \
    'read -r id; exec -a propagation-agent bash node --run-id $id --parent 1:1' <&8 &
$user $PROPAGATION run --keep > out
id=$(grep -o '[0-9]*t[0-9]*-[0-9a-f]*' out | head -1)
echo $id >&8
until tr '\\0' ' ' < /proc/$!/cmdline | grep -q '^propagation-agent node'; do :; done
code=0; $user $PROPAGATION clean --run-id $id || code=$?
echo \"left: $(pgrep --count --uid 1000 --full \"run-id $id\")\"
kill $!; wait $! || true
if $user $PROPAGATION clean --list | grep $id; then exit 9; fi; exit $code";
    let result = support::in_private_namespace(script);
    expect_code(&result, 1)?;
    expect_part(&stderr(&result), "Operation not permitted")?;
    expect_part(&stdout(&result), "left: 0")?;
    PASSED
}

fn clean_refuses_what_is_not_a_run_id() -> TestResult {
    let scratch = scratch();
    expect_code(&output(scratch.path(), &["clean", "--run-id", "../etc"]), 2)?;
    expect_code(&output(scratch.path(), &["clean", "--run-id", "20200101t000000-00000000"]), 2)?;
    PASSED
}
