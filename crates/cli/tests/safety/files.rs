//! Scenario files that programs of these tests are in, and runs of them.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::support::{Machine, PASSED, TestResult, output, skip};

/// A scenario whose one step runs a shell script on the node, and expects that it succeeds.
pub(crate) fn script(directory: &Path, text: &str) -> PathBuf {
    scenario(directory, &format!("steps:\n{}", step("node", text)))
}

/// A step that runs a shell script somewhere, and expects that it succeeds.
pub(crate) fn step(place: &str, text: &str) -> String {
    let text = text.replace('\n', "\n          ");
    format!(
        "  - in: {place}\n    run:\n      - sh\n      - -euc\n      - |\n          {text}\n    \
         expect: {{run: {{exit: 0}}}}\n"
    )
}

pub(crate) fn scenario(directory: &Path, text: &str) -> PathBuf {
    let file = directory.join("safety.yaml");
    fs::write(&file, format!("name: safety\n{text}")).expect("a file in the scratch directory");
    file
}

pub(crate) fn run(directory: &Path, scenario: &Path) -> Output {
    output(directory, &["run", "--scenario", &scenario.to_string_lossy()])
}

/// Workloads with a daemon of each kind, and a consumer.
pub(crate) const WORKLOADS: &str = "workloads:
  - {name: builtin, role: producer}
  - {name: app, role: consumer}
";

/// Gives the private namespace a /dev/fuse that everybody may open, and runs what follows as a user.
pub(crate) const AS_USER: &str = "mknod -m 666 $SCRATCH/fuse c 10 229; mount --bind $SCRATCH/fuse /dev/fuse; \\
                       exec setpriv --reuid 1000 --regid 1000 --clear-groups";

pub(crate) fn needs_root() -> Option<TestResult> {
    (!crate::support::is_root()).then(|| skip("root", "only root has what is kept from a node"))
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        if Instant::now() > end {
            return Err(format!("not in 20 s: {what}; agents: {:?}", crate::support::agents()));
        }
        thread::yield_now();
    }
    Ok(())
}

pub(crate) fn unchanged(before: &Machine) -> TestResult {
    let after = Machine::now();
    if after == *before {
        PASSED
    } else {
        Err(format!("the machine has changed\nbefore: {before:#?}\nafter: {after:#?}").into())
    }
}

pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
