//! Starting containers on a simulated node.

use propagation_core::Error;
use propagation_core::client::{NodeClient, Reported};
use propagation_core::marker::Marker;
use propagation_core::plan::{Looks, Plan, WorkloadSpec};
use propagation_core::program::StartRefused;
use propagation_core::protocol::{Bind, Call, ContainerSpec, Place, Reply};
use tokio::sync::watch;

use crate::agent::Agent;

/// A container that has been started: its number and its reports.
pub(crate) type Started = (u32, watch::Receiver<Reported>);

/// Starts containers for workload specs, in order.
pub(crate) async fn start(
    node: &NodeClient<Agent>,
    specs: &[WorkloadSpec],
    marker: &Marker,
    fresh_pods: bool,
) -> Result<Vec<Result<Started, StartRefused>>, Error> {
    let starting: Vec<Started> = specs.iter().map(|spec| node.programs.add(spec)).collect();
    let containers = specs.iter().zip(&starting);
    let containers = containers
        .map(|(spec, (id, _))| container_spec(&node.plan, *id, spec, marker, fresh_pods))
        .collect();
    let deadlines = &node.plan.deadlines;
    let deadline_ms = deadlines.start_ms.min(deadlines.probe_ms);
    let reply = node.call(Call::Start { containers, deadline_ms }).await?;
    let Reply::Started { refused } = reply else { return Err(node.unexpected(&reply)) };
    let decide = |((id, events), refusal)| match refusal {
        Some(refusal) => {
            node.programs.forget(id);
            Err(refusal)
        }
        None => {
            node.programs.stands(id);
            Ok((id, events))
        }
    };
    Ok(starting.into_iter().zip(refused).map(decide).collect())
}

fn container_spec(
    plan: &Plan,
    id: u32,
    spec: &WorkloadSpec,
    marker: &Marker,
    fresh_pod: bool,
) -> ContainerSpec {
    let paths = spec.paths(&plan.bridge);
    let experiment = Bind {
        source: paths.source,
        destination: paths.destination,
        propagation: spec.propagation,
        how: spec.bind,
    };
    let extra = spec.volumes.iter().map(|volume| Bind {
        source: plan.fill_paths(&volume.source),
        destination: volume.destination.clone(),
        propagation: volume.propagation,
        how: volume.bind,
    });
    let fuse = plan.fuse_of(spec);
    ContainerSpec {
        id,
        name: spec.name.clone(),
        role: spec.role,
        privileged: spec.privileged(),
        capabilities: spec.capabilities.clone(),
        volumes: std::iter::once(experiment).chain(extra).collect(),
        sub_path: spec.sub_path.clone(),
        fresh_pod,
        fuse_path: paths.fuse,
        host: spec.host,
        user_namespace: spec.user_namespace,
        made_in: if spec.outside_runtime || spec.host { Place::Node } else { Place::Runtime },
        tools: plan.needs_programs(spec),
        directory: plan.directory_of(spec),
        user: spec.user(),
        watches: plan.looks == Looks::All,
        replicas: spec.replicas,
        marker: marker.clone(),
        marker_ms: plan.deadlines.marker_ms,
        probe_ms: plan.deadlines.probe_ms,
        fuse: fuse.clone(),
        supervised: plan.is_supervised(spec),
        readers: spec.readers,
        writers: spec.writers,
    }
}
