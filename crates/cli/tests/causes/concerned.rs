//! Incidents with two producers, with volumes beside the one under test and with subPaths: what is printed names the
//! path that is concerned, and harms no other.

use propagation_core::diagnosis::CauseId;

use super::{Case, Fixed};

/// Paths of the first producer, about which nothing is to be done.
const FIRST: &[&str] = &["/tmp/fuse-test-bridge"];
const SECOND: &[&str] = &["umount --lazy /srv/second"];

pub(super) fn all() -> Vec<Case> {
    let mut cases = of_dead_mounts();
    cases.extend(of_volumes_beside());
    cases.extend(of_looks());
    cases
}

fn of_dead_mounts() -> Vec<Case> {
    use CauseId::{DaemonDead, DaemonKilledKeeperHolds, StaleSourceBlocksStart, SubPathPinsMount};
    vec![
        Case {
            fix: SECOND,
            not_in_fix: FIRST,
            verify: &["/srv/second"],
            fixed: Some(Fixed::Steps(
                "  - start: app\n    expect: {app: ok, other: ok, second: ok, node: ok}\n",
            )),
            ..Case::new("a-dead-mount-at-a-volume-beside", StaleSourceBlocksStart)
        },
        Case {
            fix: SECOND,
            not_in_fix: &["mount --bind", "/tmp/fuse-test-bridge"],
            fixed: Some(Fixed::Steps(
                "  - start: second\n    expect: {second: ok, app: ok, node: {outcome: ok, mounts_at: {/srv/second: 1}}}\n",
            )),
            ..Case::new("a-second-producer-before-its-dead-mount", StaleSourceBlocksStart)
        },
        Case {
            fix: SECOND,
            not_in_fix: FIRST,
            verify: &["propagation probe /srv/second"],
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {reader: ok, app: {outcome: ok, device: same}, node: ok}\n",
            )),
            ..Case::new("the-keeper-of-the-second-producer", DaemonKilledKeeperHolds)
        },
        Case {
            fix: SECOND,
            not_in_fix: FIRST,
            verify: &["propagation probe /srv/second"],
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {reader: ok, app: ok, node: ok}\n",
            )),
            ..Case::new("the-daemon-of-the-second-mountpoint", DaemonDead)
        },
        Case {
            fix: &["umount --lazy /tmp/fuse-test-bridge/dfs"],
            not_in_fix: &["dfs; umount"],
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {node: {outcome: ok, layers: 2}, app: ok, d.program: running}\n",
            )),
            ..Case::new("a-dead-layer-on-a-living-one", DaemonDead)
        },
        Case {
            fix: &["kubectl delete pod app"],
            not_in_fix: &["mount --bind"],
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {app: {outcome: ok, root: /sub}, node: ok}\n",
            )),
            ..Case::new("a-dead-sub-path", StaleSourceBlocksStart)
        },
        Case {
            after: Some((StaleSourceBlocksStart, "kubectl delete pod app", "mount --bind")),
            ..Case::new("a-dead-sub-path-of-a-mount-that-is-fresh", SubPathPinsMount)
        },
        Case {
            // At a path of its own the marker of / would be the right content, and not that of a part.
            fix: &["mount --bind /tmp/fuse-test-bridge/dfs/sub /srv/part"],
            fixed: Some(Fixed::Steps(
                "  - restart: app\n    expect: {app: {outcome: wrong_content, root: /sub}, node: ok}\n",
            )),
            ..Case::new("a-dead-bind-of-a-part", StaleSourceBlocksStart)
        },
    ]
}

fn of_volumes_beside() -> Vec<Case> {
    use CauseId::{CoveringPrivate, SourceMissing, SourceTypeMismatch};
    const STARTS: Option<Fixed> =
        Some(Fixed::Steps("  - start: app\n    expect: {app: ok, node: ok}\n"));
    vec![
        Case {
            fix: &["mount --make-rshared /opt"],
            not_in_fix: FIRST,
            fixed: STARTS,
            ..Case::new("a-volume-beside-on-a-private-mount", CoveringPrivate)
        },
        Case {
            fix: &["mkdir -p /opt/nope"],
            not_in_fix: FIRST,
            verify: &["stat /opt/nope"],
            fixed: STARTS,
            ..Case::new("a-volume-beside-that-is-missing", SourceMissing)
        },
        Case {
            fix: &["/var/lib/missing", "/proc/meminfo"],
            not_in_fix: &["mv ", "/tmp/fuse-test-bridge"],
            verify: &["/var/lib/missing"],
            ..Case::new("a-volume-beside-on-a-file", SourceTypeMismatch)
        },
    ]
}

/// Where somebody has to look to see whether it is over.
fn of_looks() -> Vec<Case> {
    use CauseId::{
        CleanUnmountWhereStackNeeded, DaemonAnswersErrors, DaemonSlow, DaemonStopped,
        DeletedThroughMount, LowerFilesystemExposed, MountedButWrongContent, VolumeIsMountpoint,
    };
    vec![
        Case {
            actors: &["reader"],
            fix: &["chattr +i /srv/second"],
            not_in_fix: FIRST,
            verify: &["touch /srv/second/x"],
            ..Case::new("a-clean-stop-of-the-second-mountpoint", LowerFilesystemExposed)
        },
        Case {
            actors: &["reader"],
            fix: &["rm -r /srv/second"],
            verify: &["ls /srv/second "],
            never: &[MountedButWrongContent],
            needs: &["/usr/bin/bindfs"],
            ..Case::new("content-of-the-second-mountpoint-that-is-removed", DeletedThroughMount)
        },
        Case {
            fix: &["path: \"/srv\""],
            verify: &["propagation probe /srv/second "],
            after: Some((MountedButWrongContent, "path: \"/tmp/fuse-test-bridge\"", "/srv")),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("content-that-was-written-over-at-two-mountpoints", MountedButWrongContent)
        },
        Case {
            fix: &["[ls, /mnt/dfs]"],
            verify: &["time ls /srv/second"],
            ..Case::new("a-slow-second-producer", DaemonSlow)
        },
        Case {
            verify: &["propagation probe /srv/second"],
            ..Case::new("a-second-producer-that-fails", DaemonAnswersErrors)
        },
        Case {
            verify: &["propagation probe /srv/second"],
            fix: &["unmount /srv/second lazily"],
            not_in_fix: FIRST,
            ..Case::new("a-stopped-second-producer", DaemonStopped)
        },
        Case {
            actors: &["app"],
            evidence: &["failed to stat \"/srv/second\"", " /srv/second "],
            not_in_evidence: FIRST,
            fix: &["unmount /srv/second lazily and restart second"],
            ..Case::new("a-stopped-producer-of-a-volume-beside", DaemonStopped)
        },
        Case {
            actors: &["app"],
            evidence: &["failed to stat \"/srv/second\"", " /srv/second "],
            not_in_evidence: FIRST,
            fix: &["unmount /srv/second lazily and restart second"],
            ..Case::new("a-named-volume-beside-a-slow-one", DaemonStopped)
        },
        Case {
            after: Some((
                CleanUnmountWhereStackNeeded,
                "restart whoever is bound to /srv/second",
                "mount on top",
            )),
            ..Case::new("a-clean-up-of-the-second-mountpoint", VolumeIsMountpoint)
        },
    ]
}
