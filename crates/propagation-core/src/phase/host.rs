//! Checks before anything starts: can this node share FUSE mounts at all?

use crate::backend::Feature;
use crate::comparison::Transport;
use crate::context::RunContext;
use crate::error::Error;
use crate::facts::{FuseDevice, HostFacts, PathState};
use crate::mountinfo::MountPropagation;
use crate::plan::Plan;
use crate::report::{Check, CheckId};

/// Reads the facts of the node, makes the bridge where there is none, and judges both.
///
/// # Errors
/// When the node cannot be reached.
pub(super) async fn host(context: &mut RunContext<'_>) -> Result<(), Error> {
    let facts = context.node.facts().await?;
    let mut checks = check_host(&facts, context.plan);
    context.facts = Some(facts.clone());
    if matches!(facts.bridge, PathState::Missing) {
        checks.retain(|check| check.id != CheckId::Bridge);
        let made = make_bridge(context).await;
        checks.push(made);
    }
    for check in checks {
        context.check(check);
    }
    Ok(())
}

async fn make_bridge(context: &mut RunContext<'_>) -> Check {
    let bridge = &context.plan.bridge;
    let expected = format!("directory {:?} with {:?} in it", bridge.path, bridge.mountpoint);
    if let Err(error) = context.make_bridge().await {
        return Check::new(CheckId::Bridge, false, expected, error.to_string());
    }
    Check::new(
        CheckId::Bridge,
        true,
        expected,
        match context.capabilities().has(Feature::ShapedNode) {
            true => format!("{:?} made on the simulated node", bridge.path),
            false => format!("{:?} made for this run, removed at its end", bridge.path),
        },
    )
}

/// Judges facts: the checks of `host_setup`, without touching anything.
pub fn check_host(facts: &HostFacts, plan: &Plan) -> Vec<Check> {
    // The kernel is the client of CIFS and of NFS.
    let without_fuse = matches!(plan.served_by(), Some(Transport::SmbCifs | Transport::Nfs));
    let device = (!without_fuse).then(|| fuse_device(facts, plan));
    device
        .into_iter()
        .chain([
            fusermount(facts, plan),
            user_allow_other(facts, plan),
            covering_mount(facts, plan),
            bridge(facts, plan),
            kernel(facts),
        ])
        .collect()
}

fn fuse_device(facts: &HostFacts, plan: &Plan) -> Check {
    let expected = "/dev/fuse opens for reading and writing";
    match &facts.fuse_device {
        FuseDevice::Usable if producer_uid(plan) != 0 && !facts.fuse_device_for_all => {
            Check::new(CheckId::FuseDevice, false, expected, "it opens for its owner only")
        }
        FuseDevice::Usable => Check::new(CheckId::FuseDevice, true, expected, expected),
        FuseDevice::Unusable { errno } => {
            Check::new(CheckId::FuseDevice, false, expected, format!("open gives {errno}"))
        }
    }
}

fn producer_uid(plan: &Plan) -> u32 {
    plan.producer().map_or(0, |producer| producer.uid)
}

fn fusermount(facts: &HostFacts, plan: &Plan) -> Check {
    let found = match (&facts.fusermount3, &facts.fusermount) {
        (Some(path), _) => format!("{path} is there"),
        (None, Some(path)) => format!("only {path} (FUSE 2) is there"),
        (None, None) => "neither fusermount3 nor fusermount is there".into(),
    };
    if producer_uid(plan) == 0 {
        return Check::new(
            CheckId::Fusermount,
            true,
            "not needed: a producer with uid 0 mounts with mount(2)",
            format!("{found}; not needed, a producer with uid 0 mounts with mount(2)"),
        );
    }
    let expected = "fusermount3 is there: a producer that is not root mounts through it";
    Check::new(CheckId::Fusermount, facts.fusermount3.is_some(), expected, found)
}

fn user_allow_other(facts: &HostFacts, plan: &Plan) -> Check {
    let file = &facts.fuse_conf;
    let found = match (file.exists, file.user_allow_other) {
        (false, _) => format!("{} does not exist", file.path),
        (true, true) => format!("user_allow_other is in {}", file.path),
        (true, false) => format!("user_allow_other is not in {}", file.path),
    };
    if !plan.fuse.allow_other {
        return Check::new(CheckId::UserAllowOther, true, "not needed without allow_other", found);
    }
    if producer_uid(plan) == 0 {
        return Check::new(
            CheckId::UserAllowOther,
            true,
            "not needed: fusermount asks for it only when a user other than root mounts with \
             allow_other",
            format!("{found}; not needed, uid 0 is exempt"),
        );
    }
    Check::new(
        CheckId::UserAllowOther,
        file.user_allow_other,
        format!("user_allow_other in the {} that fusermount3 will read", file.path),
        found,
    )
}

fn covering_mount(facts: &HostFacts, plan: &Plan) -> Check {
    let bridge = &plan.bridge.path;
    let expected = format!("the mount that covers {bridge:?} is shared");
    let Some(mount) = &facts.covering_mount else {
        return Check::new(
            CheckId::CoveringMount,
            false,
            expected,
            "no mount is seen that covers it: a chroot hides what lies above its root",
        );
    };
    let propagation = mount.propagation();
    let found = format!("{bridge:?} lies on {}, which is {propagation}", mount.mount_point);
    let shared = matches!(propagation, MountPropagation::Shared | MountPropagation::SlaveAndShared);
    Check::new(CheckId::CoveringMount, shared, expected, found).with_evidence([mount.to_string()])
}

fn bridge(facts: &HostFacts, plan: &Plan) -> Check {
    let path = &plan.bridge.path;
    let expected = format!("{path:?} is a directory");
    match &facts.bridge {
        PathState::Directory => Check::new(CheckId::Bridge, true, expected.clone(), expected),
        PathState::Missing => {
            let observed = format!("{path:?} does not exist yet; a run makes it");
            Check::new(CheckId::Bridge, true, expected, observed)
        }
        PathState::Other { what } => {
            Check::new(CheckId::Bridge, false, expected, format!("it is {what}"))
        }
        PathState::Error { errno } => {
            Check::new(CheckId::Bridge, false, expected, format!("lstat gives {errno}"))
        }
    }
}

fn kernel(facts: &HostFacts) -> Check {
    let lsm = if facts.lsm.is_empty() { "none readable".into() } else { facts.lsm.join(",") };
    let mut evidence = vec![format!("security modules: {lsm}"), format!("cgroup {}", facts.cgroup)];
    evidence.extend(facts.runtime.iter().map(|runtime| format!("runtime {runtime}")));
    evidence.extend(facts.kubelet.iter().map(|kubelet| format!("kubelet {kubelet}")));
    Check::new(
        CheckId::Kernel,
        true,
        "facts of the node are known",
        format!("Linux {} {}", facts.kernel_release, facts.architecture),
    )
    .with_evidence(evidence)
}
