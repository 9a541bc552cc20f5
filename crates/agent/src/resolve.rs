//! Follows the symbolic links of a path, where nobody but root can lead them elsewhere.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use propagation_model::ErrorKind;
use propagation_protocol::Failure;

use crate::failure::{failure, system};
use crate::mounts::errno_of;

/// How many links a path may lead over: as many as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// The path without symbolic links that an absolute path leads to. What is not there yet is kept as it is written. A
/// path may hang here: call it in a child that can be given up.
///
/// # Errors
/// When somebody else than root could change a link between now and the use of its path; when there are too many.
pub(crate) fn resolve(path: &str) -> Result<String, Failure> {
    let operation = || format!("find out where {path:?} leads");
    let mut left: VecDeque<OsString> = names(Path::new(path)).collect();
    let mut way = Way::root().map_err(|error| system(operation(), errno_of(&error)))?;
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            way = way.up();
            continue;
        }
        let next = way.path.join(&name);
        // What cannot be looked at is told by whoever uses it.
        let Ok(found) = fs::symlink_metadata(&next) else {
            way.path = next;
            continue;
        };
        if !found.is_symlink() {
            way = way.down(next, &found);
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(system(operation(), nix::errno::Errno::ELOOP));
        }
        let target = fs::read_link(&next).map_err(|error| system(operation(), errno_of(&error)))?;
        if let Some(others) = way.others(&next, &found) {
            let meant = left.iter().fold(way.path.join(&target), |path, name| path.join(name));
            let reason = format!("{next:?} is a symbolic link that can be led elsewhere: {others}");
            let fix = format!("name what it leads to: {}", meant.to_string_lossy());
            return Err(failure(ErrorKind::InvalidInput, operation(), reason, Some(&fix)));
        }
        if target.is_absolute() {
            way = Way::root().map_err(|error| system(operation(), errno_of(&error)))?;
        }
        for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
            left.push_front(name);
        }
    }
    way.path.into_os_string().into_string().map_err(|_| {
        let reason = "a symbolic link leads to a path that is not text";
        failure(ErrorKind::InvalidInput, operation(), reason, None)
    })
}

/// The names on a path.
fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// A directory without symbolic links on its path.
struct Way {
    path: PathBuf,
    /// The directories on the way that others than root can change, with why.
    open: Vec<(PathBuf, String)>,
}

impl Way {
    fn root() -> std::io::Result<Self> {
        let root = Self { path: PathBuf::new(), open: Vec::new() };
        Ok(root.down("/".into(), &fs::symlink_metadata("/")?))
    }

    fn down(mut self, path: PathBuf, found: &fs::Metadata) -> Self {
        let mode = found.mode() & 0o7777;
        if found.uid() != 0 || mode & 0o022 != 0 {
            let words =
                format!("{path:?} belongs to UID {} and has the mode {mode:o}", found.uid());
            self.open.push((path.clone(), words));
        }
        self.path = path;
        self
    }

    fn up(mut self) -> Self {
        self.path.pop();
        let path = &self.path;
        self.open.retain(|(open, _)| path.starts_with(open));
        self
    }

    /// Who else than root can lead a link elsewhere that is in this directory.
    fn others(&self, link: &Path, found: &fs::Metadata) -> Option<String> {
        let owner = (found.uid() != 0).then(|| format!("{link:?} belongs to UID {}", found.uid()));
        owner.or_else(|| self.open.last().map(|(_, words)| words.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Whether the test with this name is to go on, in a /tmp that is empty and that only root can change.
    fn only_root_changes_tmp(name: &str) -> bool {
        nix::unistd::geteuid().is_root()
            && crate::own_mounts::inside(&format!("resolve::tests::{name}"))
    }

    #[test]
    fn links_of_root_are_followed() {
        if !only_root_changes_tmp("links_of_root_are_followed") {
            return;
        }
        fs::create_dir_all("/tmp/real/deep").expect("directories");
        symlink("real", "/tmp/relative").expect("a link");
        symlink("/tmp/relative/deep/../deep", "/tmp/absolute").expect("a link");
        for (asked, found) in [
            ("/tmp/relative", "/tmp/real"),
            ("/tmp/absolute/x/y", "/tmp/real/deep/x/y"),
            ("/tmp/real/deep", "/tmp/real/deep"),
            ("/tmp/nothing/there", "/tmp/nothing/there"),
            ("/", "/"),
        ] {
            assert_eq!(resolve(asked).expect("a path"), found, "{asked}");
        }
        symlink("loop", "/tmp/loop").expect("a link");
        assert!(resolve("/tmp/loop").expect_err("an end").reason.contains("ELOOP"));
    }

    #[test]
    fn links_that_others_can_change_are_refused() {
        if !only_root_changes_tmp("links_that_others_can_change_are_refused") {
            return;
        }
        fs::create_dir_all("/tmp/everybodys/below").expect("directories");
        fs::set_permissions("/tmp/everybodys", fs::Permissions::from_mode(0o1777)).expect("a mode");
        let links = ["/tmp/theirs", "/tmp/everybodys/link", "/tmp/everybodys/below/link"];
        for link in links {
            symlink("/srv", link).expect("a link");
        }
        std::os::unix::fs::lchown(links[0], Some(65534), None).expect("another owner");
        let words = ["theirs\" belongs to UID 65534", "has the mode 1777", "has the mode 1777"];
        for (link, words) in links.iter().zip(words) {
            let refused = resolve(&format!("{link}/x")).expect_err("a refusal");
            assert!(refused.reason.contains(words), "{}", refused.reason);
            assert_eq!(refused.fix.as_deref(), Some("name what it leads to: /srv/x"));
        }
        // Out of the directory again.
        symlink("/tmp/everybodys/..", "/tmp/out").expect("a link");
        symlink("/srv", "/tmp/in").expect("a link");
        assert_eq!(resolve("/tmp/out/in").expect("a path"), "/srv");
    }
}
