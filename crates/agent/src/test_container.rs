//! A container for tests.

use propagation_model::marker::Marker;
use propagation_model::plan::{FuseSpec, Role, User};
use propagation_protocol::{Bind, ContainerSpec, Place};

/// A consumer with these volumes and nothing beside.
pub(crate) fn consumer(volumes: Vec<Bind>) -> ContainerSpec {
    let marker = Marker { started: String::new(), generation: 1, nonce: String::new() };
    ContainerSpec {
        id: 1,
        name: "one".into(),
        role: Role::Consumer,
        privileged: false,
        capabilities: Vec::new(),
        volumes,
        sub_path: None,
        fresh_pod: true,
        fuse_path: "/mnt/dfs".into(),
        host: false,
        user_namespace: false,
        made_in: Place::Node,
        tools: false,
        directory: "/".into(),
        user: User::default(),
        watches: true,
        replicas: 1,
        marker,
        marker_ms: 1,
        probe_ms: 1,
        fuse: FuseSpec::default(),
        supervised: false,
        readers: 0,
        writers: 0,
    }
}
