//! What happened, which cause it has, and how its fix is done.

#[path = "more.rs"]
mod more;

use std::path::Path;

use propagation_core::diagnosis::CauseId;

/// How what is printed is done.
#[derive(Debug, Clone)]
pub(crate) enum Fixed {
    /// The command, then these steps, which say what must come of it.
    Steps(&'static str),
    /// The manifest is changed, and these are its steps then.
    Manifest { from: &'static str, to: &'static str, then: &'static str },
    /// The command on the node that was kept; this line fails before it and succeeds afterwards.
    Kept { looks: &'static str },
}

/// An incident: a file beside this one.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) file: &'static str,
    /// The first cause.
    pub(crate) cause: CauseId,
    pub(crate) over: bool,
    /// Part of when it was so.
    pub(crate) when: &'static str,
    /// Whom it concerns; not looked at when empty.
    pub(crate) actors: &'static [&'static str],
    pub(crate) fix: &'static [&'static str],
    pub(crate) not_in_fix: &'static [&'static str],
    pub(crate) evidence: &'static [&'static str],
    /// Causes that must not be named at all.
    pub(crate) never: &'static [CauseId],
    pub(crate) fixed: Option<Fixed>,
    needs: &'static [&'static str],
}

impl Case {
    fn new(file: &'static str, cause: CauseId) -> Self {
        Self {
            file,
            cause,
            over: false,
            when: "",
            actors: &[],
            fix: &[],
            not_in_fix: &[],
            evidence: &[],
            never: &[],
            fixed: None,
            needs: &[],
        }
    }

    /// Why it cannot be run here.
    pub(crate) fn cannot_run(&self) -> Option<String> {
        let missing = self.needs.iter().find(|program| !Path::new(program).exists())?;
        Some(format!("{missing} is not there"))
    }
}

fn over(file: &'static str, cause: CauseId, when: &'static str) -> Case {
    Case { over: true, when, ..Case::new(file, cause) }
}

const BRIDGE_HEALS: &str = "steps:\n  - start: [d, app]\n    expect: {app: ok}\n  - fault: kill\n  - repair: \
                            lazy_unmount_mount\n    expect: {app: ok, node: ok}\n";

/// The volume of `app` as it should be.
fn bridge(from: &'static str) -> Option<Fixed> {
    let to = "{name: app, role: consumer, propagation: HostToContainer}";
    Some(Fixed::Manifest { from, to, then: BRIDGE_HEALS })
}

/// All incidents.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = of_daemons();
    cases.extend(of_volumes());
    cases.extend(of_the_node());
    cases.extend(more::all());
    cases
}

/// Causes of which no fix is done by a test here, and why.
pub(crate) const NOT_DONE: &[(CauseId, &str)] = &[
    (CauseId::NothingWrong, "there is nothing to do"),
    (CauseId::Unexplained, "it has no fix"),
    (CauseId::FoundByExperiment, "its fix is what the experiment has done"),
    (CauseId::MountpointMissing, "found since, and not done yet"),
    (CauseId::PropagationNotRecursive, "found since, and not done yet"),
    (CauseId::CallerGroupsUnknown, "its fix is a change of the daemon's program"),
    (CauseId::MountedNosuid, "found since, and not done yet"),
    (CauseId::FuseAsUpperDir, "its fix is another upper layer"),
    (CauseId::MountHidden, "found since, and not done yet"),
    (CauseId::ReadOnlyNotInherited, "found since, and not done yet"),
    (CauseId::SourceMissing, "found since, and not done yet"),
    (CauseId::ImpatientProbe, "found since, and not done yet"),
    (CauseId::RecoveryRacesUnpublish, "found since, and not done yet"),
    (CauseId::ControlPositive, "a runtime that isolates no container cannot be had here"),
    (CauseId::FuseDeviceUnusable, "the device belongs to the machine"),
    (CauseId::LsmDenies, "a security module belongs to the machine"),
    (CauseId::BridgeUnusable, "the five phases find it, and scenarios name their bridge"),
    (CauseId::MountOutsideVolume, "scenario 131 has it, beside its cure"),
    (CauseId::ConsumerNotConnected, "a runtime that binds from elsewhere cannot be had here"),
    (CauseId::DaemonDenies, "its fix is a change of the daemon's program"),
    (CauseId::FileModeDenies, "its fix is a change of the files that the daemon serves"),
    (
        CauseId::FreshMountHidden,
        "it is done by a program of the consumer's image, and a simulated container has none",
    ),
    (CauseId::MountOutlivesDaemon, "its fix is to find a process that nobody else knows"),
    (CauseId::ConsumerDied, "its fix is a change of the consumer's program"),
    (CauseId::ConsumerDidNotNotice, "its fix is a change of the consumer's probe"),
    (CauseId::MountReadOnly, "a write that is refused is expected where it can be shown"),
    (CauseId::RecoveryBeforeMount, "it stands behind what broke the mount"),
    (CauseId::CleanUnmountWhereStackNeeded, "it stands behind the volume that is the mountpoint"),
    (CauseId::LowerFilesystemExposed, "chattr needs a right that a simulated node does not have"),
    (CauseId::MountedButWrongContent, "its fix is a probe, which brings no content back"),
];

fn of_daemons() -> Vec<Case> {
    use CauseId::{DaemonDead, DaemonDenies, DaemonKilledKeeperHolds, DaemonSlow, DaemonStopped};
    use CauseId::{LsmDenies, MountGone, NothingWrong};
    vec![
        Case::new("nobody-is-wrong", NothingWrong),
        Case {
            never: &[NothingWrong],
            ..over("a-daemon-that-was-stopped", DaemonDead, "from 2-stop to 3-run")
        },
        over("a-repair-that-reaches-everybody", DaemonDead, "from 2-fault to 3-repair"),
        Case {
            fix: &["umount --lazy /tmp/fuse-test-bridge/dfs", "restart d", "pinned"],
            actors: &["node"],
            fixed: Some(Fixed::Steps(
                "  - restart: d\n  - restart: pinned\n    expect: {app: ok, node: ok, pinned: ok}\n",
            )),
            ..Case::new("a-dead-daemon", DaemonDead)
        },
        Case {
            evidence: &["the log of b"],
            when: "since 4-fault",
            fixed: Some(Fixed::Steps("  - restart: b\n    expect: {node: ok}\n")),
            ..Case::new("the-second-producer-was-killed", DaemonDead)
        },
        Case {
            fixed: Some(Fixed::Steps("  - observe: true\n    expect: {node: ok}\n")),
            ..Case::new("a-clean-stop", MountGone)
        },
        Case {
            fix: &["hand over"],
            not_in_fix: &["abort", "kill -CONT"],
            never: &[DaemonStopped],
            fixed: Some(Fixed::Steps("  - repair: hand_over\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("killed-under-a-keeper", DaemonKilledKeeperHolds)
        },
        Case {
            fix: &["nothing is to be killed"],
            never: &[DaemonStopped],
            fixed: Some(Fixed::Manifest {
                from: "probe_ms: 500",
                to: "probe_ms: 5000",
                then: "steps:\n  - start: d\n    expect: {node: ok}\n  - fault: {slow: 200}\n  - observe: \
                       true\n    expect: {node.list: ok, node: ok}\n",
            }),
            ..Case::new("a-slow-listing", DaemonSlow)
        },
        over("a-hang-that-is-over", DaemonStopped, "from 2-fault to 3-fault"),
        Case {
            fix: &["kill -CONT "],
            fixed: Some(Fixed::Kept {
                looks: "timeout -s KILL 1 stat -f /tmp/fuse-test-bridge/dfs > /dev/null",
            }),
            ..Case::new("a-stopped-daemon", DaemonStopped)
        },
        Case {
            fix: &["kill -CONT ", "restart second"],
            actors: &["second", "app-of-second"],
            ..Case::new("the-second-of-two-daemons", DaemonStopped)
        },
        Case {
            fix: &["SessionACL"],
            not_in_fix: &["Unconfined", "privileged"],
            evidence: &["node as uid 1000: EACCES"],
            never: &[LsmDenies],
            needs: &["/usr/bin/python3"],
            ..Case::new("a-daemon-that-denies", DaemonDenies)
        },
    ]
}

fn of_volumes() -> Vec<Case> {
    use CauseId::{BindNotRecursive, ConsumerFrozenCopy, ConsumerModeNone, FileVolumePinsMount};
    use CauseId::{DescriptorHeld, VolumeIsMountpoint};
    use CauseId::{NothingWrong, OverlayLowerDied, StaleSourceBlocksStart, SubPathPinsMount};
    const PUBLISH: &str = "/var/lib/kubelet/pods/one/mount";
    vec![
        Case {
            actors: &["app"],
            fixed: Some(Fixed::Manifest {
                from: "propagation: None, ",
                to: "propagation: HostToContainer, ",
                then: "steps:\n  - start: [app, d]\n    expect: {app: ok, node: ok}\n",
            }),
            ..Case::new("a-private-consumer", ConsumerModeNone)
        },
        Case {
            fixed: bridge("{name: app, role: consumer, propagation: None}"),
            ..Case::new("a-frozen-copy", ConsumerFrozenCopy)
        },
        Case {
            fixed: bridge("{name: app, role: consumer, volume: mountpoint}"),
            ..Case::new("the-mountpoint-as-volume", VolumeIsMountpoint)
        },
        Case {
            fix: &["the directory above the mountpoint"],
            fixed: bridge("{name: app, role: consumer, volume: file}"),
            ..Case::new("a-file-volume", FileVolumePinsMount)
        },
        Case {
            fixed: bridge("{name: app, role: consumer, sub_path: dfs}"),
            ..Case::new("a-sub-path", SubPathPinsMount)
        },
        Case {
            fix: &["umount --lazy /var/lib/kubelet/pods/one/mount"],
            not_in_fix: &["umount --lazy /tmp"],
            evidence: &[PUBLISH],
            fixed: Some(Fixed::Steps("  - restart: app\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-dead-publish-path", StaleSourceBlocksStart)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - start: d\n    expect: {node: ok}\n  - start: app\n    expect: {app: ok, node: ok}\n",
            )),
            ..Case::new("a-dead-source", StaleSourceBlocksStart)
        },
        Case {
            actors: &["private-app"],
            never: &[VolumeIsMountpoint],
            fixed: Some(Fixed::Manifest {
                from: "volume: {path: /srv/publish}, propagation: None",
                to: "volume: {path: /srv/publish}",
                then: "steps:\n  - start: d\n  - run: [sh, -c, \"mkdir -p /srv/publish && mount --bind {mountpoint} \
                       /srv/publish\"]\n  - start: [app, private-app]\n  - fault: kill\n  - repair: \
                       lazy_unmount_mount\n  - run: [mount, --bind, \"{mountpoint}\", /srv/publish]\n    expect: \
                       {app: ok, private-app: ok}\n",
            }),
            ..Case::new("a-descriptor-and-a-private-volume", ConsumerFrozenCopy)
        },
        Case {
            actors: &["app"],
            fix: &["mount --rbind /tmp/fuse-test-bridge /srv/alloc"],
            never: &[NothingWrong],
            fixed: Some(Fixed::Steps("  - restart: app\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-bind-that-is-not-recursive", BindNotRecursive)
        },
        Case {
            actors: &["app"],
            never: &[NothingWrong, DescriptorHeld],
            fix: &["lowerdir=/tmp/fuse-test-bridge/dfs:/run/low"],
            fixed: Some(Fixed::Steps("  - restart: app\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("an-overlay-on-a-mount", OverlayLowerDied)
        },
    ]
}

fn of_the_node() -> Vec<Case> {
    use CauseId::{CoveringPrivate, MountsMultiply, RuntimeOwnNamespace};
    vec![
        Case {
            never: &[RuntimeOwnNamespace],
            ..over("a-covering-mount-that-was-private", CoveringPrivate, "from 2-start to 3-run")
        },
        Case {
            fix: &["mount --make-rshared /tmp"],
            never: &[RuntimeOwnNamespace],
            fixed: Some(Fixed::Steps(
                "  - start: owner-as-printed\n    expect: {owner-as-printed: ok, node: ok}\n",
            )),
            ..Case::new("a-private-producer", CoveringPrivate)
        },
        Case {
            never: &[MountsMultiply],
            ..over("a-bind-on-itself", CoveringPrivate, "from 3-start to 4-restart")
        },
    ]
}
