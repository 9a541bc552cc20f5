//! What is broken in each test, and which causes must be found.

use propagation_core::Phase;
use propagation_core::diagnosis::CauseId;
use propagation_core::phase;
use propagation_core::plan::{
    BridgeState, Covering, Fault, NodeSpec, Plan, Propagation, RuntimeNamespace, RuntimeSpec,
    Stale, StartOrder, Volume, WorkloadSpec,
};

use crate::host::Kind;

/// Makes the phases of a run.
pub(crate) type MakePhases = fn() -> Vec<Box<dyn Phase>>;

/// One setup.
pub(crate) struct Case {
    /// What is broken.
    pub(crate) name: &'static str,
    /// The experiment.
    pub(crate) plan: fn() -> Plan,
    /// The ids of all causes, in order.
    pub(crate) causes: &'static [CauseId],
    /// What must be in the evidence of the first.
    pub(crate) evidence: &'static [&'static str],
    /// Whether it needs a host that only root can make, or a second user.
    pub(crate) needs_root: bool,
    /// What lies at `/dev/fuse`, if not a device for everybody.
    pub(crate) device: Option<Kind>,
    /// Other phases than the five.
    pub(crate) phases: Option<MakePhases>,
}

impl Case {
    pub(crate) fn new(name: &'static str, plan: fn() -> Plan, causes: &'static [CauseId]) -> Self {
        Self { name, plan, causes, evidence: &[], needs_root: false, device: None, phases: None }
    }

    pub(crate) fn evidence(self, evidence: &'static [&'static str]) -> Self {
        Self { evidence, ..self }
    }

    pub(crate) fn root(self) -> Self {
        Self { needs_root: true, ..self }
    }

    fn device(self, kind: Kind) -> Self {
        Self { device: Some(kind), needs_root: true, ..self }
    }

    fn phases(self, phases: fn() -> Vec<Box<dyn Phase>>) -> Self {
        Self { phases: Some(phases), ..self }
    }
}

/// The five phases with short deadlines: what does not come within them does not come at all.
fn plan() -> Plan {
    let mut plan = Plan::default();
    plan.deadlines.marker_ms = 700;
    plan.deadlines.recovery_ms = 300;
    plan.deadlines.probe_ms = 300;
    plan
}

fn with_node(node: NodeSpec) -> Plan {
    plan().with(|plan| plan.node = node)
}

fn with_fault(fault: Fault) -> Plan {
    plan().with(|plan| plan.fault = fault)
}

/// One consumer beside producer and control.
fn one_consumer(volume: Volume, propagation: Propagation, order: StartOrder) -> Plan {
    let consumer = WorkloadSpec::consumer("consumer", order).with(|spec| {
        spec.volume = volume;
        spec.propagation = propagation;
    });
    plan().with(|plan| {
        plan.workloads = vec![WorkloadSpec::producer(), consumer, WorkloadSpec::control()]
    })
}

/// A producer that is not root, with this fuse.conf in its container.
fn not_root(container_fuse_conf: Option<&str>) -> Plan {
    let node = NodeSpec {
        container_fuse_conf: container_fuse_conf.map(Into::into),
        ..NodeSpec::default()
    };
    let mut plan = with_node(node);
    plan.workloads[0].uid = 1000;
    plan
}

const ALLOWED: Option<&str> = Some("user_allow_other\n");

/// All setups.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = in_order();
    cases.extend(consumers());
    cases.extend(faults());
    cases.extend(permissions());
    cases.extend(hosts());
    cases.extend(runtimes());
    cases.extend(daemons());
    cases.extend(crate::scenarios::all());
    cases
}

fn in_order() -> Vec<Case> {
    use Propagation::{Bidirectional, HostToContainer};
    use StartOrder::{AfterMount, BeforeMount};
    const NOTHING: &[CauseId] = &[CauseId::NothingWrong];
    vec![
        Case::new("the_default_is_in_order", plan, NOTHING),
        Case::new(
            "an_ancestor_as_volume_is_in_order",
            || one_consumer(Volume::Ancestor, HostToContainer, AfterMount),
            NOTHING,
        ),
        Case::new(
            "bidirectional_consumers_are_in_order",
            || one_consumer(Volume::Bridge, Bidirectional, AfterMount),
            NOTHING,
        ),
        Case::new(
            "an_early_consumer_is_in_order",
            || one_consumer(Volume::Bridge, HostToContainer, BeforeMount),
            NOTHING,
        ),
        Case::new(
            "a_bridge_with_odd_characters_is_in_order",
            || {
                let path = "/tmp/a b\t'\"$(x)\n#\\".into();
                plan().with(|plan| plan.bridge.path = path)
            },
            NOTHING,
        ),
        Case::new(
            "a_thousand_consumers_are_in_order",
            || {
                let mut plan = plan();
                plan.workloads[1].replicas = 500;
                plan.workloads[2].replicas = 500;
                plan.deadlines.recovery_ms = 10_000;
                plan.deadlines.probe_ms = 10_000;
                plan
            },
            NOTHING,
        ),
        Case::new("a_producer_that_is_not_root_is_in_order", || not_root(ALLOWED), NOTHING).root(),
    ]
}

fn consumers() -> Vec<Case> {
    use Propagation::{HostToContainer, None};
    use StartOrder::{AfterMount, BeforeMount};
    vec![
        Case::new(
            "a_private_consumer_that_started_before",
            || one_consumer(Volume::Bridge, None, BeforeMount),
            &[CauseId::ConsumerModeNone],
        )
        .evidence(&[
            "consumer as uid 0: absent",
            "node as uid 0: ok",
            " /mnt rw,relatime - tmpfs",
        ]),
        Case::new(
            "a_private_consumer_that_started_after",
            || one_consumer(Volume::Bridge, None, AfterMount),
            &[CauseId::ConsumerFrozenCopy],
        )
        .evidence(&["consumer as uid 0: ENOTCONN", "node as uid 0: ok"]),
        Case::new(
            "two_private_consumers_are_told_apart",
            || {
                let mut plan = plan();
                plan.workloads[2].propagation = None;
                plan
            },
            &[CauseId::ConsumerFrozenCopy],
        ),
        Case::new(
            "the_mountpoint_as_volume_started_after",
            || one_consumer(Volume::Mountpoint, HostToContainer, AfterMount),
            &[
                CauseId::VolumeIsMountpoint,
                CauseId::StaleSourceBlocksStart,
                CauseId::CleanUnmountWhereStackNeeded,
            ],
        )
        .evidence(&["consumer as uid 0: ENOTCONN", "is what consumer holds, device 0:"]),
        Case::new(
            "the_mountpoint_as_volume_started_before",
            || one_consumer(Volume::Mountpoint, HostToContainer, BeforeMount),
            &[CauseId::StaleSourceBlocksStart],
        )
        .evidence(&["transport endpoint is not connected"]),
        Case::new(
            "the_mountpoint_as_private_volume",
            || one_consumer(Volume::Mountpoint, None, AfterMount),
            &[CauseId::VolumeIsMountpoint, CauseId::StaleSourceBlocksStart],
        ),
        Case::new(
            "the_mountpoint_as_private_volume_started_before",
            || one_consumer(Volume::Mountpoint, None, BeforeMount),
            &[CauseId::ConsumerModeNone],
        ),
    ]
}

fn faults() -> Vec<Case> {
    use StartOrder::AfterMount;
    vec![
        Case::new("a_stopped_daemon", || with_fault(Fault::Stop), &[CauseId::DaemonStopped])
            .evidence(&["node as uid 0: hang", "is stopped"]),
        Case::new(
            "a_clean_unmount",
            || with_fault(Fault::Terminate),
            &[CauseId::LowerFilesystemExposed],
        )
        .evidence(&["consumer-late as uid 0: absent"]),
        Case::new(
            "a_stopped_daemon_and_the_mountpoint_as_volume",
            || {
                one_consumer(Volume::Mountpoint, Propagation::HostToContainer, AfterMount)
                    .with(|plan| plan.fault = Fault::Stop)
            },
            &[
                CauseId::VolumeIsMountpoint,
                CauseId::DaemonStopped,
                CauseId::CleanUnmountWhereStackNeeded,
            ],
        ),
        Case::new("a_daemon_that_nobody_brings_back", plan, &[CauseId::DaemonDead])
            .phases(|| phase::five().into_iter().take(4).collect())
            .evidence(&["node as uid 0: ENOTCONN"]),
    ]
}

fn permissions() -> Vec<Case> {
    vec![
        Case::new(
            "no_allow_other",
            || {
                let mut plan = plan();
                plan.fuse.allow_other = false;
                plan
            },
            &[CauseId::AllowOtherMissing],
        )
        .root()
        .evidence(&["as uid 1000: EACCES", "user_id=0,group_id=0"]),
        Case::new(
            "no_allow_other_of_a_producer_that_is_not_root",
            || {
                let mut plan = not_root(Option::None);
                plan.fuse.allow_other = false;
                plan
            },
            &[CauseId::AllowOtherMissing],
        )
        .root()
        .evidence(&["node as uid 0: EACCES", "user_id=1000"]),
        Case::new(
            "no_user_allow_other_in_the_container",
            || {
                let mut plan = not_root(Option::None);
                plan.node.fuse_conf = Some("user_allow_other\n".into());
                plan
            },
            &[CauseId::UserAllowOtherMissing],
        )
        .root()
        .evidence(&["the node's own /etc/fuse.conf has it"]),
        Case::new(
            "no_fusermount3",
            || {
                let mut plan = not_root(ALLOWED);
                plan.node.without_host_tools = true;
                plan
            },
            &[CauseId::Fusermount3Absent],
        )
        .root(),
    ]
}

fn hosts() -> Vec<Case> {
    let mut cases = vec![
        Case::new(
            "a_private_covering_mount_below_a_shared_root",
            || with_node(NodeSpec { covering: Covering::Private, ..NodeSpec::default() }),
            &[CauseId::CoveringPrivate],
        )
        .evidence(&[" / /tmp rw,relatime - tmpfs", " / / rw,relatime shared:"]),
        Case::new(
            "a_private_root",
            || {
                with_node(NodeSpec { covering: Covering::Private, ..NodeSpec::default() })
                    .with(|plan| plan.bridge.path = "/bridge".into())
            },
            &[CauseId::CoveringPrivate],
        ),
        Case::new(
            "a_slave_covering_mount",
            || with_node(NodeSpec { covering: Covering::Slave, ..NodeSpec::default() }),
            &[CauseId::CoveringSlave],
        )
        .evidence(&["master:"]),
        Case::new(
            "a_file_in_place_of_the_bridge",
            || with_node(NodeSpec { bridge: BridgeState::File, ..NodeSpec::default() }),
            &[CauseId::BridgeUnusable],
        ),
        Case::new(
            "a_read_only_filesystem",
            || with_node(NodeSpec { read_only: true, ..NodeSpec::default() }),
            &[CauseId::BridgeUnusable],
        )
        .evidence(&["EROFS"]),
    ];
    cases.push(
        Case::new("a_device_without_a_driver", plan, &[CauseId::FuseDeviceUnusable])
            .device(Kind::NoDriver)
            .evidence(&["ENODEV"]),
    );
    cases.push(
        Case::new("a_device_on_a_mount_with_nodev", plan, &[CauseId::FuseDeviceUnusable])
            .device(Kind::OnNodev)
            .evidence(&["EACCES", "its mode lets everybody in"]),
    );
    cases
}

fn with_runtime(namespace: RuntimeNamespace, user_namespace: bool) -> Plan {
    let runtime = RuntimeSpec { namespace, user_namespace, ..RuntimeSpec::default() };
    with_node(NodeSpec { runtime, ..NodeSpec::default() })
}

fn runtimes() -> Vec<Case> {
    const APART: &[CauseId] = &[CauseId::RuntimeOwnNamespace];
    vec![
        Case::new(
            "a_runtime_whose_mounts_are_peers_of_the_nodes",
            || with_runtime(RuntimeNamespace::Shared, false),
            &[CauseId::NothingWrong],
        ),
        Case::new(
            "a_runtime_whose_mounts_are_slaves",
            || with_runtime(RuntimeNamespace::Slave, false),
            APART,
        )
        .evidence(&["not a shared", "runtime: "]),
        Case::new(
            "a_runtime_whose_mounts_are_slaves_and_shared_again",
            || with_runtime(RuntimeNamespace::SlaveShared, false),
            APART,
        )
        .evidence(&["node as uid 0: absent", "runtime: "]),
        Case::new(
            "a_runtime_that_is_cut_off",
            || with_runtime(RuntimeNamespace::Private, false),
            APART,
        ),
        Case::new(
            "a_runtime_in_a_user_namespace",
            || with_runtime(RuntimeNamespace::Host, true),
            &[CauseId::UserNamespaceBoundary],
        )
        .root(),
        Case::new(
            "a_consumer_in_a_user_namespace_is_in_order",
            || {
                let mut plan = plan();
                plan.workloads[2].user_namespace = true;
                plan
            },
            &[CauseId::NothingWrong],
        )
        .root(),
    ]
}

/// A producer that runs this script, with the mountpoint as its first argument.
fn script(text: &str) -> Plan {
    let command = ["/bin/bash", "-c", text, "daemon", "{mountpoint}"];
    let mut plan = plan();
    plan.fuse.command = command.map(Into::into).to_vec();
    plan
}

fn with_stale(stale: Stale, volume: Volume) -> Plan {
    let mut plan = one_consumer(volume, Propagation::HostToContainer, StartOrder::AfterMount);
    plan.fuse.stale = stale;
    plan
}

fn daemons() -> Vec<Case> {
    vec![
        Case::new(
            "a_new_mount_on_top_of_the_dead_one",
            || with_stale(Stale::Stack, Volume::Bridge),
            &[CauseId::StackedLayers],
        )
        .evidence(&["fuse.propagation"]),
        Case::new(
            "a_new_mount_on_top_reaches_the_mountpoint_as_volume",
            || with_stale(Stale::Stack, Volume::Mountpoint),
            &[CauseId::StaleSourceBlocksStart, CauseId::StackedLayers],
        ),
        Case::new(
            "a_producer_that_fails_on_its_dead_mount",
            || with_stale(Stale::Fail, Volume::Bridge),
            &[CauseId::StaleSourceBlocksStart],
        )
        .evidence(&["ENOTCONN"]),
        Case::new(
            "a_connection_that_is_aborted",
            || with_fault(Fault::Abort),
            &[CauseId::NothingWrong],
        )
        .root(),
        Case::new(
            "a_daemon_that_is_slow",
            || with_fault(Fault::slow(2_000)),
            &[CauseId::DaemonSlow],
        ),
        Case::new(
            "a_daemon_that_does_not_serve_yet",
            || {
                script(
                    "exec 7<>/dev/fuse; mount -i -t fuse.never -o \
                     fd=7,rootmode=40000,user_id=0,group_id=0,allow_other never \"$1\" && \
                     exec sleep 1000",
                )
            },
            &[CauseId::NotYetServed],
        )
        .root(),
        Case::new(
            "a_producer_without_the_capability_to_mount",
            || {
                script(
                    "exec 7<>/dev/fuse; exec setpriv --bounding-set -sys_admin --inh-caps \
                     -sys_admin mount -i -t fuse.never -o \
                     fd=7,rootmode=40000,user_id=0,group_id=0 never \"$1\"",
                )
            },
            &[CauseId::CapabilityMissing],
        )
        .root(),
        Case::new(
            "a_sub_path_that_is_the_mountpoint",
            || {
                let mut plan = one_consumer(
                    Volume::Bridge,
                    Propagation::HostToContainer,
                    StartOrder::AfterMount,
                );
                plan.workloads[1].sub_path = Some("dfs".into());
                plan
            },
            &[CauseId::SubPathPinsMount, CauseId::StaleSourceBlocksStart],
        ),
    ]
}
