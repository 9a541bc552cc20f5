//! Hosts that lack something: ordinary users, no device, no namespaces, no room. Each is made in a
//! private mount namespace, or a user namespace, of its own; the machine is not touched.

mod support;

use std::process::Output;

use support::{PASSED, TestResult, expect_code, expect_part, skip, stderr, stdout, tests};

fn main() {
    support::main(tests![
        an_ordinary_user_gets_full_success,
        an_ordinary_user_with_subordinate_ids_reads_as_another_user,
        the_library_with_subordinate_ids_is_as_expected,
        without_a_device_scenarios_are_skipped,
        a_device_that_is_not_permitted_says_which_mode,
        no_device_says_load_the_module,
        a_producer_that_is_not_root_mounts_through_fusermount3,
        user_allow_other_missing_is_named,
        no_fusermount3_is_named,
        user_namespaces_forbidden_names_the_switch,
        too_few_mount_namespaces_is_clear,
        too_few_descriptors_is_clear,
        hardly_any_descriptors_name_the_limit,
        hardly_any_processes_name_the_limit,
        a_read_only_tmp_does_not_matter,
        a_full_disk_for_the_report_is_clear,
        a_missing_kernel_call_is_named,
        without_mount_setattr_all_is_as_with_it,
        in_a_chroot_root_gets_full_success,
        in_a_chroot_doctor_names_the_covering_mount,
        doctor_in_a_mount_namespace_of_its_own_speaks_of_that_alone,
        a_node_like_a_private_host_gives_the_answer_of_that_host,
        a_node_like_a_host_whose_root_is_a_slave_can_be_made,
        a_node_like_a_host_with_a_private_mount_names_that_mount,
        a_dead_mount_in_the_bridge_is_told,
        nothing_is_written_where_others_can_write,
        without_a_home_there_is_no_log_and_nothing_in_tmp
    ]);
}

/// Gives the private namespace a /dev/fuse that everybody may open.
const OPEN_DEVICE: &str =
    "mknod -m 666 $SCRATCH/fuse c 10 229; mount --bind $SCRATCH/fuse /dev/fuse;";

/// Runs what follows as uid 1000.
const AS_USER: &str = "setpriv --reuid 1000 --regid 1000 --clear-groups";

fn run(script: &str) -> Output {
    support::in_private_namespace(script)
}

/// All of these need root to make the host that they need.
fn needs_root() -> Option<TestResult> {
    (!support::is_root()).then(|| skip("root", "only root can make such a host"))
}

macro_rules! needs_root {
    () => {
        if let Some(skipped) = needs_root() {
            return skipped;
        }
    };
}

/// Makes a chroot in a directory that is no mount, with this machine's programs.
const JAIL: &str = "J=$SCRATCH/jail; mkdir -p $J/usr $J/proc $J/sys $J/dev $J/tmp $J/etc; \
    for name in bin sbin lib lib64; do ln -s usr/$name $J/$name; done; \
    for name in usr proc sys dev; do mount --rbind /$name $J/$name; done; \
    cp $PROPAGATION $J/propagation; exec chroot $J /propagation";

fn in_a_chroot_root_gets_full_success() -> TestResult {
    needs_root!();
    let result = run(&format!("{JAIL} run"));
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "Verdict: full_success")?;
    PASSED
}

fn in_a_chroot_doctor_names_the_covering_mount() -> TestResult {
    needs_root!();
    for (change, found) in [("shared", "which is shared"), ("private", "which is private")] {
        let result = run(&format!("mount --make-r{change} /; {JAIL} doctor"));
        let text = stdout(&result);
        expect_part(&text, "covering_mount")?;
        expect_part(&text, found)?;
    }
    PASSED
}

fn doctor_in_a_mount_namespace_of_its_own_speaks_of_that_alone() -> TestResult {
    needs_root!();
    for (change, found, drawn) in
        [("shared", "which is shared", "shared, group"), ("private", "which is private", "private")]
    {
        let result = run(&format!(
            "mount -t tmpfs t /mnt; mount --make-{change} /mnt; exec $PROPAGATION doctor --bridge /mnt/bridge"
        ));
        let text = stdout(&result);
        expect_part(&text, found)?;
        let chain = text.lines().find(|line| line.contains("/mnt (tmpfs")).unwrap_or_default();
        expect_part(chain, drawn)?;
        expect_part(&text, "This program has a mount namespace of its own")?;
    }
    PASSED
}

/// Makes a host, runs on a node that is like it, does the fix that is printed, and runs again: with the command that is
/// printed to repeat the run.
fn mended_as_printed(host: &str, options: &str, fix: &str) -> TestResult {
    let result = run(&format!(
        "{host}; export PATH=$SCRATCH:$PATH; code=0; \
         $PROPAGATION run {options} --like-this-host --experiments off > $SCRATCH/first || code=$?; cat $SCRATCH/first; \
         fix=$(sed -n 's/^ *\\(mount --make-rshared .*\\)$/\\1/p' $SCRATCH/first | tail -n 1); \
         again=$(sed -n 's/^Reproduce: //p' $SCRATCH/first); \
         echo \"code $code, fix: $fix\"; sh -c \"$fix\"; sh -c \"$again --experiments off\""
    ));
    let text = stdout(&result);
    expect_part(&text, &format!("code 5, fix: {fix}"))?;
    expect_part(&text, "is private, as on the simulated node")?;
    expect_part(&text, "covering-private")?;
    expect_part(&text, "--like-this-host")?;
    expect_part(&text, "Verdict: full_success")?;
    expect_code(&result, 0)?;
    PASSED
}

fn a_node_like_a_private_host_gives_the_answer_of_that_host() -> TestResult {
    needs_root!();
    let private = "mount --make-rprivate /; exec $PROPAGATION run --experiments off";
    let simulated = run(private);
    expect_code(&simulated, 0)?;
    let text = stdout(&simulated);
    expect_part(&text, "is private, so the answer here would be another")?;
    expect_part(&text, "First on this host: `mount --make-rshared ")?;
    if text.contains("works here") {
        return Err(format!("an answer for another host:\n{text}").into());
    }
    // The mount that covers the bridge is named, whichever it is on this machine.
    let covering = run("findmnt -n -o TARGET --target /tmp");
    let covering = stdout(&covering);
    let fix = format!("mount --make-rshared {}\n", covering.trim());
    mended_as_printed("mount --make-rprivate /", "", &fix)
}

/// Where the root is a slave, as in the mount namespace of a service with `MountFlags=slave`.
fn a_node_like_a_host_whose_root_is_a_slave_can_be_made() -> TestResult {
    needs_root!();
    // The shell stays: with the last master a slave would be private.
    let result = run("mount --make-rshared /; unshare --mount --propagation slave \
                      $PROPAGATION run --like-this-host --experiments off && code=0 || code=$?; exit $code");
    expect_part(&stdout(&result), "Verdict: ")?;
    expect_part(&stdout(&result), "slave")?;
    PASSED
}

fn a_node_like_a_host_with_a_private_mount_names_that_mount() -> TestResult {
    needs_root!();
    let host = "mount --make-rshared /; mount -t tmpfs none /mnt; mkdir /mnt/y; mount -t tmpfs none /mnt/y; \
                mount --make-private /mnt/y";
    mended_as_printed(host, "--bridge /mnt/y/bridge", "mount --make-rshared /mnt/y\n")
}

fn a_dead_mount_in_the_bridge_is_told() -> TestResult {
    needs_root!();
    // A connection whose only descriptor is closed is dead.
    let dead = "mkdir -p $SCRATCH/bridge/dfs; exec 9<>/dev/fuse; \
                mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 none $SCRATCH/bridge/dfs; exec 9>&-";
    let doctor = run(&format!("{dead}; exec $PROPAGATION doctor --bridge $SCRATCH/bridge"));
    expect_part(&stdout(&doctor), "a dead FUSE mount lies on")?;
    expect_part(&stdout(&doctor), "/bridge/dfs")?;
    expect_part(&stdout(&doctor), "umount --lazy ")?;
    let alike = run(&format!(
        "{dead}; exec $PROPAGATION run --bridge $SCRATCH/bridge --like-this-host --experiments off"
    ));
    expect_part(&stderr(&alike), "warning: a dead FUSE mount lies on")?;
    PASSED
}

fn an_ordinary_user_gets_full_success() -> TestResult {
    needs_root!();
    let result = run(&format!("{OPEN_DEVICE} exec {AS_USER} $PROPAGATION run"));
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "Verdict: full_success")?;
    PASSED
}

fn an_ordinary_user_with_subordinate_ids_reads_as_another_user() -> TestResult {
    needs_root!();
    if !std::path::Path::new("/usr/bin/newuidmap").exists() {
        return skip("newuidmap", "the package uidmap is not installed");
    }
    let result = run(&format!(
        "{OPEN_DEVICE} echo 1000:200000:65536 > $SCRATCH/sub; \
         for file in subuid subgid; do [ -e /etc/$file ] || touch /etc/$file; \
         mount --bind $SCRATCH/sub /etc/$file; done; \
         exec {AS_USER} $PROPAGATION run --evidence"
    ));
    expect_code(&result, 0)?;
    expect_part(
        &stdout(&result),
        "reads_as_other:consumer-early: as uid [1000], consumer-early: ok",
    )?;
    PASSED
}

/// What of the library needs more than a user namespace with one user: producers that mount through
/// fusermount3, whose root is not in that namespace, and connections that are aborted.
fn the_library_with_subordinate_ids_is_as_expected() -> TestResult {
    needs_root!();
    if !std::path::Path::new("/usr/bin/newuidmap").exists() {
        return skip("newuidmap", "the package uidmap is not installed");
    }
    let library = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let needs_more = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.contains("role: producer, uid: 1000")
            || text.contains("host: true, uid: 1000")
            || text.contains("fault: abort")
    };
    let files = propagation_core::scenario::files(&library)?.into_iter().filter(needs_more);
    let scratch = support::scratch();
    let mut count = 0;
    for file in files {
        count += 1;
        std::fs::copy(&file, scratch.path().join(file.file_name().unwrap_or_default()))?;
    }
    if count < 10 {
        return Err(format!("{count} files of the library need more than one user").into());
    }
    let copies = scratch.path().display();
    let result = run(&format!(
        "{OPEN_DEVICE} echo 1000:200000:65536 > $SCRATCH/sub; cp -r {copies} $SCRATCH/library; \
         chmod -R a+rX $SCRATCH/library; for file in subuid subgid; do \
         [ -e /etc/$file ] || touch /etc/$file; mount --bind $SCRATCH/sub /etc/$file; done; \
         exec {AS_USER} $PROPAGATION run --scenario $SCRATCH/library --experiments off"
    ));
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), " 0 otherwise,")?;
    PASSED
}

/// Without the device a scenario is skipped, and a directory in which nothing ran is no success.
fn without_a_device_scenarios_are_skipped() -> TestResult {
    needs_root!();
    let result = run(&format!(
        "mknod -m 600 $SCRATCH/fuse c 10 229; mount --bind $SCRATCH/fuse /dev/fuse; \
         echo 'steps: [start: all]' > $SCRATCH/one.yaml; \
         exec {AS_USER} $PROPAGATION run --scenario $SCRATCH/one.yaml"
    ));
    expect_code(&result, 5)?;
    expect_part(&stdout(&result), "skipped: open /dev/fuse: Permission denied")?;
    PASSED
}

fn a_device_that_is_not_permitted_says_which_mode() -> TestResult {
    needs_root!();
    let result = run(&format!(
        "mknod -m 600 $SCRATCH/fuse c 10 229; mount --bind $SCRATCH/fuse /dev/fuse; \
         exec {AS_USER} $PROPAGATION run"
    ));
    expect_code(&result, 5)?;
    expect_part(&stdout(&result), "open gives EACCES")?;
    expect_part(&stdout(&result), "chmod 0666 /dev/fuse")?;
    PASSED
}

fn no_device_says_load_the_module() -> TestResult {
    needs_root!();
    let result = run(
        "mkdir $SCRATCH/dev; touch $SCRATCH/dev/null; mount --bind /dev/null $SCRATCH/dev/null; \
         mount --rbind $SCRATCH/dev /dev; exec $PROPAGATION run",
    );
    expect_code(&result, 5)?;
    expect_part(&stdout(&result), "open gives ENOENT")?;
    expect_part(&stdout(&result), "modprobe fuse")?;
    PASSED
}

fn a_producer_that_is_not_root_mounts_through_fusermount3() -> TestResult {
    needs_root!();
    if !std::path::Path::new("/usr/bin/fusermount3").exists() {
        return skip("fusermount3", "the package fuse3 is not installed");
    }
    let result = run(&format!(
        "{OPEN_DEVICE} exec $PROPAGATION run --producer-uid 1000 \
         --container-fuse-conf user_allow_other"
    ));
    expect_code(&result, 0)?;
    PASSED
}

fn user_allow_other_missing_is_named() -> TestResult {
    needs_root!();
    let result = run(&format!("{OPEN_DEVICE} exec $PROPAGATION run --producer-uid 1000"));
    expect_code(&result, 5)?;
    expect_part(&stdout(&result), "echo user_allow_other >> /etc/fuse.conf")?;
    PASSED
}

fn no_fusermount3_is_named() -> TestResult {
    needs_root!();
    let result = run(&format!(
        "{OPEN_DEVICE} mkdir $SCRATCH/bin; mount --bind $SCRATCH/bin /usr/bin; \
         exec $PROPAGATION run --producer-uid 1000 --container-fuse-conf user_allow_other"
    ));
    expect_code(&result, 5)?;
    expect_part(&stdout(&result), "apt-get install fuse3")?;
    PASSED
}

fn user_namespaces_forbidden_names_the_switch() -> TestResult {
    needs_root!();
    // The limit belongs to a user namespace: one is made in which it is 0.
    let result = run("exec unshare --user --map-root-user bash -euc \
         'echo 0 > /proc/sys/user/max_user_namespaces; \
         exec setpriv --bounding-set -all --inh-caps -all --no-new-privs $PROPAGATION run'");
    expect_code(&result, 1)?;
    expect_part(&stderr(&result), "make a user namespace")?;
    expect_part(&stderr(&result), "user.max_user_namespaces")?;
    PASSED
}

fn too_few_mount_namespaces_is_clear() -> TestResult {
    needs_root!();
    let result = run("exec unshare --user --map-root-user --mount bash -euc \
         'echo 6 > /proc/sys/user/max_mnt_namespaces; exec $PROPAGATION run --consumers 100'");
    if result.status.success() {
        return Err("it succeeded with 6 namespaces".into());
    }
    let said = format!("{}{}", stdout(&result), stderr(&result));
    expect_part(&said, "no space left on device")?;
    expect_part(&said, "max_mnt_namespaces")?;
    PASSED
}

fn too_few_descriptors_is_clear() -> TestResult {
    let result = run("ulimit -n 200; exec $PROPAGATION run --consumers 1000");
    expect_code(&result, 5)?;
    expect_part(&stdout(&result), "open descriptors are needed and 200 are allowed")?;
    expect_part(&stdout(&result), "ulimit")?;
    PASSED
}

/// What a limit that is too small may not lead to, whatever it stops.
fn expect_the_limit(result: &Output, limits: &[&str]) -> TestResult {
    let said = format!("{}{}", stdout(result), stderr(result));
    if said.contains("panicked") {
        return Err(said.into());
    }
    match result.status.code() {
        Some(0) => PASSED,
        Some(1 | 5 | 7) if limits.iter().any(|limit| said.contains(limit)) => PASSED,
        _ => Err(format!("{}\n{said}", result.status).into()),
    }
}

/// A matrix with workers, and hardly anything to do.
const ONE_CELL: &str = "--jobs 2 --out $SCRATCH/out-$$ --axis covering=shared --axis volume=bridge \
    --axis propagation=HostToContainer --axis order=after_mount --axis fault=kill --axis repair=none";

fn hardly_any_descriptors_name_the_limit() -> TestResult {
    for limit in [4, 5, 6, 8, 12, 16, 24, 32] {
        for command in ["run", &format!("matrix {ONE_CELL}"), "clean"] {
            let result = run(&format!("ulimit -n {limit}; exec $PROPAGATION {command}"));
            expect_the_limit(&result, &["ulimit -n", "ulimit -Hn"])?;
        }
    }
    PASSED
}

fn hardly_any_processes_name_the_limit() -> TestResult {
    needs_root!();
    // Of a user who has no other processes: the limit counts all of them.
    let user = "setpriv --reuid 54321 --regid 54321 --clear-groups";
    for limit in 1..12 {
        for command in ["run", &format!("matrix {ONE_CELL}")] {
            let result = run(&format!(
                "{OPEN_DEVICE} exec {user} bash -c 'ulimit -u {limit}; exec $PROPAGATION {command}'"
            ));
            expect_the_limit(&result, &["ulimit -u", "(EAGAIN)"])?;
        }
    }
    PASSED
}

fn a_read_only_tmp_does_not_matter() -> TestResult {
    needs_root!();
    let result = run("cp $PROPAGATION /dev/shm/propagation-$$; mount -t tmpfs -o ro none /tmp; \
         XDG_STATE_HOME=/tmp /dev/shm/propagation-$$ run && code=0 || code=$?; \
         rm /dev/shm/propagation-$$; exit $code");
    expect_code(&result, 0)?;
    expect_part(&stderr(&result), "warning: no log file")?;
    PASSED
}

fn a_full_disk_for_the_report_is_clear() -> TestResult {
    needs_root!();
    let result = run("mkdir $SCRATCH/small; mount -t tmpfs -o size=8k none $SCRATCH/small; \
         exec $PROPAGATION run --report $SCRATCH/small/report --log-dir $SCRATCH/small");
    expect_code(&result, 1)?;
    expect_part(&stderr(&result), "No space left on device")?;
    expect_part(&stderr(&result), "fix: ")?;
    // The verdict is printed all the same.
    expect_part(&stdout(&result), "Verdict: full_success")?;
    PASSED
}

fn nothing_is_written_where_others_can_write() -> TestResult {
    needs_root!();
    for (make, reason) in [
        ("install -d -o 1000 $SCRATCH/out", "it belongs to uid 1000, and not to you (uid 0)"),
        ("install -d -m 777 $SCRATCH/out", "others can write it (its mode is 0777)"),
        (
            "install -d $SCRATCH/root; ln -s root $SCRATCH/out; chown -h 1000 $SCRATCH/out",
            "it belongs to uid 1000, and not to you (uid 0)",
        ),
    ] {
        let result = run(&format!("{make}; exec $PROPAGATION run --report $SCRATCH/out"));
        expect_code(&result, 2)?;
        expect_part(&stderr(&result), reason)?;
        expect_part(&stderr(&result), "a directory of your own with --report")?;
        let result = run(&format!(
            "{make}; mkdir $SCRATCH/state; mv $SCRATCH/out $SCRATCH/state/propagation; \
             ln -s ../root $SCRATCH/state/root; code=0; $PROPAGATION run || code=$?; \
             ls -A $SCRATCH/state/propagation/; exit $code"
        ));
        expect_code(&result, 0)?;
        expect_part(&stderr(&result), "warning: no log file: ")?;
        expect_part(&stderr(&result), reason)?;
        if stdout(&result).contains(".log\n") {
            return Err("a log was written into it".into());
        }
    }
    PASSED
}

fn without_a_home_there_is_no_log_and_nothing_in_tmp() -> TestResult {
    needs_root!();
    let result = run(&format!(
        "{OPEN_DEVICE} cd $SCRATCH; code=0; setpriv --reuid 4242 --regid 4242 --clear-groups \
         env -u HOME XDG_STATE_HOME=relative $PROPAGATION run || code=$?; \
         find /tmp -user 4242 -prune; exit $code"
    ));
    expect_code(&result, 0)?;
    expect_part(&stderr(&result), "warning: no log file: neither XDG_STATE_HOME nor HOME")?;
    if stdout(&result).contains("\n/tmp/") {
        return Err(format!("something was written to /tmp: {}", stdout(&result)).into());
    }
    PASSED
}

fn a_missing_kernel_call_is_named() -> TestResult {
    let result = run_without(libc::SYS_pivot_root)?;
    expect_code(&result, 1)?;
    expect_part(&stderr(&result), "ENOSYS")?;
    expect_part(&stderr(&result), "Linux 5.10")?;
    PASSED
}

/// Before Linux 5.12 mounts are made read-only one after the other.
fn without_mount_setattr_all_is_as_with_it() -> TestResult {
    let result = run_without(libc::SYS_mount_setattr)?;
    expect_code(&result, 0)?;
    expect_part(&stdout(&result), "full_success")?;
    PASSED
}

/// The five phases on a kernel that does not know a call.
fn run_without(call: libc::c_long) -> std::io::Result<Output> {
    use std::os::unix::process::CommandExt;
    let scratch = support::scratch();
    let mut command = support::propagation(scratch.path(), &["run"]);
    #[allow(unsafe_code)] // a filter can be installed only between fork and exec
    // SAFETY: the closure makes two system calls and touches no memory that another thread could
    // hold locked.
    unsafe {
        command.pre_exec(move || support::seccomp::answer_enosys(call));
    }
    command.output()
}
