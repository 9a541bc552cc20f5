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
use crate::sys::in_ms;
use crate::view::View;

/// How long an OCI runtime may take for a container whose volumes have been looked at, in milliseconds:
/// it executes several programs, on a busy machine.
const RUNTIME_MS: u64 = 10_000;

/// Containers that are being made, in order.
pub(super) struct Starting {
    waiting: VecDeque<ContainerSpec>,
    refused: Vec<Option<StartRefused>>,
    child: Child,
    deadline_ms: u64,
    deadline: u64,
    /// Whether an OCI runtime is at work on the container that is made next.
    in_runtime: bool,
    /// The source that is looked at for the container that is made next, where it has several.
    looks_at: Option<String>,
    /// How many containers the child has answered for.
    made: usize,
}

/// What the child says of one container.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// The source of a volume of several, which is looked at now.
    LooksAt(String),
    /// Its volumes have been looked at, and an OCI runtime begins.
    InRuntime,
    /// What it has sent before.
    Made(Sent),
    Refused(StartRefused),
}

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
        let waiting = VecDeque::from(containers);
        let child = make_in_child(node, &waiting)?;
        let refused = Vec::new();
        let mut starting = Self {
            waiting,
            refused,
            child,
            deadline_ms,
            deadline: 0,
            in_runtime: false,
            looks_at: None,
            made: 0,
        };
        starting.expect_next();
        Ok(starting)
    }

    /// The container that is made next has its time from now on.
    fn expect_next(&mut self) {
        self.in_runtime = false;
        self.looks_at = None;
        self.allow(self.deadline_ms);
    }

    /// Sets the deadline: every replica takes its time too.
    fn allow(&mut self, milliseconds: u64) {
        const REPLICA_MS: u64 = 5;
        let replicas = self.waiting.front().map_or(0, |spec| u64::from(spec.replicas));
        self.deadline = in_ms(milliseconds.saturating_add(replicas * REPLICA_MS));
    }

    fn go_on(&mut self, node: &mut Simulated, now: u64) -> Result<(), Failure> {
        let out_of_reach = |errno| system("make containers", errno);
        self.child.pipe.fill(false).map_err(out_of_reach)?;
        while let Some(said) = self.child.pipe.next::<Said>().map_err(out_of_reach)? {
            let sent = match said {
                Said::LooksAt(source) => {
                    self.looks_at = Some(source);
                    continue;
                }
                Said::InRuntime => {
                    self.in_runtime = true;
                    self.allow(RUNTIME_MS);
                    continue;
                }
                Said::Made(sent) => Ok(sent),
                Said::Refused(refusal) => Err(refusal),
            };
            let Some(spec) = self.waiting.pop_front() else { break };
            self.made += 1;
            self.expect_next();
            let refusal = match sent {
                Ok(sent) => self.take(node, spec, &sent).map(|()| None)?,
                Err(refusal) => Some(refusal),
            };
            self.refused.push(refusal);
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
            self.expect_next();
        }
        if now >= self.deadline {
            self.give_up_one(node)?;
        }
        Ok(())
    }

    /// Takes over a container that has been made, with the descriptors that came before the word.
    fn take(
        &mut self,
        node: &mut Simulated,
        spec: ContainerSpec,
        sent: &Sent,
    ) -> Result<(), Failure> {
        let lost = || system("make containers", Errno::EMFILE);
        let with_user = has_user_namespace(node, &spec);
        let pipe = &mut self.child.pipe;
        let mut views = Vec::new();
        for _ in 0..sent.views {
            let mount = pipe.take_descriptor().ok_or_else(lost)?;
            let user = with_user.then(|| pipe.take_descriptor().ok_or_else(lost)).transpose()?;
            views.push(View { mount, user });
        }
        let process = sent.pid.map(|pid| {
            let pipe = pipe.take_descriptor().map(Pipe::new).ok_or_else(lost)?;
            Ok(Process { pid: Pid::from_raw(pid), pipe })
        });
        let made = Made { views, process: process.transpose()? };
        let id = spec.id;
        let source = format!("propagation-{}", node.setup.run_id);
        let container = Container::start(spec, made, node.engine.as_ref(), &source)?;
        node.containers.insert(id, container);
        Ok(())
    }

    /// The container that is being made hangs: it is refused, the others go on in a new child.
    fn give_up_one(&mut self, node: &Simulated) -> Result<(), Failure> {
        self.child.give_up();
        if let Some(spec) = self.waiting.pop_front() {
            let (what, allowed_ms) = match self.in_runtime {
                true => (format!("make {:?} with the runtime", spec.name), RUNTIME_MS),
                false => {
                    let source = self.looks_at.as_deref().unwrap_or(&spec.volumes[0].source);
                    (format!("failed to stat {source:?}"), self.deadline_ms)
                }
            };
            let text = format!("{what}: no answer in {allowed_ms} ms");
            self.refused.push(Some(StartRefused::of(RefusalKind::Hangs, text)));
        }
        if !self.waiting.is_empty() {
            self.child = make_in_child(node, &self.waiting)?;
            self.expect_next();
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
            let made = make(node, spec, &pipe).and_then(|made| {
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
            let said = made.map_or_else(Said::Refused, Said::Made);
            if pipe.send(&said).is_err() || has_user_namespace(node, spec) {
                return;
            }
        }
    })
    .map_err(|errno| system("start a child that makes containers", errno))
}

/// In a child: makes one workload, and returns to the node.
fn make(node: &Simulated, spec: &ContainerSpec, pipe: &Pipe) -> Result<Made, StartRefused> {
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
    let at = |source: &str| {
        if spec.volumes.len() > 1 {
            // Without a parent nobody waits.
            let _ = pipe.send(&Said::LooksAt(source.to_owned()));
        }
    };
    let volume = container::look(spec, &node.proc, &node.setup.spec, &at)?;
    if engine.is_some() {
        // Without a parent nobody waits.
        let _ = pipe.send(&Said::InRuntime);
    }
    let made = container::create(spec, &volume, &node.proc, base, &node.setup.spec, engine)?;
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
