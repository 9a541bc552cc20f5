//! The state of a host agent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mountinfo::MountPath;
use nix::errno::Errno;
use propagation_model::ErrorKind;
use propagation_model::plan::Bridge;
use propagation_protocol::Failure;
use propagation_protocol::host::{HostRequest, Layout};

use super::Setup;
use super::programs::Programs;
use super::session::Session;
use crate::failure::{failure, system};
use crate::mounts::Proc;
use crate::pipe::Pipe;
use crate::stuck::Stuck;
use crate::view::View;

/// A real node, as the agent on it sees it.
pub(super) struct Host {
    pub(super) run_id: String,
    pub(super) bridge: Bridge,
    pub(super) layout: Layout,
    pub(super) proc: Proc,
    /// The node's own mount namespace, to come back to.
    pub(super) view: View,
    pub(super) programs: Programs,
    pub(super) session: Session,
    /// Looks that were given up.
    pub(super) stuck: Stuck,
    /// Whether it has been told to end.
    pub(super) ending: bool,
    control: OwnedFd,
    arrivals: OwnedFd,
}

impl Host {
    /// Serves the two sockets, which do not block.
    pub(super) fn new(
        setup: &Setup,
        layout: Layout,
        control: OwnedFd,
        arrivals: OwnedFd,
    ) -> Result<Self, Failure> {
        let proc = Proc::open()?;
        let view =
            View::current(&proc).map_err(|e| system("open the node's mount namespace", e))?;
        let started = proc.read("sys/kernel/random/uuid");
        let started = started.map_err(|errno| system("draw random numbers", errno))?;
        let started = String::from_utf8_lossy(&started).trim().to_owned();
        Ok(Self {
            run_id: setup.run_id.clone(),
            bridge: setup.bridge.clone(),
            layout,
            proc,
            view,
            programs: Programs::default(),
            session: Session::of(started),
            stuck: Stuck::default(),
            ending: false,
            control,
            arrivals,
        })
    }

    /// The requests that have come, once new connections are taken.
    pub(super) fn requests(&mut self) -> Result<Vec<HostRequest>, Errno> {
        if let Some(pipe) = self.accepted(Pipe::accept(&self.control))? {
            self.session.accept(pipe);
        }
        if let Some(pipe) = self.accepted(Pipe::accept(&self.arrivals))? {
            self.programs.accept(pipe);
        }
        Ok(self.session.requests())
    }

    /// When no descriptor is left, unidentified peers are given up.
    fn accepted(&mut self, accepted: Result<Option<Pipe>, Errno>) -> Result<Option<Pipe>, Errno> {
        match accepted {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                self.programs.forget_strangers();
                Ok(None)
            }
            result => result,
        }
    }

    /// Descriptors of the two sockets and of all connections.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let sockets = [self.control.as_fd(), self.arrivals.as_fd()].into_iter();
        sockets.chain(self.session.descriptors()).chain(self.programs.descriptors()).collect()
    }

    /// Passes on what the programs have sent.
    pub(super) fn take_programs(&mut self) {
        for message in self.programs.advance(&self.proc, &self.layout) {
            self.session.send(message);
        }
    }

    /// What the run's mounts call their source.
    pub(super) fn source(&self) -> String {
        source(&self.run_id)
    }

    /// Refuses a mountpoint on which another run or another program has mounted.
    pub(super) fn check_mountpoint(&self) -> Result<(), Failure> {
        let path = self.bridge.fuse_path();
        let table = self.proc.mount_table()?;
        let stack = table.stack_at(&MountPath::from(path.as_str()));
        match stack.iter().find(|mount| mount.source.to_string() != self.source()) {
            None => Ok(()),
            Some(mount) => Err(failure(
                ErrorKind::InvalidInput,
                format!("mount on {path:?}"),
                format!("there is already a mount: {mount}"),
                Some("name another bridge, or clean up the run that left it"),
            )),
        }
    }
}

/// What the mounts of a run call their source.
pub(super) fn source(run_id: &str) -> String {
    format!("propagation-{run_id}")
}
