//! Calls to the node and their answers.

use std::sync::Arc;
use std::time::Duration;

use super::reported::observation;
use super::{Connection, Programs};
use crate::error::{Error, ErrorKind};
use crate::facts::HostFacts;
use crate::journal::HostChange;
use crate::marker::{MARKER_FILE, PLAIN_FILE};
use crate::mountinfo::MountTable;
use crate::node::{Probe, Target};
use crate::observation::{Actor, Observation, Outcome, Via};
use crate::plan::Plan;
use crate::program::{Executed, Refused};
use crate::protocol::{Call, Look, Reply, Seen};
use crate::report::Usage;

/// An agent on a node, with the known containers of the node. Its methods keep the contracts of those
/// of [`Node`](crate::Node) with the same names.
#[derive(Debug)]
pub struct NodeClient<C> {
    /// Connection to the agent.
    pub connection: C,
    /// The plan of the run.
    pub plan: Plan,
    /// The containers and their programs.
    pub programs: Arc<Programs>,
}

/// Expects one kind of answer.
macro_rules! expect {
    ($client:expr, $call:expr, $reply:pat => $value:expr) => {
        match $client.call($call).await? {
            $reply => Ok($value),
            other => Err($client.unexpected(&other)),
        }
    };
}

impl<C: Connection> NodeClient<C> {
    /// Sends a call and waits for its answer.
    ///
    /// # Errors
    /// As [`Connection::call`]; what the agent could not do.
    pub async fn call(&self, call: Call) -> Result<Reply, Error> {
        Ok(self.connection.call(call).await??)
    }

    /// Sends a call that kernel, runtime or daemon may refuse, and waits for its answer.
    ///
    /// # Errors
    /// As [`Connection::call`]; what the agent could not do.
    pub async fn ask(&self, call: Call) -> Result<Result<Reply, Refused>, Error> {
        match self.connection.call(call).await? {
            Ok(reply) => Ok(Ok(reply)),
            Err(failure) => Ok(Err(failure.refused()?)),
        }
    }

    /// Unmounts the topmost mount at a mountpoint of the node.
    ///
    /// # Errors
    /// As [`NodeClient::ask`].
    pub async fn unmount(&self, path: &str, lazy: bool) -> Result<Result<(), Refused>, Error> {
        Ok(self.ask(Call::Unmount { path: path.to_owned(), lazy }).await?.map(drop))
    }

    /// Binds the fresh mount at a mountpoint of the node over itself.
    ///
    /// # Errors
    /// As [`NodeClient::ask`].
    pub async fn rebind_host(
        &self,
        path: &str,
        deduplicate: bool,
    ) -> Result<Result<(), Refused>, Error> {
        Ok(self.ask(Call::RebindHost { path: path.to_owned(), deduplicate }).await?.map(drop))
    }

    /// Error for a reply that does not fit its call.
    pub fn unexpected(&self, reply: &Reply) -> Error {
        self.connection.other_version(&format!("it answered {reply:?}"))
    }

    /// Reads the facts of the node.
    ///
    /// # Errors
    /// When the node cannot be reached.
    pub async fn facts(&self) -> Result<HostFacts, Error> {
        expect!(self, Call::Facts, Reply::Facts { facts } => *facts)
    }

    /// Makes one change to the host; returns whether it was made now.
    ///
    /// # Errors
    /// When the host does not allow it.
    pub async fn apply(&self, change: &HostChange) -> Result<bool, Error> {
        let call = Call::Apply { change: change.clone() };
        expect!(self, call, Reply::Applied { now } => now)
    }

    /// Looks from every actor, as every user of the probe.
    ///
    /// # Errors
    /// When the node cannot be reached or an actor is unknown.
    pub async fn observe(
        &self,
        actors: &[Actor],
        probe: &Probe,
    ) -> Result<Vec<Observation>, Error> {
        let looks = actors.iter().map(|actor| self.look(actor, probe));
        let looks = looks.collect::<Result<Vec<Option<Look>>, _>>()?;
        let call = Call::Observe {
            looks: looks.iter().flatten().cloned().collect(),
            access: probe.access,
            expect: probe.expect.clone(),
            deadline_ms: millis(probe.deadline),
        };
        let clock = self.programs.clock();
        let asked_at_us = clock.now_us();
        let seen = expect!(self, call, Reply::Observed { seen } => seen)?;
        let mut seen = seen.into_iter();
        let mut observations = Vec::with_capacity(actors.len() * probe.uids.len());
        for (actor, look) in actors.iter().zip(&looks) {
            for uid in &probe.uids {
                let seen = match look {
                    Some(_) => seen.next().ok_or_else(|| self.unexpected(&Reply::Done))?,
                    None => nothing_there(*uid),
                };
                let made = observation(clock, actor.clone(), Via::Probe, seen);
                observations.push(Observation {
                    step: probe.step.clone(),
                    access: probe.access,
                    // Two clocks agree to some time only; what was asked for was not seen before.
                    at_us: made.at_us.max(asked_at_us),
                    ..made
                });
            }
        }
        Ok(observations)
    }

    /// Directory and file that an actor looks at; none when the actor does not have the path.
    fn look(&self, actor: &Actor, probe: &Probe) -> Result<Option<Look>, Error> {
        let (place, spec) = self.programs.place(actor)?;
        let bridge = &self.plan.bridge;
        let belongs_to = spec.as_ref().map_or("/".into(), |spec| self.plan.directory_of(spec));
        let paths = spec.map(|spec| spec.paths(bridge));
        let mount_point = paths.as_ref().map(|paths| paths.mount_point.clone());
        let mount_point = mount_point.filter(|_| probe.target == Target::Fuse);
        let (directory, file) = match (probe.target, paths) {
            (Target::Fuse, Some(paths)) => (Some(paths.fuse), MARKER_FILE),
            (Target::Fuse, None) => (Some(bridge.fuse_path()), MARKER_FILE),
            (Target::Bridge, Some(paths)) => (paths.bridge, PLAIN_FILE),
            (Target::Bridge, None) => {
                (self.plan.producer().map(|producer| producer.paths(bridge).source), PLAIN_FILE)
            }
        };
        Ok(directory.map(|directory| Look {
            place,
            mount_point: mount_point.unwrap_or_else(|| directory.clone()),
            directory,
            file: file.into(),
            belongs_to: Some(belongs_to).filter(|_| probe.target == Target::Fuse),
            users: probe.uids.iter().map(|uid| self.plan.user_of(actor, *uid)).collect(),
        }))
    }

    /// Whole mount tables as actors see them.
    ///
    /// # Errors
    /// When the node cannot be reached or an actor is unknown.
    pub async fn mount_tables(&self, actors: &[Actor]) -> Result<Vec<Option<MountTable>>, Error> {
        let places = actors.iter().map(|actor| self.programs.find(actor));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let asked = places.iter().flatten().map(|(place, _)| place.clone()).collect();
        let call = Call::Mounts { places: asked };
        let mountinfo = expect!(self, call, Reply::Mounts { mountinfo } => mountinfo)?;
        let mut mountinfo = mountinfo.into_iter();
        let parse = |(actor, place): (&Actor, &Option<_>)| {
            let text = place.as_ref().and_then(|_| mountinfo.next()).flatten();
            let parsed = text.map(|text| MountTable::parse(text.as_bytes())).transpose();
            parsed.map_err(|error| {
                let operation = format!("read the mounts of {actor}");
                Error::from_source(ErrorKind::Internal, operation, error)
            })
        };
        actors.iter().zip(&places).map(parse).collect()
    }

    /// Runs a program in an actor's mount namespace.
    ///
    /// # Errors
    /// When the node cannot be reached or the actor is unknown.
    pub async fn execute(
        &self,
        actor: &Actor,
        command: &[String],
        deadline: Duration,
    ) -> Result<Result<Executed, Refused>, Error> {
        let (place, _) = self.programs.place(actor)?;
        let deadline_ms = millis(deadline);
        let call = Call::Execute { place, command: command.to_vec(), deadline_ms };
        match self.ask(call).await? {
            Ok(Reply::Executed { executed }) => Ok(Ok(executed)),
            Ok(other) => Err(self.unexpected(&other)),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Processes and FUSE connections that the node has in use.
    ///
    /// # Errors
    /// When the node cannot be reached.
    pub async fn usage(&self) -> Result<Usage, Error> {
        expect!(self, Call::Usage, Reply::Usage { blocked_processes, fuse_connections } => {
            let mut usage = Usage::default();
            usage.blocked_processes = blocked_processes;
            usage.fuse_connections = fuse_connections;
            usage
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What an actor without the path sees; the clock turns a time in the future into now.
fn nothing_there(uid: u32) -> Seen {
    let reason = "the bridge is not in this workload's volume".into();
    let outcome = Outcome::Skipped { reason };
    Seen { uid, at_ns: u64::MAX, took_ns: 0, outcome, generation: None, mount: None }
}
