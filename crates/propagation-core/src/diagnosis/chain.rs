//! Drawing the mounts on the way to a path.

use crate::mountinfo::{MountEntry, MountPath, MountPropagation, MountTable};

/// The mounts that lie on each other on the way to `path`, from the root of the view to the mount
/// that covers it. Empty when nothing covers it.
pub fn chain<'table>(table: &'table MountTable, path: &MountPath) -> Vec<&'table MountEntry> {
    let mut links: Vec<&MountEntry> = Vec::new();
    let mut next = table.covering(path);
    while let Some(mount) = next {
        links.push(mount);
        // A table that is not a tree must not keep anybody here.
        next = table
            .by_id(mount.parent_id)
            .filter(|parent| links.iter().all(|known| known.mount_id != parent.mount_id));
    }
    links.reverse();
    links
}

/// The chain as lines of text, one mount each; the last one is the covering mount.
///
/// ```
/// use propagation_core::diagnosis::{chain, draw_chain};
/// use propagation_core::mountinfo::MountTable;
///
/// let table = MountTable::parse(
///     b"27 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n40 27 0:46 / /tmp rw - tmpfs tmpfs rw\n",
/// )?;
/// let lines = draw_chain(&chain(&table, &"/tmp/bridge".into()));
/// assert_eq!(lines, [
///     "/ (ext4 on 8:1) shared, group 1",
///     "└─ /tmp (tmpfs on 0:46) private: sends and receives nothing  <- covers the path",
/// ]);
/// # Ok::<(), propagation_core::mountinfo::ParseError>(())
/// ```
pub fn draw_chain(links: &[&MountEntry]) -> Vec<String> {
    let draw = |(depth, mount): (usize, &&MountEntry)| {
        let indent = match depth {
            0 => String::new(),
            _ => format!("{}└─ ", "   ".repeat(depth - 1)),
        };
        let covers = if depth + 1 == links.len() { "  <- covers the path" } else { "" };
        format!(
            "{indent}{} ({} on {}) {}{covers}",
            mount.mount_point,
            mount.fs_type,
            mount.device,
            travels(mount)
        )
    };
    links.iter().enumerate().map(draw).collect()
}

fn travels(mount: &MountEntry) -> String {
    let group = |group: Option<u64>| group.map_or_else(String::new, |group| group.to_string());
    match mount.propagation() {
        MountPropagation::Shared => format!("shared, group {}", group(mount.shared)),
        MountPropagation::Slave => {
            format!("slave of group {}: receives and sends nothing", group(mount.master))
        }
        MountPropagation::SlaveAndShared => format!(
            "shared, group {}, and slave of group {}",
            group(mount.shared),
            group(mount.master)
        ),
        MountPropagation::Unbindable => "unbindable: sends and receives nothing".into(),
        MountPropagation::Private => "private: sends and receives nothing".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_end() {
        let table = MountTable::parse(
            b"1 1 8:1 / / rw - ext4 d rw\n2 1 0:46 / /a rw master:3 - tmpfs t rw\n",
        )
        .expect("mountinfo");
        let links = chain(&table, &"/a/b".into());
        assert_eq!(links.iter().map(|mount| mount.mount_id).collect::<Vec<_>>(), [1, 2]);
        assert!(draw_chain(&links)[1].contains("slave of group 3: receives"));
        assert!(chain(&table, &"relative".into()).is_empty());
        assert!(draw_chain(&[]).is_empty());
    }
}
