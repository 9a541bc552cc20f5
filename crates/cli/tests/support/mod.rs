//! What the tests of the command line share.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)] // each test binary uses a part of it
#![allow(clippy::print_stderr)] // a test binary's own main

pub mod chromium;
pub mod library;
pub mod nodes;
pub mod seccomp;
pub mod stuck;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
pub use propagation_conformance::skip;

/// The program under test.
pub const PROPAGATION: &str = env!("CARGO_BIN_EXE_propagation");

/// A test that may find out that it cannot be done here; `Completion::ignored_with` says why.
pub type TestResult = Result<Completion, Failed>;

/// The tests of a list of functions, each with the name of its function.
macro_rules! tests {
    ($($function:path),* $(,)?) => {
        vec![$($crate::support::test(stringify!($function), $function)),*]
    };
}
pub(crate) use tests;

/// A test with the last part of a function's path as its name.
pub fn test(path: &str, run: fn() -> TestResult) -> Trial {
    Trial::ignorable_test(path.rsplit("::").next().unwrap_or(path).trim(), run)
}

/// Runs the tests one after the other (they look at the whole machine's processes and mounts),
/// prints what was skipped and why, and exits with failure when there was none to run.
pub fn main(tests: Vec<Trial>) {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let conclusion = libtest_mimic::run(&arguments, tests);
    let all = conclusion.num_passed + conclusion.num_failed + conclusion.num_ignored;
    if arguments.filter.is_none() && !arguments.list && all == 0 {
        eprintln!("no test ran");
        std::process::exit(1);
    }
    conclusion.exit();
}

/// Passed.
pub const PASSED: TestResult = Ok(Completion::Completed);

/// Whether documents are to be written anew and not compared.
pub fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A command with its log in a scratch directory.
pub fn propagation(scratch: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROPAGATION);
    command.args(arguments).env("XDG_STATE_HOME", scratch).env_remove("NO_COLOR");
    command
}

/// Runs it to the end.
pub fn output(scratch: &Path, arguments: &[&str]) -> Output {
    propagation(scratch, arguments).output().expect("the program starts")
}

/// Runs it to the end, or until it has taken so many seconds; then its exit status is 124.
pub fn propagation_within(scratch: &Path, arguments: &[&str], seconds: &str) -> Output {
    let mut command = Command::new("timeout");
    command.args([seconds, PROPAGATION]).args(arguments).env("XDG_STATE_HOME", scratch);
    command.output().expect("timeout(1) runs")
}

/// Runs a shell script in a private mount namespace; `$PROPAGATION` and `$AGENT` are copies of the
/// programs that every user can execute, `$SCRATCH` a directory that every user can write.
pub fn in_private_namespace(script: &str) -> Output {
    let scratch = scratch();
    let program = scratch.path().join("propagation");
    fs::copy(PROPAGATION, &program).expect("copy the program");
    let agent = scratch.path().join("propagation-agent");
    fs::write(&agent, propagation_agent_embed::AGENT).expect("write the agent");
    open_to_all(&agent);
    open_to_all(scratch.path());
    open_to_all(&program);
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-euc", script])
        .env("PROPAGATION", &program)
        .env("AGENT", &agent)
        .env("SCRATCH", scratch.path())
        .env("XDG_STATE_HOME", scratch.path().join("state"))
        .env("HOME", scratch.path())
        .output()
        .expect("unshare(1) of util-linux runs")
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("set the mode");
}

/// A directory that goes away.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("propagation-test").tempdir().expect("a scratch directory")
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails with everything the program said unless it ended with `code`.
pub fn expect_code(output: &Output, code: i32) -> Result<(), Failed> {
    if output.status.code() == Some(code) {
        return Ok(());
    }
    Err(format!(
        "ended with {} instead of {code}\nstdout: {}\nstderr: {}",
        output.status,
        stdout(output),
        stderr(output)
    )
    .into())
}

/// Fails unless `text` contains `part`.
pub fn expect_part(text: &str, part: &str) -> Result<(), Failed> {
    if text.contains(part) { Ok(()) } else { Err(format!("{part:?} is not in:\n{text}").into()) }
}

/// Whether there is a program that holds XML against a schema.
pub fn has_xmllint() -> bool {
    Path::new("/usr/bin/xmllint").exists()
}

/// Fails unless a file is JUnit XML.
pub fn expect_junit(file: &Path) -> Result<(), Failed> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/junit.xsd");
    let mut command = Command::new("xmllint");
    expect_code(&command.args(["--noout", "--schema"]).args([&*schema, file]).output()?, 0)
}

/// What must not change on the machine: its mounts, `/etc/fuse.conf`, the names in `/tmp`, and that
/// no agent runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    mounts: String,
    fuse_conf: Option<String>,
    temporary: Vec<PathBuf>,
    agents: Vec<String>,
}

impl Machine {
    /// As it is now. Files of other programs that come and go in `/tmp` would disturb: only names
    /// that could be this program's count.
    pub fn now() -> Self {
        let mut temporary: Vec<PathBuf> = fs::read_dir("/tmp")
            .expect("/tmp")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                name.contains("fuse") || name == "propagation"
            })
            .collect();
        temporary.sort();
        Self {
            mounts: fs::read_to_string("/proc/self/mountinfo").expect("mountinfo"),
            fuse_conf: fs::read_to_string("/etc/fuse.conf").ok(),
            temporary,
            agents: agents(),
        }
    }

    /// Without the agents: for tests that look at their own processes only.
    pub fn without_agents(self) -> Self {
        Self { agents: Vec::new(), ..self }
    }
}

/// Command lines of the agents that this test's program started, or whose starter is dead. Other
/// programs on the machine may be running their own.
pub fn agents() -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc");
    processes
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|command| command.starts_with(b"propagation-agent\0node\0"))
        .map(|command| String::from_utf8_lossy(&command).replace('\0', " "))
        .filter(|command| is_ours(command))
        .collect()
}

fn is_ours(command: &str) -> bool {
    let parent = command.split("--parent ").nth(1).and_then(|rest| rest.split(':').next());
    let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let Some(stat) = parent.and_then(stat) else { return true };
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let grandparent = after_name.split_whitespace().nth(1).unwrap_or_default();
    grandparent == std::process::id().to_string()
}
