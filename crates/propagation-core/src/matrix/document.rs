//! Frequent questions, answered by cells, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Cell;
use crate::Class;

/// A question, and which cells answer it.
struct Question {
    title: &'static str,
    /// What the answer means, in words.
    about: &'static str,
    /// The axes that are fixed.
    fixed: &'static [(&'static str, &'static str)],
    /// The axis that is asked about: a row for each of its values.
    asked: &'static str,
}

const PLAIN: [(&str, &str); 6] = [
    ("covering", "shared"),
    ("runtime", "host"),
    ("allow_other", "yes"),
    ("uid", "0"),
    ("daemon", "builtin"),
    ("order", "after_mount"),
];

const QUESTIONS: [Question; 7] = [
    Question {
        title: "My consumer bound the mountpoint itself, and the daemon was killed. What saves it?",
        about: "Its volume is the dead superblock. A new mount made in the old one's place never reaches it; \
                one made on top of the old one does, because the old one is its parent.",
        fixed: &[("propagation", "HostToContainer"), ("volume", "mountpoint"), ("fault", "kill")],
        asked: "repair",
    },
    Question {
        title: "My consumer bound the directory above. What saves it?",
        about: "Mounts propagate through the parent: whatever happens in the directory happens in the consumer too.",
        fixed: &[("propagation", "HostToContainer"), ("volume", "bridge"), ("fault", "kill")],
        asked: "repair",
    },
    Question {
        title: "My consumer has the default mode (None). What saves it?",
        about: "Nothing that happens outside reaches it: only going into its mount namespace, or a new one.",
        fixed: &[("propagation", "None"), ("volume", "bridge"), ("fault", "kill")],
        asked: "repair",
    },
    Question {
        title: "Which directory should the volume be?",
        about: "The producer is killed and starts again, nothing else.",
        fixed: &[("propagation", "HostToContainer"), ("fault", "kill"), ("repair", "remount")],
        asked: "volume",
    },
    Question {
        title: "Which mount propagation does a consumer need?",
        about: "The producer is killed and starts again, nothing else.",
        fixed: &[("volume", "bridge"), ("fault", "kill"), ("repair", "remount")],
        asked: "propagation",
    },
    Question {
        title: "What does a consumer see between the fault and the repair?",
        about: "ENOTCONN is an error that a program notices; an empty directory is none.",
        fixed: &[("propagation", "HostToContainer"), ("volume", "bridge"), ("repair", "remount")],
        asked: "fault",
    },
    Question {
        title: "Does the mount that covers the directory matter?",
        about: "The runtime refuses a Bidirectional volume on a mount that is not shared, and a \
                HostToContainer one on a private mount.",
        fixed: &[
            ("propagation", "HostToContainer"),
            ("volume", "bridge"),
            ("fault", "kill"),
            ("repair", "remount"),
        ],
        asked: "covering",
    },
];

/// Whether a cell answers one of the questions of [`document`].
pub fn is_documented(axes: &BTreeMap<String, String>) -> bool {
    QUESTIONS.iter().any(|question| question.is_answered_by(axes))
}

impl Question {
    fn is_answered_by(&self, axes: &BTreeMap<String, String>) -> bool {
        let is = |(axis, value): &(&str, &str)| {
            *axis == self.asked || axes.get(*axis).is_some_and(|own| own == value)
        };
        let fixed = |axis: &str| self.fixed.iter().any(|(name, _)| *name == axis);
        self.fixed.iter().all(is) && PLAIN.iter().filter(|(axis, _)| !fixed(axis)).all(is)
    }
}

/// The document: frequent questions with the cells that answer them and the command that runs each again. Cells
/// that were not run leave their rows out.
pub fn document(cells: &[Cell]) -> String {
    let mut out = String::from(
        "# Atlas: which mount survives what\n\n\
         Made by `propagation matrix` from runs on the real kernel. Every row is a cell: one consumer, one \
         fault, one repair. `ok` is the fresh content of the running producer; everything else is what a \
         read of the marker gave.\n",
    );
    for question in &QUESTIONS {
        write_question(&mut out, question, cells);
    }
    out
}

// Writing to a String cannot fail, so the results of `write!` are dropped throughout.

fn write_question(out: &mut String, question: &Question, cells: &[Cell]) {
    let rows: Vec<&Cell> =
        cells.iter().filter(|cell| question.is_answered_by(&cell.axes)).collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n## {}\n\n{}\n", question.title, question.about);
    let _ = writeln!(out, "| {} | before | after the fault | in the end | again |", question.asked);
    let _ = writeln!(out, "|---|---|---|---|---|");
    for cell in rows {
        let value = cell.axes.get(question.asked).map_or("", String::as_str);
        let step = |index: usize| match &cell.seen {
            Some(seen) => seen.consumer.get(index).map(Class::to_string).unwrap_or_default(),
            None => cell.outcome(),
        };
        let _ = writeln!(
            out,
            "| {value} | {} | {} | **{}** | `propagation matrix --cell {}` |",
            step(0),
            step(1),
            step(2),
            short(cell)
        );
    }
}

/// The id of a cell without the axes that have their first value by default.
fn short(cell: &Cell) -> String {
    let plain = |axis: &str, value: &str| {
        super::AXES
            .iter()
            .any(|known| known.name == axis && known.usual == 1 && known.values[0].0 == value)
    };
    let pairs = cell
        .id
        .split(',')
        .filter(|pair| pair.split_once('=').is_some_and(|(axis, value)| !plain(axis, value)));
    pairs.collect::<Vec<_>>().join(",")
}
