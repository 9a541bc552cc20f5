//! What a real node does of what nodes of every kind do, and what it alone does.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::BorrowedFd;

use mountinfo::{MountEntry, MountPath};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
use propagation_model::ErrorKind;
use propagation_model::facts::HostFacts;
use propagation_model::journal::HostChange;
use propagation_model::marker::Marker;
use propagation_model::plan::{Fault, Role};
use propagation_model::runtime_apart;
use propagation_protocol::host::HostCall;
use propagation_protocol::{ContainerSpec, Failure, Look, Place, Reply};
use rustix::process::Signal;

use super::bridge::{Resolving, foresee, with_parents};
use super::ending::{Ending, KILLED_WITHIN_MS, Then};
use super::journal;
use super::peer::Pod;
use super::processes::send;
use super::state::Host;
use crate::changes::apply;
use crate::facts;
use crate::failure::{failure, system};
use crate::mounts::{Proc, parse};
use crate::run_program;
use crate::serve::{Begun, World, begin, in_child, take_back};
use crate::stuck::Stuck;
use crate::view::View;

/// Time for a kubelet to end a container after its deletion. It is waited for: a kubelet restarts a container
/// that is killed earlier.
const ENDED_WITHIN_MS: u64 = 5_000;

impl World for Host {
    type Call = HostCall;

    fn hear(&mut self) -> Result<Vec<(u64, HostCall)>, Errno> {
        // Children that have ended are nobody's to wait for.
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|s| s.pid().is_some()) {}
        let requests = self.requests()?.into_iter();
        Ok(requests.map(|request| (request.id, request.call)).collect())
    }

    fn take(&mut self, id: u64, call: HostCall, idle: bool) -> Result<Begun<Self>, Failure> {
        match call {
            HostCall::Node { call } => begin(self, id, call, idle),
            HostCall::Admit { program, pod, secret, user_namespace } => {
                self.programs.admit(program, Pod { uid: pod, secret, user_namespace });
                Ok(Begun::Answered(Reply::Done))
            }
            HostCall::Resolve { paths } => Resolving::start(self, paths).map(Begun::job),
            HostCall::Foresee { paths } => {
                in_child(self, "note what a kubelet may make", 0, |host| {
                    paths.iter().try_for_each(|path| foresee(host, path)).map(|()| Reply::Done)
                })
            }
            HostCall::HandOver { container, marker } => {
                self.programs.expect_successor(container, &marker)?;
                Ok(Begun::Answered(Reply::Done))
            }
            HostCall::StartDaemon { container, marker, stale } => {
                self.start_daemon(container, marker, stale).map(Begun::Answered)
            }
            HostCall::Ended => {
                // A kubelet cannot end a daemon of an agent before this one that is stuck.
                if self.programs.all(None).next().is_none() {
                    self.release(&[], true)?;
                }
                self.wait_for_all(None)
            }
            HostCall::Clean => {
                self.programs.expect_nothing(None);
                self.programs.all(None).try_for_each(|process| send(process, Signal::KILL))?;
                let all = self.programs.all(None);
                Ending::of(all, Then::Clean, KILLED_WITHIN_MS).map(Begun::job)
            }
            HostCall::End => {
                self.ending = true;
                Ok(Begun::Answered(Reply::Done))
            }
        }
    }

    fn advance(&mut self, _now: u64) {
        self.take_programs();
    }

    fn answer(&mut self, id: u64, result: Result<Reply, Failure>) {
        // What a program said before its end comes before the answer.
        self.take_programs();
        self.session.answer(id, result);
    }

    fn is_over(&self) -> bool {
        self.ending
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors()
    }

    fn deadline(&self) -> Option<u64> {
        self.programs.deadline()
    }

    fn proc(&self) -> &Proc {
        &self.proc
    }

    fn stuck(&self) -> &Stuck {
        &self.stuck
    }

    fn stuck_mut(&mut self) -> (&Proc, &mut Stuck) {
        (&self.proc, &mut self.stuck)
    }

    fn view_of(&self, place: &Place) -> Result<&View, Failure> {
        match place {
            Place::Container(id, replica) => self.programs.view(*id, *replica),
            Place::Node | Place::Runtime => Ok(&self.view),
        }
    }

    fn mountinfo(&self, place: &Place) -> Result<Option<Vec<u8>>, Failure> {
        let of_process =
            |pid: &dyn std::fmt::Display| fs::read(format!("/proc/{pid}/mountinfo")).ok();
        match place {
            Place::Node => self.proc.mountinfo().map(Some),
            Place::Runtime => match runtime_apart().and_then(|(_, pid)| of_process(&pid)) {
                Some(text) => Ok(Some(text)),
                None => self.proc.mountinfo().map(Some),
            },
            Place::Container(id, replica) => {
                let text = self.programs.pid(*id, *replica).and_then(|pid| of_process(&pid));
                // One that has just ended has an empty table.
                Ok(text.filter(|text| !text.is_empty()))
            }
        }
    }

    fn spec_of(&self, container: u32) -> Option<&ContainerSpec> {
        self.programs.spec(container)
    }

    fn fuse_path(&self) -> String {
        self.bridge.fuse_path()
    }

    fn owns(&self, mount: &MountEntry) -> bool {
        self.is_own(mount)
    }

    fn check_others_at(&self, path: &str) -> Result<(), Failure> {
        self.check_mounts_at(path)
    }

    fn a_producer_serves(&self) -> bool {
        self.programs.a_producer_serves()
    }

    fn may_hang(&self) -> bool {
        true
    }

    fn facts(&self) -> HostFacts {
        let mut facts = facts::read(&self.proc, &self.bridge.path);
        // What the runtime sees decides; it may live in a mount namespace of its own.
        let table = self.mountinfo(&Place::Runtime).ok().flatten();
        if let Some(table) = table.and_then(|text| parse(&text).ok()) {
            let path = MountPath::from(self.bridge.path.as_str());
            facts.covering_mount = table.covering(&path).cloned();
        }
        facts
    }

    fn apply(&self, change: &HostChange) -> Result<bool, Failure> {
        let mut now = false;
        for change in with_parents(change) {
            now = journal::make(&self.layout.journal(), &change, apply)?;
        }
        Ok(now)
    }

    fn undo(&self, change: &HostChange) -> Result<(), Failure> {
        let mut journal = journal::read(&self.layout.journal())?;
        let entries: Vec<usize> =
            journal.to_undo().filter(|(_, made)| *made == change).map(|(n, _)| n).collect();
        if entries.is_empty() {
            return Ok(());
        }
        if let Some(others) = take_back(self, change)? {
            return Err(failure(ErrorKind::Environment, format!("undo {change}"), others, None));
        }
        entries.into_iter().for_each(|entry| journal.undone(entry));
        journal::write(&self.layout.journal(), &journal)
    }

    /// In a container the runtime runs programs, with what the container may do.
    fn execute(
        &self,
        place: &Place,
        command: &[String],
        deadline_ms: u64,
    ) -> Result<Reply, Failure> {
        let operation = format!("run {}", command.join(" "));
        if let Place::Container(..) = place {
            let reason = "a host agent runs programs on the node only";
            return Err(failure(ErrorKind::Unsupported, operation, reason, None));
        }
        let executed = run_program::run(command, &BTreeMap::new(), deadline_ms);
        let executed = executed.map_err(|errno| system(operation, errno))?;
        Ok(Reply::Executed { executed })
    }

    /// Stores what programs are to do. One that waits already is told at once.
    fn start(&mut self, specs: Vec<ContainerSpec>, _: u64) -> Result<Begun<Self>, Failure> {
        if specs.iter().any(|spec| spec.role == Role::Producer) {
            self.check_mountpoint()?;
        }
        self.note_external(&specs)?;
        specs.iter().for_each(|spec| self.programs.expect(spec));
        self.start_here(&specs)?;
        let refused = specs.iter().map(|_| None).collect();
        Ok(Begun::Answered(Reply::Started { refused }))
    }

    fn hold(&mut self, _: &[Look], _: &[Marker], _: u64) -> Result<Begun<Self>, Failure> {
        let reason = "a host agent keeps no descriptors open";
        Err(failure(ErrorKind::Unsupported, "look through a kept descriptor", reason, None))
    }

    fn inject(
        &mut self,
        _id: u64,
        container: u32,
        fault: &Fault,
        deadline_ms: u64,
    ) -> Result<Begun<Self>, Failure> {
        self.do_fault(container, fault, deadline_ms)
    }

    fn remove(&mut self, _id: u64, container: u32) -> Result<Begun<Self>, Failure> {
        self.wait_for_all(Some(container))
    }
}

impl Host {
    /// Waits until the kubelet has ended the programs of a container, or of all, told or not; kills
    /// them when it does not.
    fn wait_for_all(&mut self, container: Option<u32>) -> Result<Begun<Self>, Failure> {
        self.programs.expect_nothing(container);
        // No kubelet ends those that are processes of the node.
        let here = self.programs.all(container).filter(|process| process.is_here);
        here.into_iter().try_for_each(|process| send(process, Signal::KILL))?;
        let processes = self.programs.all(container);
        let ending = Ending::of(processes, Then::Kill, ENDED_WITHIN_MS)?;
        Ok(Begun::job(ending.of_all(container.is_none())))
    }
}
