//! The probe on real mounts: living, dead, stopped, never served, denied. That it ends at all is
//! part of every test.

mod support;

use support::{PASSED, TestResult, expect_code, expect_part, skip, stdout, tests};

fn main() {
    support::main(tests![
        a_living_mount_is_ok,
        a_missing_sentinel_is_empty,
        a_sentinel_is_a_file_right_in_the_mount,
        an_empty_mount_is_empty,
        a_dead_mount_is_stale,
        a_path_inside_a_dead_mount_is_stale,
        a_stopped_daemon_is_hung,
        a_mount_that_nobody_serves_is_hung,
        a_hung_mount_has_one_probe_at_a_time,
        what_hangs_does_not_hold_the_readers_pipe,
        a_user_who_is_kept_out_is_another_error,
        links_and_relative_paths_are_followed,
        a_path_that_looks_like_an_option_is_a_path,
        the_command_line_does_the_same
    ]);
}

/// Starts a producer that serves `$SCRATCH/volume/dfs`; waits until it does. It ends with the script.
const SERVE: &str = "\
    mkdir $SCRATCH/volume; \
    coproc SERVER { exec $AGENT producer --volume $SCRATCH/volume \
                    --mountpoint $SCRATCH/volume/dfs --nonce x $OPTIONS; }; \
    trap 'kill -KILL $SERVER_PID' EXIT; \
    while read -r line <&${SERVER[0]}; do case $line in *Mounted*) break;; esac; done;";

/// Runs a script that ends with the probe's exit code; a probe that hangs ends with 124.
fn expect(script: &str, code: i32, words: &[&str]) -> TestResult {
    if !support::is_root() {
        return skip("root", "only root can mount");
    }
    let result = support::in_private_namespace(&format!(
        "probe() {{ timeout 20 $AGENT probe \"$@\"; }}; {script}"
    ));
    expect_code(&result, code)?;
    for part in words {
        expect_part(&stdout(&result), part)?;
    }
    PASSED
}

fn with_server(script: &str, code: i32, words: &[&str]) -> TestResult {
    expect(&format!("OPTIONS=; {SERVE} {script}"), code, words)
}

fn a_living_mount_is_ok() -> TestResult {
    with_server("probe $SCRATCH/volume/dfs", 0, &["ok: ", "marker of generation 1"])?;
    with_server("probe $SCRATCH/volume/dfs --sentinel producer-marker.txt", 0, &["ok: "])
}

fn a_missing_sentinel_is_empty() -> TestResult {
    with_server("probe $SCRATCH/volume/dfs --sentinel other", 12, &["the sentinel is not in"])
}

fn a_sentinel_is_a_file_right_in_the_mount() -> TestResult {
    for name in ["../../etc/passwd", "/etc/passwd", "sub/file", "..", ""] {
        let script = format!("probe $SCRATCH/volume/dfs --sentinel '{name}'; exit 9");
        with_server(&script, 2, &[])?;
    }
    // A FIFO without a writer would be waited for, a directory cannot be read.
    let mount = "mkdir $SCRATCH/m; mount -t tmpfs none $SCRATCH/m; mkfifo $SCRATCH/m/fifo; \
                 mkdir $SCRATCH/m/directory; touch $SCRATCH/m/file;";
    for name in ["fifo", "directory"] {
        let script = format!("{mount} probe $SCRATCH/m --sentinel {name}");
        expect(&script, 12, &["the sentinel is not in"])?;
    }
    let script = format!("{mount} probe $SCRATCH/m --sentinel file");
    expect(&script, 0, &["0 bytes; this is no FUSE mount, its type is tmpfs"])
}

fn an_empty_mount_is_empty() -> TestResult {
    let script = "mkdir $SCRATCH/e; mount -t tmpfs none $SCRATCH/e; probe $SCRATCH/e";
    expect(script, 12, &["is mounted and empty"])
}

/// SIGSTOP, and every thread of the daemon has stopped.
const STOP: &str = "kill -STOP $SERVER_PID; \
    while grep -L '^State:.*T' /proc/$SERVER_PID/task/*/status | grep -q .; do :; done;";

/// SIGKILL, and the daemon has ended.
const KILL: &str = "kill -KILL $SERVER_PID; wait $SERVER_PID || true; trap - EXIT;";

fn a_dead_mount_is_stale() -> TestResult {
    let words = ["stale: ", "Transport endpoint is not connected (ENOTCONN)", "restart"];
    with_server(&format!("{KILL} probe $SCRATCH/volume/dfs"), 10, &words)
}

fn a_path_inside_a_dead_mount_is_stale() -> TestResult {
    with_server(&format!("{KILL} probe $SCRATCH/volume/dfs/below"), 10, &["lies in a dead mount"])
}

fn a_stopped_daemon_is_hung() -> TestResult {
    let script = format!("{STOP} probe $SCRATCH/volume/dfs --timeout 300ms");
    with_server(&script, 11, &["hung: no answer from", "in 300 ms"])
}

fn a_mount_that_nobody_serves_is_hung() -> TestResult {
    // The descriptor is open, the mount is made, and nobody reads requests.
    let script = "mkdir $SCRATCH/m; exec 7<>/dev/fuse; \
        mount -i -t fuse -o fd=7,rootmode=40000,user_id=0,group_id=0 none $SCRATCH/m; \
        code=0; probe $SCRATCH/m --timeout 300ms || code=$?; exec 7>&-; exit $code";
    expect(script, 11, &["hung: ", "does not serve yet"])
}

fn what_hangs_does_not_hold_the_readers_pipe() -> TestResult {
    let script = format!(
        "{STOP} code=0; said=$(probe $SCRATCH/volume/dfs --timeout 300ms 2>&1) || code=$?; \
         echo \"$said\"; exit $code"
    );
    with_server(&script, 11, &["hung: "])
}

/// A daemon that has taken a request and does not answer holds who asked, SIGKILL or not; when it ends, the
/// next probe looks again.
fn a_hung_mount_has_one_probe_at_a_time() -> TestResult {
    let script = "mkdir $SCRATCH/m; \
        coproc READER { exec python3 -c \"
import ctypes, os, struct, sys
fd = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={fd},rootmode=40000,user_id=0,group_id=0'.encode()
assert ctypes.CDLL(None).mount(b'x', sys.argv[1].encode(), b'fuse', 6, options) == 0
unique = struct.unpack_from('<IIQ', os.read(fd, 1 << 18))[2]
words = struct.pack('<4I2H2I2H8I', 7, 31, 65536, 0, 12, 9, 65536, 1, 32, *[0] * 9)
os.write(fd, struct.pack('<IiQ', 16 + len(words), 0, unique) + words)
print('mounted', flush=True)
while True: os.read(fd, 1 << 18)
\" $SCRATCH/m; }; \
        trap 'kill -KILL $READER_PID' EXIT; read -r line <&${READER[0]}; \
        for n in 1 2 3 4; do probe $SCRATCH/m --timeout 200ms || test $? = 11; done; \
        own() { local n=0 p; for p in /proc/[0-9]*; do \
                  if [ \"$(readlink $p/ns/mnt)\" = \"$(readlink /proc/self/ns/mnt)\" ] && \
                     grep -q '^State:.D' $p/status 2>/dev/null; then n=$((n + 1)); fi; done; echo $n; }; \
        echo \"stuck: $(own)\"; probe $SCRATCH/m --timeout 200ms || code=$?; \
        kill -KILL $READER_PID; trap - EXIT; wait $READER_PID || true; \
        probe $SCRATCH/m || exit $?";
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skip("python3", "the daemon is written in it");
    }
    let words =
        ["hung: no answer from", "hung: an earlier look at", "stuck: 1\n", "stale: the daemon"];
    expect(script, 10, &words)
}

fn a_user_who_is_kept_out_is_another_error() -> TestResult {
    let script = format!(
        "OPTIONS=--no-allow-other; {SERVE} \
         timeout 20 setpriv --reuid 1000 --regid 1000 --clear-groups $AGENT probe $SCRATCH/volume/dfs"
    );
    expect(&script, 1, &["error: ", "does not let uid 1000 in", "allow_other", "(EACCES)"])
}

fn links_and_relative_paths_are_followed() -> TestResult {
    with_server("ln -s volume/dfs $SCRATCH/link; probe $SCRATCH/link", 0, &["ok: "])?;
    with_server("cd $SCRATCH; probe volume/dfs", 0, &["ok: volume/dfs"])
}

fn a_path_that_looks_like_an_option_is_a_path() -> TestResult {
    expect(
        "cd $SCRATCH; mkdir -- --x; probe -- --x",
        13,
        &["not mounted: nothing is mounted at --x"],
    )
}

fn the_command_line_does_the_same() -> TestResult {
    with_server("$PROPAGATION probe $SCRATCH/volume/dfs", 0, &["ok: "])?;
    with_server(
        &format!("{STOP} timeout 20 $PROPAGATION probe $SCRATCH/volume/dfs --timeout 300ms"),
        11,
        &["hung: "],
    )?;
    with_server(&format!("{KILL} $PROPAGATION probe $SCRATCH/volume/dfs"), 10, &["stale: "])
}
