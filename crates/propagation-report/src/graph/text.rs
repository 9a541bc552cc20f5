//! The picture as a text tree.

use std::fmt;

use super::{Card, CardMount, LinkKind, Part, Picture, Standing};
use crate::words::short;

/// The part in words.
pub(super) fn part(part: Part) -> &'static str {
    match part {
        Part::Host => "node",
        Part::Source => "producer",
        Part::Reader => "reader",
        Part::Control => "control",
    }
}

/// The sign of a standing.
pub(super) fn sign(standing: &Standing) -> &'static str {
    match standing {
        Standing::Good => "✓",
        Standing::Deaf(_) => "!",
        Standing::Dead(_) => "†",
        Standing::Broken(_) => "✗",
        Standing::Nothing => "-",
    }
}

impl fmt::Display for Picture {
    /// ```text
    /// ✓ node (node; saw ok)
    /// ├─ /tmp  0:41 tmpfs  shared:21
    /// └─ /tmp/fuse-test-bridge/dfs  0:43 fuse.propagation  shared:23
    /// ✗ consumer-late (reader; saw ENOTCONN from open)
    /// │  it has 0:43, and 0:44 is served: another connection
    /// └─ /mnt/dfs  0:43 fuse.propagation  master:23  ◀── node /tmp/fuse-test-bridge/dfs
    /// ```
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, card) in self.cards.iter().enumerate() {
            self.write_card(formatter, place, card)?;
        }
        match self.fresh {
            Some(device) => writeln!(formatter, "served: superblock {device}"),
            None => writeln!(formatter, "served: no FUSE mount"),
        }
    }
}

impl Picture {
    fn write_card(
        &self,
        formatter: &mut fmt::Formatter<'_>,
        place: usize,
        card: &Card,
    ) -> fmt::Result {
        write!(
            formatter,
            "{} {} ({}",
            sign(&card.standing),
            short(&card.title()),
            part(card.part)
        )?;
        if let Some(saw) = &card.saw {
            write!(formatter, "; saw {}", short(saw))?;
        }
        writeln!(formatter, ")")?;
        if let Some(reason) = card.standing.reason() {
            writeln!(formatter, "│  {}", short(reason))?;
        }
        for (index, mount) in card.mounts.iter().enumerate() {
            let branch = if index + 1 == card.mounts.len() { "└─" } else { "├─" };
            self.write_mount(formatter, branch, (place, index), mount)?;
        }
        Ok(())
    }

    fn write_mount(
        &self,
        formatter: &mut fmt::Formatter<'_>,
        branch: &str,
        place: (usize, usize),
        mount: &CardMount,
    ) -> fmt::Result {
        write!(
            formatter,
            "{branch} {}  {}  {}",
            mount.mount_point,
            short(&mount.filesystem()),
            mount.propagation()
        )?;
        for link in self.links.iter().filter(|link| link.to == place) {
            let arrow = match link.kind {
                LinkKind::Peers(_) => "◀─▶",
                LinkKind::Slave(_) => "◀──",
                LinkKind::Broken => "◀✗─",
            };
            let (card, row) = (&self.cards[link.from.0], link.from.1);
            write!(
                formatter,
                "  {arrow} {} {}",
                short(&card.title()),
                card.mounts[row].mount_point
            )?;
        }
        if mount.hidden {
            formatter.write_str("  (covered by the next)")?;
        }
        writeln!(formatter)
    }
}
