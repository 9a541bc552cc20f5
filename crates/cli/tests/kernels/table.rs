//! What was found on each kernel, and how it is told: differences only, and a document.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use propagation_core::{Report, RunOutcome, VerdictOutcome};
use serde_json::Value;

use super::guest::Kernel;
use super::support::library::{Came, came};

/// As whom it was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Root,
    User,
}

impl fmt::Display for Who {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Root => "root",
            Self::User => "user",
        })
    }
}

/// One kernel and one user.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) kernel: Kernel,
    who: Who,
    lost_boots: u32,
    /// The answer of the five phases, and how long it took in the guest.
    phases: Result<(VerdictOutcome, f64), String>,
    /// How many changes were tried for a run that needs one, and whether one heals.
    experiments: Result<(usize, bool), String>,
    scenarios: Vec<(String, Came)>,
    /// How many of them were tried once more by themselves.
    tried_again: usize,
}

impl Row {
    /// Reads what a guest has left in the shared directory.
    pub(super) fn read(
        kernel: &Kernel,
        who: Who,
        work: &Path,
        lost_boots: u32,
    ) -> Result<Self, String> {
        let read = |what: &str| fs::read(work.join(format!("{who}-{what}.json")));
        let said = |what: &str| {
            fs::read_to_string(work.join(format!("{who}-{what}.err"))).unwrap_or_default()
        };
        let report = |what: &str| -> Result<Report, String> {
            let bytes = read(what).map_err(|error| error.to_string())?;
            Report::from_json(&bytes).map_err(|_| said(what))
        };
        let phases = report("phases").and_then(|report| match report.verdict.outcome() {
            RunOutcome::Answer(answer) => Ok((answer, report.duration_ms)),
            RunOutcome::Scenario(outcome) => Err(format!("a scenario: {outcome:?}")),
        });
        let experiments = report("help").map(|report| {
            let tried = report.experiments.iter().filter(|one| one.tried().is_some()).count();
            let heals = report.advice.as_ref().is_some_and(|advice| !advice.for_good.is_empty());
            (tried, heals)
        });
        let library: Value = read("library")
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
            .map_err(|error| format!("the library as {who}: {error}: {}", said("library")))?;
        // Of one file it is the report alone.
        let library = match library {
            Value::Array(all) => all,
            one => vec![one],
        };
        let scenarios = library.iter().map(came).collect::<Result<_, _>>()?;
        Ok(Self {
            kernel: kernel.clone(),
            who,
            lost_boots,
            phases,
            experiments,
            scenarios,
            tried_again: 0,
        })
    }

    /// How many scenarios came out as expected, otherwise, and were skipped.
    fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for (_, came) in &self.scenarios {
            counts[match came {
                Came::AsExpected => 0,
                Came::Otherwise(_) => 1,
                Came::Skipped(_) => 2,
            }] += 1;
        }
        counts
    }

    /// The scenarios that came out otherwise.
    pub(super) fn to_be_tried_again(&self) -> impl Iterator<Item = String> {
        let otherwise = |(name, came): &(String, Came)| {
            matches!(came, Came::Otherwise(_)).then(|| name.clone())
        };
        self.scenarios.iter().filter_map(otherwise)
    }

    /// Takes over how those that came out otherwise did by themselves.
    pub(super) fn take_over(&mut self, second: Row) {
        self.lost_boots += second.lost_boots;
        for (name, came) in &mut self.scenarios {
            let again = second.scenarios.iter().find(|(other, _)| other == name);
            if let (Came::Otherwise(_), Some((_, again))) = (&came, again) {
                *came = again.clone();
                self.tried_again += 1;
            }
        }
    }

    /// What came out otherwise than it should on every kernel.
    pub(super) fn otherwise(&self) -> impl Iterator<Item = String> {
        let phases = match &self.phases {
            Ok((VerdictOutcome::FullSuccess, _)) => None,
            Ok((answer, _)) => Some(format!("the five phases end with {answer}")),
            Err(error) => Some(format!("the five phases: {error}")),
        };
        let experiments = match &self.experiments {
            Ok((1.., true)) => None,
            Ok((tried, _)) => Some(format!("{tried} changes were tried, and none is advised")),
            Err(error) => Some(format!("the experiments: {error}")),
        };
        let scenarios = self.scenarios.iter().filter_map(|(name, came)| match came {
            Came::Otherwise(words) => Some(format!("{name}: {words}")),
            Came::AsExpected | Came::Skipped(_) => None,
        });
        let who = self.who;
        phases
            .into_iter()
            .chain(experiments)
            .chain(scenarios)
            .map(move |words| format!("{who}: {words}"))
    }
}

/// Which kernels and users something came out for otherwise; nothing where all is as it should be.
pub(super) fn differences(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        for words in row.otherwise() {
            let _ = writeln!(text, "linux {} as {words}", row.kernel.release);
        }
    }
    text
}

/// `docs/kernels.md`.
pub(super) fn document(rows: &[Row]) -> String {
    let mut text = String::from(HEAD);
    for row in rows {
        let phases = match &row.phases {
            Ok((answer, ms)) => format!("{answer}, {:.1} s", ms / 1e3),
            Err(_) => "not carried out".into(),
        };
        let experiments = match &row.experiments {
            Ok((tried, true)) => format!("{tried} tried, one heals"),
            Ok((tried, false)) => format!("{tried} tried"),
            Err(_) => "not carried out".into(),
        };
        let [expected, otherwise, skipped] = row.counts();
        let _ = writeln!(
            text,
            "| {} | {} | {phases} | {experiments} | {expected} | {otherwise} | {skipped} | {} | {} |",
            row.kernel.release, row.who, row.tried_again, row.lost_boots
        );
    }
    text.push_str(
        "\n## What is skipped or otherwise\n\n| scenario | kernel | as | |\n|---|---|---|---|\n",
    );
    for row in rows {
        for (name, came) in &row.scenarios {
            let (word, why) = match came {
                Came::AsExpected => continue,
                Came::Skipped(why) => ("skipped", why),
                Came::Otherwise(why) => ("otherwise", why),
            };
            let why = why.replace(['\n', '|'], " ");
            let _ = writeln!(
                text,
                "| `{name}` | {} | {} | {word}: {why} |",
                row.kernel.release, row.who
            );
        }
    }
    text
}

const HEAD: &str = "\
# Kernels

What the five phases, the experiments for a run that needs a change (`--volume mountpoint`) and the scenario library
give on Debian's kernels, each in an emulated guest, as root and as an ordinary user. Written by
`BLESS=1 make test-kernels`. Times are those of an emulated
processor and say nothing of a real one; a scenario that comes out otherwise is tried once more by itself.

| kernel | as | five phases | experiments | as expected | otherwise | skipped | tried again | boots lost |
|---|---|---|---|---:|---:|---:|---:|---:|
";
