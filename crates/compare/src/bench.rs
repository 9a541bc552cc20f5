//! The node of a comparison: its containers, and the agent's programs in them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use propagation_core::backend::{Feature, refusal};
use propagation_core::comparison::{DataSet, Machine, Resources, Skip, SkipKind, Transport};
use propagation_core::journal::HostChange;
use propagation_core::marker::Marker;
use propagation_core::observation::Actor;
use propagation_core::plan::{
    Action, Bridge, Engine, Looks, Plan, Propagation, Role, Step, WorkloadSpec,
};
use propagation_core::protocol::measure::{ENTRY_BYTES, Measured, Task, Used, Work};
use propagation_core::protocol::transport::AGENT;
use propagation_core::report::Cleanup;
use propagation_core::{Backend, Error, ErrorKind, Node, Run, RunId, Workload};
use serde::de::DeserializeOwned;

use crate::options::{Options, Sizes};
use crate::recipe::{Ask, BRIDGE, volume, words};

/// How long one of the agent's short programs may take.
pub(crate) const SHORTLY: Duration = Duration::from_secs(20);

/// How long making the data set may take.
const MADE: Duration = Duration::from_secs(60);

/// OCI runtimes that are looked for where containers have to be in the machine's own user namespace.
const RUNTIMES: [Engine; 2] = [Engine::Crun, Engine::Runc];

/// A node with a producer's and a consumer's container for each transport.
pub(crate) struct Bench {
    node: Box<dyn Node>,
    plan: Plan,
    pub(crate) run_id: RunId,
    /// The directory of the node that all containers share.
    bridge: String,
    /// Whether the node is a real one, which others use too.
    is_real: bool,
    /// Whether programs of the node may open files by their handles.
    files_by_handle: bool,
}

/// The container in which a transport's programs run.
pub(crate) fn producer(transport: Transport) -> Actor {
    Actor::workload(producer_name(transport))
}

/// The container that uses a transport.
pub(crate) fn consumer(transport: Transport) -> Actor {
    Actor::workload(consumer_name(transport))
}

fn producer_name(transport: Transport) -> String {
    format!("producer-{transport}")
}

fn consumer_name(transport: Transport) -> String {
    format!("consumer-{transport}")
}

impl Bench {
    /// Opens the node.
    ///
    /// # Errors
    /// As [`Backend::open`].
    pub(crate) async fn open(
        backend: &dyn Backend,
        options: &Options,
        transports: &[Transport],
    ) -> Result<Self, Error> {
        let files_by_handle = options.files_by_handle;
        let mut run = Run::new(RunId::generate()?);
        run.files_by_handle = files_by_handle;
        let is_real = !backend.capabilities().has(Feature::ShapedNode);
        let bridge = match is_real {
            true => format!("/run/propagation-compare-{}", run.id),
            false => BRIDGE.to_owned(),
        };
        let plan = plan(backend, options, transports, &bridge);
        if let Some(reason) = refusal(backend, &plan) {
            let operation = format!("compare transports with the backend {}", backend.name());
            return Err(Error::new(ErrorKind::Unsupported, operation, reason).with_fix(
                "compare on a simulated node, with the built-in engine or an OCI runtime",
            ));
        }
        let node = backend.open(&plan, &run).await?;
        Ok(Self { node, plan, run_id: run.id, bridge, is_real, files_by_handle })
    }

    /// Makes the data set and the containers, which live as long as what is returned.
    ///
    /// # Errors
    /// When the data set has no room; when a container is refused.
    pub(crate) async fn furnish(&self, sizes: Sizes) -> Result<Vec<Arc<dyn Workload>>, Error> {
        if self.is_real {
            self.make_room(sizes).await?;
        }
        let directory = format!("{}/data", self.bridge);
        let (entries, bytes) = (sizes.entries.to_string(), sizes.media_bytes.to_string());
        let make = words(&["dataset", &directory, "--entries", &entries, "--bytes", &bytes]);
        self.agent_to_end(&Actor::Node, &make, MADE).await?;
        let marker = Marker { started: String::new(), generation: 1, nonce: "compare".into() };
        let started = self.node.start(&self.plan.workloads, &marker).await?.into_iter();
        let started = started.map(|started| {
            started.map_err(|refused| {
                Error::new(ErrorKind::Environment, "start the containers", refused.to_string())
            })
        });
        started.collect()
    }

    /// Makes the directory that containers share on a real node, with a filesystem in memory.
    async fn make_room(&self, sizes: Sizes) -> Result<(), Error> {
        let change = HostChange::MakeDirectory { path: self.bridge.clone(), owner: 0 };
        self.node.apply(&change).await?;
        let (run, bytes) = (self.run_id.to_string(), sizes.room().to_string());
        let mount = words(&["memory", &self.bridge, "--run-id", &run, "--bytes", &bytes]);
        self.agent_to_end(&Actor::Node, &mount, SHORTLY).await.map(drop)
    }

    /// What recipes are made with; a server that the node is a client of listens at this address.
    pub(crate) fn ask<'a>(&'a self, options: &'a Options, server: Option<Ipv4Addr>) -> Ask<'a> {
        Ask {
            server,
            producer_command: &options.producer_command,
            wrong_credentials: options.wrong_credentials,
            bridge: &self.bridge,
            run: self.run_id.as_str(),
        }
    }

    /// The sizes of the work on this node.
    pub(crate) fn sizes(&self, options: &Options) -> Sizes {
        let sizes = options.sizes();
        if self.is_real { sizes.on_a_cluster() } else { sizes }
    }

    /// Runs a program to its end; what it printed, where it ended well.
    pub(crate) async fn run(
        &self,
        actor: &Actor,
        command: &[String],
        deadline: Duration,
    ) -> Result<String, Error> {
        let name = command.iter().take(2).map(String::as_str).collect::<Vec<_>>().join(" ");
        let operation = || format!("run {name} in {actor}");
        let executed = match self.node.execute(actor, command, deadline).await? {
            Ok(executed) => executed,
            Err(refused) => {
                return Err(Error::new(ErrorKind::Environment, operation(), refused.reason));
            }
        };
        match (&executed.state, executed.exit_code()) {
            (_, Some(0)) => Ok(executed.output),
            (None, _) => {
                let reason = format!("it has not ended in {} s", deadline.as_secs());
                Err(Error::new(ErrorKind::Timeout, operation(), reason))
            }
            (Some(state), _) => {
                let reason = format!("{state}: {}", executed.output.trim());
                Err(Error::new(ErrorKind::Environment, operation(), reason))
            }
        }
    }

    async fn agent_to_end(
        &self,
        actor: &Actor,
        arguments: &[String],
        deadline: Duration,
    ) -> Result<String, Error> {
        let mut command = vec![AGENT.to_owned()];
        command.extend_from_slice(arguments);
        self.run(actor, &command, deadline).await
    }

    /// Runs one of the agent's programs; the value that it prints.
    pub(crate) async fn agent<T: DeserializeOwned>(
        &self,
        actor: &Actor,
        arguments: &[String],
        deadline: Duration,
    ) -> Result<T, Error> {
        let printed = self.agent_to_end(actor, arguments, deadline).await?;
        let value = printed.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        serde_json::from_str(value).map_err(|error| {
            let operation = format!("read what {} printed", arguments[0]);
            Error::new(ErrorKind::Internal, operation, format!("{error}: {value:?}"))
        })
    }

    /// Does a piece of work in the consumer of a transport.
    pub(crate) async fn measure(
        &self,
        transport: Transport,
        path: &str,
        sizes: Sizes,
        work: Work,
    ) -> Result<Measured, Error> {
        let give_up_ms = match work {
            Work::Die { duration_ms, .. } => duration_ms + 1_500,
            _ => sizes.give_up_ms,
        };
        let task =
            Task { directory: path.into(), entries: sizes.entries, deadline_ms: give_up_ms, work };
        let task = serde_json::to_string(&task)
            .map_err(|error| Error::new(ErrorKind::Internal, "write a task", error.to_string()))?;
        let deadline = Duration::from_millis(give_up_ms) + SHORTLY;
        self.agent(&consumer(transport), &words(&["measure", &task]), deadline).await
    }

    /// What the processes of several tags have used.
    pub(crate) async fn account(&self, tags: &[&str]) -> Result<Used, Error> {
        self.agent(&Actor::Node, &words(&["account", &tags.join(",")]), SHORTLY).await
    }

    /// Whether a transport's producer has a program.
    pub(crate) async fn has_program(
        &self,
        transport: Transport,
        name: &str,
    ) -> Result<bool, Error> {
        let look = words(&["/bin/sh", "-c", "command -v \"$1\"", "sh", name]);
        match self.node.execute(&producer(transport), &look, SHORTLY).await? {
            Ok(executed) => Ok(executed.exit_code() == Some(0)),
            // A refusal means that there is no shell.
            Err(_) => Ok(false),
        }
    }

    /// The address of a producer for its node, where that has another network: the first of version 4 that the kubelet
    /// has given its pod; why the transport is left out where the pod has none. None on a simulated node, where all
    /// have one network.
    ///
    /// # Errors
    /// When the node fails.
    pub(crate) async fn address(
        &self,
        transport: Transport,
    ) -> Result<Result<Option<Ipv4Addr>, Skip>, Error> {
        if !self.is_real || !transport.is_mounted_by_the_kernel() {
            return Ok(Ok(None));
        }
        let ask = words(&["/bin/sh", "-c", "hostname -i"]);
        let executed = self.node.execute(&producer(transport), &ask, SHORTLY).await?;
        let said = match executed {
            Ok(executed) => executed.output,
            Err(refused) => refused.reason,
        };
        Ok(of_version_4(&said).map(Some))
    }

    /// The name of the node, where it is a real one.
    pub(crate) fn real_node(&self) -> Option<&str> {
        self.is_real.then(|| self.node.name())
    }

    /// Whether the node is a real one.
    pub(crate) fn is_real(&self) -> bool {
        self.is_real
    }

    /// Whether containers are in the machine's own user namespace.
    pub(crate) fn has_machine_rights(&self) -> bool {
        self.is_real || !self.plan.node.runtime.is_builtin()
    }

    /// Whether programs may open files by their handles: on a real node too only where this was asked for. In a user
    /// namespace of the node's own the kernel has the last word.
    pub(crate) fn has_files_by_handle(&self) -> bool {
        self.files_by_handle
    }

    pub(crate) async fn machine(&self) -> Result<Machine, Error> {
        let facts = self.node.facts().await?;
        let processors = self.agent(&Actor::Node, &words(&["processors"]), SHORTLY).await?;
        let engine = match facts.runtime.filter(|_| self.is_real) {
            Some(runtime) => format!("{runtime} on node {}", self.node.name()),
            None => self.plan.node.runtime.engine.to_string(),
        };
        Ok(Machine {
            kernel_release: facts.kernel_release,
            architecture: facts.architecture,
            processors,
            engine,
        })
    }

    /// Unmounts what the node has mounted as a client, while the servers run: the end of a node may end them first, and
    /// the kernel's clients, which belong to no container, would wait for them. What cannot be unmounted is left to the
    /// end of the node, which reports it.
    pub(crate) async fn unmount_clients(&self, transports: &[Transport]) {
        let clients =
            transports.iter().copied().filter(|transport| transport.is_mounted_by_the_kernel());
        let unmounted = clients.map(|transport| async move {
            let unmount = words(&["unmount", &volume(&self.bridge, transport)]);
            self.agent_to_end(&Actor::Node, &unmount, SHORTLY).await
        });
        drop(futures_util::future::join_all(unmounted).await);
    }

    /// Ends the node and everything in it.
    pub(crate) async fn close(&self) -> Cleanup {
        self.node.close().await
    }
}

/// The data set of the measurements.
pub(crate) fn data_set(sizes: Sizes) -> DataSet {
    DataSet {
        media_bytes: sizes.media_bytes,
        entries: sizes.entries,
        entry_bytes: ENTRY_BYTES,
        medium: "the node's memory (tmpfs), so that no disk decides".into(),
    }
}

/// What was used between two accounts.
pub(crate) fn between(before: &Used, after: &Used) -> Resources {
    let ms = |before: u64, after: u64| after.saturating_sub(before) as f64 / 1e6;
    Resources {
        cpu_ms: ms(before.cpu_ns, after.cpu_ns),
        kernel_ms: ms(before.kernel_ns, after.kernel_ns),
        switches: after.switches.saturating_sub(before.switches),
        peak_bytes: after.peak_bytes,
    }
}

/// The first address of version 4 among those that `hostname -i` prints; clients are given it, and a server listens
/// there.
fn of_version_4(printed: &str) -> Result<Ipv4Addr, Skip> {
    printed.split_whitespace().find_map(|word| word.parse().ok()).ok_or_else(|| Skip {
        kind: SkipKind::NotReady,
        reason: format!(
            "the pod of its server has no IPv4 address; hostname -i said {:?}",
            printed.trim()
        ),
        fix: Some("compare on a cluster whose pods have IPv4 addresses".into()),
    })
}

fn plan(backend: &dyn Backend, options: &Options, transports: &[Transport], bridge: &str) -> Plan {
    let workloads = transports.iter().flat_map(|transport| containers(*transport));
    let workloads: Vec<WorkloadSpec> = workloads.collect();
    // Containers in which programs run have those of the machine, where the node has any.
    let with_tools = workloads.iter().filter(|_| !options.node.without_host_tools);
    let steps = with_tools.map(|workload| {
        let inside = workload.name.clone();
        Step::from(Action::Execute { command: words(&[AGENT, "version"]), inside })
    });
    let plan = Plan::default().with(|plan| {
        plan.bridge = Bridge { path: bridge.into(), mountpoint: "fuse".into() };
        plan.node = options.node.clone();
        plan.steps = steps.collect();
        plan.workloads = workloads.clone();
        plan.looks = Looks::Asked;
    });
    let wants_rights = transports.iter().any(|transport| transport.needs_machine_rights());
    if plan.node.runtime.is_builtin() && wants_rights {
        // Root of a user namespace is not enough for these.
        for engine in RUNTIMES {
            let mut with = plan.clone();
            with.node.runtime.engine = engine;
            if refusal(backend, &with).is_none() {
                return with;
            }
        }
    }
    plan
}

/// The two containers of a transport, both with the whole bridge: what the one mounts in it propagates to
/// the other.
fn containers(transport: Transport) -> [WorkloadSpec; 2] {
    let producer = WorkloadSpec::new(producer_name(transport), Role::Consumer)
        .with(|spec| spec.propagation = Propagation::Bidirectional);
    [producer, WorkloadSpec::new(consumer_name(transport), Role::Consumer)]
}

#[cfg(test)]
impl Bench {
    /// With a node in memory, which passes for a real one or for a simulated one.
    pub(crate) async fn fake(is_real: bool, files_by_handle: bool) -> Self {
        let (plan, run_id) = (Plan::default(), RunId::generate().expect("an id"));
        let run = Run::new(run_id.clone());
        let backend = propagation_core::fake::FakeBackend::default();
        let node = backend.open(&plan, &run).await.expect("a node");
        Self { node, plan, run_id, bridge: BRIDGE.into(), is_real, files_by_handle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_listens_at_an_address_of_version_4_or_is_left_out() {
        let address = Ipv4Addr::new(10, 42, 1, 7);
        for printed in ["10.42.1.7\n", "fd00::7 10.42.1.7", "fd00::7%eth0 10.42.1.7 10.42.1.8\n"] {
            assert_eq!(of_version_4(printed).ok(), Some(address), "{printed:?}");
        }
        for printed in ["", "fd00::7\n", "hostname: Name or service not known"] {
            let skip = of_version_4(printed).expect_err(printed);
            assert!(skip.reason.contains("no IPv4 address"), "{skip:?}");
        }
    }

    #[tokio::test]
    async fn an_address_is_asked_for_where_the_node_has_another_network() {
        // A node in memory has no programs to ask with.
        let simulated = Bench::fake(false, true).await.address(Transport::Nfs).await;
        assert!(matches!(simulated, Ok(Ok(None))), "{simulated:?}");
        let real = Bench::fake(true, true).await;
        assert!(real.address(Transport::Nfs).await.is_err());
        assert!(matches!(real.address(Transport::SmbRclone).await, Ok(Ok(None))));
    }
}
