//! What programs of a node reach of the machine and of its users.

use std::path::Path;
use std::{fs, net, thread};

use crate::files::{AS_USER, WORKLOADS, quoted, run, scenario, script, step};
use crate::hung::needs_python;
use crate::support::{PASSED, TestResult, expect_code, output, scratch, skip};

/// Fails where a process shows the variable. The script itself must not hold its value.
const NO_SECRET: &str = "for file in /proc/[0-9]*/environ; do
  ! tr '\\0' '\\n' < $file 2>/dev/null | grep -q 'SECRET_OF_THE_CALLER=' || { echo $file; exit 1; }
done
test -r /proc/1/environ";

pub(crate) fn the_callers_environment_is_in_no_process_of_a_node() -> TestResult {
    let scratch = scratch();
    let steps = format!("  - start: all\n{}{}", step("node", NO_SECRET), step("app", NO_SECRET));
    let file = scenario(scratch.path(), &format!("{WORKLOADS}steps:\n{steps}"));
    let result = crate::support::propagation(scratch.path(), &["run", "--scenario"])
        .arg(&file)
        .env("SECRET_OF_THE_CALLER", "hunter2")
        .output()?;
    expect_code(&result, 0)?;
    PASSED
}

pub(crate) fn an_ordinary_users_environment_is_in_no_process_either() -> TestResult {
    if !crate::support::is_root() {
        return skip("root", "only root can become another user");
    }
    let scratch = scratch();
    let steps = format!("  - start: all\n{}{}", step("node", NO_SECRET), step("app", NO_SECRET));
    let text = format!("name: safety\n{WORKLOADS}steps:\n{steps}");
    let file = scratch.path().join("safety.yaml");
    fs::write(&file, text)?;
    let copy = format!("cat > $SCRATCH/safety.yaml <<'END'\n{}END\n", fs::read_to_string(&file)?);
    let result = crate::support::in_private_namespace(&format!(
        "{copy}export SECRET_OF_THE_CALLER=hunter2\n{AS_USER} $PROPAGATION run --scenario \
         $SCRATCH/safety.yaml"
    ));
    expect_code(&result, 0)?;
    PASSED
}

/// A server of this machine is not reached, whatever the scenario does.
pub(crate) fn a_node_has_no_network_but_its_own_loopback() -> TestResult {
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
pub(crate) fn a_runtime_is_copied_and_never_the_machines_own() -> TestResult {
    if !crate::support::is_root() {
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

pub(crate) fn root_of_a_node_reaches_nothing_of_the_machine() -> TestResult {
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

pub(crate) fn a_node_with_a_runtime_has_given_up_the_machines_capabilities() -> TestResult {
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

pub(crate) fn a_program_in_a_container_has_its_capabilities_and_no_more() -> TestResult {
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
pub(crate) fn calls_that_no_node_needs_are_as_if_there_were_none() -> TestResult {
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
pub(crate) fn an_ordinary_user_beside_a_run_of_root_gains_nothing() -> TestResult {
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
    fs::copy(crate::support::PROPAGATION, &tool)?;
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
