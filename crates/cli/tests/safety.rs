//! A scenario of a stranger: what its programs can reach of the machine, and of whoever runs it.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, net, thread};

use support::{
    Machine, PASSED, TestResult, expect_code, expect_part, output, scratch, skip, stderr, stdout,
    stuck, tests,
};

fn main() {
    support::main(tests![
        the_callers_environment_is_in_no_process_of_a_node,
        an_ordinary_users_environment_is_in_no_process_either,
        a_node_has_no_network_but_its_own_loopback,
        a_runtime_is_copied_and_never_the_machines_own,
        a_daemon_stuck_in_the_kernel_leaves_nothing,
        a_consumer_whose_look_is_stuck_sees_the_next_mount,
        looks_at_a_hung_mount_leave_one_process_behind,
        killed_with_a_stuck_daemon_it_leaves_nothing,
        clean_frees_a_kept_node_with_a_stuck_daemon,
        a_killed_run_leaves_no_control_group,
        clean_finds_and_removes_control_groups,
        root_of_a_node_reaches_nothing_of_the_machine,
        a_node_with_a_runtime_has_given_up_the_machines_capabilities,
        a_program_in_a_container_has_its_capabilities_and_no_more,
        calls_that_no_node_needs_are_as_if_there_were_none,
        an_ordinary_user_beside_a_run_of_root_gains_nothing,
        what_a_program_prints_without_end_is_counted_and_left_out,
        whatever_is_sent_takes_little_memory,
        a_daemon_may_print_more_than_a_pipe_holds,
        a_daemon_that_never_stops_printing_is_watched_all_the_same,
        at_the_limit_of_processes_nothing_is_said_of_the_mount,
        without_descriptors_it_says_so
    ]);
}

/// A scenario whose one step runs a shell script on the node, and expects that it succeeds.
fn script(directory: &Path, text: &str) -> PathBuf {
    scenario(directory, &format!("steps:\n{}", step("node", text)))
}

/// A step that runs a shell script somewhere, and expects that it succeeds.
fn step(place: &str, text: &str) -> String {
    let text = text.replace('\n', "\n          ");
    format!(
        "  - in: {place}\n    run:\n      - sh\n      - -euc\n      - |\n          {text}\n    \
         expect: {{run: {{exit: 0}}}}\n"
    )
}

fn scenario(directory: &Path, text: &str) -> PathBuf {
    let file = directory.join("safety.yaml");
    fs::write(&file, format!("name: safety\n{text}")).expect("a file in the scratch directory");
    file
}

fn run(directory: &Path, scenario: &Path) -> Output {
    output(directory, &["run", "--scenario", &scenario.to_string_lossy()])
}

/// Workloads with a daemon of each kind, and a consumer.
const WORKLOADS: &str = "workloads:
  - {name: builtin, role: producer}
  - {name: app, role: consumer}
";

/// Fails where a process shows the variable. The script itself must not hold its value.
const NO_SECRET: &str = "for file in /proc/[0-9]*/environ; do
  ! tr '\\0' '\\n' < $file 2>/dev/null | grep -q 'SECRET_OF_THE_CALLER=' || { echo $file; exit 1; }
done
test -r /proc/1/environ";

fn the_callers_environment_is_in_no_process_of_a_node() -> TestResult {
    let scratch = scratch();
    let steps = format!("  - start: all\n{}{}", step("node", NO_SECRET), step("app", NO_SECRET));
    let file = scenario(scratch.path(), &format!("{WORKLOADS}steps:\n{steps}"));
    let result = support::propagation(scratch.path(), &["run", "--scenario"])
        .arg(&file)
        .env("SECRET_OF_THE_CALLER", "hunter2")
        .output()?;
    expect_code(&result, 0)?;
    PASSED
}

/// Gives the private namespace a /dev/fuse that everybody may open, and runs what follows as a user.
const AS_USER: &str = "mknod -m 666 $SCRATCH/fuse c 10 229; mount --bind $SCRATCH/fuse /dev/fuse; \\
                       exec setpriv --reuid 1000 --regid 1000 --clear-groups";

fn an_ordinary_users_environment_is_in_no_process_either() -> TestResult {
    if !support::is_root() {
        return skip("root", "only root can become another user");
    }
    let scratch = scratch();
    let steps = format!("  - start: all\n{}{}", step("node", NO_SECRET), step("app", NO_SECRET));
    let text = format!("name: safety\n{WORKLOADS}steps:\n{steps}");
    let file = scratch.path().join("safety.yaml");
    fs::write(&file, text)?;
    let copy = format!("cat > $SCRATCH/safety.yaml <<'END'\n{}END\n", fs::read_to_string(&file)?);
    let result = support::in_private_namespace(&format!(
        "{copy}export SECRET_OF_THE_CALLER=hunter2\n{AS_USER} $PROPAGATION run --scenario \
         $SCRATCH/safety.yaml"
    ));
    expect_code(&result, 0)?;
    PASSED
}

/// A server of this machine is not reached, whatever the scenario does.
fn a_node_has_no_network_but_its_own_loopback() -> TestResult {
    let scratch = scratch();
    let listener = net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || listener.incoming().count());
    let reach = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let here = std::process::Command::new("bash").args(["-c", &reach]).status()?;
    if !here.success() {
        return Err("this machine does not reach its own server".into());
    }
    let text = format!(
        "! bash -c '{reach}' 2>/dev/null\n\
         test \"$(ls /proc/self/net/dev_snmp6 2>/dev/null | grep -v '^lo$')\" = ''\n\
         test \"$(grep -c : /proc/self/net/dev)\" = 1\n\
         grep -q 'lo:' /proc/self/net/dev"
    );
    expect_code(&run(scratch.path(), &script(scratch.path(), &text)), 0)?;
    // Its own is up.
    let own = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/9' 2>&1 | grep -q refused";
    expect_code(&run(scratch.path(), &script(scratch.path(), own)), 0)?;
    PASSED
}

/// The machine's own program is not on the node, as no file that could be written to.
fn a_runtime_is_copied_and_never_the_machines_own() -> TestResult {
    if !support::is_root() {
        return skip("root", "containers by a runtime need root");
    }
    let Some(runc) =
        ["/usr/sbin/runc", "/usr/bin/runc"].into_iter().find(|p| Path::new(p).exists())
    else {
        return skip("runc", "it is not installed");
    };
    let scratch = scratch();
    let engine = scratch.path().join("runc");
    fs::copy(runc, &engine)?;
    let before = fs::read(&engine)?;
    let spoil = step(
        "node",
        "file=/run/propagation/image/runtime/runc
test -x $file
! grep -q ' /run/propagation/image/runtime/' /proc/self/mountinfo
echo spoiled >> $file",
    );
    let node = format!("node: {{runtime: {{engine: {}}}}}\n", engine.display());
    let file = scenario(scratch.path(), &format!("{node}steps:\n{spoil}"));
    expect_code(&run(scratch.path(), &file), 0)?;
    if fs::read(&engine)? != before {
        return Err("the machine's runtime has been written to".into());
    }
    PASSED
}

fn needs_root() -> Option<TestResult> {
    (!support::is_root()).then(|| skip("root", "only root has what is kept from a node"))
}

macro_rules! needs_root {
    () => {
        if let Some(skipped) = needs_root() {
            return skipped;
        }
    };
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

/// The daemon as a `fuse` of a scenario, its lines indented.
fn stuck_fuse(indent: &str) -> String {
    stuck::fuse_of(stuck::DAEMON, indent)
}

fn a_consumer_whose_look_is_stuck_sees_the_next_mount() -> TestResult {
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

/// Consumers of the stuck daemon, of which each has one process that hangs, however long it goes on.
fn stuck_scenario(directory: &Path) -> PathBuf {
    let one_each = step(
        "node",
        "stuck=0
for process in /proc/[0-9]*; do
  if [ \"$(cat $process/comm 2>/dev/null)\" = app ] && grep -q '^State:.D' $process/status; then
    stuck=$((stuck + 1))
  fi
done
test $stuck = 1",
    );
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
fn looks_at_a_hung_mount_leave_one_process_behind() -> TestResult {
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
    let count = step(
        "node",
        "stuck=0
for process in /proc/[0-9]*; do
  if [ \"$(cat $process/comm 2>/dev/null)\" = propagation ] && grep -q '^State:.D' $process/status; then
    stuck=$((stuck + 1))
  fi
done
echo $stuck
test $stuck = 1",
    );
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

fn needs_python() -> Option<TestResult> {
    let there = Path::new("/usr/bin/python3").exists();
    (!there).then(|| skip("python3", "the daemon is written in it"))
}

fn a_daemon_stuck_in_the_kernel_leaves_nothing() -> TestResult {
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

fn unchanged(before: &Machine) -> TestResult {
    let after = Machine::now();
    if after == *before {
        PASSED
    } else {
        Err(format!("the machine has changed\nbefore: {before:#?}\nafter: {after:#?}").into())
    }
}

/// The program in the background, with the stuck daemon's mount made.
fn with_stuck_daemon(directory: &Path, options: &[&str]) -> Result<Child, libtest_mimic::Failed> {
    let file = stuck_scenario(directory);
    let mut child = support::propagation(directory, &["run", "--scenario"])
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

fn killed_with_a_stuck_daemon_it_leaves_nothing() -> TestResult {
    needs_root!();
    if let Some(skipped) = needs_python() {
        return skipped;
    }
    let before = Machine::now();
    let scratch = scratch();
    let mut child = with_stuck_daemon(scratch.path(), &[])?;
    child.kill()?;
    child.wait()?;
    wait_until("the node is gone", || support::agents().is_empty())?;
    unchanged(&before)
}

fn clean_frees_a_kept_node_with_a_stuck_daemon() -> TestResult {
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

fn a_killed_run_leaves_no_control_group() -> TestResult {
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
        let mut child = support::propagation(scratch.path(), &["run", "--scenario"])
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
        wait_until("the node is gone", || support::agents().is_empty())?;
        if !left().is_empty() {
            return Err(format!("left: {:?}", left()).into());
        }
    }
    PASSED
}

fn clean_finds_and_removes_control_groups() -> TestResult {
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

/// What root of a node must not be able to do: each line fails.
const BEYOND_THE_NODE: &str = "cp /proc/sys/kernel/core_pattern /tmp/pattern
cp /tmp/pattern /proc/sys/kernel/core_pattern
mount -o remount,rw,bind /proc/sys
umount /proc/sys
mount -t proc proc /mnt
mount -t sysfs sysfs /mnt
mount -t devtmpfs devices /mnt
mount -t debugfs debug /mnt
mount -t cgroup -o memory memory /mnt
echo h > /proc/sysrq-trigger
mount -o remount,rw,bind /sys
touch /usr/here
mount -o remount,rw,bind /usr
mkdir /sys/fs/cgroup/memory/here
mkdir /sys/fs/cgroup/here
mknod /tmp/disk b 7 0
mknod /dev/disk b 7 0
chmod 600 /dev/null && test \"$(stat -c %d /dev/null)\" = host
date -s @0
hwclock --hctosys
chroot /proc/1/root/../../.. ls /home
nsenter --target 1 --user true && false
swapon /tmp/pattern
insmod /tmp/pattern";

fn root_of_a_node_reaches_nothing_of_the_machine() -> TestResult {
    needs_root!();
    let scratch = scratch();
    let machine = fs::read("/proc/sys/kernel/core_pattern")?;
    let attempts = BEYOND_THE_NODE.lines().skip(1).map(|line| {
        format!(
            "if sh -c {} >/dev/null 2>&1; then echo {}; exit 1; fi\n",
            quoted(line),
            quoted(line)
        )
    });
    let first = BEYOND_THE_NODE.lines().next().unwrap_or_default();
    let text = format!("{first}\n{}", attempts.collect::<String>());
    let result = run(scratch.path(), &script(scratch.path(), text.trim_end()));
    expect_code(&result, 0)?;
    if fs::read("/proc/sys/kernel/core_pattern")? == machine {
        PASSED
    } else {
        Err("changed".into())
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn a_node_with_a_runtime_has_given_up_the_machines_capabilities() -> TestResult {
    needs_root!();
    if !["/usr/sbin/runc", "/usr/bin/runc"].iter().any(|program| Path::new(program).exists()) {
        return skip("runc", "it is not installed");
    }
    let scratch = scratch();
    // SYS_MODULE, SYS_RAWIO, SYS_BOOT, SYS_TIME, PERFMON and BPF, by their numbers.
    let text = "read=$(sed -n 's/^CapBnd:.//p' /proc/self/status)
for number in 16 17 22 25 38 39; do
  test $(( 0x$read >> number & 1 )) = 0
done
grep -q '^NoNewPrivs:.1' /proc/self/status
! sh -c 'echo h > /proc/sysrq-trigger' 2>/dev/null
! touch /proc/sys/kernel/core_pattern 2>/dev/null || test ! -w /proc/sys/kernel/core_pattern
! mkdir /sys/fs/cgroup/memory/here 2>/dev/null
grep -q '^Seccomp:.2' /proc/self/status";
    let steps = format!("node: {{runtime: {{engine: runc}}}}\nsteps:\n{}", step("node", text));
    expect_code(&run(scratch.path(), &scenario(scratch.path(), &steps)), 0)?;
    PASSED
}

fn a_program_in_a_container_has_its_capabilities_and_no_more() -> TestResult {
    let scratch = scratch();
    let default = "! grep -q '^Cap[EPB][a-z]*:.*[1-9a-f][0-9a-f]\\{8\\}$' /proc/self/status
read=$(sed -n 's/^CapEff:.//p' /proc/self/status)
test $(( 0x$read >> 21 & 1 )) = 0
test $(( 0x$read >> 27 & 1 )) = 0
test $(( 0x$read >> 5 & 1 )) = 1
grep -q '^NoNewPrivs:.1' /proc/self/status";
    let privileged = "read=$(sed -n 's/^CapEff:.//p' /proc/self/status)
test $(( 0x$read >> 21 & 1 )) = 1";
    let named = "read=$(sed -n 's/^CapEff:.//p' /proc/self/status)
test $(( 0x$read >> 12 & 1 )) = 1
test $(( 0x$read >> 21 & 1 )) = 0";
    let workloads = "workloads:
  - {name: app, role: consumer, order: before_mount}
  - {name: rooted, role: consumer, order: before_mount, privileged: true}
  - {name: named, role: consumer, order: before_mount, capabilities: [NET_ADMIN]}
";
    let (app, rooted) = (step("app", default), step("rooted", privileged));
    let text = format!("{workloads}steps:\n  - start: all\n{app}{rooted}{}", step("named", named));
    expect_code(&run(scratch.path(), &scenario(scratch.path(), &text)), 0)?;
    PASSED
}

/// Keys, kernel programs, events of the processor, faults of memory, the clock, modules, by their numbers: each is as on a kernel that does not have it.
fn calls_that_no_node_needs_are_as_if_there_were_none() -> TestResult {
    if let Some(skipped) = needs_python() {
        return skipped;
    }
    let numbers: &[libc::c_long] = &[
        libc::SYS_add_key,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_clock_settime,
        libc::SYS_finit_module,
        libc::SYS_kexec_load,
    ];
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let text = format!(
        "grep -q '^Seccomp:.2' /proc/self/status
python3 -c 'import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def answer(number):
    return libc.syscall(number, 0, 0, 0, 0, 0), ctypes.get_errno()
answers = [answer(number) for number in ({},)]
assert all(one == (-1, 38) for one in answers), answers
assert answer({})[0] > 0'",
        numbers.join(", "),
        libc::SYS_getpid
    );
    let workloads =
        "workloads: [{name: app, role: consumer, order: before_mount, privileged: true}]\n";
    let (node, app) = (step("node", &text), step("app", &text));
    let text = format!("{workloads}steps:\n  - start: all\n{node}{app}");
    expect_code(&run(scratch().path(), &scenario(scratch().path(), &text)), 0)?;
    PASSED
}

/// What an ordinary user of this machine tries on a node of root, its report and its log: each fails.
fn an_ordinary_user_beside_a_run_of_root_gains_nothing() -> TestResult {
    needs_root!();
    const ATTACKS: &str = "
fails() { if timeout 20 \"$@\" > /dev/null 2>&1; then echo \"possible: $*\"; exit 1; fi; }
[ \"$(id -u)\" = 65534 ]
for pid in $PIDS; do
  [ -d /proc/$pid ]
  for file in environ mem maps auxv syscall stack; do fails cat /proc/$pid/$file; done
  for link in root cwd exe ns/mnt ns/net fd/0; do fails readlink /proc/$pid/$link; done
  fails ls /proc/$pid/fd /proc/$pid/root/
  fails nsenter --target $pid --mount true
  fails nsenter --target $pid --user --mount true
  fails bash -c \"kill -KILL $pid\"
  fails bash -c \"echo 1000 > /proc/$pid/oom_score_adj\"
done
for connection in /sys/fs/fuse/connections/*/abort; do fails bash -c \"echo 1 > $connection\"; done
fails ls report propagation
fails cat report/report.json report/run.log propagation/fuse-test-$RUN.log
fails bash -c 'echo x >> report/report.json'
fails touch report/here propagation/here
fails ./tool clean --run-id $RUN
";
    let scratch = scratch();
    let tool = scratch.path().join("tool");
    fs::copy(support::PROPAGATION, &tool)?;
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
    let report = scratch.path().join("report");
    let kept = output(scratch.path(), &["run", "--keep", "--report", &report.to_string_lossy()]);
    let saved: serde_json::Value = serde_json::from_slice(&fs::read(report.join("report.json"))?)?;
    let run = saved["run_id"].as_str().ok_or("no run id")?;
    let is_of_run = |process: &fs::DirEntry| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        command.starts_with("propagation-agent\0node\0") && command.contains(run)
    };
    let processes = fs::read_dir("/proc")?.filter_map(Result::ok).filter(is_of_run);
    let pids: Vec<String> =
        processes.map(|process| process.file_name().to_string_lossy().into_owned()).collect();
    let attacked = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "bash", "-euc", ATTACKS])
        .env("PIDS", pids.join(" "))
        .env("RUN", run)
        .current_dir(scratch.path())
        .output();
    let there = pids.iter().all(|pid| Path::new("/proc").join(pid).exists());
    let cleaned = output(scratch.path(), &["clean", "--run-id", run]);
    expect_code(&kept, 0)?;
    expect_code(&attacked?, 0)?;
    expect_code(&cleaned, 0)?;
    if pids.len() < 3 || !there {
        return Err(format!("{} processes were attacked, and not all are there", pids.len()).into());
    }
    PASSED
}

/// A daemon that prints without pause, programs that do, and a marker that has no end, in 256 MiB for each process.
fn whatever_is_sent_takes_little_memory() -> TestResult {
    if let Some(skipped) = needs_python() {
        return skipped;
    }
    const MEASURE: &str = "import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let scratch = scratch();
    let text = "deadlines: {marker_ms: 3000}
fuse: {type: fuse.none, command: [sh, -c, \"yes $(head -c 100000 /dev/zero | tr '\\\\0' x)\"]}
workloads: [{name: daemon, role: producer}]
steps:
  - run: [sh, -c, \"head -c 1000000000 /dev/zero\"]
  - run: [sh, -c, \"head -c 1000000000 /dev/zero | tr '\\\\0' x >&2\"]
  - start: daemon
";
    let file = scenario(scratch.path(), text);
    let measured = std::process::Command::new("python3")
        .args(["-c", MEASURE, support::PROPAGATION, "run", "--scenario"])
        .arg(&file)
        .env("XDG_STATE_HOME", scratch.path())
        .output()?;
    let kibibytes: u64 = stdout(&measured).trim().parse().map_err(|_| stderr(&measured))?;
    if !(1_000..=256 * 1024).contains(&kibibytes) {
        return Err(format!("a process had {kibibytes} KiB").into());
    }
    PASSED
}

fn what_a_program_prints_without_end_is_counted_and_left_out() -> TestResult {
    let scratch = scratch();
    let text = "steps:
  - run: [sh, -c, \"head -c 300000000 /dev/zero | tr '\\\\0' x\"]
    expect: {run: {exit: 0, text: \"bytes of its output are kept; 299934464 more are left out\"}}
";
    expect_code(&run(scratch.path(), &scenario(scratch.path(), text)), 0)?;
    PASSED
}

/// A scenario whose daemon is a shell script that never mounts.
fn with_daemon(directory: &Path, text: &str) -> PathBuf {
    scenario(
        directory,
        &format!(
            "deadlines: {{marker_ms: 2000}}\nfuse:\n  type: fuse.none\n  command:\n    - sh\n    - -c\n    \
             - {}\nworkloads: [{{name: daemon, role: producer}}]\nsteps: [{{start: daemon}}]\n",
            quoted(text).replace("'\\''", "''")
        ),
    )
}

fn a_daemon_may_print_more_than_a_pipe_holds() -> TestResult {
    let scratch = scratch();
    let text =
        "head -c 500000 /dev/zero | tr \"\\\\0\" x | fold -w 100 && echo all-was-printed; exit 3";
    let result = run(scratch.path(), &with_daemon(scratch.path(), text));
    expect_part(&stdout(&result), "all-was-printed")?;
    PASSED
}

fn a_daemon_that_never_stops_printing_is_watched_all_the_same() -> TestResult {
    if !Path::new("/usr/bin/bindfs").exists() {
        return skip("bindfs", "it is not installed");
    }
    let scratch = scratch();
    let text = "fuse:
  type: fuse
  command: [sh, -c, \"while :; do echo x; done & exec bindfs -f $0 $1\", \"{source}\", \"{mountpoint}\"]
workloads: [{name: daemon, role: producer}]
steps:
  - {start: daemon, expect: {node: ok}}
";
    expect_code(&run(scratch.path(), &scenario(scratch.path(), text)), 0)?;
    PASSED
}

fn at_the_limit_of_processes_nothing_is_said_of_the_mount() -> TestResult {
    needs_root!();
    // A user of its own: the limit counts all processes of a user.
    let limits = "mknod -m 666 $SCRATCH/fuse c 10 229; mount --bind $SCRATCH/fuse /dev/fuse
for limit in 4 6 8 9 10 11 12 13 14 16 20; do
  code=0
  timeout 120 setpriv --reuid 47311 --regid 47311 --clear-groups \\
    prlimit --nproc=$limit $PROPAGATION run > $SCRATCH/out 2>&1 || code=$?
  if [ $code = 4 ] || [ $code -gt 100 ] || grep -q 'panicked\\|fundamental' $SCRATCH/out; then
    echo \"limit $limit: code $code\"; cat $SCRATCH/out; exit 1
  fi
done";
    expect_code(&support::in_private_namespace(limits), 0)?;
    PASSED
}

fn without_descriptors_it_says_so() -> TestResult {
    let scratch = scratch();
    for limit in 3..16 {
        let result = std::process::Command::new("prlimit")
            .arg(format!("--nofile={limit}"))
            .args([support::PROPAGATION, "run"])
            .env("XDG_STATE_HOME", scratch.path())
            .output()?;
        let said = format!("{}{}", stdout(&result), stderr(&result));
        let code = result.status.code();
        // Below what it takes to load a program at all, the loader speaks.
        let own = !said.contains("error while loading shared libraries");
        if own && (said.contains("panicked") || matches!(code, None | Some(4 | 101))) {
            return Err(format!("{limit} descriptors: {:?}\n{said}", result.status).into());
        }
        if own && code != Some(0) {
            expect_part(&said, "ulimit -n")?;
        }
    }
    PASSED
}
