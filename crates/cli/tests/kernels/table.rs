//! What was found on each kernel, and how it is told: differences only, and a document.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use super::guest::Kernel;
use super::support::library::{self, Came};
use propagation_core::kernel::{FeatureFact, FeatureState, KernelFeature, Known};
use propagation_core::report::Trial;
use propagation_core::{Report, RunOutcome, VerdictOutcome};

/// As whom it was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    pub(super) who: Who,
    lost_boots: u32,
    /// The answer of the five phases, and how long it took in the guest.
    phases: Result<(VerdictOutcome, f64), String>,
    /// What the agent found of the kernel.
    features: Vec<FeatureFact>,
    /// What changes gave for a run that needs one.
    experiments: Result<Advised, String>,
    scenarios: Vec<(String, Came)>,
    /// How many of them were tried once more by themselves.
    tried_again: usize,
    /// How long the library took in the guest, in seconds.
    seconds: u32,
}

impl Row {
    /// Reads what a guest has left in the shared directory.
    pub(super) fn read(
        kernel: &Kernel,
        who: Who,
        work: &Path,
        lost_boots: u32,
    ) -> Result<Self, String> {
        let read = |what: &str| fs::read(work.join(format!("{what}.json")));
        let said =
            |what: &str| fs::read_to_string(work.join(format!("{what}.err"))).unwrap_or_default();
        let report = |what: &str| -> Result<Report, String> {
            let bytes = read(what).map_err(|error| error.to_string())?;
            Report::from_json(&bytes).map_err(|_| said(what))
        };
        let phases = report("phases");
        let environment = phases.as_ref().ok().and_then(|report| report.environment.as_ref());
        let features = environment.map(|facts| facts.kernel.clone()).unwrap_or_default();
        let phases = phases.and_then(|report| match report.verdict.outcome() {
            RunOutcome::Answer(answer) => Ok((answer, report.duration_ms)),
            RunOutcome::Scenario(outcome) => Err(format!("a scenario: {outcome:?}")),
        });
        let experiments = report("help").map(|report| Advised::of(&report));
        let came = |what: &str| -> Result<Vec<(String, Came)>, String> {
            let bytes = read(what).map_err(|error| error.to_string())?;
            library::all_came(&bytes).map_err(|error| format!("{what}: {error}: {}", said(what)))
        };
        let mut scenarios = came("library")?;
        let again = if work.join("again.json").exists() { came("again")? } else { Vec::new() };
        let tried_again = library::take_over(&mut scenarios, &again);
        let seconds = fs::read_to_string(work.join("library.seconds"));
        let seconds = seconds.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
        let kernel = kernel.clone();
        Ok(Self {
            kernel,
            who,
            lost_boots,
            phases,
            features,
            experiments,
            scenarios,
            tried_again,
            seconds,
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

    /// What came out otherwise than it should on every kernel.
    pub(super) fn otherwise(&self) -> impl Iterator<Item = String> {
        let phases = match &self.phases {
            Ok((VerdictOutcome::FullSuccess, _)) => None,
            Ok((answer, _)) => Some(format!("the five phases end with {answer}")),
            Err(error) => Some(format!("the five phases: {error}")),
        };
        let experiments = match &self.experiments {
            Ok(Advised { instead: None, .. }) => None,
            Ok(Advised { instead: Some(words), .. }) | Err(words) => {
                Some(format!("the experiments: {words}"))
            }
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

/// What changes gave for a run that needs one.
#[derive(Debug, Clone)]
struct Advised {
    /// How many were tried.
    tried: usize,
    /// What was seen instead of one that heals for good.
    instead: Option<String>,
}

impl Advised {
    fn of(report: &Report) -> Self {
        let tried = report.experiments.iter().filter(|one| one.tried().is_some()).count();
        let advice = report.advice.as_ref();
        if advice.is_some_and(|advice| !advice.for_good.is_empty()) {
            return Self { tried, instead: None };
        }
        let phases = report.phases.iter().filter_map(|phase| {
            phase.reason.as_ref().map(|reason| format!("{}: {reason}", phase.id))
        });
        let untried = report.experiments.iter().find_map(|one| match &one.trial {
            Trial::NotTried { reason } => Some(reason.clone()),
            Trial::Tried(_) => None,
        });
        let said: Vec<String> =
            phases.chain(untried).chain(advice.map(|advice| advice.head.clone())).collect();
        let outcome = report.verdict.outcome();
        let instead = format!("{tried} tried, none heals: {outcome:?}; {}", said.join("; "));
        Self { tried, instead: Some(instead) }
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
pub(super) fn document(rows: &[Row], halves: bool, found: &str) -> String {
    let halves = if halves { HALVES } else { "" };
    let mut text = format!("{HEAD}{halves}{found}\n\n{COLUMNS}");
    for row in rows {
        let phases = match &row.phases {
            Ok((answer, ms)) => format!("{answer}, {:.1} s", ms / 1e3),
            Err(_) => "not carried out".into(),
        };
        let experiments = match &row.experiments {
            Ok(Advised { tried, instead: None }) => format!("{tried} tried, one heals"),
            Ok(Advised { tried, instead: Some(_) }) => format!("{tried} tried, none heals"),
            Err(_) => "not carried out".into(),
        };
        let [expected, otherwise, skipped] = row.counts();
        let _ = writeln!(
            text,
            "| {} | {} | {phases} | {experiments} | {expected} | {otherwise} | {skipped} | {} | {} s | {} |",
            row.kernel.release, row.who, row.tried_again, row.seconds, row.lost_boots
        );
    }
    write_features(&mut text, rows);
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

/// What each kernel has of that which matters to FUSE mounts in containers, as root found it.
fn write_features(text: &mut String, rows: &[Row]) {
    let rows: Vec<&Row> =
        rows.iter().filter(|row| row.who == Who::Root && !row.features.is_empty()).collect();
    text.push_str(FEATURES);
    for row in &rows {
        let _ = write!(text, " {} |", row.kernel.release);
    }
    let _ = writeln!(text, "\n|---|---|{}", "---|".repeat(rows.len()));
    for feature in KernelFeature::ALL {
        let _ = write!(text, "| {}: {} | {} |", feature.name(), feature.worth(), feature.since());
        for row in &rows {
            let fact = row.features.iter().find(|fact| fact.feature == feature);
            let _ = write!(text, " {} |", fact.map_or("not asked", |fact| state(fact)));
        }
        text.push('\n');
    }
}

fn state(fact: &FeatureFact) -> &'static str {
    match (fact.state, fact.known) {
        (FeatureState::There, Known::Probed) => "yes",
        (FeatureState::There, Known::ByVersion) => "by its version",
        (FeatureState::Off, _) => "switched off",
        (FeatureState::Missing, _) => "no",
    }
}

const FEATURES: &str = "
## What each kernel gives

As `propagation doctor` finds it: asked of the kernel where that can be asked, otherwise by its version. `scenarios/` says
what a set-up does without.

| feature | since Linux |";

const HEAD: &str = "\
# Kernels

What the five phases, the experiments for a run that needs a change (`--volume mountpoint`) and the scenario library
give on Debian's kernels, in emulated guests, as root and as an ordinary user. Written by `BLESS=1 make test-kernels`.
Times are those of an emulated processor and say nothing of a real one; a scenario that comes out otherwise is tried
once more by itself. What needs a newer kernel says so in its file (`since`) and is skipped on an older one.

With the newest kernel, scripts in `crates/cli/tests/kernels/real` try what the library cannot: profiles of AppArmor that
deny the mount, SELinux without a policy and with that of Debian 13, permissive and enforcing, automount, a FUSE mount that
smbd or nfs-ganesha exports to the kernel's client and what a dead server does to it, phases over CIFS and NFS, idmapped
volumes, control groups of version 2 that deny `/dev/fuse` or kill the daemon or a consumer for its memory, re-binds under
load, a root that is an initramfs, and `fs.fuse.default_request_timeout`.

";

const HALVES: &str = "\
Each file ran once on each kernel: as root on one, as an ordinary user on the next.
";

const COLUMNS: &str = "\
| kernel | as | five phases | experiments | as expected | otherwise | skipped | tried again | library took | boots lost |
|---|---|---|---|---:|---:|---:|---:|---:|---:|
";
