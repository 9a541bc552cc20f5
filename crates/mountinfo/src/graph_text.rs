//! The mount graph as a compact text tree.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::entry::DeviceId;
use super::graph::{Group, MountGraph};
use super::path::MountPath;

/// Number of mounts that are named of those that differ only in their namespace; the others are counted.
const NAMED_ALIKE: usize = 10;

/// Deeper groups are not indented further, so that a hostile table cannot make the text quadratic
/// in its size. A group's line names its master anyway.
const DEEPEST_INDENT: usize = 16;

impl fmt::Display for MountGraph {
    /// A tree of groups: below each its members, its slaves, and the groups that are its slaves.
    ///
    /// ```text
    /// group 1
    ///   peer node:40 at /bridge (0:46 /)
    ///   slave consumer:71 at /data (0:46 /)
    ///   group 2, slave of 1
    ///     peer relay:90 at /mnt (0:46 /)
    /// 12 mounts in no group
    /// ```
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = HashSet::new();
        let tops = self.groups.iter().filter(|(_, group)| group.masters.is_empty());
        // Groups that are each other's masters have no top. Only a broken capture has such.
        for (&id, _) in tops.chain(&self.groups) {
            self.write_tree(formatter, id, &mut written)?;
        }
        let alone = self.mounts().filter(|(_, entry)| entry.shared.or(entry.master).is_none());
        match alone.count() {
            0 => Ok(()),
            1 => writeln!(formatter, "1 mount in no group"),
            count => writeln!(formatter, "{count} mounts in no group"),
        }
    }
}

impl MountGraph {
    fn write_tree(
        &self,
        formatter: &mut fmt::Formatter<'_>,
        top: u64,
        written: &mut HashSet<u64>,
    ) -> fmt::Result {
        let mut waiting = vec![(top, 0_usize, None)];
        while let Some((id, depth, master)) = waiting.pop() {
            let Some(group) = self.groups.get(&id).filter(|_| written.insert(id)) else { continue };
            let indent = 2 * depth.min(DEEPEST_INDENT);
            let view = if group.members.is_empty() { " (out of view)" } else { "" };
            write!(formatter, "{:indent$}group {id}{view}", "")?;
            if let Some((master, seen)) = master {
                let source = if seen { "" } else { " by propagate_from" };
                write!(formatter, ", slave of {master}{source}")?;
            }
            writeln!(formatter)?;
            self.write_mounts(formatter, indent + 2, group)?;
            let below = group.slave_groups.iter().rev();
            waiting.extend(below.map(|(&slave, &seen)| (slave, depth + 1, Some((id, seen)))));
        }
        Ok(())
    }

    fn write_mounts(
        &self,
        formatter: &mut fmt::Formatter<'_>,
        indent: usize,
        group: &Group,
    ) -> fmt::Result {
        for (role, mounts) in [("peer", &group.members), ("slave", &group.slaves)] {
            let mut alike: HashMap<(&MountPath, DeviceId, &MountPath), usize> = HashMap::new();
            let mut repeated = Vec::new();
            for &place in mounts {
                let (namespace, entry) = self.look(place);
                let key = (&entry.mount_point, entry.device, &entry.root);
                let count = alike.entry(key).or_default();
                *count += 1;
                if *count <= NAMED_ALIKE {
                    write!(formatter, "{:indent$}{role} {namespace}:{}", "", entry.mount_id)?;
                    writeln!(formatter, " at {} ({} {})", key.0, key.1, key.2)?;
                } else if *count == NAMED_ALIKE + 1 {
                    repeated.push(key);
                }
            }
            for key in repeated {
                let more = alike[&key] - NAMED_ALIKE;
                write!(formatter, "{:indent$}{role} ... and {more} more", "")?;
                writeln!(formatter, " at {} ({} {})", key.0, key.1, key.2)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MountGraph, MountTable};

    fn view(label: &str, lines: &str) -> (String, MountTable) {
        (label.to_owned(), MountTable::parse(lines.as_bytes()).unwrap())
    }

    #[test]
    fn mounts_alike_are_counted_beyond_ten() {
        let consumer = |index: usize| {
            let lines = format!("{index} 0 0:46 / /data rw master:1 - tmpfs t rw\n");
            view(&format!("consumer-{index}"), &lines)
        };
        let odd = view("odd", "90 0 0:46 /sub /data rw master:1 - tmpfs t rw\n");
        let text = MountGraph::build((11..36).map(consumer).chain([odd])).to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 13);
        assert_eq!(lines[0], "group 1 (out of view)");
        assert_eq!(lines[1], "  slave consumer-11:11 at /data (0:46 /)");
        assert_eq!(lines[11], "  slave odd:90 at /data (0:46 /sub)");
        assert_eq!(lines[12], "  slave ... and 15 more at /data (0:46 /)");
    }

    #[test]
    fn groups_that_are_each_others_masters_are_written_once() {
        let lines = "1 0 0:46 / / rw shared:1 master:2 - tmpfs t rw\n\
                     2 1 0:46 / /a rw shared:2 master:1 - tmpfs t rw\n";
        let text = MountGraph::build([view("here", lines)]).to_string();
        let expected = "\
group 1
  peer here:1 at / (0:46 /)
  group 2, slave of 1
    peer here:2 at /a (0:46 /)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_deep_chain_of_groups_stays_small() {
        let line = |group: usize| {
            format!("{group} 0 0:46 / / rw shared:{group} master:{} - tmpfs t rw\n", group - 1)
        };
        let lines: String = (1..=2000).map(line).collect();
        let text = MountGraph::build([view("here", &lines)]).to_string();
        assert_eq!(text.lines().count(), 4001);
        assert!(text.len() < 4001 * 80);
    }
}
