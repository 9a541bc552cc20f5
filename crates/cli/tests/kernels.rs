//! The five phases and the scenario library on the kernels that people have, each in a guest of its own, as
//! root and as an ordinary user.
//!
//! `PROPAGATION_KERNELS` names the directories that `scripts/fetch-kernels` prints, with colons between them;
//! `make test-kernels` does both.
//! `BLESS=1` writes what was found into `docs/kernels.md`.
#![allow(clippy::print_stdout)] // the table of differences is what this test is for

#[path = "kernels/guest.rs"]
mod guest;
mod support;
#[path = "kernels/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use guest::Kernel;
use libtest_mimic::{Arguments, Failed, Trial};
use support::{PASSED, PROPAGATION, TestResult, scratch, skip};
use table::{Row, Who};

/// A guest gets so many seconds; emulated, the library takes one to three minutes for each user.
const SECONDS: u32 = 1500;

/// Two guests fill the two cores that a small machine has.
const AT_ONCE: usize = 2;

/// What a guest does. The results are files of the directory that it shares with the machine.
const SCRIPT: &str = r#"#!/bin/busybox sh
export XDG_STATE_HOME=/tmp/state
as_root() { "$@"; }
as_user() { /usr/bin/setpriv --reuid 54321 --regid 54321 --clear-groups env HOME=/tmp/home "$@"; }
chmod 666 /dev/fuse
cp /work/propagation /tmp/propagation
mkdir -p /tmp/home /tmp/state
chown 54321:54321 /tmp/home
chmod 1777 /tmp/state
for who in root user; do
    for run in "phases:" "help:--volume mountpoint --experiments 5s" \
        "library:--scenario /work/scenarios --patience 3 --jobs 4"; do
        name=$who-${run%%:*}
        # shellcheck disable=SC2086 # options
        as_$who /tmp/propagation run ${run#*:} --format json > /work/$name.json 2> /work/$name.err
        echo $? > /work/$name.status
    done
done
"#;

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(AT_ONCE);
    let tests = match std::env::var("PROPAGATION_KERNELS") {
        Ok(directories) if !directories.is_empty() => in_guests(&directories),
        _ => vec![Trial::ignorable_test("kernels", || {
            skip("kernels", "PROPAGATION_KERNELS names no kernels; make test-kernels")
        })],
    };
    let conclusion = libtest_mimic::run(&arguments, tests);
    let mut rows = ROWS.lock().map(|rows| rows.clone()).unwrap_or_default();
    rows.sort_by_key(|row| row.kernel.version());
    print!("{}", table::differences(&rows));
    if support::blessing() && !rows.is_empty() {
        let document = root().join("docs/kernels.md");
        std::fs::write(document, table::document(&rows)).expect("write docs/kernels.md");
    }
    conclusion.exit();
}

/// One test for each kernel that is named.
fn in_guests(directories: &str) -> Vec<Trial> {
    let test = |directory: &str| {
        let kernel = Kernel::new(directory);
        Trial::ignorable_test(format!("linux {}", kernel.release), move || on(&kernel))
    };
    directories.split(':').map(test).collect()
}

/// Everything comes out as the files say, or is skipped with a reason. What does not is tried once more by
/// itself, in a guest of its own, because an emulated processor is slow; that is counted.
fn on(kernel: &Kernel) -> TestResult {
    let mut rows = carry_out(kernel, &root().join("scenarios"))?;
    let again: BTreeSet<String> = rows.iter().flat_map(Row::to_be_tried_again).collect();
    if !again.is_empty() {
        let files = scratch();
        for file in propagation_core::scenario::files(&root().join("scenarios"))? {
            let plan = propagation_core::scenario::read(&file)?;
            if plan.name.is_some_and(|name| again.contains(&name)) {
                let name = file.file_name().ok_or("a file without a name")?;
                std::fs::copy(&file, files.path().join(name))?;
            }
        }
        for (row, second) in rows.iter_mut().zip(carry_out(kernel, files.path())?) {
            row.take_over(second);
        }
    }
    let wrong: Vec<String> = rows.iter().flat_map(Row::otherwise).collect();
    ROWS.lock().map_err(|error| error.to_string())?.extend(rows);
    if wrong.is_empty() { PASSED } else { Err(wrong.join("\n").into()) }
}

/// One guest, which runs these scenario files as root and as an ordinary user.
fn carry_out(kernel: &Kernel, scenarios: &Path) -> Result<Vec<Row>, Failed> {
    let scratch = scratch();
    let work = scratch.path();
    std::fs::copy(PROPAGATION, work.join("propagation"))?;
    std::fs::create_dir(work.join("scenarios"))?;
    for file in propagation_core::scenario::files(scenarios)? {
        let name = file.file_name().ok_or("a file without a name")?;
        std::fs::copy(&file, work.join("scenarios").join(name))?;
    }
    let ended = guest::run(kernel, work, SCRIPT, SECONDS)?;
    let row = |who| {
        let row = Row::read(kernel, who, work, ended.lost_boots);
        row.map_err(|error| Failed::from(format!("{error}\n{}", ended.console)))
    };
    [Who::Root, Who::User].into_iter().map(row).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_owned()
}
