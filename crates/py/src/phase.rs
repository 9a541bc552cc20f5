//! A phase that is handed over to Python: the run waits while Python carries it out.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use propagation_core::mountinfo::MountTable;
use propagation_core::node::{Look, Target};
use propagation_core::observation::{Actor, Observation as Seen};
use propagation_core::plan::{Fault, Repair, Role, WorkloadSpec};
use propagation_core::program::{Executed, StartRefused};
use propagation_core::report::Deed;
use propagation_core::workload::RestartScope;
use propagation_core::{Error, ErrorKind, OpenAct, Phase, RunContext};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::calls::{Call, Calls, Request, WorkloadCall};
use crate::error::{invalid, to_plain};
use crate::event::Item;
use crate::job::{Completion, Feed};
use crate::observation::{Observation, actor};
use crate::workload::{Action, Done, refused};

/// A phase that Python carries out.
pub(crate) struct HandedOver {
    id: String,
    requires: Vec<String>,
    number: usize,
    feed: Feed,
}

impl HandedOver {
    /// The phase at place `number` of the caller's list.
    pub(crate) fn new(id: String, requires: Vec<String>, number: usize, feed: Feed) -> Self {
        Self { id, requires, number, feed }
    }
}

#[async_trait]
impl Phase for HandedOver {
    fn id(&self) -> &str {
        &self.id
    }

    fn requires(&self) -> Vec<&str> {
        self.requires.iter().map(String::as_str).collect()
    }

    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        let (sender, mut requests) = mpsc::unbounded_channel();
        let calls = Calls::new(sender, context.plan.clone(), context.capabilities());
        self.feed.push(Item::Phase { number: self.number, calls });
        let mut server = Server { context, ended: BTreeSet::new(), actions: JoinSet::new() };
        while let Some(request) = server.next(&mut requests).await {
            match request {
                Request::Check(check) => server.context.check(check),
                Request::End(result) => {
                    server.give_up_actions().await;
                    return result;
                }
                Request::Call { call, cancellation, completion } => {
                    server.serve(call, cancellation, completion).await;
                }
            }
        }
        Err(Error::new(ErrorKind::Cancelled, format!("the phase {}", self.id), "it was given up"))
    }
}

/// Serves the calls of one phase. What concerns one workload goes on beside the rest.
struct Server<'c, 'r> {
    context: &'c mut RunContext<'r>,
    /// Workloads that have been ended in this phase.
    ended: BTreeSet<String>,
    actions: JoinSet<Option<Ended>>,
}

/// An act that is over: what proves it, and why it was refused.
struct Ended {
    act: OpenAct,
    proof: Vec<String>,
    refused: Option<String>,
}

impl Server<'_, '_> {
    /// The next request. Acts that end meanwhile are recorded.
    async fn next(&mut self, requests: &mut mpsc::UnboundedReceiver<Request>) -> Option<Request> {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.actions.join_next() => self.record(ended),
                request = requests.recv() => return request,
            }
        }
    }

    fn record(&mut self, ended: Result<Option<Ended>, tokio::task::JoinError>) {
        if let Ok(Some(Ended { act, proof, refused })) = ended {
            self.context.finish_act(act, proof, refused);
        }
    }

    /// Ends actions of cancelled calls.
    async fn give_up_actions(&mut self) {
        while let Some(ended) = self.actions.try_join_next() {
            self.record(ended);
        }
        self.actions.shutdown().await;
    }

    /// Does something to the node and records it.
    async fn on_node(
        &mut self,
        deed: Deed,
        cancellation: &CancellationToken,
        work: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let act = self.context.begin_act(deed, None);
        let done = unless(cancellation, work).await;
        let refused = done.as_ref().err().map(ToString::to_string);
        self.context.finish_act(act, Vec::new(), refused);
        done
    }

    async fn serve(&mut self, call: Call, cancellation: CancellationToken, completion: Completion) {
        match call {
            Call::Start(spec) => {
                let started = unless(&cancellation, self.start(*spec)).await;
                completion.complete(started, |py, refusal| match refusal {
                    Some(refusal) => Err(refused(py, &refusal)),
                    None => Ok(py.None().into_bound(py)),
                });
            }
            Call::Observe { actors, target, uids } => {
                let seen = unless(&cancellation, self.observe(actors, target, &uids)).await;
                completion.complete(seen, |py, seen: Vec<Seen>| {
                    let objects = seen.into_iter().map(|one| Py::new(py, Observation::from(one)));
                    let objects = objects.collect::<PyResult<Vec<_>>>()?;
                    Ok(PyList::new(py, objects)?.into_any())
                });
            }
            Call::Mounts(actors) => {
                let tables = unless(&cancellation, self.mounts(actors)).await;
                completion.complete(tables, |py, tables| {
                    let all = PyDict::new(py);
                    for (actor, table) in tables {
                        all.set_item(actor.to_string(), to_plain(py, &table)?)?;
                    }
                    Ok(all.into_any())
                });
            }
            Call::Facts => {
                let facts = unless(&cancellation, self.context.node.facts()).await;
                completion.complete(facts, |py, facts| to_plain(py, &facts));
            }
            Call::RebindHost { deduplicate } => {
                let repair = match deduplicate {
                    true => Repair::RebindHostDeduplicated,
                    false => Repair::RebindHost,
                };
                let (node, path) = (self.context.node, self.context.plan.bridge.fuse_path());
                let work = async { Ok(node.rebind_host(&path, deduplicate).await??) };
                let bound = self.on_node(Deed::Repair { repair }, &cancellation, work).await;
                completion.complete(bound, |py, ()| Ok(py.None().into_bound(py)));
            }
            Call::Unmount { lazy } => {
                let fault = if lazy { Fault::LazyUnmount } else { Fault::Unmount };
                let (node, path) = (self.context.node, self.context.plan.bridge.fuse_path());
                let work = async { Ok(node.unmount(&path, lazy).await??) };
                let unmounted = self.on_node(Deed::Fault { fault }, &cancellation, work).await;
                completion.complete(unmounted, |py, ()| Ok(py.None().into_bound(py)));
            }
            Call::Execute { actor, command, deadline } => {
                let done = unless(&cancellation, self.execute(&actor, &command, deadline)).await;
                completion.complete(done, |py, executed| to_plain(py, &executed));
            }
            Call::Workloads => {
                let specs: Vec<WorkloadSpec> = self.running().cloned().collect();
                completion.complete(Ok(specs), |py, specs| to_plain(py, &specs));
            }
            Call::NowUs => {
                let now = self.context.node.now_us();
                completion.complete(Ok(now), |py, now| Ok(now.into_pyobject(py)?.into_any()));
            }
            Call::Workload { name, call } => {
                self.act(&name, call, cancellation, completion);
            }
        }
    }

    async fn start(&mut self, spec: WorkloadSpec) -> Result<Option<StartRefused>, Error> {
        let again = spec.role == Role::Producer
            && self.context.workloads().iter().any(|w| w.spec().role == Role::Producer);
        if spec.role == Role::Producer && again {
            self.context.next_generation_of(&spec)?;
        } else if self.context.marker().is_err() {
            self.context.next_generation()?;
        }
        let name = spec.name.clone();
        let act = self.context.begin_act(Deed::Start, [name.clone()]);
        let started = self.context.start(&[spec]).await;
        let refused = match &started {
            Ok(refusals) => refusals.first().map(|(_, refusal)| refusal.text.clone()),
            Err(error) => Some(error.to_string()),
        };
        self.context.finish_act(act, Vec::new(), refused);
        self.ended.remove(&name);
        Ok(started?.pop().map(|(_, refusal)| refusal))
    }

    async fn observe(
        &mut self,
        actors: Option<Vec<String>>,
        target: Target,
        uids: &[u32],
    ) -> Result<Vec<Seen>, Error> {
        let actors = self.actors(actors, true)?;
        self.context.observe(&actors, &Look::default().at(target).as_users(uids)).await
    }

    async fn mounts(
        &mut self,
        actors: Option<Vec<String>>,
    ) -> Result<Vec<(Actor, Option<MountTable>)>, Error> {
        let actors = self.actors(actors, false)?;
        let tables = self.context.node.mount_tables(&actors).await?;
        Ok(actors.into_iter().zip(tables).collect())
    }

    async fn execute(
        &mut self,
        name: &str,
        command: &[String],
        deadline: Duration,
    ) -> Result<Executed, Error> {
        let actor = actor(name, self.context)?;
        let deed = Deed::Run { command: command.to_vec() };
        let act = self.context.begin_act(deed, Some(name.to_owned()));
        let executed = self.context.node.execute(&actor, command, deadline).await;
        let executed = executed.and_then(|executed| Ok(executed?));
        let refused = executed.as_ref().err().map(ToString::to_string);
        self.context.finish_act(act, Vec::new(), refused);
        executed
    }

    /// The actors with these names; without names the node and all workloads that run. Of a
    /// producer only the mounts are looked at without being named: it makes what the others read.
    fn actors(&self, names: Option<Vec<String>>, readers: bool) -> Result<Vec<Actor>, Error> {
        if let Some(names) = names {
            return names.iter().map(|name| actor(name, self.context)).collect();
        }
        let running = self.running().filter(|spec| !readers || spec.role != Role::Producer);
        let workloads = running.flat_map(|spec| self.context.actors_of(spec));
        Ok(std::iter::once(Actor::Node).chain(workloads).collect())
    }

    /// The workloads that were started and not ended. What another phase started beside the plan
    /// was ended there.
    fn running(&self) -> impl Iterator<Item = &WorkloadSpec> {
        let own = self.context.workloads().iter().map(|workload| workload.spec());
        own.filter(|spec| !self.ended.contains(&spec.name))
    }

    fn act(
        &mut self,
        name: &str,
        call: WorkloadCall,
        cancellation: CancellationToken,
        completion: Completion,
    ) {
        let finish = |completion: Completion, done| completion.complete(done, into_object);
        let Some(workload) = self.context.workload(name) else {
            let known: Vec<&str> = self.running().map(|spec| spec.name.as_str()).collect();
            let fix = format!("start it first; there are: {}", known.join(", "));
            let error = invalid(format!("use the workload {name:?}"), "it was not started", fix);
            return finish(completion, Err(error));
        };
        let action = match self.action(&call, workload.spec()) {
            Ok(action) => action,
            Err(error) => return finish(completion, Err(error)),
        };
        let act = deed_of(&call).map(|deed| self.context.begin_act(deed, [name.to_owned()]));
        match &call {
            WorkloadCall::Stop => {
                self.ended.insert(name.to_owned());
            }
            WorkloadCall::Inject(fault) if fault.ends_the_daemon() => {
                self.ended.insert(name.to_owned());
            }
            WorkloadCall::Restart(_) | WorkloadCall::HandOver => {
                self.ended.remove(name);
            }
            _ => {}
        }
        self.actions.spawn(async move {
            let done = unless(&cancellation, action.carry_out(&*workload)).await;
            let ended = act.map(|act| {
                let (proof, refused) = outcome_of(&done);
                Ended { act, proof, refused }
            });
            completion.complete(done, into_object);
            ended
        });
    }

    /// A producer that starts again serves a new generation.
    fn action(&mut self, call: &WorkloadCall, spec: &WorkloadSpec) -> Result<Action, Error> {
        Ok(match call.clone() {
            WorkloadCall::Status => Action::Status,
            WorkloadCall::Wait { until, deadline } => {
                let marker = self.context.marker_for(spec);
                let until = until.resolve(marker.map(|marker| marker.generation));
                Action::Wait { until: until?, deadline }
            }
            WorkloadCall::Inject(fault) => Action::Inject(fault),
            WorkloadCall::Restart(restart) => {
                let marker = match spec.role {
                    Role::Producer => self.context.next_generation_of(spec)?,
                    _ => self.context.marker()?.clone(),
                };
                Action::Restart { marker, restart }
            }
            WorkloadCall::HandOver => Action::HandOver(self.context.next_generation_of(spec)?),
            WorkloadCall::Attach(how) => Action::Attach(how),
            WorkloadCall::Log => Action::Log,
            WorkloadCall::Stop => Action::Stop,
        })
    }
}

/// The record of a call; none for a query.
fn deed_of(call: &WorkloadCall) -> Option<Deed> {
    Some(match call {
        WorkloadCall::Inject(fault) => Deed::Fault { fault: fault.clone() },
        WorkloadCall::Restart(restart) => {
            Deed::Restart { recreate: restart.scope == RestartScope::Pod }
        }
        WorkloadCall::HandOver => Deed::Repair { repair: Repair::HandOver },
        WorkloadCall::Attach(how) => Deed::Repair { repair: (*how).into() },
        WorkloadCall::Stop => Deed::Stop,
        WorkloadCall::Status | WorkloadCall::Wait { .. } | WorkloadCall::Log => return None,
    })
}

/// What proves an action, and why it was refused.
fn outcome_of(done: &Result<Done, Error>) -> (Vec<String>, Option<String>) {
    match done {
        Ok(Done::Evidence(proof)) => (vec![proof.clone()], None),
        Ok(Done::Attached(attached)) => (vec![attached.to_string()], None),
        Ok(Done::Refused(refusal)) => (Vec::new(), Some(refusal.text.clone())),
        Ok(Done::Nothing | Done::Status(_) | Done::Lines(_)) => (Vec::new(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    }
}

fn into_object(py: Python<'_>, done: Done) -> PyResult<Bound<'_, PyAny>> {
    done.into_object(py)
}

/// What `work` gives, unless it is cancelled before.
async fn unless<T>(
    cancellation: &CancellationToken,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let cancelled = || Error::new(ErrorKind::Cancelled, "wait for the node", "it was cancelled");
    cancellation.run_until_cancelled(work).await.unwrap_or_else(|| Err(cancelled()))
}
