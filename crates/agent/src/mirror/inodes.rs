//! Which path an inode number of the mount stands for.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use fuser::INodeNo;

/// What the kernel knows by numbers that this filesystem has given.
#[derive(Debug)]
pub(super) struct Inodes {
    by_number: HashMap<u64, Inode>,
    /// By the device and the number of the directory that is shown.
    by_identity: HashMap<(u64, u64), u64>,
    next: u64,
}

#[derive(Debug)]
struct Inode {
    /// Below the directory that is shown; `.` is that directory. `None` when no name of it is known.
    path: Option<PathBuf>,
    identity: (u64, u64),
    /// How often the kernel has been told of it.
    lookups: u64,
}

impl Inodes {
    pub(super) fn new(root: (u64, u64)) -> Self {
        let inode = Inode { path: Some(PathBuf::from(".")), identity: root, lookups: 1 };
        let number = INodeNo::ROOT.0;
        Self {
            by_number: HashMap::from([(number, inode)]),
            by_identity: HashMap::from([(root, number)]),
            next: number + 1,
        }
    }

    /// Where it is, while it has a name that is known.
    pub(super) fn path(&self, inode: INodeNo) -> Option<&Path> {
        self.by_number.get(&inode.0)?.path.as_deref()
    }

    /// Where an entry of a directory is.
    pub(super) fn child(&self, parent: INodeNo, name: &OsStr) -> Option<PathBuf> {
        self.path(parent).map(|path| path.join(name))
    }

    /// The number of what lies at a path; the kernel is told of it.
    pub(super) fn tell(&mut self, path: PathBuf, identity: (u64, u64)) -> INodeNo {
        let number = match self.by_identity.get(&identity) {
            Some(number) => *number,
            None => {
                let number = self.next;
                self.next += 1;
                self.by_identity.insert(identity, number);
                number
            }
        };
        let inode = self.by_number.entry(number).or_insert_with(|| Inode {
            path: None,
            identity,
            lookups: 0,
        });
        inode.lookups += 1;
        // The last name counts: others may have been removed.
        if number != INodeNo::ROOT.0 {
            inode.path = Some(path);
        }
        INodeNo(number)
    }

    /// The kernel forgets it.
    pub(super) fn forget(&mut self, inode: INodeNo, lookups: u64) {
        let Some(known) = self.by_number.get_mut(&inode.0) else { return };
        known.lookups = known.lookups.saturating_sub(lookups);
        if known.lookups == 0 && inode != INodeNo::ROOT {
            let identity = known.identity;
            self.by_number.remove(&inode.0);
            if self.by_identity.get(&identity) == Some(&inode.0) {
                self.by_identity.remove(&identity);
            }
        }
    }

    /// A name of a file is gone. After the last one, whatever gets its identity next is another file.
    pub(super) fn removed(&mut self, identity: (u64, u64), path: &Path, is_last: bool) {
        let number = self.by_identity.get(&identity);
        if let Some(inode) = number.and_then(|number| self.by_number.get_mut(number))
            && (is_last || inode.path.as_deref() == Some(path))
        {
            inode.path = None;
        }
        if is_last {
            self.by_identity.remove(&identity);
        }
    }

    /// A file is somewhere else now.
    pub(super) fn renamed(&mut self, identity: (u64, u64), to: &Path) {
        let number = self.by_identity.get(&identity);
        if let Some(inode) = number.and_then(|number| self.by_number.get_mut(number)) {
            inode.path = Some(to.into());
        }
    }

    /// A directory, and what lies below it, is somewhere else now.
    pub(super) fn directory_renamed(&mut self, from: &Path, to: &Path) {
        for path in self.by_number.values_mut().filter_map(|inode| inode.path.as_mut()) {
            if let Some(moved) = moved(path, from, to) {
                *path = moved;
            }
        }
    }

    /// Two entries, and what lies below them, have taken each other's place.
    pub(super) fn exchanged(&mut self, one: &Path, other: &Path) {
        for path in self.by_number.values_mut().filter_map(|inode| inode.path.as_mut()) {
            if let Some(moved) = moved(path, one, other).or_else(|| moved(path, other, one)) {
                *path = moved;
            }
        }
    }
}

/// Where a path leads to after a renaming that concerns it.
fn moved(path: &Path, from: &Path, to: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(from).ok()?;
    Some(if rest.as_os_str().is_empty() { to.into() } else { to.join(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_while_the_kernel_knows_them() {
        let mut inodes = Inodes::new((1, 1));
        let a = inodes.tell("./a".into(), (1, 2));
        assert_eq!(inodes.tell("./a".into(), (1, 2)), a);
        inodes.forget(a, 1);
        assert_eq!(inodes.path(a), Some(Path::new("./a")));
        inodes.forget(a, 1);
        assert_eq!(inodes.path(a), None);
        inodes.forget(INodeNo::ROOT, 5);
        assert!(inodes.path(INodeNo::ROOT).is_some());
    }

    #[test]
    fn what_lies_in_a_renamed_directory_moves_with_it() {
        let mut inodes = Inodes::new((1, 1));
        let directory = inodes.tell("./d".into(), (1, 2));
        let file = inodes.tell("./d/f".into(), (1, 3));
        let other = inodes.tell("./dd".into(), (1, 4));
        inodes.directory_renamed(Path::new("./d"), Path::new("./e"));
        inodes.renamed((1, 4), Path::new("./g"));
        assert_eq!(inodes.path(directory), Some(Path::new("./e")));
        assert_eq!(inodes.path(file), Some(Path::new("./e/f")));
        assert_eq!(inodes.path(other), Some(Path::new("./g")));
    }

    #[test]
    fn a_file_is_found_by_a_name_that_it_still_has() {
        let mut inodes = Inodes::new((1, 1));
        let file = inodes.tell("./a".into(), (1, 2));
        inodes.removed((1, 2), Path::new("./other"), false);
        assert_eq!(inodes.path(file), Some(Path::new("./a")));
        inodes.removed((1, 2), Path::new("./a"), false);
        assert_eq!(inodes.path(file), None);
        assert_eq!(inodes.tell("./b".into(), (1, 2)), file);
        assert_eq!(inodes.path(file), Some(Path::new("./b")));
    }

    #[test]
    fn an_inode_number_that_is_used_again_is_another_file() {
        let mut inodes = Inodes::new((1, 1));
        let old = inodes.tell("./a".into(), (1, 2));
        inodes.removed((1, 2), Path::new("./a"), true);
        assert_eq!(inodes.path(old), None);
        let new = inodes.tell("./b".into(), (1, 2));
        assert_ne!(new, old);
        assert_eq!(inodes.path(old), None);
        inodes.forget(old, 1);
        assert_eq!(inodes.tell("./b".into(), (1, 2)), new);
    }
}
