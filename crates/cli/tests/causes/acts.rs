//! What somebody did while it ran: the cause names the act, and the fix brings everybody back whom it concerned.

use propagation_core::diagnosis::CauseId;

use super::{Case, Fixed, NODE_AND_APP};

pub(super) fn all() -> Vec<Case> {
    let mut cases = of_propagation();
    cases.extend(of_programs());
    cases.extend(of_writes());
    cases.extend(of_those_left_out());
    cases.extend(of_fixes());
    cases
}

/// Mounts that were connected and are not.
fn of_propagation() -> Vec<Case> {
    use CauseId::{CleanUnmountWhereStackNeeded, ConsumerFrozenCopy, ConsumerModeNone};
    use CauseId::{ConsumerNotConnected, CoveringPrivate, MountGone, MountHidden};
    const NEVER: &[CauseId] = &[CleanUnmountWhereStackNeeded, ConsumerModeNone];
    vec![
        Case {
            actors: &["app"],
            fix: &["mount --make-rshared /tmp", "kubectl exec app -- kill 1"],
            not_in_fix: &["HostToContainer"],
            never: &[CleanUnmountWhereStackNeeded, ConsumerModeNone, ConsumerFrozenCopy],
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-mount-of-the-node-that-was-made-private", CoveringPrivate)
        },
        Case {
            fix: &["leave out `mount --make-rprivate /mnt`"],
            not_in_fix: &["HostToContainer"],
            never: NEVER,
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-volume-that-its-owner-made-private", ConsumerFrozenCopy)
        },
        Case {
            fix: &["leave out `mount --make-private /mnt`"],
            never: NEVER,
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-volume-that-was-made-private-from-below", ConsumerFrozenCopy)
        },
        Case {
            status: 6,
            fix: &["kubectl delete pod d", "kubectl exec private -- kill 1"],
            ..Case::new("a-copy-that-is-given-up", MountGone)
        },
        Case {
            never: &[MountGone],
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-tmpfs-of-a-consumers-own", MountHidden)
        },
        Case {
            on: &["d"],
            fixed: Some(Fixed::Yaml("  - start: [d, app]\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-producer-that-mounts-elsewhere", ConsumerNotConnected)
        },
        Case {
            evidence: &["/fuse-test-bridge.old"],
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-directory-that-was-renamed", ConsumerNotConnected)
        },
    ]
}

/// What only a program meets.
fn of_programs() -> Vec<Case> {
    use CauseId::{LowerFilesystemWritten, MountGone, OverlayLowerDied, StalePublishPath};
    vec![
        Case {
            actors: &["app"],
            fixed: Some(Fixed::Steps("  - run: [ls, /data]\n    in: app\n    expect: {run: ok}\n")),
            ..Case::new("a-bind-in-a-container", StalePublishPath)
        },
        Case {
            actors: &["app"],
            fixed: Some(Fixed::Steps("  - run: [ls, /o/m]\n    in: app\n    expect: {run: ok}\n")),
            ..Case::new("an-overlay-in-a-container", OverlayLowerDied)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {node: {outcome: ok, mounts_at: {\"/tmp/fuse-test-bridge/dfs/sub\": 1}}}\n",
            )),
            ..Case::new("a-mount-in-the-mount", MountGone)
        },
        Case {
            evidence: &["touch /mnt/dfs/movie.mkv"],
            fixed: Some(Fixed::Steps(
                "  - run: [ls, \"{mountpoint}/movie.mkv\"]\n    in: app\n    expect: {run: ok}\n",
            )),
            ..Case::new("a-file-below-the-mount", LowerFilesystemWritten)
        },
    ]
}

/// Writes that a remount refuses.
fn of_writes() -> Vec<Case> {
    use CauseId::MountReadOnly;
    vec![
        Case {
            fix: &["remount,bind,rw /tmp/fuse-test-bridge/dfs", "kubectl exec fresh -- kill 1"],
            not_in_fix: &["readOnly"],
            evidence: &["remount,bind,ro"],
            fixed: Some(Fixed::Steps("  - observe: true\n    expect: {fresh.write: ok}\n")),
            ..Case::new("a-mount-of-the-node-that-was-made-read-only", MountReadOnly)
        },
        Case {
            fix: &["mount -i -o remount,rw /tmp/fuse-test-bridge/dfs"],
            not_in_fix: &["let the producer"],
            fixed: Some(Fixed::Steps("  - observe: true\n    expect: {app.write: ok}\n")),
            ..Case::new("a-filesystem-that-was-made-read-only", MountReadOnly)
        },
    ]
}

/// Whoever stays broken once the first trouble is over.
fn of_those_left_out() -> Vec<Case> {
    use CauseId::{AllowOtherMissing, DaemonDead, DaemonStopped, LowerFilesystemExposed};
    use CauseId::{MountGone, MountHidden};
    vec![
        Case {
            evidence: &["ENOTCONN"],
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-connection-that-was-ended", DaemonStopped)
        },
        Case {
            fix: &["restart root-app"],
            ..Case::new("a-mount-for-its-owner-only-that-died", AllowOtherMissing)
        },
        Case {
            fix: &["kubectl exec late -- kill 1"],
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {node: ok, app: ok, late: ok}\n",
            )),
            ..Case::new("a-tmpfs-over-the-bridge", MountHidden)
        },
        Case {
            actors: &["late"],
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {node: ok, app: ok, late: ok}\n",
            )),
            ..Case::new("a-start-that-was-given-up", DaemonStopped)
        },
        Case {
            actors: &["pod"],
            when: "since 5-restart",
            also: &[(LowerFilesystemExposed, "since 5-restart")],
            fixed: Some(Fixed::Steps("  - observe: true\n    expect: {node: ok, pod: ok}\n")),
            ..Case::new("a-volume-that-was-unpublished", MountGone)
        },
        Case {
            fix: &["kubectl delete pod old"],
            not_in_fix: &["pod new"],
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("the-first-of-two-daemons-on-one-path", DaemonDead)
        },
    ]
}

/// Fixes that can be carried out as they are printed.
fn of_fixes() -> Vec<Case> {
    use CauseId::StaleSourceBlocksStart;
    use CauseId::{AllowOtherMissing, BridgeUnusable, ConsumerFrozenCopy, DaemonDead};
    vec![
        Case {
            fixed: Some(Fixed::Yaml(
                "  - start: [d, app]\n    expect: {app: ok}\n  - fault: kill\n  - repair: remount\n    expect: {app: ok}\n",
            )),
            ..Case::new("a-private-volume-that-is-read-only-as-a-whole", ConsumerFrozenCopy)
        },
        Case {
            after: Some((DaemonDead, "kubectl delete pod app", "kubectl exec app")),
            ..Case::new("a-start-on-what-is-dead", StaleSourceBlocksStart)
        },
        Case {
            fix: &["allow_other: true"],
            not_in_fix: &["fuse_conf", "user_allow_other"],
            ..Case::new("a-daemon-of-the-node-for-its-owner-only", AllowOtherMissing)
        },
        Case {
            status: 1,
            fix: &["name a bridge on a writable filesystem"],
            ..Case::new("a-node-that-is-read-only", BridgeUnusable)
        },
    ]
}
