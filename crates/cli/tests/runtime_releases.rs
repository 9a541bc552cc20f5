//! The scenario library with the OCI runtimes that people have, beside the built-in engine.
//!
//! `PROPAGATION_RUNTIMES` names the directories that `scripts/fetch-runtimes` prints, with colons between them;
//! `make test-runtimes` does both. `BLESS=1` writes what was found into `docs/runtimes.md`.

#[path = "runtime_releases/known.rs"]
mod known;
mod support;
#[path = "runtime_releases/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use libtest_mimic::{Arguments, Failed, Trial};
use support::library::{self, Came};
use support::{PASSED, PROPAGATION, TestResult, scratch, skip};
use table::Row;

/// So many scenarios at a time: most of them wait for deadlines most of the time.
const AT_ONCE: usize = 8;

static ROWS: Mutex<BTreeMap<String, Row>> = Mutex::new(BTreeMap::new());

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let tests = match std::env::var("PROPAGATION_RUNTIMES") {
        Ok(directories) if !directories.is_empty() => directories.split(':').map(test).collect(),
        _ => vec![Trial::ignorable_test("runtimes", || {
            skip("runtimes", "PROPAGATION_RUNTIMES names none; make test-runtimes")
        })],
    };
    let conclusion = libtest_mimic::run(&arguments, tests);
    let rows = ROWS.lock().expect("no test has panicked");
    if support::blessing() && !rows.is_empty() {
        let document = table::document(&rows, &library::found());
        std::fs::write(library::root().join("docs/runtimes.md"), document)
            .expect("write the document");
    }
    conclusion.exit();
}

fn test(directory: &str) -> Trial {
    let directory = PathBuf::from(directory);
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Trial::ignorable_test(name.clone(), move || with(&directory, &name))
}

/// Everything comes out as the files say, or is skipped with a reason, but for what is known of the release;
/// and that shows. What does not is tried once more by itself, because the machine may have been busy.
fn with(directory: &Path, release: &str) -> TestResult {
    let started = std::time::Instant::now();
    let scenarios = run(directory, release, &library::root().join("scenarios"))?;
    let mut row = Row { scenarios, seconds: started.elapsed().as_secs_f64(), tried_again: 0 };
    let names = |row: &Row| row.otherwise().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let is_known =
        |name: &str| known::of(release).any(|one| one.scenario.is_none_or(|its| its == name));
    let again: Vec<_> = names(&row).into_iter().filter(|name| !is_known(name)).collect();
    if !again.is_empty() {
        let files = library::only(&again)?;
        let second = run(directory, release, files.path())?;
        row.tried_again = library::take_over(&mut row.scenarios, &second);
    }
    let mut wrong: Vec<_> = row
        .otherwise()
        .filter(|(name, _)| !is_known(name))
        .map(|(name, words)| format!("{name}: {words}"))
        .collect();
    for one in known::of(release) {
        if !row.otherwise().any(|(name, _)| one.scenario.is_none_or(|its| its == name)) {
            wrong.push(format!("{one:?} does not show, and need not be named any more"));
        }
    }
    ROWS.lock().map_err(|error| error.to_string())?.insert(release.to_owned(), row);
    if wrong.is_empty() { PASSED } else { Err(wrong.join("\n").into()) }
}

/// Runs scenario files with a release. It lies over this machine's programs in a mount namespace of the run,
/// with the libraries that it needs.
fn run(directory: &Path, release: &str, files: &Path) -> Result<Vec<(String, Came)>, Failed> {
    let scratch = scratch();
    let program = release.split('-').next().unwrap_or(release);
    let script = format!(
        "mount -t overlay -o 'lowerdir={}/usr:/usr' overlay /usr\n\
         exec {PROPAGATION} run --scenario '{}' --runtime {program} --jobs {AT_ONCE} --format json",
        directory.display(),
        files.display()
    );
    let ran = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", &script])
        .env("XDG_STATE_HOME", scratch.path())
        .output()?;
    library::all_came(&ran.stdout)
        .map_err(|error| format!("{error}: {}", support::stderr(&ran)).into())
}
