//! A scenario of a stranger: what its programs can reach of the machine, and of whoever runs it.

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::{fs, net, thread};

use support::{PASSED, TestResult, expect_code, output, scratch, skip, test};

fn main() {
    support::main(vec![
        test("the_callers_environment_is_in_no_process_of_a_node", environment),
        test("an_ordinary_users_environment_is_in_no_process_either", environment_of_a_user),
        test("a_node_has_no_network_but_its_own_loopback", network),
        test("a_runtime_is_copied_and_never_the_machines_own", runtime),
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

fn environment() -> TestResult {
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

fn environment_of_a_user() -> TestResult {
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
fn network() -> TestResult {
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
fn runtime() -> TestResult {
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
        "file=/run/propagation/runtime/runc
test -x $file
mount -o remount,rw /run/propagation/runtime || mount -o remount,rw,bind /run/propagation/runtime
! grep -q ' /run/propagation/runtime/' /proc/self/mountinfo
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
