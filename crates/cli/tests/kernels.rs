//! The five phases and the scenario library on the kernels that people have, each in guests of its own: one as
//! root, one as an ordinary user.
//!
//! `PROPAGATION_KERNELS` names the directories that `scripts/fetch-kernels` prints, with colons between them;
//! `make test-kernels` does both. `BLESS=1` writes what was found into `docs/kernels.md`. With `PROPAGATION_GUESTS=half`
//! each file runs once on each kernel, as root on one and as an ordinary user on the next; with `sixth` once on three
//! kernels, on one of them as one of the two.
#![allow(clippy::print_stdout)] // the table of differences is what this test is for

#[path = "kernels/guest.rs"]
mod guest;
#[path = "kernels/real.rs"]
mod real;
mod support;
#[path = "kernels/table.rs"]
mod table;

use std::fs;
use std::sync::Mutex;

use guest::Kernel;
use libtest_mimic::{Arguments, Failed, Trial};
use support::{PASSED, TestResult, library, scratch, skip};
use table::{Row, Who};

/// A guest gets so many seconds; emulated, the library takes one to three minutes.
const SECONDS: u32 = 1500;

/// Two guests fill the two cores that a small machine has.
const AT_ONCE: usize = 2;

/// What a guest does.
const SCRIPT: &str = include_str!("kernels/main.sh");

static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let tests = match std::env::var("PROPAGATION_KERNELS") {
        Ok(directories) if !directories.is_empty() => in_guests(&directories),
        _ => vec![Trial::ignorable_test("kernels", || {
            skip("kernels", "PROPAGATION_KERNELS names no kernels; make test-kernels")
        })],
    };
    let conclusion = libtest_mimic::run(&arguments, tests);
    print!("{}", table::differences(&ROWS.lock().expect("no test has panicked")));
    println!("guests: {}", guest::boots());
    conclusion.exit();
}

/// One test for each kernel that is named and each user, and with the newest one those of [`real`].
fn in_guests(directories: &str) -> Vec<Trial> {
    let share = share();
    let kernels: Vec<Kernel> = directories.split(':').map(Kernel::new).collect();
    let mut tests = Vec::new();
    for (number, kernel) in kernels.iter().enumerate() {
        for who in [Who::Root, Who::User] {
            let share = share.map(|of| ((number + who as usize * (of / 2)) % of, of));
            let name = format!("linux {} as {who}", kernel.release);
            let kernel = kernel.clone();
            tests.push(Trial::ignorable_test(name, move || on(&kernel, who, share)));
        }
    }
    let newest = kernels.iter().max_by_key(|kernel| kernel.version());
    tests.extend(newest.into_iter().flat_map(real::tests));
    tests
}

/// Of how many parts of the library each guest has one; none for all of it.
fn share() -> Option<usize> {
    match std::env::var("PROPAGATION_GUESTS").as_deref() {
        Ok("half") => Some(2),
        Ok("sixth") => Some(6),
        _ => None,
    }
}

/// Everything comes out as the files say, or is skipped with a reason. Of the files it is all, or one part of
/// several.
fn on(kernel: &Kernel, who: Who, share: Option<(usize, usize)>) -> TestResult {
    let row = carry_out(kernel, who, share)?;
    let wrong: Vec<String> = row.otherwise().collect();
    record(row)?;
    if wrong.is_empty() { PASSED } else { Err(wrong.join("\n").into()) }
}

/// Keeps a row. The document has all so far, because a run of all kernels takes long.
fn record(row: Row) -> Result<(), Failed> {
    let mut rows = ROWS.lock().map_err(|error| error.to_string())?;
    rows.push(row);
    rows.sort_by_key(|row| (row.kernel.version(), row.who));
    if support::blessing() {
        if share().is_some_and(|of| of != 2) {
            return Err(
                "docs/kernels.md wants all files, or half of them: PROPAGATION_GUESTS".into()
            );
        }
        let document = table::document(&rows, share() == Some(2), &library::found());
        fs::write(library::root().join("docs/kernels.md"), document)?;
    }
    Ok(())
}

/// One guest.
fn carry_out(kernel: &Kernel, who: Who, share: Option<(usize, usize)>) -> Result<Row, Failed> {
    let scratch = scratch();
    let work = scratch.path();
    guest::copy_program(work)?;
    fs::write(work.join("who"), who.to_string())?;
    fs::create_dir(work.join("scenarios"))?;
    let files = propagation_core::scenario::files(&library::root().join("scenarios"))?;
    let (first, step) = share.unwrap_or((0, 1));
    for file in files.iter().skip(first).step_by(step) {
        let name = propagation_core::scenario::read(file)?.name.ok_or("a file without a name")?;
        fs::copy(file, work.join(format!("scenarios/{name}.yaml")))?;
    }
    let ended = guest::run(kernel, work, SCRIPT, "", SECONDS)?;
    Row::read(kernel, who, work, ended.lost_boots)
        .map_err(|error| format!("{error}\n{}", ended.console).into())
}
