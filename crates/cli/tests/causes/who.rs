//! Whose trouble it is: who lives, who was it, and of which of several times.

use super::{Case, Fixed, NODE_AND_APP, over};
use propagation_core::diagnosis::CauseId;

pub(super) fn all() -> Vec<Case> {
    use CauseId::{BindNotRecursive, DeletedThroughMount, VolumeIsMountpoint};
    use CauseId::{ConsumerModeNone, CoveringSlave, DaemonDead, LowerFilesystemExposed};
    use CauseId::{LowerFilesystemWritten, LowerMountLost, MountGone, MountLeftBehind};
    use CauseId::{
        MountsOfSeveralProducers, OverlayLowerDied, RecoveryBeforeMount, StaleSourceBlocksStart,
        UnmountBusy,
    };
    vec![
        Case {
            fix: &["umount --lazy /srv/low", "kubectl delete pod low"],
            evidence: &["3-fault, to low"],
            never: &[DaemonDead],
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("a-daemon-that-lives-on-a-dead-one", LowerMountLost)
        },
        Case {
            fix: &["it is over", "umount --lazy /tmp/fuse-test-bridge/dfs", "kubectl delete pod d"],
            also: &[(DaemonDead, "from 5-fault to 6-repair")],
            not_in_evidence: &["the log of d"],
            ..over("two-deaths", DaemonDead, "from 2-fault to 3-repair")
        },
        Case {
            actors: &["app"],
            fix: &["restart app"],
            not_in_fix: &["chattr"],
            evidence: &["umount --lazy /mnt/dfs"],
            when: "since 2-run",
            never: &[LowerFilesystemExposed],
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-copy-that-its-owner-took-off", MountGone)
        },
        Case {
            actors: &["app"],
            never: &[LowerFilesystemExposed, ConsumerModeNone],
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-private-copy-that-its-owner-took-off", MountGone)
        },
        Case {
            actors: &["app"],
            never: &[CoveringSlave],
            ..Case::new("a-private-consumer-below-a-slave", ConsumerModeNone)
        },
        Case {
            fix: &["umount --lazy /tmp/fuse-test-bridge/dfs"],
            evidence: &["app"],
            when: "since 2-fault",
            never: &[MountLeftBehind],
            ..Case::new("an-unmount-that-is-refused", UnmountBusy)
        },
        Case {
            fix: &["on top of it by now"],
            not_in_fix: &["umount --lazy"],
            never: &[MountLeftBehind],
            also: &[(DaemonDead, "from 2-fault to 3-repair")],
            ..Case::new("an-unmount-that-is-covered", UnmountBusy)
        },
        Case {
            actors: &["another"],
            not_in_fix: &["mv "],
            never: &[LowerFilesystemWritten],
            fixed: Some(Fixed::Yaml("  - start: [d, another]\n    expect: {another: ok, d: ok}\n")),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("a-mountpoint-on-which-another-lives", MountsOfSeveralProducers)
        },
        Case {
            not_in_fix: &["directory above"],
            fixed: Some(Fixed::Steps("  - restart: d\n    expect: {d: ok, node: ok}\n")),
            ..Case::new("a-daemon-that-looks-first", StaleSourceBlocksStart)
        },
        Case {
            actors: &["app-of-second"],
            fix: &["restart second"],
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {app-of-second: ok, app: ok}\n",
            )),
            ..Case::new("a-second-producer-that-exits", DaemonDead)
        },
        Case {
            after: Some((
                UnmountBusy,
                "umount --lazy /tmp/fuse-test-bridge/dfs",
                "taken off since",
            )),
            ..over("an-unmount-that-was-refused", LowerFilesystemExposed, "from 3-run to 4-restart")
        },
        Case {
            fix: &["it is over", "kubectl delete pod d"],
            after: Some((DaemonDead, "umount --lazy", "nothing is left")),
            ..over(
                "a-recovery-that-was-done-again",
                RecoveryBeforeMount,
                "from 3-repair to 4-repair",
            )
        },
        Case {
            actors: &["holder"],
            never: &[DeletedThroughMount],
            ..Case::new("a-detached-mount-that-is-held", VolumeIsMountpoint)
        },
        Case {
            fix: &["it is over", "mount --rbind"],
            ..over("a-bind-that-was-made-again", BindNotRecursive, "from 3-start to 5-restart")
        },
        Case {
            fix: &["it is over", "umount --lazy /run/rootfs"],
            not_in_fix: &["umount --lazy /mnt"],
            ..over("an-overlay-that-was-made-again", OverlayLowerDied, "from 4-fault to 7-restart")
        },
    ]
}
