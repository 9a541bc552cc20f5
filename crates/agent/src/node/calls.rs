//! The calls that are carried out at once: facts, changes, re-binds.

use std::fs;
use std::io::ErrorKind as IoKind;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use propagation_core::ErrorKind;
use propagation_core::journal::HostChange;
use propagation_core::mountinfo::MountPath;
use propagation_core::protocol::{Call, Failure, Place, Reply};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::root::IMAGE;
use super::server::Server;
use crate::facts;
use crate::failure::{failure, system};
use crate::fuse_mount::FS_TYPE;
use crate::mounts::{bind, errno_of, unmount_lazily};

impl Server {
    /// Carries out a call that touches the node's filesystem; runs in a child.
    pub(super) fn carry_out(&self, call: &Call) -> Result<Reply, Failure> {
        match call {
            Call::Facts => {
                let mut facts = facts::read(&self.proc, &self.setup.bridge);
                // fusermount3 runs in the producer's container and reads the file there.
                facts.fuse_conf = facts::fuse_conf(&format!("{IMAGE}/etc/fuse.conf"));
                facts.fuse_conf.path = "/etc/fuse.conf of the producer's container".into();
                Ok(Reply::Facts { facts: Box::new(facts) })
            }
            Call::Apply { change } => apply(change).map(|now| Reply::Applied { now }),
            Call::Undo { change } => self.undo(change).map(|()| Reply::Done),
            Call::RebindHost => self.rebind_host().map(|()| Reply::Done),
            Call::RebindContainer { container, .. } => {
                self.rebind_container(*container).map(|()| Reply::Done)
            }
            other => Err(failure(
                ErrorKind::Internal,
                format!("carry out {other:?}"),
                "this call is not carried out in a child",
                None,
            )),
        }
    }

    /// The mount tables of places: entering them and reading /proc never touches a FUSE daemon.
    pub(super) fn mounts(&self, places: &[Place]) -> Result<Reply, Failure> {
        let enter = |namespace: &std::os::fd::OwnedFd| {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)
                .map_err(|errno| system("enter a mount namespace", errno))
        };
        let read = |place: &Place| {
            let Ok(namespace) = self.namespace_of(place) else { return Ok(None) };
            enter(namespace)?;
            let text = self.proc.mountinfo()?;
            Ok(Some(String::from_utf8_lossy(&text).into_owned()))
        };
        let mountinfo: Result<_, Failure> = places.iter().map(read).collect();
        enter(&self.namespace)?;
        Ok(Reply::Mounts { mountinfo: mountinfo? })
    }

    /// Unmounts what the run has mounted on a directory, then removes it. A directory that still
    /// has a mount, or anything in it, stays.
    fn undo(&self, change: &HostChange) -> Result<(), Failure> {
        match change {
            HostChange::MakeDirectory { path, .. } => {
                self.unmount_own(path)?;
                remove_empty(path)
            }
            HostChange::AddLine { path, line } => remove_line(path, line),
        }
    }

    fn unmount_own(&self, path: &str) -> Result<(), Failure> {
        let target = MountPath::from(path);
        let table = self.proc.mount_table()?;
        let in_use = self.containers.values().any(super::programs::Container::serves);
        if in_use && table.at(&target).is_some_and(propagation_core::mountinfo::MountEntry::is_fuse)
        {
            return Err(failure(
                ErrorKind::Environment,
                format!("remove {path:?}"),
                "a producer serves a mount on it",
                Some("stop the producer first"),
            ));
        }
        for mount in table.stack_at(&target).iter().rev() {
            if mount.fs_type != FS_TYPE {
                let reason = format!("{} is mounted on it and is not this run's", mount.fs_type);
                let words = format!("remove {path:?}");
                return Err(failure(ErrorKind::Environment, words, reason, None));
            }
            unmount_lazily(Path::new(path))
                .map_err(|errno| system(format!("unmount {path:?}"), errno))?;
        }
        Ok(())
    }

    /// Binds the mount at the bridge's mountpoint over itself.
    fn rebind_host(&self) -> Result<(), Failure> {
        let path = format!("{}/{}", self.setup.bridge, self.setup.mountpoint);
        bind(Path::new(&path), Path::new(&path))
            .map_err(|errno| system(format!("bind {path:?} over itself"), errno))
    }

    /// Takes a copy of the node's fresh mount and puts it where the container's stale one is.
    fn rebind_container(&self, id: u32) -> Result<(), Failure> {
        let spec = self.containers.get(&id).map(super::programs::Container::spec);
        let Some(spec) = spec else {
            let words = format!("re-bind in container {id}");
            return Err(failure(
                ErrorKind::InvalidInput,
                words,
                "there is no such container",
                None,
            ));
        };
        let fresh = format!("{}/{}", self.setup.bridge, self.setup.mountpoint);
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let enter = |namespace: &std::os::fd::OwnedFd| {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)
                .map_err(|errno| system("enter a mount namespace", errno))
        };
        for replica in 0..spec.replicas {
            // A mount can be copied only in its own namespace.
            enter(&self.namespace)?;
            let tree = open_tree(rustix::fs::CWD, &fresh, flags)
                .map_err(|e| system(format!("copy the mount at {fresh:?}"), to_nix(e)))?;
            enter(self.namespace_of(&Place::Container(id, replica))?)?;
            self.replace_stale(&spec.fuse_path, &tree)?;
        }
        Ok(())
    }

    fn replace_stale(&self, path: &str, tree: &std::os::fd::OwnedFd) -> Result<(), Failure> {
        let table = self.proc.mount_table()?;
        let stale = table.at(&MountPath::from(path)).is_some_and(|mount| mount.is_fuse());
        if stale {
            unmount_lazily(Path::new(path))
                .map_err(|errno| system(format!("unmount the stale {path:?}"), errno))?;
        }
        move_mount(tree, "", rustix::fs::CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|e| system(format!("mount the fresh copy on {path:?}"), to_nix(e)))
    }
}

fn to_nix(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error())
}

/// Makes a change; returns whether it had to be made.
fn apply(change: &HostChange) -> Result<bool, Failure> {
    let failed = |error: &std::io::Error| system(change.to_string(), errno_of(error));
    match change {
        HostChange::MakeDirectory { path, owner } => {
            if let Some(parent) = Path::new(path).parent() {
                fs::create_dir_all(parent).map_err(|e| failed(&e))?;
            }
            match fs::create_dir(path) {
                Ok(()) => {
                    std::os::unix::fs::chown(path, Some(*owner), Some(*owner))
                        .map_err(|e| failed(&e))?;
                    Ok(true)
                }
                Err(error) if error.kind() == IoKind::AlreadyExists => Ok(false),
                Err(error) => Err(failed(&error)),
            }
        }
        HostChange::AddLine { path, line } => {
            let mut content = match fs::read_to_string(path) {
                Ok(content) => content,
                Err(error) if error.kind() == IoKind::NotFound => String::new(),
                Err(error) => return Err(failed(&error)),
            };
            if content.lines().any(|there| there.trim() == line) {
                return Ok(false);
            }
            if !content.is_empty() && !content.ends_with('\n') {
                content.push('\n');
            }
            content.push_str(line);
            content.push('\n');
            fs::write(path, content).map_err(|e| failed(&e))?;
            Ok(true)
        }
    }
}

/// Removes a directory if it is empty. One that is not there is removed already. The plain file of
/// the producer goes first.
fn remove_empty(path: &str) -> Result<(), Failure> {
    let plain = propagation_core::marker::PLAIN_FILE;
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

fn remove_line(path: &str, line: &str) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| system(format!("edit {path:?}"), errno_of(error));
    let content = match fs::read_to_string(path) {
        Ok(content) => content,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    let kept: Vec<&str> = content.lines().filter(|there| there.trim() != line).collect();
    if kept.is_empty() {
        return fs::remove_file(path).map_err(|e| failed(&e));
    }
    fs::write(path, format!("{}\n", kept.join("\n"))).map_err(|e| failed(&e))
}
