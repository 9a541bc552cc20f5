//! The calls that are carried out at once: facts, changes, re-binds.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use mountinfo::{MountEntry, MountPath, MountTable};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::unistd::Pid;
use propagation_model::ErrorKind;
use propagation_model::journal::HostChange;
use propagation_model::program::{Attach, Attached, Executed, ProgramState};
use propagation_protocol::{Call, Failure, Place, Reply};

use super::capabilities::drop_all_but;
use super::root::IMAGE;
use super::server::Server;
use super::view::View;
use crate::bridge::{self, Side};
use crate::changes::{apply, remove_empty, remove_line};
use crate::facts;
use crate::failure::{failure, system};
use crate::mounts::{to_nix, unmount_lazily};
use crate::publish::{publish, unpublish};
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
                bridge::rebind(&self.proc, &self.fuse_path(), *deduplicate).map(|()| Reply::Done)
            }
            Call::Unmount { lazy } => {
                bridge::unmount(&self.fuse_path(), *lazy).map(|()| Reply::Done)
            }
            Call::Publish { path } => {
                publish(&self.proc, &self.fuse_path(), path).map(|()| Reply::Done)
            }
            Call::Unpublish { path } => unpublish(&self.proc, path).map(|()| Reply::Done),
            Call::Execute { place, command, deadline_ms } => {
                self.execute(place, command, *deadline_ms)
            }
            Call::Attach { container, how } => {
                self.attach(*container, *how).map(|attached| Reply::Attached { attached })
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
        let init = self.apart_in(place);
        // Opened before: its number may be another's afterwards.
        let watched = init.map(watch_end).transpose();
        let enter = || {
            if let Some(pid) = init {
                let processes = self.proc.open_file(&format!("{pid}/ns/pid"))?;
                // For the children of this process.
                setns(processes, CloneFlags::CLONE_NEWPID)?;
            }
            view.enter()?;
            // What the program of an unprivileged container may not do, no other program in it may.
            if let Place::Container(id, _) = place
                && let Some(spec) = self.containers.get(id).map(super::programs::Container::spec)
                && !spec.privileged
                && !spec.host
            {
                drop_all_but(&spec.capabilities)?;
            }
            prctl::set_no_new_privs()
        };
        let ran = watched.and_then(|watched| {
            let ran = run_program::run_after(command, &BTreeMap::new(), deadline_ms, enter);
            ran.map(|executed| (executed, watched))
        });
        let killed = || ProgramState::Signaled { signal: propagation_model::Signal::SIGKILL };
        let executed = match ran {
            // Its pid namespace was gone before the program was in it.
            Err(Errno::ENOENT | Errno::ESRCH) if init.is_some() => {
                Executed { state: Some(killed()), output: CONTAINER_ENDED.into() }
            }
            Err(errno) => return Err(failed(errno)),
            Ok((mut executed, watched)) => {
                let cut_short = executed.state == Some(killed())
                    || executed.exit_code() == Some(run_program::NOT_STARTED);
                if cut_short && watched.is_some_and(|watched| ends(&watched)) {
                    executed.output.push_str(CONTAINER_ENDED);
                }
                executed
            }
        };
        Ok(Reply::Executed { executed })
    }

    /// Process 1 of a container with a /proc of its own, in which nothing finds itself that runs outside:
    /// one that a runtime has made.
    fn apart_in(&self, place: &Place) -> Option<Pid> {
        let Place::Container(id, _) = place else { return None };
        self.engine.as_ref()?;
        self.containers.get(id)?.pid()
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
        if in_use && table.at(&target).is_some_and(MountEntry::is_fuse) {
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

    /// Gives a container the node's mount, in all replicas.
    fn attach(&self, id: u32, how: Attach) -> Result<Attached, Failure> {
        let Some(spec) = self.containers.get(&id).map(super::programs::Container::spec) else {
            let words = format!("attach container {id}");
            let reason = "unknown container";
            return Err(failure(ErrorKind::InvalidInput, words, reason, None));
        };
        let path = self.fuse_path();
        let mut attached = Attached::default();
        for replica in 0..spec.replicas {
            let container = self.view_of(&Place::Container(id, replica))?;
            let one = bridge::attach(&self.proc, &path, spec, how, |side| {
                let view = if side == Side::Node { &self.view } else { container };
                view.enter_mounts().map_err(|errno| system("enter a mount namespace", errno))
            })?;
            attached.hole = attached.hole.max(one.hole);
        }
        Ok(attached)
    }
}

/// What is said of a program that its container took with it.
const CONTAINER_ENDED: &str = "its container ended\n";

/// A descriptor that becomes ready when a process ends.
fn watch_end(pid: Pid) -> Result<OwnedFd, Errno> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::ESRCH)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).map_err(to_nix)
}

/// Whether a process ends: process 1 of a pid namespace waits for those that it takes with it.
fn ends(watched: &OwnedFd) -> bool {
    /// Far above what it takes, in milliseconds.
    const LIMIT_MS: u16 = 2_000;
    let mut descriptors = [PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut descriptors, PollTimeout::from(LIMIT_MS)), Ok(ready) if ready > 0)
}
