//! What happened, which cause it has, and how its fix is done.

#[path = "acts.rs"]
mod acts;
#[path = "concerned.rs"]
mod concerned;
#[path = "more.rs"]
mod more;
#[path = "own_side.rs"]
mod own_side;
#[path = "who.rs"]
mod who;

use std::path::Path;

use propagation_core::diagnosis::CauseId;

/// How what is printed is done.
#[derive(Debug, Clone)]
pub(crate) enum Fixed {
    /// The command, then these steps, which say what must come of it.
    Steps(&'static str),
    /// The command before anything else, then these steps instead of those of the file.
    First(&'static str),
    /// The fragment is applied to the workloads of the file, and these are its steps then.
    Yaml(&'static str),
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
    /// Parts of how it is verified.
    pub(crate) verify: &'static [&'static str],
    /// A cause that stands after it, with a part of its fix and what must not be in it.
    pub(crate) after: Option<(CauseId, &'static str, &'static str)>,
    pub(crate) not_in_fix: &'static [&'static str],
    pub(crate) evidence: &'static [&'static str],
    pub(crate) not_in_evidence: &'static [&'static str],
    /// The workloads to which a fragment is applied; those that the cause concerns when empty.
    pub(crate) on: &'static [&'static str],
    /// The exit status of the run.
    pub(crate) status: i32,
    /// Other causes that are named too, with part of when each was so.
    pub(crate) also: &'static [(CauseId, &'static str)],
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
            verify: &[],
            after: None,
            not_in_fix: &[],
            evidence: &[],
            not_in_evidence: &[],
            on: &[],
            status: 0,
            also: &[],
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

/// Nothing more is done, and everybody reads.
pub(crate) const NODE_AND_APP: &str = "  - observe: true\n    expect: {app: ok, node: ok}\n";

const BRIDGE_HEALS: &str = "  - start: [d, app]\n    expect: {app: ok}\n  - fault: kill\n  - repair: \
                            lazy_unmount_mount\n    expect: {app: ok, node: ok}\n";

/// All incidents.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = of_daemons();
    cases.extend(of_volumes());
    cases.extend(of_the_node());
    cases.extend(more::all());
    cases.extend(own_side::all());
    cases.extend(concerned::all());
    cases.extend(who::all());
    cases.extend(acts::all());
    cases
}

/// Causes of which no fix is done by a test here, and why.
pub(crate) const NOT_DONE: &[(CauseId, &str)] = &[
    (CauseId::NothingWrong, "there is nothing to do"),
    (CauseId::Unexplained, "it has no fix"),
    (CauseId::FoundByExperiment, "its fix is what the experiment has done"),
    (CauseId::ControlPositive, "a runtime that isolates no container cannot be had here"),
    (CauseId::LsmDenies, "a security module belongs to the machine"),
    (
        CauseId::Fusermount3Absent,
        "its fix is a package of the node's, which a simulated node has not",
    ),
    (CauseId::ConsumerDied, "its fix is a change of the consumer's program"),
    (CauseId::ConsumerDidNotNotice, "its fix is a change of the consumer's probe"),
    (
        CauseId::LowerFilesystemExposed,
        "it stands first when it is over, and its fix is for the next time",
    ),
    (CauseId::ServerAway, "its fix is what the phase recovery does"),
    (
        CauseId::MountOutlivesDaemon,
        "who else holds a connection ends with its daemon on a simulated node",
    ),
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
                "  - observe: true\n    expect: {app: ok, node: ok, pinned: ok}\n",
            )),
            ..Case::new("a-dead-daemon", DaemonDead)
        },
        Case {
            evidence: &["the log of b"],
            when: "since 4-fault",
            fixed: Some(Fixed::Steps("  - observe: true\n    expect: {node: ok}\n")),
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
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("killed-under-a-keeper", DaemonKilledKeeperHolds)
        },
        Case {
            fix: &["nothing is to be killed"],
            never: &[DaemonStopped],
            fixed: Some(Fixed::Yaml(
                "  - start: d\n    expect: {node: ok}\n  - fault: {slow: 200}\n  - observe: \
                       true\n    expect: {node.list: ok, node: ok}\n",
            )),
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
            fixed: Some(Fixed::Yaml("  - start: [d, app]\n    expect: {node: ok, app: ok}\n")),
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
            fixed: Some(Fixed::Yaml("  - start: [app, d]\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-private-consumer", ConsumerModeNone)
        },
        Case {
            fixed: Some(Fixed::Yaml(BRIDGE_HEALS)),
            ..Case::new("a-frozen-copy", ConsumerFrozenCopy)
        },
        Case {
            fixed: Some(Fixed::Yaml(BRIDGE_HEALS)),
            ..Case::new("the-mountpoint-as-volume", VolumeIsMountpoint)
        },
        Case {
            fix: &["the directory above the mountpoint"],
            fixed: Some(Fixed::Yaml(BRIDGE_HEALS)),
            ..Case::new("a-file-volume", FileVolumePinsMount)
        },
        Case {
            fixed: Some(Fixed::Yaml(BRIDGE_HEALS)),
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
            fixed: Some(Fixed::Steps("  - start: app\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-dead-source", StaleSourceBlocksStart)
        },
        Case {
            actors: &["private-app"],
            never: &[VolumeIsMountpoint],
            fixed: Some(Fixed::Yaml(
                "  - start: d\n  - run: [sh, -c, \"mkdir -p /srv/publish && mount --bind {mountpoint} \
                       /srv/publish\"]\n  - start: [app, private-app]\n  - fault: kill\n  - repair: \
                       lazy_unmount_mount\n  - run: [mount, --bind, \"{mountpoint}\", /srv/publish]\n    expect: \
                       {app: ok, private-app: ok}\n",
            )),
            ..Case::new("a-descriptor-and-a-private-volume", ConsumerFrozenCopy)
        },
        Case {
            actors: &["app"],
            fix: &["mount --rbind /tmp/fuse-test-bridge /srv/alloc"],
            never: &[NothingWrong],
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-bind-that-is-not-recursive", BindNotRecursive)
        },
        Case {
            actors: &["app"],
            never: &[NothingWrong, DescriptorHeld],
            fix: &["lowerdir=/tmp/fuse-test-bridge/dfs:/run/low"],
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
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
