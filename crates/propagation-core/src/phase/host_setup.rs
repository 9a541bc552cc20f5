//! Phase 1: can this host share FUSE mounts at all?

use async_trait::async_trait;

use super::Phase;
use crate::context::RunContext;
use crate::error::Error;
use crate::facts::{FuseDevice, HostFacts, PathState};
use crate::mountinfo::MountPropagation;
use crate::plan::Plan;
use crate::report::{Check, Status};

/// Phase 1.
#[derive(Debug, Clone, Copy)]
pub struct HostSetup;

#[async_trait]
impl Phase for HostSetup {
    fn id(&self) -> &str {
        "host_setup"
    }

    fn requires(&self) -> &[&str] {
        &[]
    }

    async fn run(&self, context: &mut RunContext<'_>) -> Result<(), Error> {
        let facts = context.node.facts().await?;
        let mut checks = check_host(&facts, context.plan);
        context.facts = Some(facts.clone());
        if matches!(facts.bridge, PathState::Missing) {
            checks.retain(|check| check.id != "bridge");
            let made = make_bridge(context).await;
            checks.push(made);
        }
        for check in checks {
            context.check(check);
        }
        Ok(())
    }
}

async fn make_bridge(context: &mut RunContext<'_>) -> Check {
    let bridge = &context.plan.bridge;
    let expected = format!("directory {:?} with {:?} in it", bridge.path, bridge.mountpoint);
    if let Err(error) = context.make_bridge().await {
        return Check::new("bridge", false, expected, error.to_string()).with_cause(
            error.reason().to_owned(),
            error.fix().unwrap_or("make the directory by hand").to_owned(),
        );
    }
    Check::new(
        "bridge",
        true,
        expected,
        format!("{:?} made for this run, removed at its end", bridge.path),
    )
}

/// Judges facts: the checks of `host_setup`, without touching anything.
pub fn check_host(facts: &HostFacts, plan: &Plan) -> Vec<Check> {
    vec![
        fuse_device(facts, plan),
        fusermount(facts, plan),
        user_allow_other(facts, plan),
        covering_mount(facts, plan),
        bridge(facts, plan),
        kernel(facts),
    ]
}

fn fuse_device(facts: &HostFacts, plan: &Plan) -> Check {
    let expected = "/dev/fuse opens for reading and writing";
    match &facts.fuse_device {
        FuseDevice::Usable if producer_uid(plan) != 0 && !facts.fuse_device_for_all => {
            Check::new("fuse_device", false, expected, "it opens for its owner only").with_cause(
                "fusermount3 opens /dev/fuse as the producer's user, and its mode does not let \
                 that user in",
                "chmod 0666 /dev/fuse (a udev rule of the fuse3 package does it), or run the \
                 producer as root",
            )
        }
        FuseDevice::Usable => Check::new("fuse_device", true, expected, expected),
        FuseDevice::Unusable { errno } => {
            let (cause, fix) = match errno.as_str() {
                "ENOENT" => (
                    "there is no /dev/fuse: the fuse module is not loaded or the device is not \
                     passed into this environment",
                    "modprobe fuse; in a container add the device /dev/fuse",
                ),
                "ENODEV" | "ENXIO" => (
                    "the device file is there and the kernel has no FUSE driver behind it",
                    "modprobe fuse, or use a kernel with CONFIG_FUSE_FS",
                ),
                "EACCES" if facts.fuse_device_for_all => (
                    "/dev/fuse lies on a mount with nodev, on which no device opens",
                    "remount it with dev, or mount a devtmpfs in its place",
                ),
                "EACCES" => (
                    "the mode of /dev/fuse does not let this user open it",
                    "chmod 0666 /dev/fuse (a udev rule of the fuse3 package does it), or run as root",
                ),
                "EPERM" => (
                    "opening devices is forbidden here: a device control group or seccomp",
                    "allow the device c 10:229 rwm, or make the container privileged",
                ),
                _ => ("the kernel refused it", "look at the kernel log: dmesg | tail"),
            };
            Check::new("fuse_device", false, expected, format!("open gives {errno}"))
                .with_cause(cause, fix)
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
            "fusermount",
            true,
            "not needed: a producer with uid 0 mounts with mount(2)",
            format!("{found}; not needed, a producer with uid 0 mounts with mount(2)"),
        );
    }
    let expected = "fusermount3 is there: a producer that is not root mounts through it";
    Check::new("fusermount", facts.fusermount3.is_some(), expected, found).with_cause(
        "the helper fusermount3 is missing where the producer runs",
        "install the package fuse3 in the producer's image (apt-get install fuse3), or run the \
         producer as root",
    )
}

fn user_allow_other(facts: &HostFacts, plan: &Plan) -> Check {
    let file = &facts.fuse_conf;
    let found = match (file.exists, file.user_allow_other) {
        (false, _) => format!("{} does not exist", file.path),
        (true, true) => format!("user_allow_other is in {}", file.path),
        (true, false) => format!("user_allow_other is not in {}", file.path),
    };
    if !plan.fuse.allow_other {
        return Check::new("user_allow_other", true, "not needed without allow_other", found);
    }
    if producer_uid(plan) == 0 {
        return Check::new(
            "user_allow_other",
            true,
            "not needed: fusermount asks for it only when a user other than root mounts with \
             allow_other",
            format!("{found}; not needed, uid 0 is exempt"),
        );
    }
    Check::new(
        "user_allow_other",
        file.user_allow_other,
        format!("user_allow_other in the {} that fusermount3 will read", file.path),
        found,
    )
    .with_cause(
        "fusermount3 refuses allow_other to users other than root unless user_allow_other is in \
         the fuse.conf of the mount namespace it runs in: for a producer in a pod, the pod's",
        format!("add a line `user_allow_other` to {}", file.path),
    )
}

fn covering_mount(facts: &HostFacts, plan: &Plan) -> Check {
    let bridge = &plan.bridge.path;
    let expected = format!("the mount that covers {bridge:?} is shared");
    let Some(mount) = &facts.covering_mount else {
        return Check::new("covering_mount", false, expected, "no mount covers it").with_cause(
            "the path is outside every mount of the runtime's namespace",
            "use a bridge below a mounted filesystem",
        );
    };
    let propagation = mount.propagation();
    let found = format!("{bridge:?} lies on {}, which is {propagation}", mount.mount_point);
    let shared = matches!(propagation, MountPropagation::Shared | MountPropagation::SlaveAndShared);
    let cause = match propagation {
        MountPropagation::Slave => {
            "a slave receives mounts and sends none: a Bidirectional container is refused"
        }
        _ => "a private mount sends and receives nothing: both modes are refused",
    };
    let fix = format!(
        "mount --make-rshared {} before the container runtime starts (systemd does it for /)",
        mount.mount_point
    );
    Check::new("covering_mount", shared, expected, found)
        .with_evidence([mount.to_string()])
        .with_cause(cause, fix)
}

fn bridge(facts: &HostFacts, plan: &Plan) -> Check {
    let path = &plan.bridge.path;
    let expected = format!("{path:?} is a directory");
    match &facts.bridge {
        PathState::Directory => Check::new("bridge", true, expected.clone(), expected),
        PathState::Missing => Check {
            status: Status::Passed,
            ..Check::new(
                "bridge",
                true,
                expected,
                format!("{path:?} does not exist yet; a run makes it"),
            )
        },
        PathState::Other { what } => Check::new("bridge", false, expected, format!("it is {what}"))
            .with_cause(
                format!("{path:?} is {what}, and a volume has to be a directory"),
                "name another bridge with --bridge, or move what is there out of the way",
            ),
        PathState::Error { errno } => {
            let (cause, fix) = if errno == "ENOTCONN" {
                (
                    "a dead FUSE mount lies on the bridge".to_owned(),
                    format!("umount --lazy {path:?}"),
                )
            } else {
                (format!("looking at it gives {errno}"), "name another bridge with --bridge".into())
            };
            Check::new("bridge", false, expected, format!("lstat gives {errno}"))
                .with_cause(cause, fix)
        }
    }
}

fn kernel(facts: &HostFacts) -> Check {
    let events = if facts.fanotify_mount_events { "fanotify" } else { "poll on mountinfo" };
    let lsm = if facts.lsm.is_empty() { "none readable".into() } else { facts.lsm.join(",") };
    let mut evidence = vec![
        format!("mount events through {events}"),
        format!("security modules: {lsm}"),
        format!("cgroup {}", facts.cgroup),
    ];
    evidence.extend(facts.runtime.iter().map(|runtime| format!("runtime {runtime}")));
    evidence.extend(facts.kubelet.iter().map(|kubelet| format!("kubelet {kubelet}")));
    Check::new(
        "kernel",
        true,
        "facts of the node are known",
        format!("Linux {} {}", facts.kernel_release, facts.architecture),
    )
    .with_evidence(evidence)
}
