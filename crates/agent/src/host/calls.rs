//! The calls that touch the node: facts, changes, re-binds, mount tables.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use mountinfo::MountPath;
use nix::sched::{CloneFlags, setns};
use propagation_model::ErrorKind;
use propagation_model::facts::{HostFacts, RUNTIMES};
use propagation_model::journal::HostChange;
use propagation_model::plan::Role;
use propagation_model::program::{Attach, Attached};
use propagation_protocol::host::{HostCall, HostReply};
use propagation_protocol::{Call, ContainerSpec, Failure, Place, Reply};

use super::journal;
use super::server::Server;
use crate::bridge::{self, Side};
use crate::changes::apply;
use crate::facts;
use crate::failure::{failure, system};
use crate::mounts::parse;
use crate::run_program;

impl Server {
    /// Carries out a call that may block; runs in a child.
    pub(super) fn carry_out(&self, call: &HostCall) -> Result<HostReply, Failure> {
        let refuse = |what: &dyn std::fmt::Debug| {
            let words = format!("carry out {what:?}");
            Err(failure(ErrorKind::Unsupported, words, "it is not for host agents", None))
        };
        let call = match call {
            HostCall::Node { call } => call,
            HostCall::Clean => return Ok(self.clean()),
            HostCall::CheckBridge => {
                self.check_bridge()?;
                return Ok(HostReply::Node { reply: Reply::Done });
            }
            HostCall::Foresee { paths } => {
                paths.iter().try_for_each(|path| self.foresee(path))?;
                return Ok(HostReply::Node { reply: Reply::Done });
            }
            HostCall::Admit { .. } | HostCall::Ended | HostCall::End => return refuse(call),
        };
        let reply = match call {
            Call::Facts => Reply::Facts { facts: Box::new(self.facts()) },
            Call::Apply { change } => {
                let mut now = false;
                for change in with_parents(change) {
                    now = journal::make(&self.layout.journal(), &change, apply)?;
                }
                Reply::Applied { now }
            }
            Call::Undo { change } => {
                self.undo(change)?;
                Reply::Done
            }
            Call::RebindHost { deduplicate } => {
                bridge::rebind(&self.proc, &self.bridge.fuse_path(), *deduplicate)?;
                Reply::Done
            }
            Call::Unmount { lazy } => {
                bridge::unmount(&self.bridge.fuse_path(), *lazy)?;
                Reply::Done
            }
            Call::Execute { place, command, deadline_ms } => {
                Self::execute(place, command, *deadline_ms)?
            }
            Call::Usage => facts::usage(&self.proc),
            Call::Inject { container, .. } => return self.abort(*container),
            Call::Attach { container, how } => {
                Reply::Attached { attached: self.attach(*container, *how)? }
            }
            other => return refuse(other),
        };
        Ok(HostReply::Node { reply })
    }

    /// Runs a program on the node. In a container the runtime does it, with what the container may do.
    fn execute(place: &Place, command: &[String], deadline_ms: u64) -> Result<Reply, Failure> {
        let operation = format!("run {}", command.join(" "));
        if let Place::Container(..) = place {
            let reason = "a host agent runs programs on the node only";
            return Err(failure(ErrorKind::Unsupported, operation, reason, None));
        }
        let executed = run_program::run(command, &BTreeMap::new(), deadline_ms)
            .map_err(|errno| system(operation, errno))?;
        Ok(Reply::Executed { executed })
    }

    fn facts(&self) -> HostFacts {
        let mut facts = facts::read(&self.proc, &self.bridge.path);
        // What the runtime sees decides; it may live in a mount namespace of its own.
        let table = runtime_pid().and_then(|pid| fs::read(format!("/proc/{pid}/mountinfo")).ok());
        if let Some(table) = table.and_then(|text| parse(&text).ok()) {
            facts.covering_mount =
                table.covering(&MountPath::from(self.bridge.path.as_str())).cloned();
        }
        facts
    }

    /// The mount tables of places. Reading /proc never touches a FUSE daemon.
    pub(super) fn mounts(&self, places: &[Place]) -> Result<Reply, Failure> {
        let read = |place: &Place| -> Result<Option<String>, Failure> {
            let text = match place {
                Place::Node => self.proc.mountinfo()?,
                Place::Runtime => {
                    let pid = runtime_pid();
                    let text = pid.and_then(|pid| fs::read(format!("/proc/{pid}/mountinfo")).ok());
                    match text {
                        Some(text) => text,
                        None => self.proc.mountinfo()?,
                    }
                }
                Place::Container(id, replica) => {
                    let Some((pid, _)) = self.programs.running(*id, *replica) else {
                        return Ok(None);
                    };
                    match fs::read(format!("/proc/{pid}/mountinfo")) {
                        Ok(text) if !text.is_empty() => text,
                        // It has just ended.
                        _ => return Ok(None),
                    }
                }
            };
            Ok(Some(String::from_utf8_lossy(&text).into_owned()))
        };
        let mountinfo = places.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Reply::Mounts { mountinfo })
    }

    /// Refuses a mountpoint on which another run or another program has mounted.
    pub(super) fn check_mountpoint(&self, containers: &[ContainerSpec]) -> Result<(), Failure> {
        if containers.iter().any(|spec| spec.role == Role::Producer) {
            self.check_mounts_at(&self.bridge.fuse_path())?;
        }
        self.note_external(containers)
    }

    /// Refuses a path on which there is a mount that is not the run's.
    pub(super) fn check_mounts_at(&self, path: &str) -> Result<(), Failure> {
        let table = self.proc.mount_table()?;
        let stack = table.stack_at(&MountPath::from(path));
        match stack.iter().find(|mount| !self.is_own(mount)) {
            None => Ok(()),
            Some(mount) => Err(failure(
                ErrorKind::InvalidInput,
                format!("mount on {path:?}"),
                format!("there is already a mount: {mount}"),
                Some("name another bridge, or clean up the run that left it"),
            )),
        }
    }

    /// Makes sure that everything which is found at the bridge has the bridge's name: mount tables have
    /// the names that symbolic links lead to.
    fn check_bridge(&self) -> Result<(), Failure> {
        let path = Path::new(&self.bridge.path);
        let there = path.ancestors().find_map(|there| Some((there, there.canonicalize().ok()?)));
        if let Some((there, meant)) = there.filter(|(there, meant)| *there != meant.as_path()) {
            let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
            let meant = meant.join(rest);
            let reason = format!("a symbolic link leads to {:?}", meant.to_string_lossy());
            let fix = format!("name that as the bridge: {}", meant.to_string_lossy());
            let words = format!("use the bridge {:?}", self.bridge.path);
            return Err(failure(ErrorKind::InvalidInput, words, reason, Some(&fix)));
        }
        self.check_mounts_at(&self.bridge.fuse_path())
    }

    /// Notes a directory that a kubelet may make for the run, with its parents. In a mounted filesystem it is
    /// none of the node's.
    fn foresee(&self, path: &str) -> Result<(), Failure> {
        let table = self.proc.mount_table()?;
        let mounted = Path::new(path).ancestors().any(|directory| {
            table.at(&MountPath::from(directory)).is_some_and(|mount| mount.is_fuse())
        });
        if mounted {
            return Ok(());
        }
        let change = HostChange::MakeDirectory { path: path.into(), owner: 0 };
        for change in with_parents(&change) {
            let HostChange::MakeDirectory { path, .. } = &change else { continue };
            if fs::symlink_metadata(path).is_err() {
                journal::foresee(&self.layout.journal(), &change)?;
            }
        }
        Ok(())
    }

    /// Gives a container the node's mount, in all replicas.
    fn attach(&self, id: u32, how: Attach) -> Result<Attached, Failure> {
        let (_, spec) = self.programs.running(id, 0).ok_or_else(|| {
            let words = format!("attach container {id}");
            failure(ErrorKind::InvalidInput, words, "unknown container", None)
        })?;
        let path = self.bridge.fuse_path();
        let here = self.proc.of_thread("ns/mnt").map_err(|e| system("open the namespace", e))?;
        let mut attached = Attached::default();
        for replica in 0..spec.replicas {
            let container = self.programs.namespace(id, replica)?;
            let one = bridge::attach(&self.proc, &path, spec, how, |side| {
                let namespace = if side == Side::Node { &here } else { container };
                setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)
                    .map_err(|errno| system("enter a mount namespace", errno))
            })?;
            attached.hole = attached.hole.max(one.hole);
        }
        Ok(attached)
    }

    fn undo(&self, change: &HostChange) -> Result<(), Failure> {
        let mut journal = journal::read(&self.layout.journal())?;
        let entries: Vec<usize> =
            journal.to_undo().filter(|(_, made)| *made == change).map(|(n, _)| n).collect();
        if entries.is_empty() {
            return Ok(());
        }
        if let Some(others) = self.take_back(change)? {
            return Err(failure(ErrorKind::Environment, format!("undo {change}"), others, None));
        }
        entries.into_iter().for_each(|entry| journal.undone(entry));
        journal::write(&self.layout.journal(), &journal)
    }

    /// What the run's mounts call their source.
    pub(super) fn source(&self) -> String {
        source(&self.run_id)
    }
}

/// A change, and before it those that it needs: a directory's parents are the run's too when it makes them.
fn with_parents(change: &HostChange) -> Vec<HostChange> {
    let mut changes = vec![change.clone()];
    if let HostChange::MakeDirectory { path, .. } = change {
        let parents = Path::new(path).ancestors().skip(1);
        let missing = parents.take_while(|parent| fs::symlink_metadata(parent).is_err());
        changes.extend(missing.map(|parent| HostChange::MakeDirectory {
            path: parent.to_string_lossy().into_owned(),
            owner: 0,
        }));
    }
    changes.reverse();
    changes
}

/// What the mounts of a run call their source.
pub(super) fn source(run_id: &str) -> String {
    format!("propagation-{run_id}")
}

/// The process that starts containers on this node, if its name is known.
fn runtime_pid() -> Option<u32> {
    let pids = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    pids.filter(|pid| RUNTIMES.contains(&name(pid).trim())).min()
}
