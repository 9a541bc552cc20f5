//! What was found with each release, as a document.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::known::KNOWN;
use super::support::library::Came;

/// What one release gave.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) scenarios: Vec<(String, Came)>,
    /// Time that the library took, in seconds.
    pub(super) seconds: f64,
    /// How many scenarios were tried once more by themselves.
    pub(super) tried_again: usize,
}

impl Row {
    /// The scenarios that came out otherwise, with what was seen.
    pub(super) fn otherwise(&self) -> impl Iterator<Item = (&str, &str)> {
        self.scenarios.iter().filter_map(|(name, came)| match came {
            Came::Otherwise(words) => Some((name.as_str(), words.as_str())),
            Came::AsExpected | Came::Skipped(_) => None,
        })
    }
}

/// `docs/runtimes.md`.
pub(super) fn document(rows: &BTreeMap<String, Row>, found: &str) -> String {
    let mut text = format!("{HEAD}{found}\n\n{COLUMNS}");
    for (name, row) in rows {
        let count =
            |fits: fn(&Came) -> bool| row.scenarios.iter().filter(|(_, came)| fits(came)).count();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {:.0} s |",
            count(|came| matches!(came, Came::AsExpected)),
            count(|came| matches!(came, Came::Otherwise(_))),
            count(|came| matches!(came, Came::Skipped(_))),
            row.tried_again,
            row.seconds
        );
    }
    text.push_str("\n## What differs, and why\n\n");
    for known in KNOWN {
        let Some(scenario) = known.scenario else {
            let _ = writeln!(text, "- {}\\*: {}.", known.releases, known.why);
            continue;
        };
        let _ = writeln!(text, "- {}\\*, `{scenario}`: {}.", known.releases, known.why);
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
    if !differences.is_empty() {
        text.push_str("\n| scenario | with | |\n|---|---|---|\n");
    }
    for ((scenario, words), names) in differences {
        let words = words.replace(['\n', '|'], " ");
        let _ = writeln!(text, "| `{scenario}` | {} | {words} |", names.join(", "));
    }
    text
}

const HEAD: &str = "\
# Runtimes

What the scenario library gives on a simulated node whose containers are started by an OCI runtime, for every release
that Debian has, from bullseye to experimental. Without `--runtime` the built-in engine starts them, and everything is as
expected. Written by `BLESS=1 make test-runtimes`; the newest runc and the newest crun are tried in `.ci/run`.
";

const COLUMNS: &str = "\
| runtime | as expected | otherwise | skipped | tried again | took |
|---|---:|---:|---:|---:|---:|
";
