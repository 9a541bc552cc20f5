//! What is sent without end, and what the machine has too little of.

use std::path::{Path, PathBuf};

use crate::files::{quoted, run, scenario};
use crate::hung::needs_python;
use crate::support::{PASSED, TestResult, expect_code, expect_part, scratch, skip, stderr, stdout};

/// A daemon that prints without pause, programs that do, and a marker that has no end, in 256 MiB for each process.
pub(crate) fn whatever_is_sent_takes_little_memory() -> TestResult {
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
        .args(["-c", MEASURE, crate::support::PROPAGATION, "run", "--scenario"])
        .arg(&file)
        .env("XDG_STATE_HOME", scratch.path())
        .output()?;
    let kibibytes: u64 = stdout(&measured).trim().parse().map_err(|_| stderr(&measured))?;
    if !(1_000..=256 * 1024).contains(&kibibytes) {
        return Err(format!("a process had {kibibytes} KiB").into());
    }
    PASSED
}

pub(crate) fn what_a_program_prints_without_end_is_counted_and_left_out() -> TestResult {
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

pub(crate) fn a_daemon_may_print_more_than_a_pipe_holds() -> TestResult {
    let scratch = scratch();
    let text =
        "head -c 500000 /dev/zero | tr \"\\\\0\" x | fold -w 100 && echo all-was-printed; exit 3";
    let result = run(scratch.path(), &with_daemon(scratch.path(), text));
    expect_part(&stdout(&result), "all-was-printed")?;
    PASSED
}

pub(crate) fn a_daemon_that_never_stops_printing_is_watched_all_the_same() -> TestResult {
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

pub(crate) fn at_the_limit_of_processes_nothing_is_said_of_the_mount() -> TestResult {
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
    expect_code(&crate::support::in_private_namespace(limits), 0)?;
    PASSED
}

pub(crate) fn without_descriptors_it_says_so() -> TestResult {
    let scratch = scratch();
    for limit in 3..16 {
        let result = std::process::Command::new("prlimit")
            .arg(format!("--nofile={limit}"))
            .args([crate::support::PROPAGATION, "run"])
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
