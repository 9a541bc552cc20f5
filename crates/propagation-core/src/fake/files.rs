//! Ordinary files of the model, and paths as text.

use std::collections::BTreeMap;

use crate::errno::Errno;

/// What a path of a filesystem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum File {
    /// A directory and the UID of its owner.
    Directory(u32),
    /// A regular file with its content.
    Regular(String),
    /// A symbolic link to a directory elsewhere.
    Symlink(String),
}

/// The files of an ordinary filesystem, by their paths in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    files: BTreeMap<String, File>,
    /// Whether nothing can be changed any more.
    pub(super) read_only: bool,
}

impl Files {
    /// A filesystem with these directories, owned by root.
    pub(super) fn with_directories(names: &[&str]) -> Self {
        let directory = |name: &&str| (join("/", name), File::Directory(0));
        Self { files: names.iter().map(directory).collect(), read_only: false }
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        match path {
            "/" => Some(&File::Directory(0)),
            path => self.files.get(path),
        }
    }

    /// Puts a file at a path.
    ///
    /// # Errors
    /// The errno.
    pub(super) fn put(&mut self, path: &str, file: File) -> Result<(), Errno> {
        if self.read_only {
            return Err(Errno::EROFS);
        }
        self.files.insert(path.into(), file);
        Ok(())
    }

    /// Makes a directory and its parents; `false` when it was there.
    ///
    /// # Errors
    /// The errno.
    pub(super) fn make_directory(&mut self, path: &str, owner: u32) -> Result<bool, Errno> {
        match self.get(path) {
            Some(File::Directory(_) | File::Symlink(_)) => return Ok(false),
            Some(File::Regular(_)) => return Err(Errno::EEXIST),
            None => {}
        }
        let parent = path.rsplit_once('/').map_or("/", |(parent, _)| parent);
        if matches!(self.get(parent), Some(File::Regular(_))) {
            return Err(Errno::ENOTDIR);
        }
        if !parent.is_empty() {
            self.make_directory(parent, 0)?;
        }
        self.put(path, File::Directory(owner))?;
        Ok(true)
    }

    /// Removes a file. Succeeds when it is absent.
    ///
    /// # Errors
    /// The errno.
    pub(super) fn remove(&mut self, path: &str) -> Result<(), Errno> {
        if self.read_only && self.files.contains_key(path) {
            return Err(Errno::EROFS);
        }
        self.files.remove(path);
        Ok(())
    }

    /// Removes a directory that holds nothing but, at most, the file `own`, and that file. Succeeds
    /// when the directory is absent.
    ///
    /// # Errors
    /// The errno; nothing is removed then.
    pub(super) fn remove_directory(&mut self, path: &str, own: &str) -> Result<(), Errno> {
        let own = join(path, own);
        let inside = |other: &str| below(other, path).is_some_and(|inside| !inside.is_empty());
        if self.files.keys().any(|other| inside(other) && *other != own) {
            return Err(Errno::ENOTEMPTY);
        }
        self.remove(&own)?;
        self.remove(path)
    }
}

/// A path below a directory.
pub(super) fn join(directory: &str, inside: &str) -> String {
    match (directory, inside.trim_start_matches('/')) {
        (directory, "") => directory.into(),
        ("/", inside) => format!("/{inside}"),
        (directory, inside) => format!("{directory}/{inside}"),
    }
}

/// What of `path` lies below `directory`: empty when they are the same, none when it lies outside.
pub(super) fn below<'path>(path: &'path str, directory: &str) -> Option<&'path str> {
    let rest = path.strip_prefix(directory.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_a_directory_are_told_from_their_neighbours() {
        assert_eq!(below("/a/b", "/a"), Some("b"));
        assert_eq!(below("/a", "/a"), Some(""));
        assert_eq!(below("/a", "/"), Some("a"));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", ""), "/a");
        assert_eq!(join("/a", "b/c"), "/a/b/c");
    }

    #[test]
    fn directories_are_made_with_their_parents_and_removed_when_empty() {
        let mut files = Files::default();
        assert_eq!(files.make_directory("/a/b", 7), Ok(true));
        assert_eq!(files.make_directory("/a/b", 0), Ok(false));
        assert_eq!(files.get("/a/b"), Some(&File::Directory(7)));
        let _ = files.put("/a/own", File::Regular("x".into()));
        assert_eq!(files.remove_directory("/a", "own"), Err(Errno::ENOTEMPTY));
        assert!(files.get("/a/own").is_some(), "refused, and half done");
        assert_eq!(files.remove_directory("/a/b", "own"), Ok(()));
        assert_eq!(files.remove_directory("/a", "own"), Ok(()));
        assert_eq!(files.remove_directory("/a", "own"), Ok(()));
        assert!(files.get("/a/own").is_none());
        files.read_only = true;
        assert_eq!(files.make_directory("/c", 0), Err(Errno::EROFS));
    }
}
