//! The calls that are carried out at once: facts, changes, re-binds.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind as IoKind;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;
use propagation_core::ErrorKind;
use propagation_core::journal::HostChange;
use propagation_core::mountinfo::{MountEntry, MountPath, MountTable};
use propagation_core::protocol::{Call, ContainerSpec, Failure, Place, Reply};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::faults::CONNECTIONS;
use super::root::IMAGE;
use super::server::Server;
use super::view::View;
use crate::facts;
use crate::failure::{failure, system};
use crate::mounts::{bind, errno_of, propagate, unmount_lazily};
use crate::run_program;

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
            Call::RebindHost { deduplicate } => {
                self.rebind_host(*deduplicate).map(|()| Reply::Done)
            }
            Call::Unmount { lazy } => self.unmount(*lazy).map(|()| Reply::Done),
            Call::Execute { place, command, deadline_ms } => {
                self.execute(place, command, *deadline_ms)
            }
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
        let read = |place: &Place| match self.view_of(place) {
            Ok(view) => self.mountinfo_of(view).map(Some),
            Err(_) => Ok(None),
        };
        let mountinfo: Result<_, Failure> = places.iter().map(read).collect();
        Ok(Reply::Mounts { mountinfo: mountinfo? })
    }

    fn mountinfo_of(&self, view: &View) -> Result<String, Failure> {
        let enter = |view: &View| {
            view.enter_mounts().map_err(|errno| system("enter a mount namespace", errno))
        };
        enter(view)?;
        let text = self.proc.mountinfo();
        enter(&self.view)?;
        Ok(String::from_utf8_lossy(&text?).into_owned())
    }

    /// The parsed mount table of a view.
    pub(super) fn table_of(&self, view: &View) -> Result<MountTable, Failure> {
        crate::mounts::parse(self.mountinfo_of(view)?.as_bytes())
    }

    /// What processes and connections are doing; a figure that cannot be read is none.
    pub(super) fn usage(&self) -> Reply {
        let names = self.proc.list(".").ok();
        let blocked = |names: Vec<String>| {
            let pids = names.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
            let stuck = pids.filter(|pid| {
                let stat = self.proc.read(&format!("{pid}/stat")).unwrap_or_default();
                // After the name, which stands in brackets and may hold anything.
                let text = String::from_utf8_lossy(&stat);
                text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D'))
            });
            stuck.count() as u64
        };
        let connections = fs::read_dir(CONNECTIONS).ok();
        let fuse_connections = connections.map(|entries| entries.count() as u64);
        Reply::Usage { blocked_processes: names.map(blocked), fuse_connections }
    }

    /// Runs a program in the mount namespace of a place.
    fn execute(
        &self,
        place: &Place,
        command: &[String],
        deadline_ms: u64,
    ) -> Result<Reply, Failure> {
        let words = format!("run {}", command.join(" "));
        let failed = |errno| system(words.clone(), errno);
        let view = self.view_of(place)?;
        if let Some(pid) = self.apart_in(place) {
            let processes = self.proc.open_file(&format!("{pid}/ns/pid")).map_err(failed)?;
            // For the children of this process.
            setns(processes, CloneFlags::CLONE_NEWPID).map_err(failed)?;
        }
        view.enter().map_err(failed)?;
        let executed = run_program::run(command, &BTreeMap::new(), deadline_ms).map_err(failed)?;
        Ok(Reply::Executed { executed })
    }

    /// Process 1 of a container with a /proc of its own, in which nothing finds itself that runs outside:
    /// one that a runtime has made.
    fn apart_in(&self, place: &Place) -> Option<Pid> {
        let Place::Container(id, _) = place else { return None };
        self.engine.as_ref()?;
        self.containers.get(id)?.pid()
    }

    /// Unmounts the topmost mount at the mountpoint.
    fn unmount(&self, lazy: bool) -> Result<(), Failure> {
        let path = self.fuse_path();
        let mut flags = MntFlags::UMOUNT_NOFOLLOW;
        flags.set(MntFlags::MNT_DETACH, lazy);
        umount2(Path::new(&path), flags).map_err(|errno| system(format!("unmount {path:?}"), errno))
    }

    fn fuse_path(&self) -> String {
        format!("{}/{}", self.setup.bridge, self.setup.mountpoint)
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
            // On a simulated node every mount under the bridge is the run's; others are no FUSE.
            if !mount.is_fuse() {
                let reason = format!("{} is mounted on it and is not this run's", mount.fs_type);
                let words = format!("remove {path:?}");
                return Err(failure(ErrorKind::Environment, words, reason, None));
            }
            unmount_lazily(Path::new(path))
                .map_err(|errno| system(format!("unmount {path:?}"), errno))?;
        }
        Ok(())
    }

    /// Binds the mount at the bridge's mountpoint over itself; with `deduplicate` in the place of all
    /// layers that are there.
    fn rebind_host(&self, deduplicate: bool) -> Result<(), Failure> {
        let path = self.fuse_path();
        let target = Path::new(&path);
        let failed = |errno| system(format!("bind {path:?} over itself"), errno);
        if !deduplicate {
            return bind(target, target).map_err(failed);
        }
        let fresh = copy_of_mount(&path)?;
        let layers = self.proc.mount_table()?.stack_at(&MountPath::from(path.as_str())).len();
        for _ in 0..layers {
            unmount_lazily(target).map_err(failed)?;
        }
        move_mount(&fresh, "", rustix::fs::CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|errno| failed(to_nix(errno)))?;
        // A copy of a shared mount is a member of its group, and a moved one stays it; one whose
        // group has gone with the layers is made shared like every mount of the node.
        propagate(target, MsFlags::MS_SHARED).map_err(failed)
    }

    /// Takes a copy of the node's fresh mount and puts it where the container's stale one is. The part
    /// of the filesystem that the stale mount showed is the part that the copy shows.
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
        self.check_fresh()?;
        for replica in 0..spec.replicas {
            let view = self.view_of(&Place::Container(id, replica))?;
            let stale = self.stale_mount(spec, view)?;
            let enter = |view: &View| {
                view.enter_mounts().map_err(|errno| system("enter a mount namespace", errno))
            };
            // A mount can be copied only in its own namespace.
            enter(&self.view)?;
            let part = stale
                .as_ref()
                .map_or_else(|| "/".into(), |stale| stale.root.to_string_lossy().into_owned());
            let tree = copy_of_mount(self.fresh_part(&part).trim_end_matches('/'))?;
            enter(view)?;
            let path = stale.as_ref().map_or_else(
                || spec.fuse_path.clone(),
                |stale| stale.mount_point.to_string_lossy().into_owned(),
            );
            if stale.is_some() {
                unmount_lazily(Path::new(&path))
                    .map_err(|errno| system(format!("unmount the stale {path:?}"), errno))?;
            }
            move_mount(&tree, "", rustix::fs::CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .map_err(|e| system(format!("mount the fresh copy on {path:?}"), to_nix(e)))?;
        }
        Ok(())
    }

    /// Whether the node has a FUSE mount that answers, to be bound elsewhere.
    fn check_fresh(&self) -> Result<(), Failure> {
        let path = self.fuse_path();
        let table = self.proc.mount_table()?;
        let refuse = |reason: String| {
            let words = "re-bind in a container";
            let fix = "start the producer first: there has to be a mount that lives";
            Err(failure(ErrorKind::Environment, words, reason, Some(fix)))
        };
        if !table.at(&MountPath::from(path.as_str())).is_some_and(MountEntry::is_fuse) {
            return refuse(format!("no FUSE mount is at {path:?} on the node"));
        }
        match fs::metadata(&path) {
            Ok(_) => Ok(()),
            // Whom the mount does not let in says nothing of its life.
            Err(error) if errno_of(&error) == Errno::EACCES => Ok(()),
            Err(error) => {
                let words = crate::failure::errno_text(errno_of(&error));
                refuse(format!("the mount at {path:?} on the node: {words}"))
            }
        }
    }

    /// The FUSE mount that a container holds at its mountpoint, or as its volume.
    fn stale_mount(
        &self,
        spec: &ContainerSpec,
        view: &View,
    ) -> Result<Option<MountEntry>, Failure> {
        let table = self.table_of(view)?;
        let places = [spec.fuse_path.as_str(), spec.volumes[0].destination.as_str()];
        let found = places.iter().find_map(|place| {
            table.at(&MountPath::from(*place)).filter(|mount| mount.is_fuse()).cloned()
        });
        Ok(found)
    }

    /// Where a part of the fresh filesystem is on the node.
    fn fresh_part(&self, part: &str) -> String {
        format!("{}{}", self.fuse_path(), part)
    }
}

/// A detached copy of the mount, or of the part of it, at a path of the current namespace.
pub(crate) fn copy_of_mount(path: &str) -> Result<OwnedFd, Failure> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(rustix::fs::CWD, path, flags)
        .map_err(|e| system(format!("copy the mount at {path:?}"), to_nix(e)))
}

pub(crate) fn to_nix(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error())
}

/// Makes a change; returns whether it had to be made.
pub(crate) fn apply(change: &HostChange) -> Result<bool, Failure> {
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
pub(crate) fn remove_empty(path: &str) -> Result<(), Failure> {
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

pub(crate) fn remove_line(path: &str, line: &str) -> Result<(), Failure> {
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
