//! What a simulated node does of what nodes of every kind do, and what it alone does.

use std::os::fd::BorrowedFd;

use mountinfo::MountEntry;
use nix::errno::Errno;
use propagation_model::ErrorKind;
use propagation_model::facts::HostFacts;
use propagation_model::journal::HostChange;
use propagation_model::marker::Marker;
use propagation_model::plan::Fault;
use propagation_protocol::{
    ContainerSpec, Failure, Look, Message, Place, ProgramCommand, Reply, SimulatedCall,
};

use super::hold::Holding;
use super::outside::Ask;
use super::programs::Container;
use super::root::IMAGE;
use super::simulated::Simulated;
use super::start::Starting;
use crate::changes;
use crate::facts;
use crate::failure::failure;
use crate::mounts::Proc;
use crate::publish::{publish, unpublish};
use crate::serve::{Begun, World, begin, may_block, take_back};
use crate::stuck::Stuck;
use crate::view::View;

impl World for Simulated {
    type Call = SimulatedCall;

    fn hear(&mut self) -> Result<Vec<(u64, SimulatedCall)>, Errno> {
        let requests = self.requests()?.into_iter();
        Ok(requests.map(|request| (request.id, request.call)).collect())
    }

    fn take(&mut self, id: u64, call: SimulatedCall, idle: bool) -> Result<Begun<Self>, Failure> {
        let done = |()| Begun::Answered(Reply::Done);
        match call {
            SimulatedCall::Node { call } => begin(self, id, call, idle),
            SimulatedCall::Keep => {
                self.outside.ask(&Ask::Keep)?;
                self.kept = true;
                Ok(done(()))
            }
            SimulatedCall::Publish { path } => may_block(self, "publish a volume", idle, |node| {
                publish(&node.proc, &node.fuse_path(), &path).map(|()| Reply::Done)
            }),
            SimulatedCall::Unpublish { path } => {
                may_block(self, "unpublish a volume", idle, |node| {
                    unpublish(&node.proc, &path).map(|()| Reply::Done)
                })
            }
            SimulatedCall::LetGo { place } => {
                if let Some(holder) = self.holders.remove(&place) {
                    holder.end();
                }
                Ok(done(()))
            }
            SimulatedCall::StartDaemon { container, marker, stale } => {
                let container = self.container(container)?;
                let stale = stale.unwrap_or(container.spec().fuse.stale);
                container.tell(&ProgramCommand::StartDaemon { marker, stale }).map(done)
            }
            SimulatedCall::HandOver { container, marker } => {
                self.container(container)?.hand_over(&marker).map(done)
            }
            SimulatedCall::Load { container } => {
                let load = self.container(container)?.load();
                Ok(Begun::Answered(Reply::Load { load }))
            }
        }
    }

    fn advance(&mut self, now: u64) {
        self.take_events();
        self.give_up_late(now);
        self.note_connections();
        self.release_stuck(now);
    }

    fn answer(&mut self, id: u64, result: Result<Reply, Failure>) {
        self.tell(&Message::Answer { id, result });
    }

    fn is_over(&self) -> bool {
        self.is_over()
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors()
    }

    fn deadline(&self) -> Option<u64> {
        self.containers.values().filter_map(Container::deadline).min()
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
        self.view_of(place)
    }

    fn mountinfo(&self, place: &Place) -> Result<Option<Vec<u8>>, Failure> {
        match self.view_of(place) {
            Ok(view) => self.mountinfo_of(view).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn spec_of(&self, container: u32) -> Option<&ContainerSpec> {
        self.containers.get(&container).map(Container::spec)
    }

    fn fuse_path(&self) -> String {
        format!("{}/{}", self.setup.bridge, self.setup.mountpoint)
    }

    /// On a simulated node every mount that a program serves is the run's.
    fn owns(&self, mount: &MountEntry) -> bool {
        mount.is_served()
    }

    fn a_producer_serves(&self) -> bool {
        self.containers.values().any(Container::serves)
    }

    /// Without a container no FUSE daemon lives on the node.
    fn may_hang(&self) -> bool {
        !self.containers.is_empty()
    }

    fn facts(&self) -> HostFacts {
        let mut facts = facts::read(&self.proc, &self.setup.bridge);
        // fusermount3 runs in the producer's container and reads the file there.
        facts.fuse_conf = facts::fuse_conf(&format!("{IMAGE}/etc/fuse.conf"));
        facts.fuse_conf.path = "/etc/fuse.conf of the producer's container".into();
        facts
    }

    fn apply(&self, change: &HostChange) -> Result<bool, Failure> {
        changes::apply(change)
    }

    fn undo(&self, change: &HostChange) -> Result<(), Failure> {
        match take_back(self, change)? {
            None => Ok(()),
            Some(others) => {
                Err(failure(ErrorKind::Environment, format!("undo {change}"), others, None))
            }
        }
    }

    fn execute(
        &self,
        place: &Place,
        command: &[String],
        deadline_ms: u64,
    ) -> Result<Reply, Failure> {
        self.run_program(place, command, deadline_ms).map(|executed| Reply::Executed { executed })
    }

    fn start(
        &mut self,
        specs: Vec<ContainerSpec>,
        deadline_ms: u64,
    ) -> Result<Begun<Self>, Failure> {
        Starting::begin(self, specs, deadline_ms).map(Begun::job)
    }

    fn hold(
        &mut self,
        looks: &[Look],
        expect: &[Marker],
        deadline_ms: u64,
    ) -> Result<Begun<Self>, Failure> {
        Holding::begin(self, looks, expect, deadline_ms).map(Begun::job)
    }

    fn inject(
        &mut self,
        id: u64,
        container: u32,
        fault: &Fault,
        deadline_ms: u64,
    ) -> Result<Begun<Self>, Failure> {
        let evidence = self.begin_fault(id, container, fault, deadline_ms)?;
        let injected = |evidence| Begun::Answered(Reply::Injected { evidence });
        Ok(evidence.map_or(Begun::Later, injected))
    }

    fn remove(&mut self, id: u64, container: u32) -> Result<Begun<Self>, Failure> {
        self.end_holders(container);
        if let Some(one) = self.containers.get_mut(&container) {
            if one.begin_removal(id)? {
                return Ok(Begun::Later);
            }
            self.containers.remove(&container);
        }
        Ok(Begun::Answered(Reply::Done))
    }
}
