//! The axes of the matrix, defined in one place.

use crate::errno::Errno;
use crate::plan::{
    Action, Covering, Fault, Plan, Propagation, Repair, Role, RuntimeNamespace, StartOrder, Step,
    Volume, WorkloadSpec,
};

/// What a value does to the plan of a cell.
type Apply = fn(&mut Plan);

/// An axis of the matrix.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// Its name.
    pub name: &'static str,
    /// Its description, for people.
    pub title: &'static str,
    /// Its values, each with what it does to the plan.
    pub values: &'static [(&'static str, Apply)],
    /// How many of them, from the first, the default matrix takes.
    pub usual: usize,
}

/// The consumer that a cell is about.
pub(super) const CONSUMER: &str = "consumer";

/// The plan that the values of the axes are applied to: a producer, one consumer, start, fault, repair.
pub(super) fn base() -> Plan {
    Plan::default().with(|plan| {
        plan.workloads =
            vec![WorkloadSpec::producer(), WorkloadSpec::new(CONSUMER, Role::Consumer)];
        plan.steps = vec![
            named("start", Action::Start(crate::plan::Names::One("all".into()))),
            named("fault", Action::Fault(Fault::Kill)),
            named("repair", Action::Repair(Repair::Wait)),
        ];
        plan.deadlines.start_ms = 5_000;
        plan.deadlines.marker_ms = 5_000;
        plan.deadlines.probe_ms = 100;
        plan.deadlines.breakage_ms = 2_000;
    })
}

fn named(name: &str, action: Action) -> Step {
    Step { name: Some(name.to_owned()), ..Step::from(action) }
}

fn consumer(plan: &mut Plan) -> &mut WorkloadSpec {
    &mut plan.workloads[1]
}

fn fault(plan: &mut Plan, fault: Fault) {
    plan.steps[1].action = Action::Fault(fault);
}

fn repair(plan: &mut Plan, repair: Repair) {
    plan.steps[2].action = Action::Repair(repair);
}

/// Restarts the producer as the plan says, then applies a repair to the consumer.
fn remount_and(plan: &mut Plan, then: Repair) {
    repair(plan, Repair::Remount);
    plan.steps.insert(3, named("help", Action::Repair(then)));
}

/// All axes, in the order in which they are multiplied.
pub const AXES: &[Axis] = &[
    Axis {
        name: "covering",
        title: "the mount that covers the bridge",
        values: &[
            ("shared", |_| {}),
            ("slave", |plan| plan.node.covering = Covering::Slave),
            ("private", |plan| plan.node.covering = Covering::Private),
            ("tmpfs", |plan| plan.node.covering = Covering::Tmpfs),
        ],
        usual: 3,
    },
    Axis {
        name: "runtime",
        title: "the runtime's mount namespace",
        values: &[
            ("host", |_| {}),
            ("slave", |plan| plan.node.runtime.namespace = RuntimeNamespace::Slave),
            ("slave_shared", |plan| plan.node.runtime.namespace = RuntimeNamespace::SlaveShared),
            ("rootless", |plan| plan.node.runtime.user_namespace = true),
        ],
        usual: 1,
    },
    Axis {
        name: "propagation",
        title: "the consumer's mount propagation",
        values: &[
            ("HostToContainer", |plan| consumer(plan).propagation = Propagation::HostToContainer),
            ("None", |plan| consumer(plan).propagation = Propagation::None),
            ("Bidirectional", |plan| consumer(plan).propagation = Propagation::Bidirectional),
        ],
        usual: 3,
    },
    Axis {
        name: "volume",
        title: "the consumer's volume",
        values: &[
            ("bridge", |plan| consumer(plan).volume = Volume::Bridge),
            ("mountpoint", |plan| consumer(plan).volume = Volume::Mountpoint),
            ("ancestor", |plan| consumer(plan).volume = Volume::Ancestor),
            ("sub_path", |plan| {
                consumer(plan).volume = Volume::Mountpoint;
                consumer(plan).sub_path = Some("sub".into());
            }),
            ("file", |plan| consumer(plan).volume = Volume::File),
        ],
        usual: 3,
    },
    Axis {
        name: "order",
        title: "when the consumer starts",
        values: &[
            ("after_mount", |plan| consumer(plan).order = StartOrder::AfterMount),
            ("before_mount", |plan| consumer(plan).order = StartOrder::BeforeMount),
        ],
        usual: 2,
    },
    Axis {
        name: "allow_other",
        title: "whether the mount lets other users in",
        values: &[("yes", |_| {}), ("no", |plan| plan.fuse.allow_other = false)],
        usual: 1,
    },
    Axis {
        name: "uid",
        title: "as which user the consumer runs",
        values: &[("0", |_| {}), ("1000", |plan| consumer(plan).uid = 1000)],
        usual: 1,
    },
    Axis {
        name: "daemon",
        title: "the FUSE daemon",
        values: &[
            ("builtin", |_| {}),
            ("bindfs", |plan| {
                let words = ["bindfs", "-f", "{source}", "{mountpoint}"];
                plan.fuse.command = words.map(str::to_owned).into();
            }),
        ],
        usual: 1,
    },
    Axis {
        name: "fault",
        title: "what happens to the producer",
        values: &[
            ("kill", |plan| fault(plan, Fault::Kill)),
            ("terminate", |plan| fault(plan, Fault::Terminate)),
            ("exit", |plan| fault(plan, Fault::Exit)),
            ("abort", |plan| fault(plan, Fault::Abort)),
            ("lazy_unmount", |plan| fault(plan, Fault::LazyUnmount)),
            ("delete", |plan| fault(plan, Fault::Delete)),
            ("stop", |plan| fault(plan, Fault::Stop)),
            ("errors", |plan| fault(plan, Fault::errors(Errno::EIO))),
        ],
        usual: 5,
    },
    Axis {
        name: "repair",
        title: "what is done about it",
        values: &[
            ("none", |plan| repair(plan, Repair::Wait)),
            ("remount", |plan| repair(plan, Repair::Remount)),
            ("mount_on_top", |plan| repair(plan, Repair::MountOnTop)),
            ("lazy_unmount_mount", |plan| repair(plan, Repair::LazyUnmountMount)),
            ("rebind_host", |plan| remount_and(plan, Repair::RebindHost)),
            ("rebind_consumer", |plan| remount_and(plan, Repair::RebindConsumer)),
            ("liveness_probe", |plan| remount_and(plan, Repair::LivenessProbe)),
            ("recreate_consumer", |plan| remount_and(plan, Repair::RecreateConsumer)),
            ("unmount_mount", |plan| repair(plan, Repair::UnmountMount)),
            ("restart_consumer", |plan| remount_and(plan, Repair::RestartConsumer)),
            ("hand_over", |plan| {
                plan.fuse.keeper = true;
                repair(plan, Repair::HandOver);
            }),
        ],
        usual: 8,
    },
];
