//! The mount graph as a picture: for every actor only the mounts that decide whether it sees the
//! FUSE mount, the links between them, and the broken link.
//!
//! ```text
//!  producer               node                          consumer
//! ┌──────────────┐       ┌───────────────────────┐     ┌──────────────┐
//! │ /mnt         │◀─────▶│ /tmp        shared:21 │────▶│ /mnt         │  volume
//! │ /mnt/dfs     │◀─────▶│ /tmp/b/dfs  shared:23 │────▶│ /mnt/dfs     │  FUSE mount
//! └──────────────┘ peers └───────────────────────┘slave└──────────────┘
//! ```
//!
//! Actors with the same mounts share one card, so that a picture of 10,000 consumers is no larger
//! than one of two. The renderings are [`dot`], [`svg`] and, as text, [`Display`](std::fmt::Display).

mod build;
pub mod dot;
pub mod svg;
mod text;

use mountinfo::{DeviceId, MountPath, diff};
use propagation_model::observation::Actor;
use propagation_model::plan::PhaseName;
use propagation_model::report::{Capture, Report};

/// The mounts that matter, of all actors at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// The actors, the node first.
    pub cards: Vec<Card>,
    /// The links between their mounts.
    pub links: Vec<Link>,
    /// The superblock that is served: that of the producer, or of the node without one.
    pub fresh: Option<DeviceId>,
}

/// Which part an actor plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The node, or the runtime's namespace on it.
    Host,
    /// It makes the mount.
    Source,
    /// It should see the mount.
    Reader,
    /// It must not see the mount.
    Control,
}

/// One actor, or several that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The namespaces that it stands for, by the names of their actors.
    pub names: Vec<String>,
    /// Its part.
    pub part: Part,
    /// Its mounts up to the FUSE mount, bottom to top.
    pub mounts: Vec<CardMount>,
    /// Whether it has the current mount.
    pub standing: Standing,
    /// What it saw last, in words.
    pub saw: Option<String>,
}

impl Card {
    /// Its names; of many names the first few and a count.
    pub fn title(&self) -> String {
        const NAMED: usize = 3;
        if self.names.len() <= NAMED {
            return self.names.join(", ");
        }
        let named = self.names[..NAMED - 1].join(", ");
        format!("{named} and {} alike", self.names.len() - (NAMED - 1))
    }
}

/// One mount on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardMount {
    /// Its id in the namespace of the card's first name.
    pub mount_id: u64,
    /// Where it is mounted.
    pub mount_point: MountPath,
    /// Its superblock.
    pub device: DeviceId,
    /// The directory of the superblock that it shows.
    pub root: MountPath,
    /// Its filesystem.
    pub fs_type: String,
    /// Its peer group.
    pub shared: Option<u64>,
    /// The group that it receives from.
    pub master: Option<u64>,
    /// Whether a FUSE daemon serves it.
    pub is_fuse: bool,
    /// Whether another mount lies on top of it at the same place.
    pub hidden: bool,
    /// Whether a cause of the diagnosis names it.
    pub accused: bool,
}

impl CardMount {
    /// Its propagation in mountinfo's words: `shared:2 master:1`, or `private`.
    pub fn propagation(&self) -> String {
        match (self.shared, self.master) {
            (Some(group), Some(master)) => format!("shared:{group} master:{master}"),
            (Some(group), None) => format!("shared:{group}"),
            (None, Some(master)) => format!("master:{master}"),
            (None, None) => "private".into(),
        }
    }

    /// Its superblock and filesystem, with the directory that it shows where that is not the top.
    pub fn filesystem(&self) -> String {
        if self.root.as_bytes() == b"/" {
            format!("{} {}", self.device, self.fs_type)
        } else {
            format!("{} {} {}", self.device, self.fs_type, self.root)
        }
    }
}

/// Whether an actor has the current mount.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Standing {
    /// As expected: it has the mount, or it is a control without the mount.
    Good,
    /// It has the mount, and will not hear of the next one; why.
    Deaf(String),
    /// It has the current mount, but the daemon does not answer; what it saw.
    Dead(String),
    /// It lacks the mount, or has that of an earlier connection; why.
    Broken(String),
    /// Nothing is mounted yet.
    Nothing,
}

impl Standing {
    /// Why it is not good.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Deaf(reason) | Self::Dead(reason) | Self::Broken(reason) => Some(reason),
            Self::Good | Self::Nothing => None,
        }
    }
}

/// How mounts propagate between two mounts, or that they should and do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// Both ways: one peer group.
    Peers(u64),
    /// From the first to the second, which is a slave of the group.
    Slave(u64),
    /// Not at all, and it should.
    Broken,
}

/// A link between two mounts, each given as the place of its card and its place on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    /// The sending end.
    pub from: (usize, usize),
    /// The receiving end.
    pub to: (usize, usize),
    /// Its kind.
    pub kind: LinkKind,
}

impl Picture {
    /// The picture of one capture of a report.
    pub fn of(report: &Report, capture: &Capture) -> Self {
        build::build(report, capture)
    }

    /// Whether an actor lacks the mount that it should have.
    pub fn is_broken(&self) -> bool {
        self.cards.iter().any(|card| matches!(card.standing, Standing::Broken(_)))
    }
}

/// The most telling capture: the last one with a broken link, else the first in which the next mount will not
/// reach an actor, else the one at the end of the phase `consumer`.
pub fn telling(report: &Report) -> Option<&Capture> {
    let captures = &report.captures;
    let has = |capture: &&Capture, wanted: fn(&Standing) -> bool| {
        Picture::of(report, capture).cards.iter().any(|card| wanted(&card.standing))
    };
    captures
        .iter()
        .rev()
        .find(|capture| has(capture, |standing| matches!(standing, Standing::Broken(_))))
        .or_else(|| {
            captures.iter().find(|c| has(c, |standing| matches!(standing, Standing::Deaf(_))))
        })
        .or_else(|| captures.iter().find(|capture| capture.step == PhaseName::Consumer.as_str()))
        .or(captures.last())
}

/// What changed in the mount tables between two captures, a line for each mount: `+` for a new one,
/// `-` for one that has gone, `~` for one that became another.
pub fn changes(before: &Capture, after: &Capture) -> Vec<String> {
    let mut lines = Vec::new();
    for now in &after.tables {
        let Some(table) = before.table(&now.actor) else {
            lines.push(format!("{}: started, {} mounts", now.actor, now.table.entries().len()));
            continue;
        };
        let difference = diff(table, &now.table);
        let actor = &now.actor;
        lines.extend(difference.removed.iter().map(|mount| format!("{actor}: - {mount}")));
        lines.extend(difference.added.iter().map(|mount| format!("{actor}: + {mount}")));
        lines.extend(
            difference
                .changed
                .iter()
                .map(|change| format!("{actor}: ~ {} (was {})", change.after, change.before)),
        );
    }
    let gone = |actor: &Actor| after.table(actor).is_none();
    lines.extend(
        before
            .tables
            .iter()
            .filter(|one| gone(&one.actor))
            .map(|one| format!("{}: ended", one.actor)),
    );
    lines
}
