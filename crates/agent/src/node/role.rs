//! The program of a container by its role: a producer, a supervisor of one, or a consumer.

use propagation_model::plan::Role;
use propagation_protocol::ContainerSpec;

use crate::consumer::Consumer;
use crate::producer::Producer;
use crate::reporter::Reporter;
use crate::supervisor::Supervisor;

/// Runs the program of a container, in it; returns the exit code.
pub(crate) fn run(spec: &ContainerSpec, source: &str, reporter: &Reporter) -> i32 {
    match spec.role {
        Role::Producer if is_supervised(spec) => Supervisor {
            name: spec.name.clone(),
            producer: producer_of(spec, source),
            outlives: spec.supervised,
            mount_ms: spec.marker_ms,
            probe_ms: spec.probe_ms,
        }
        .run(reporter),
        Role::Producer => producer_of(spec, source).run(reporter),
        Role::Consumer | Role::Control => Consumer {
            mountpoint: spec.fuse_path.clone(),
            directory: Some(spec.directory.clone()),
            marker_ms: spec.marker_ms,
            probe_ms: spec.probe_ms,
            watches: spec.watches,
        }
        .run(reporter),
    }
}

/// Whether the daemon of a container is a child of process 1.
pub(crate) fn is_supervised(spec: &ContainerSpec) -> bool {
    spec.role == Role::Producer && (spec.supervised || !spec.fuse.is_builtin())
}

/// The producer that a container is.
pub(crate) fn producer_of(spec: &ContainerSpec, source: &str) -> Producer {
    Producer {
        volume: spec.volumes.first().map(|v| v.destination.clone()).unwrap_or_default(),
        mountpoint: spec.fuse_path.clone(),
        source: source.to_owned(),
        marker: spec.marker.clone(),
        fuse: spec.fuse.clone(),
    }
}
