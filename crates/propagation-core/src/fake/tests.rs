//! The model against the kernel's rules, and whole runs on it.

use super::files::Files;
use super::fuse::{Connection, Daemon};
use super::kernel::{Content, Kernel, Namespace, Superblock};
use super::{FakeBackend, Sabotage};
use crate::errno::Errno;
use crate::error::ErrorKind;
use crate::facts::FuseDevice;
use crate::marker::Marker;
use crate::plan::{Covering, Fault, Plan, Propagation, Repair, Role, Volume};
use crate::report::{ByItself, CheckId, Report};
use crate::{Backend, Feature, Run, RunId, Runner, VerdictOutcome};

const BRIDGE: &str = "/bridge";
const MOUNTPOINT: &str = "/bridge/dfs";

/// A node with a shared root, and a consumer.
struct Machine {
    kernel: Kernel,
    node: Namespace,
    image: u32,
}

impl Machine {
    fn new() -> Self {
        let mut kernel = Kernel::default();
        let tmpfs = || Superblock {
            fs_type: "tmpfs",
            source: "tmpfs".into(),
            options: "rw".into(),
            content: Content::Lower(Files::default()),
        };
        let root = kernel.add_superblock(tmpfs());
        let image = kernel.add_superblock(tmpfs());
        let node = kernel.add_namespace(root);
        kernel.connect(node, "/", true, false);
        Self { kernel, node, image }
    }

    fn fuse(&mut self, generation: u64) -> u32 {
        self.kernel.add_superblock(Superblock {
            fs_type: "fuse.propagation",
            source: "test".into(),
            options: "rw".into(),
            content: Content::Fuse(Connection {
                daemon: Daemon::Serves,
                marker: Marker { started: "t".into(), generation, nonce: "n".into() },
                owner: 0,
                allow_other: true,
            }),
        })
    }

    fn mount(&mut self, generation: u64) {
        let superblock = self.fuse(generation);
        self.kernel.mount(self.node, MOUNTPOINT, superblock);
    }

    fn consumer(&mut self, volume: &str, propagation: Propagation) -> Consumer {
        let namespace = self.kernel.add_namespace(self.image);
        let destination = if volume == BRIDGE { "/mnt" } else { "/mnt/dfs" };
        self.kernel.bind_volume((self.node, volume), (namespace, destination), propagation, false);
        Consumer(namespace)
    }

    /// Which generation is at a path, if a FUSE mount is.
    fn generation(&self, namespace: Namespace, path: &str) -> Option<u64> {
        let place = self.kernel.walk(namespace, path)?;
        match &self.kernel.superblock(place.superblock)?.content {
            Content::Fuse(connection) => Some(connection.marker.generation),
            Content::Lower(_) => None,
        }
    }

    fn seen_by(&self, consumer: &Consumer) -> Option<u64> {
        self.generation(consumer.0, "/mnt/dfs")
    }
}

struct Consumer(Namespace);

/// The table of `kernel-rules`: what a consumer has in the gap, and after the repair.
#[test]
fn consumers_of_a_replaced_mount_have_what_the_kernel_gives_them() {
    use Propagation::{HostToContainer as Slave, None as Private};
    let rows = [
        (MOUNTPOINT, Slave, "after", "unmount", Some(1), Some(1)),
        (MOUNTPOINT, Slave, "after", "on top", Some(1), Some(2)),
        (MOUNTPOINT, Slave, "before", "unmount", None, Some(2)),
        (MOUNTPOINT, Private, "after", "unmount", Some(1), Some(1)),
        (MOUNTPOINT, Private, "after", "on top", Some(1), Some(1)),
        (BRIDGE, Slave, "after", "unmount", None, Some(2)),
        (BRIDGE, Slave, "after", "on top", Some(1), Some(2)),
        (BRIDGE, Private, "after", "unmount", Some(1), Some(1)),
        (BRIDGE, Private, "after", "on top", Some(1), Some(1)),
        (BRIDGE, Private, "before", "unmount", None, None),
    ];
    for row in rows {
        let (volume, propagation, started, repair, gap, after) = row;
        let mut machine = Machine::new();
        let early = machine.consumer(volume, propagation);
        machine.mount(1);
        let late = machine.consumer(volume, propagation);
        let consumer = if started == "before" { early } else { late };
        if repair == "unmount" {
            machine.kernel.unmount(machine.node, MOUNTPOINT);
        }
        assert_eq!(machine.seen_by(&consumer), gap, "gap of {row:?}");
        machine.mount(2);
        assert_eq!(machine.generation(machine.node, MOUNTPOINT), Some(2), "{row:?}");
        assert_eq!(machine.seen_by(&consumer), after, "after {row:?}");
    }
}

#[test]
fn a_slave_that_is_shared_passes_mounts_on() {
    let mut machine = Machine::new();
    let relay = machine.consumer(BRIDGE, Propagation::HostToContainer);
    machine.kernel.connect(relay.0, "/mnt", false, false);
    let foreign = machine.kernel.add_namespace(machine.image);
    let to = (foreign, "/mnt");
    machine.kernel.bind_volume((machine.node, BRIDGE), to, Propagation::Bidirectional, true);
    let behind = machine.kernel.add_namespace(machine.image);
    let to = (behind, "/mnt");
    machine.kernel.bind_volume((foreign, "/mnt"), to, Propagation::HostToContainer, false);
    machine.mount(1);
    assert_eq!(machine.seen_by(&relay), None, "made private");
    assert_eq!(machine.generation(foreign, "/mnt/dfs"), Some(1), "receives from the host");
    assert_eq!(machine.generation(behind, "/mnt/dfs"), Some(1), "receives from the relay");
    let superblock = machine.fuse(7);
    machine.kernel.mount(foreign, "/mnt/other", superblock);
    assert_eq!(machine.generation(behind, "/mnt/other"), Some(7));
    assert_eq!(machine.generation(machine.node, "/bridge/other"), None, "a slave sends nothing");
    machine.kernel.unmount(machine.node, MOUNTPOINT);
    assert_eq!(machine.generation(behind, "/mnt/dfs"), None, "unmounts travel the same way");
}

#[test]
fn the_end_of_a_namespace_does_not_travel() {
    let mut machine = Machine::new();
    let producer = machine.consumer(BRIDGE, Propagation::Bidirectional);
    let superblock = machine.fuse(1);
    machine.kernel.mount(producer.0, "/mnt/dfs", superblock);
    assert_eq!(machine.generation(machine.node, MOUNTPOINT), Some(1));
    machine.kernel.end_namespace(producer.0);
    assert_eq!(machine.generation(machine.node, MOUNTPOINT), Some(1));
}

fn consumers(plan: &mut Plan, change: impl Fn(&mut crate::plan::WorkloadSpec)) {
    plan.workloads.iter_mut().filter(|spec| spec.role == Role::Consumer).for_each(change);
}

async fn run(plan: Plan, backend: &FakeBackend) -> Report {
    let report = Runner::new(plan).expect("a valid plan").run(backend).await;
    let report = report.expect("the fake opens");
    assert!(report.cleanup.could_not.is_empty(), "{:?}", report.cleanup);
    report
}

#[tokio::test]
async fn verdicts_are_those_of_the_real_kernel() {
    type Case = (&'static str, fn(&mut Plan), VerdictOutcome, Option<Repair>);
    let cases: [Case; 9] = [
        ("default", |_| {}, VerdictOutcome::FullSuccess, Some(Repair::Wait)),
        (
            "mountpoint",
            |plan| consumers(plan, |spec| spec.volume = Volume::Mountpoint),
            VerdictOutcome::PartialSuccess,
            Some(Repair::RebindConsumer),
        ),
        (
            "ancestor",
            |plan| consumers(plan, |spec| spec.volume = Volume::Ancestor),
            VerdictOutcome::FullSuccess,
            Some(Repair::Wait),
        ),
        (
            "none",
            |plan| consumers(plan, |spec| spec.propagation = Propagation::None),
            VerdictOutcome::FundamentalFailure,
            None,
        ),
        (
            "bidirectional",
            |plan| consumers(plan, |spec| spec.propagation = Propagation::Bidirectional),
            VerdictOutcome::FullSuccess,
            Some(Repair::Wait),
        ),
        (
            "private",
            |plan| plan.node.covering = Covering::Private,
            VerdictOutcome::Inconclusive,
            None,
        ),
        ("slave", |plan| plan.node.covering = Covering::Slave, VerdictOutcome::Inconclusive, None),
        (
            "terminate",
            |plan| plan.fault = Fault::Terminate,
            VerdictOutcome::FullSuccess,
            Some(Repair::Wait),
        ),
        (
            "stop",
            |plan| plan.fault = Fault::Stop,
            VerdictOutcome::PartialSuccess,
            Some(Repair::Wait),
        ),
    ];
    for (name, change, outcome, smallest) in cases {
        let mut plan = Plan::default();
        change(&mut plan);
        let report = run(plan, &FakeBackend::default()).await;
        assert!(report.verdict.is(outcome), "{name}: {:?}", report.verdict);
        assert_eq!(report.measurements.smallest_intervention, smallest, "{name}");
    }
}

#[tokio::test]
async fn what_the_run_waited_is_apart_from_the_recovery() {
    let mut plan = Plan::default();
    plan.fault = Fault::Stop;
    let measured = run(plan, &FakeBackend::default()).await.measurements;
    let recovery = measured.restart_to_recovery_ms.expect("they recovered");
    let Some(ByItself::After { ms }) = measured.by_itself else { panic!("{measured:?}") };
    assert_eq!(Some(ms), measured.remount_to_fresh_read_ms);
    assert!(ms <= recovery, "{measured:?}");
    // The looks that hung were the run's own, and lie before the restart.
    let before = measured.fault_to_restart_ms.expect("a fault and a restart");
    assert!(measured.waited_in_vain_ms > 0.0, "{measured:?}");
    assert!(before >= measured.waited_in_vain_ms, "{measured:?}");
}

#[tokio::test]
async fn without_re_binding_a_restart_is_the_smallest_intervention() {
    let mut plan = Plan::default();
    consumers(&mut plan, |spec| spec.volume = Volume::Mountpoint);
    let less = FakeBackend::modelled().without_repairs(&[Repair::RebindConsumer]);
    let report = run(plan, &FakeBackend::default().with_capabilities(less)).await;
    assert_eq!(report.measurements.smallest_intervention, Some(Repair::RestartConsumer));
}

#[tokio::test]
async fn a_host_without_fuse_and_pods_with_user_namespaces_are_told_apart() {
    let device = FuseDevice::Unusable { errno: Errno::ENOENT };
    let report = run(Plan::default(), &FakeBackend::default().with_fuse_device(device)).await;
    assert!(report.verdict.is(VerdictOutcome::Inconclusive));
    let check = report.phase("host_setup").and_then(|phase| phase.check(&CheckId::FuseDevice));
    assert_eq!(check.map(|check| check.status), Some(crate::report::Status::Failed));

    let report = run(Plan::default(), &FakeBackend::default().with_user_namespaces(true)).await;
    assert!(report.verdict.is(VerdictOutcome::Inconclusive));
    let check = report.phase("producer").and_then(|phase| phase.check(&CheckId::Propagation));
    assert_eq!(check.map(|check| check.status), Some(crate::report::Status::Failed));
}

#[tokio::test]
async fn what_is_not_modelled_or_not_there_is_refused() {
    let run = Run::new(RunId::parse("refused").expect("a label"));
    let mut small = Plan::default();
    small.node.disk_bytes = 4096;
    let absent = FakeBackend::default().with_absence("it is switched off");
    let fixed = FakeBackend::modelled().without(&[Feature::ShapedNode]);
    let mut shaped = Plan::default();
    shaped.node.covering = Covering::Slave;
    for (backend, plan, kind) in [
        (FakeBackend::default(), small, ErrorKind::Unsupported),
        (absent, Plan::default(), ErrorKind::Environment),
        (FakeBackend::default().with_capabilities(fixed), shaped, ErrorKind::Unsupported),
    ] {
        let error = backend.open(&plan, &run).await.map(drop).expect_err("a refusal");
        assert_eq!(error.kind(), kind);
        assert!(error.fix().is_some());
    }
}

#[test]
fn every_sabotage_has_a_name_of_its_own() {
    let mut names: Vec<String> = Sabotage::WRITTEN.iter().map(|sabotage| sabotage.name()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
