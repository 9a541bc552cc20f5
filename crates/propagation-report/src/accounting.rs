//! Counts after every step: mounts, FUSE superblocks, blocked processes, connections; and the counts that grow
//! from round to round.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mountinfo::MountTable;
use propagation_model::report::{Capture, Report, Usage};

/// The counts after every step of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounting {
    /// One row for each capture, in order.
    pub rows: Vec<Row>,
    /// The counts that grow over the rounds of a repeated step.
    pub growth: Vec<Growth>,
}

/// The counts after one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The step.
    pub step: String,
    /// Each actor with its number of mounts.
    pub mounts: Vec<(String, Mounts)>,
    /// Number of FUSE superblocks of these mounts, alive or dead.
    pub superblocks: u64,
    /// Processes in state D and FUSE connections, if counted.
    pub usage: Usage,
}

/// The number of mounts of one actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mounts {
    /// In all.
    pub all: u64,
    /// FUSE mounts.
    pub fuse: u64,
}

/// A count that grows in every round of a step, or in most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// The step that is repeated.
    pub step: String,
    /// What grows.
    pub what: String,
    /// The count after each round.
    pub counts: Vec<u64>,
}

impl Growth {
    /// The step that is repeated whole: `2` of its part `2.1-fault`.
    fn round(&self) -> &str {
        self.step.rsplit_once('.').map_or(&*self.step, |(repeated, _)| repeated)
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.counts.iter().map(ToString::to_string).collect();
        write!(formatter, "{} grow with every round of {}: ", self.what, self.step)?;
        formatter.write_str(&counts.join(", "))
    }
}

impl Accounting {
    /// Counts the captures of a report.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), propagation_core::Error> {
    /// use propagation_core::{fake::FakeBackend, Plan, Runner};
    /// use propagation_report::accounting::Accounting;
    ///
    /// let report = Runner::new(Plan::default())?.run(&FakeBackend::default()).await?;
    /// let accounting = Accounting::of(&report);
    /// assert_eq!(accounting.rows[1].step, "producer");
    /// assert_eq!(accounting.rows[1].superblocks, 1);
    /// # Ok(()) }
    /// ```
    pub fn of(report: &Report) -> Self {
        let rows: Vec<Row> = report.captures.iter().map(row).collect();
        let mut rounds: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in &rows {
            if let Some(step) = repeated(&row.step) {
                rounds.entry(step).or_default().push(row);
            }
        }
        let mut growth: Vec<Growth> = Vec::new();
        for (step, rounds) in rounds {
            for grown in grown(step, &rounds) {
                // Of the steps of one round the last one tells it.
                growth.retain(|known| known.what != grown.what || known.round() != grown.round());
                growth.push(grown);
            }
        }
        Self { rows, growth }
    }
}

/// The step that a round is one of: `2.1-fault` of `2.1-fault#3`, also of `2.1-fault#3#1`.
fn repeated(step: &str) -> Option<&str> {
    let (before, round) = step.rsplit_once('#')?;
    let is_round = !round.is_empty() && round.bytes().all(|byte| byte.is_ascii_digit());
    is_round.then(|| repeated(before).unwrap_or(before))
}

fn row(capture: &Capture) -> Row {
    let tables = capture.tables.iter();
    let devices: BTreeSet<_> =
        tables.clone().flat_map(|one| one.table.fuse_mounts().map(|mount| mount.device)).collect();
    Row {
        step: capture.step.clone(),
        mounts: tables.map(|one| (one.actor.to_string(), mounts(&one.table))).collect(),
        superblocks: devices.len() as u64,
        usage: capture.usage.clone(),
    }
}

fn mounts(table: &MountTable) -> Mounts {
    Mounts { all: table.entries().len() as u64, fuse: table.fuse_mounts().count() as u64 }
}

/// What grows over the rounds of a step: never less than in the round before, and more in the end.
fn grown(step: &str, rounds: &[&Row]) -> Vec<Growth> {
    let mut series: Vec<(String, Vec<Option<u64>>)> = Vec::new();
    let actors: BTreeSet<&str> =
        rounds.iter().flat_map(|row| row.mounts.iter().map(|(actor, _)| actor.as_str())).collect();
    for actor in actors {
        let of = |row: &&Row| row.mounts.iter().find(|one| one.0 == actor).map(|one| one.1.all);
        series.push((format!("mounts of {actor}"), rounds.iter().map(of).collect()));
    }
    let all = |count: fn(&Row) -> Option<u64>| rounds.iter().map(|row| count(row)).collect();
    series.push(("FUSE superblocks".into(), all(|row| Some(row.superblocks))));
    series.push(("processes in state D".into(), all(|row| row.usage.blocked_processes)));
    let grows = |counts: &[u64]| {
        counts.len() > 1
            && counts.windows(2).all(|pair| pair[0] <= pair[1])
            && counts.first() < counts.last()
    };
    series
        .into_iter()
        .filter_map(|(what, counts)| {
            let counts: Vec<u64> = counts.into_iter().collect::<Option<_>>()?;
            grows(&counts).then(|| Growth { step: step.to_owned(), what, counts })
        })
        .collect()
}

impl Row {
    /// The mounts of each actor, in words.
    pub(crate) fn mounts_in_words(&self) -> String {
        /// More actors than a person reads.
        const ACTORS: usize = 12;
        let shown = self.mounts.iter().take(ACTORS);
        let mut words: Vec<String> =
            shown.map(|(actor, n)| format!("{actor} {} ({} FUSE)", n.all, n.fuse)).collect();
        if self.mounts.len() > ACTORS {
            words.push(format!("and {} more", self.mounts.len() - ACTORS));
        }
        words.join(", ")
    }

    /// What stands under [`COLUMNS`]; a dash in the place of what was not counted.
    pub(crate) fn cells(&self) -> [String; 5] {
        let or_dash = |count: Option<u64>| count.map_or_else(|| "–".into(), |n| n.to_string());
        [
            self.step.clone(),
            self.mounts_in_words(),
            self.superblocks.to_string(),
            or_dash(self.usage.blocked_processes),
            or_dash(self.usage.fuse_connections),
        ]
    }
}

/// The heads of a table of rows.
pub(crate) const COLUMNS: [&str; 5] =
    ["After", "Mounts", "FUSE superblocks", "Processes in D", "FUSE connections"];

#[cfg(test)]
mod tests {
    use super::*;
    use mountinfo::MountTable;
    use propagation_model::observation::Actor;
    use propagation_model::report::ActorTable;

    #[test]
    fn the_last_step_of_a_round_tells_what_grows() {
        let json = include_bytes!("fixtures/full_success.json");
        let mut report = Report::from_json(json).expect("a report of this schema");
        let line = |id: usize| format!("{id} 1 0:5 / /m{id} rw - tmpfs t rw\n");
        let capture = |step: &str, mounts: usize| {
            let text: String = (10..10 + mounts).map(line).collect();
            let table = MountTable::parse(text.as_bytes()).expect("a table");
            Capture::new(step, 0, vec![ActorTable::new(Actor::Node, table)])
        };
        report.captures =
            [("2.1-fault#1", 1), ("2.2-repair#1", 2), ("2.1-fault#2", 2), ("2.2-repair#2", 3)]
                .map(|(step, mounts)| capture(step, mounts))
                .to_vec();
        let words: Vec<String> =
            Accounting::of(&report).growth.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["mounts of node grow with every round of 2.2-repair: 2, 3"]);
    }

    fn row(step: &str, node: u64, superblocks: u64, blocked: Option<u64>) -> Row {
        let mut usage = Usage::default();
        usage.blocked_processes = blocked;
        let mounts = vec![("node".into(), Mounts { all: node, fuse: superblocks })];
        Row { step: step.into(), mounts, superblocks, usage }
    }

    #[test]
    fn a_step_with_a_sign_in_its_name_is_no_round() {
        assert_eq!(repeated("2.1-fault#3"), Some("2.1-fault"));
        assert_eq!(repeated("2.1.1-fault#3#1"), Some("2.1.1-fault"));
        assert_eq!(repeated("2-try#again"), None);
        assert_eq!(repeated("2-start"), None);
    }

    #[test]
    fn what_grows_over_rounds_is_told_and_what_goes_back_is_not() {
        let rows = [row("r#1", 5, 1, None), row("r#2", 6, 1, None), row("r#3", 6, 1, Some(0))];
        let growth = grown("r", &rows.iter().collect::<Vec<_>>());
        let words: Vec<String> = growth.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["mounts of node grow with every round of r: 5, 6, 6"]);
        let rows =
            [row("r#1", 5, 1, Some(0)), row("r#2", 7, 2, Some(1)), row("r#3", 6, 2, Some(1))];
        let growth = grown("r", &rows.iter().collect::<Vec<_>>());
        let what: Vec<&str> = growth.iter().map(|one| one.what.as_str()).collect();
        assert_eq!(what, ["FUSE superblocks", "processes in state D"]);
        assert_eq!(grown("r", &[&rows[0]]), []);
    }
}
