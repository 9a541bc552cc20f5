//! The changes that a run makes to a node, and taking them back.

use std::fs::{self, File};
use std::io::{self, ErrorKind as IoKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use propagation_model::ErrorKind;
use propagation_model::journal::HostChange;
use propagation_protocol::Failure;

use crate::failure::{failure, system};
use crate::mounts::errno_of;

/// Makes a change; returns whether it had to be made.
pub(crate) fn apply(change: &HostChange) -> Result<bool, Failure> {
    let failed = |error: io::Error| system(change.to_string(), errno_of(&error));
    match change {
        HostChange::MakeDirectory { path, owner } => {
            if let Some(parent) = Path::new(path).parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            match fs::create_dir(path) {
                Ok(()) => {
                    let owned = std::os::unix::fs::chown(path, Some(*owner), Some(*owner));
                    owned.map(|()| true).map_err(|error| {
                        let _ = fs::remove_dir(path);
                        match errno_of(&error) {
                            Errno::EINVAL => not_mapped(path, *owner),
                            errno => system(change.to_string(), errno),
                        }
                    })
                }
                Err(error) if error.kind() == IoKind::AlreadyExists => Ok(false),
                Err(error) => Err(failed(error)),
            }
        }
        HostChange::AddLine { path, line } => {
            let mut content = match fs::read_to_string(path) {
                Ok(content) => content,
                Err(error) if error.kind() == IoKind::NotFound => String::new(),
                Err(error) => return Err(failed(error)),
            };
            if content.lines().any(|there| there.trim() == line) {
                return Ok(false);
            }
            if !content.is_empty() && !content.ends_with('\n') {
                content.push('\n');
            }
            content.push_str(line);
            content.push('\n');
            replace(path, content.as_bytes(), None).map_err(failed)?;
            Ok(true)
        }
    }
}

/// What chown(2) means by EINVAL in a user namespace.
fn not_mapped(path: &str, owner: u32) -> Failure {
    let reason = format!("user id {owner} is not mapped into the node's user namespace");
    let fix = "give the user a range in /etc/subuid and /etc/subgid and install newuidmap (package \
               uidmap), or run it as root";
    failure(ErrorKind::Unsupported, format!("give {path:?} to uid {owner}"), reason, Some(fix))
}

/// Removes a directory if it is empty. One that is not there is removed already. The plain file of
/// the producer goes first.
pub(crate) fn remove_empty(path: &str) -> Result<(), Failure> {
    let plain = propagation_model::marker::PLAIN_FILE;
    let others = fs::read_dir(path)
        .is_ok_and(|mut entries| entries.any(|e| e.is_ok_and(|e| e.file_name() != plain)));
    if others {
        return Err(system(format!("remove {path:?}"), Errno::ENOTEMPTY));
    }
    let _ = fs::remove_file(Path::new(path).join(plain));
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == IoKind::NotFound => Ok(()),
        Err(error) => Err(system(format!("remove {path:?}"), errno_of(&error))),
    }
}

/// Takes a line out of a file, and removes a file that had nothing else: it was made for the line, or was
/// empty, which means the same.
pub(crate) fn remove_line(path: &str, line: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| system(format!("edit {path:?}"), errno_of(&error));
    let content = match fs::read_to_string(path) {
        Ok(content) => content,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let kept: String = content.split_inclusive('\n').filter(|there| there.trim() != line).collect();
    if kept.is_empty() {
        return fs::remove_file(path).map_err(failed);
    }
    replace(path, kept.as_bytes(), None).map_err(failed)
}

/// Replaces a file, so that the old or the new one is there whatever happens, on disk, and one that is
/// being executed is not written to. Without `mode` it keeps its own.
pub(crate) fn replace(path: &str, content: &[u8], mode: Option<u32>) -> io::Result<()> {
    let fresh = format!("{path}.new");
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(content)?;
        let permissions = match mode {
            Some(mode) => Some(fs::Permissions::from_mode(mode)),
            None => fs::metadata(path).ok().map(|there| there.permissions()),
        };
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&fresh)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str, content: Option<&str>) -> String {
        let directory = std::env::temp_dir().join(format!("changes-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join(name).to_string_lossy().into_owned();
        if let Some(content) = content {
            fs::write(&path, content).expect("a file");
        }
        path
    }

    fn add_and_remove(path: &str) -> Option<String> {
        let line = "user_allow_other";
        let change = HostChange::AddLine { path: path.into(), line: line.into() };
        assert_eq!(apply(&change).ok(), Some(true));
        assert_eq!(apply(&change).ok(), Some(false));
        assert!(fs::read_to_string(path).expect("the file").ends_with("user_allow_other\n"));
        assert_eq!(remove_line(path, line).ok(), Some(()));
        fs::read_to_string(path).ok()
    }

    #[test]
    fn a_line_that_is_taken_back_leaves_the_file_as_it_was() {
        let content = "# by hand\n\nmount_max = 7\n";
        let path = scratch("comment", Some(content));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("its mode");
        assert_eq!(add_and_remove(&path).as_deref(), Some(content));
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn a_file_that_was_made_for_a_line_goes_with_it() {
        assert_eq!(add_and_remove(&scratch("none", None)), None);
    }
}
