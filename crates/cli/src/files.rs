//! Files for the user: in a directory that no other user can write, complete or not at all, never through a
//! link, and readable by the user alone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use propagation_core::{Error, ErrorKind};

/// A directory that is held open: what others do to the names above it changes nothing.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    handle: at::Handle,
}

impl Directory {
    /// Makes the directory and its parents, for the user alone; or opens an existing one.
    ///
    /// Refuses a directory that belongs to neither the user nor root, or that others can write: they could put
    /// links and files into it.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        let handle = at::open(path)?;
        Ok(Self { path: path.to_owned(), handle })
    }

    /// The path of a file in it, for people.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a file that is not there yet.
    pub(crate) fn create_new(&self, name: &str) -> io::Result<File> {
        at::create_new(&self.handle, name)
    }

    /// Writes a file, in place of one that may be there.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.replace(name, |file| file.write_all(content)).map(drop)
    }

    /// Puts a file in the place of one that may be there, once it is filled; it is left open.
    pub(crate) fn replace(
        &self,
        name: &str,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<File> {
        let (temporary, mut file) = self.temporary(name)?;
        let placed = fill(&mut file).and_then(|()| at::rename(&self.handle, &temporary, name));
        match placed {
            Ok(()) => Ok(file),
            Err(error) => {
                let _ = self.remove(&temporary);
                Err(error)
            }
        }
    }

    fn temporary(&self, name: &str) -> io::Result<(String, File)> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let temporary = format!(".{name}.{}-{number}", std::process::id());
            match self.create_new(&temporary) {
                // Left by a process of this number that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return Ok((temporary, made?)),
            }
        }
    }

    /// The names in the directory, sorted; names that are not UTF-8 are left out.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path)?;
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Removes a file.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        at::remove(&self.handle, name)
    }
}

/// Makes a directory that `option` named, before anything runs, so that a bad one does not cost a run.
pub(crate) fn make_directory(path: &Path, option: &str) -> Result<Directory, Error> {
    Directory::make(path).map_err(|error| {
        let operation = format!("make the directory {}", path.display());
        Error::from_source(ErrorKind::InvalidInput, operation, error).with_fix(format!(
            "name a directory of your own with {option}, or one that is not there yet"
        ))
    })
}

#[cfg(unix)]
mod at {
    use std::fs::{self, DirBuilder, File};
    use std::io;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, Mode, OFlags};

    pub(super) type Handle = OwnedFd;

    pub(super) fn open(path: &Path) -> io::Result<Handle> {
        // A slash at the end would hide that it is a link.
        let path: PathBuf = path.components().collect();
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let link = fs::symlink_metadata(&path)?;
        refuse_strangers(link.uid())?;
        let handle = File::open(&path)?;
        let found = handle.metadata()?;
        if !found.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        refuse_strangers(found.uid())?;
        refuse_writers(&found)?;
        Ok(handle.into())
    }

    fn refuse_strangers(owner: u32) -> io::Result<()> {
        let user = rustix::process::geteuid().as_raw();
        if owner == 0 || owner == user {
            return Ok(());
        }
        Err(io::Error::other(format!("it belongs to uid {owner}, and not to you (uid {user})")))
    }

    fn refuse_writers(found: &fs::Metadata) -> io::Result<()> {
        let mode = found.mode();
        // Under the sticky bit nobody can touch the files of others. The group that has the number of
        // its user is the user's own.
        let others = mode & 0o002 != 0 || mode & 0o020 != 0 && found.gid() != found.uid();
        if others && mode & 0o1000 == 0 {
            let mode = mode & 0o7777;
            return Err(io::Error::other(format!("others can write it (its mode is {mode:04o})")));
        }
        Ok(())
    }

    pub(super) fn create_new(directory: &Handle, name: &str) -> io::Result<File> {
        // Appends: whoever reads it in between does not move the place where it is written.
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    pub(super) fn rename(directory: &Handle, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(directory, from, directory, to)?)
    }

    pub(super) fn remove(directory: &Handle, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?)
    }
}

/// Where directories have neither owners nor modes that this program knows.
#[cfg(not(unix))]
mod at {
    use std::fs::{self, File};
    use std::io;
    use std::path::{Path, PathBuf};

    pub(super) type Handle = PathBuf;

    pub(super) fn open(path: &Path) -> io::Result<Handle> {
        fs::create_dir_all(path)?;
        Ok(path.to_owned())
    }

    pub(super) fn create_new(directory: &Handle, name: &str) -> io::Result<File> {
        File::options().read(true).append(true).create_new(true).open(directory.join(name))
    }

    pub(super) fn rename(directory: &Handle, from: &str, to: &str) -> io::Result<()> {
        fs::rename(directory.join(from), directory.join(to))
    }

    pub(super) fn remove(directory: &Handle, name: &str) -> io::Result<()> {
        fs::remove_file(directory.join(name))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_made_is_for_the_user_alone() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let path = scratch.path().join("a/b/");
        let directory = Directory::make(&path).expect("made");
        directory.write("file", b"text").expect("written");
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("file")), 0o600);
        assert_eq!(directory.names().expect("names"), ["file"]);
    }

    #[test]
    fn links_are_replaced_and_never_followed() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let important = scratch.path().join("important");
        fs::write(&important, "kept").expect("written");
        let directory = Directory::make(&scratch.path().join("out")).expect("made");
        symlink(&important, directory.join("report.json")).expect("a link");
        directory.write("report.json", b"{}").expect("written");
        assert_eq!(fs::read_to_string(&important).expect("read"), "kept");
        assert_eq!(fs::read_to_string(directory.join("report.json")).expect("read"), "{}");
        symlink(&important, directory.join("log")).expect("a link");
        assert!(directory.create_new("log").is_err());
    }

    #[test]
    fn what_cannot_be_filled_leaves_the_old_one_and_nothing_else() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let directory = Directory::make(scratch.path()).expect("there");
        directory.write("file", b"old").expect("written");
        let failed = directory.replace("file", |_| Err(io::Error::other("no space")));
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(directory.join("file")).expect("read"), "old");
        assert_eq!(directory.names().expect("names"), ["file"]);
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let set = |mode| {
            fs::set_permissions(scratch.path(), fs::Permissions::from_mode(mode)).expect("set");
            Directory::make(scratch.path())
        };
        let refused = set(0o777).expect_err("refused");
        assert!(refused.to_string().contains("others can write it (its mode is 0777)"));
        set(0o1777).expect("sticky");
        set(0o755).expect("the user's own");
    }
}
