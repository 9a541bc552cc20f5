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
    /// Below the directory that is shown; `.` is that directory.
    path: PathBuf,
    identity: (u64, u64),
    /// How often the kernel has been told of it.
    lookups: u64,
}

impl Inodes {
    pub(super) fn new(root: (u64, u64)) -> Self {
        let inode = Inode { path: PathBuf::from("."), identity: root, lookups: 1 };
        let number = INodeNo::ROOT.0;
        Self {
            by_number: HashMap::from([(number, inode)]),
            by_identity: HashMap::from([(root, number)]),
            next: number + 1,
        }
    }

    /// Where it is.
    pub(super) fn path(&self, inode: INodeNo) -> Option<&Path> {
        self.by_number.get(&inode.0).map(|inode| inode.path.as_path())
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
            path: path.clone(),
            identity,
            lookups: 0,
        });
        inode.lookups += 1;
        // The last name counts: others may have been removed.
        if number != INodeNo::ROOT.0 {
            inode.path = path;
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

    /// The last name of a file is gone: whatever gets its identity next is another one.
    pub(super) fn removed(&mut self, identity: (u64, u64)) {
        self.by_identity.remove(&identity);
    }

    /// A file is somewhere else now.
    pub(super) fn renamed(&mut self, identity: (u64, u64), to: &Path) {
        let number = self.by_identity.get(&identity);
        if let Some(inode) = number.and_then(|number| self.by_number.get_mut(number)) {
            inode.path = to.into();
        }
    }

    /// A directory, and what lies below it, is somewhere else now.
    pub(super) fn directory_renamed(&mut self, from: &Path, to: &Path) {
        for inode in self.by_number.values_mut() {
            if let Ok(rest) = inode.path.strip_prefix(from) {
                inode.path = if rest.as_os_str().is_empty() { to.into() } else { to.join(rest) };
            }
        }
    }
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
    fn an_inode_number_that_is_used_again_is_another_file() {
        let mut inodes = Inodes::new((1, 1));
        let old = inodes.tell("./a".into(), (1, 2));
        inodes.removed((1, 2));
        let new = inodes.tell("./b".into(), (1, 2));
        assert_ne!(new, old);
        inodes.forget(old, 1);
        assert_eq!(inodes.tell("./b".into(), (1, 2)), new);
    }
}
