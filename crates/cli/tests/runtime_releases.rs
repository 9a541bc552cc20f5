//! The scenario library with the OCI runtimes that people have, beside the built-in engine.
//!
//! `PROPAGATION_RUNTIMES` names the directories that `scripts/fetch-runtimes` prints, with colons between them;
//! `make test-runtimes` does both. `BLESS=1` writes what was found into `docs/runtimes.md`.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use support::library::{Came, came};
use support::{PASSED, PROPAGATION, TestResult, scratch, skip};

/// Releases with which nothing propagates, and what is known of it.
const OLD: [(&str, &str); 1] = [(
    "crun-0.17",
    "volumes are private inside its containers, whatever their mode. It is the only one of Debian's releases with \
     which that is so; a bundle started with it by hand (`crun run`, a volume on a tmpfs that is shared) has the \
     propagation it asks for, so that what makes the difference on a simulated node is not known.",
)];

/// What comes out otherwise with every release of a runtime, and is the runtime's own.
const THEIRS: [(&str, &str, &str); 1] = [(
    "crun",
    "bind-without-what-is-below",
    "crun makes every bind recursive, also one with the option `bind`",
)];

static ROWS: Mutex<BTreeMap<String, Row>> = Mutex::new(BTreeMap::new());

/// What one runtime gave.
struct Row {
    scenarios: Vec<(String, Came)>,
    seconds: f64,
}

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
    if support::blessing() {
        let rows = ROWS.lock().expect("no test has panicked");
        std::fs::write(root().join("docs/runtimes.md"), document(&rows))
            .expect("write the document");
    }
    conclusion.exit();
}

fn test(directory: &str) -> Trial {
    let directory = PathBuf::from(directory);
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Trial::ignorable_test(name.clone(), move || with(&directory, &name))
}

/// Everything comes out as the files say, or is skipped with a reason. The runtime lies over this machine's
/// programs in a mount namespace of the run, with the libraries that it needs.
fn with(directory: &Path, name: &str) -> TestResult {
    let scratch = scratch();
    let program = name.split('-').next().unwrap_or(name);
    let script = format!(
        "mount -t overlay -o 'lowerdir={}/usr:/usr' overlay /usr\n\
         exec {PROPAGATION} run --scenario '{}' --runtime {program} --format json",
        directory.display(),
        root().join("scenarios").display()
    );
    let started = std::time::Instant::now();
    let ran = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", &script])
        .env("XDG_STATE_HOME", scratch.path())
        .output()?;
    let seconds = started.elapsed().as_secs_f64();
    let all: Vec<Value> = serde_json::from_slice(&ran.stdout)
        .map_err(|error| format!("{error}: {}", support::stderr(&ran)))?;
    let scenarios = all.iter().map(came).collect::<Result<Vec<_>, _>>()?;
    let known = OLD.iter().any(|(release, _)| name.starts_with(release));
    let otherwise: Vec<_> = scenarios
        .iter()
        .filter_map(|(scenario, came)| match came {
            Came::Otherwise(words) => Some((scenario.as_str(), words.as_str())),
            Came::AsExpected | Came::Skipped(_) => None,
        })
        .collect();
    let theirs = |scenario: &str| {
        THEIRS.iter().any(|(runtime, theirs, _)| *runtime == program && *theirs == scenario)
    };
    let ours = otherwise.iter().filter(|(scenario, _)| !theirs(scenario));
    let ours: Vec<_> = ours.map(|(scenario, words)| format!("{scenario}: {words}")).collect();
    let row = Row { scenarios, seconds };
    ROWS.lock().map_err(|error| error.to_string())?.insert(name.to_owned(), row);
    match (ours.is_empty(), known) {
        (true, false) | (false, true) => PASSED,
        (false, false) => Err(ours.join("\n").into()),
        (true, true) => Err("it is as expected now, and need not be named any more".into()),
    }
}

/// `docs/runtimes.md`.
fn document(rows: &BTreeMap<String, Row>) -> String {
    let mut text = String::from(HEAD);
    for (name, row) in rows {
        let count =
            |fits: fn(&Came) -> bool| row.scenarios.iter().filter(|(_, came)| fits(came)).count();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {:.0} s |",
            count(|came| matches!(came, Came::AsExpected)),
            count(|came| matches!(came, Came::Otherwise(_))),
            count(|came| matches!(came, Came::Skipped(_))),
            row.seconds
        );
    }
    let mut differences: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for (name, row) in rows {
        for (scenario, came) in &row.scenarios {
            let words = match came {
                Came::AsExpected => continue,
                Came::Skipped(why) => format!("skipped: {why}"),
                Came::Otherwise(why) => format!("otherwise: {why}"),
            };
            differences.entry((scenario, words)).or_default().push(name);
        }
    }
    text.push_str("\n| scenario | with | |\n|---|---|---|\n");
    for ((scenario, words), names) in differences {
        let words = words.replace(['\n', '|'], " ");
        let _ = writeln!(text, "| `{scenario}` | {} | {words} |", names.join(", "));
    }
    for (release, why) in OLD {
        let _ = writeln!(text, "\n{release}: {why}");
    }
    for (runtime, scenario, why) in THEIRS {
        let _ = writeln!(text, "\n{runtime}, `{scenario}`: {why}.");
    }
    text
}

const HEAD: &str = "\
# Runtimes

What the scenario library gives on a simulated node whose containers are started by an OCI runtime, for every release
that Debian has. Without `--runtime` the built-in engine starts them; with it everything is as expected. Written by
`BLESS=1 make test-runtimes`.

| runtime | as expected | otherwise | skipped | took |
|---|---:|---:|---:|---:|
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_owned()
}
