//! Starting containers: made in a child, because looking at a volume's source may hang.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;
use propagation_model::ErrorKind;
use propagation_model::program::{RefusalKind, StartRefused};
use propagation_protocol::{ContainerSpec, Failure, Place, Reply};
use serde::{Deserialize, Serialize};

use super::container;
use super::made::{Made, Process};
use super::programs::Container;
use super::simulated::Simulated;
use crate::child::Child;
use crate::failure::{failure, reported, system};
use crate::pipe::Pipe;
use crate::serve::{Job, Progress};
use crate::sys::now_ns;
use crate::view::View;

/// How much longer an OCI runtime may take for a container, in milliseconds: it executes several
/// programs, on a busy machine.
const RUNTIME_MS: u64 = 10_000;

/// Containers that are being made, in order.
pub(super) struct Starting {
    waiting: VecDeque<ContainerSpec>,
    refused: Vec<Option<StartRefused>>,
    child: Child,
    deadline_ms: u64,
    deadline: u64,
    /// How many containers the child has answered for.
    made: usize,
}

/// What the child says of one container: what it has sent before, or the refusal.
type Said = Result<Sent, StartRefused>;

/// The descriptors that have been sent for a container.
#[derive(Debug, Serialize, Deserialize)]
struct Sent {
    /// How many mount views.
    views: u32,
    /// The id of the started process, if any; its pipe comes after the descriptors.
    pid: Option<i32>,
}

impl Starting {
    pub(super) fn begin(
        node: &Simulated,
        containers: Vec<ContainerSpec>,
        deadline_ms: u64,
    ) -> Result<Self, Failure> {
        check_descriptors(node, &containers)?;
        let deadline_ms = deadline_ms + if node.engine.is_some() { RUNTIME_MS } else { 0 };
        let waiting = VecDeque::from(containers);
        let child = make_in_child(node, &waiting)?;
        let mut starting =
            Self { waiting, refused: Vec::new(), child, deadline_ms, deadline: 0, made: 0 };
        starting.deadline = starting.next_deadline();
        Ok(starting)
    }

    /// When the container that is made next has to be there: every replica takes its time.
    fn next_deadline(&self) -> u64 {
        const REPLICA_MS: u64 = 5;
        let replicas = self.waiting.front().map_or(0, |spec| u64::from(spec.replicas));
        let allowed_ms = self.deadline_ms.saturating_add(replicas * REPLICA_MS);
        now_ns().saturating_add(allowed_ms.saturating_mul(1_000_000))
    }

    fn go_on(&mut self, node: &mut Simulated, now: u64) -> Result<(), Failure> {
        let out_of_reach = |errno| system("make containers", errno);
        self.child.pipe.fill(false).map_err(out_of_reach)?;
        while let Some(made) = self.child.pipe.next::<Said>().map_err(out_of_reach)? {
            let Some(spec) = self.waiting.pop_front() else { break };
            self.made += 1;
            self.deadline = self.next_deadline();
            match made {
                Err(refusal) => self.refused.push(Some(refusal)),
                Ok(sent) => {
                    let with_user = has_user_namespace(node, &spec);
                    let pipe = &mut self.child.pipe;
                    let mut views = Vec::new();
                    for _ in 0..sent.views {
                        let mount = pipe.take_descriptor();
                        let user = if with_user { pipe.take_descriptor() } else { None };
                        let whole = user.is_some() == with_user;
                        let Some(mount) = mount.filter(|_| whole) else {
                            return Err(out_of_reach(Errno::EMFILE));
                        };
                        views.push(View { mount, user });
                    }
                    let process = match sent.pid {
                        Some(pid) => {
                            let pipe = pipe.take_descriptor().map(Pipe::new);
                            let pipe = pipe.ok_or_else(|| out_of_reach(Errno::EMFILE))?;
                            Some(Process { pid: Pid::from_raw(pid), pipe })
                        }
                        None => None,
                    };
                    let made = Made { views, process };
                    let id = spec.id;
                    let source = format!("propagation-{}", node.setup.run_id);
                    let engine = node.engine.as_ref();
                    let container = Container::start(spec, made, engine, &source)?;
                    node.containers.insert(id, container);
                    self.refused.push(None);
                }
            }
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.child.pipe.is_closed() {
            if self.made == 0 {
                return Err(out_of_reach(Errno::ECHILD));
            }
            // A child that has entered a user namespace makes no other container.
            self.child = make_in_child(node, &self.waiting)?;
            self.made = 0;
            self.deadline = self.next_deadline();
        }
        if now >= self.deadline {
            self.give_up_one(node)?;
        }
        Ok(())
    }

    /// The container that is being made hangs: it is refused, the others go on in a new child.
    fn give_up_one(&mut self, node: &Simulated) -> Result<(), Failure> {
        self.child.give_up();
        if let Some(spec) = self.waiting.pop_front() {
            self.refused.push(Some(StartRefused::of(
                RefusalKind::Hangs,
                format!(
                    "failed to stat {:?}: no answer in {} ms",
                    spec.volumes[0].source, self.deadline_ms
                ),
            )));
        }
        if !self.waiting.is_empty() {
            self.child = make_in_child(node, &self.waiting)?;
            self.deadline = self.next_deadline();
        }
        Ok(())
    }
}

impl Job<Simulated> for Starting {
    fn descriptors<'a>(&'a self, _: &'a Simulated) -> Vec<BorrowedFd<'a>> {
        vec![self.child.pipe.as_fd()]
    }

    fn deadline(&self) -> Option<u64> {
        Some(self.deadline)
    }

    fn advance(&mut self, node: &mut Simulated, now: u64) -> Progress {
        match self.go_on(node, now) {
            Ok(()) if self.waiting.is_empty() => {
                let refused = std::mem::take(&mut self.refused);
                Progress::Finished(Ok(Reply::Started { refused }))
            }
            Ok(()) => Progress::Unfinished,
            Err(failure) => {
                self.child.give_up();
                Progress::Finished(Err(failure))
            }
        }
    }
}

/// Whether a container's mount namespace belongs to another user namespace than the node's.
fn has_user_namespace(node: &Simulated, spec: &ContainerSpec) -> bool {
    let base = node.view_of(&spec.made_in);
    spec.user_namespace || (!spec.host && base.is_ok_and(|view| view.user.is_some()))
}

fn make_in_child(node: &Simulated, specs: &VecDeque<ContainerSpec>) -> Result<Child, Failure> {
    Child::start(|pipe| {
        for spec in specs {
            let said: Said = make(node, spec).and_then(|made| {
                let views = u32::try_from(made.views.len()).unwrap_or(u32::MAX);
                let sent = Sent { views, pid: made.process.as_ref().map(|one| one.pid.as_raw()) };
                let views = made.views.into_iter().flat_map(View::into_descriptors);
                let pipes = made.process.into_iter().map(|process| process.pipe.into_socket());
                let descriptors: Vec<_> = views.chain(pipes).collect();
                pipe.send_descriptors(&descriptors).map(|()| sent).map_err(|errno| {
                    let text = format!("hand over the mount namespaces: {errno}");
                    StartRefused::with(reported(errno), text)
                })
            });
            if pipe.send(&said).is_err() || has_user_namespace(node, spec) {
                return;
            }
        }
    })
    .map_err(|errno| system("start a child that makes containers", errno))
}

/// In a child: makes one workload, and returns to the node.
fn make(node: &Simulated, spec: &ContainerSpec) -> Result<Made, StartRefused> {
    let refused = |errno: Errno| {
        StartRefused::with(reported(errno), format!("enter the runtime's mount namespace: {errno}"))
    };
    if spec.host {
        let view = node.view.share().map_err(refused)?;
        return Ok(Made { views: vec![view], process: None });
    }
    let base = node
        .view_of(&spec.made_in)
        .map_err(|failure| StartRefused::of(RefusalKind::Other, failure.reason))?;
    let apart = spec.made_in != Place::Node;
    if apart {
        base.enter().map_err(refused)?;
    }
    let engine = node.engine.as_ref();
    let made = container::create(spec, &node.proc, base, &node.setup.spec, engine)?;
    if apart && !has_user_namespace(node, spec) {
        node.view.enter_mounts().map_err(refused)?;
    }
    Ok(made)
}

/// Every mount view is a descriptor of the node, and of the child while it makes them.
fn check_descriptors(node: &Simulated, containers: &[ContainerSpec]) -> Result<(), Failure> {
    const RESERVE: u64 = 64;
    let wanted: u64 = containers.iter().map(|spec| u64::from(spec.replicas)).sum();
    let held: u64 =
        node.containers.values().map(|container| u64::from(container.spec().replicas)).sum();
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, u64::MAX));
    if held + wanted + RESERVE <= limit {
        return Ok(());
    }
    Err(failure(
        ErrorKind::Environment,
        format!("start {wanted} mount views"),
        format!("{} open descriptors are needed and {limit} are allowed", held + wanted + RESERVE),
        Some("raise the hard limit (ulimit -Hn), or use fewer consumers"),
    ))
}
