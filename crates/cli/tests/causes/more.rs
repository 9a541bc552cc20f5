//! More incidents whose fix is done: one for every cause that has a fix and can be made to happen here.

use propagation_core::diagnosis::CauseId;

use super::{Case, Fixed, NODE_AND_APP};

pub(super) fn all() -> Vec<Case> {
    let mut cases = of_set_ups();
    cases.extend(of_mounts());
    cases.extend(of_consumers());
    cases.extend(found_since());
    cases
}

/// Of the node, of rights and of programs.
fn of_set_ups() -> Vec<Case> {
    vec![
        Case {
            fixed: Some(Fixed::Yaml("  - start: [d, app]\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-private-volume-of-the-producer", CauseId::ProducerNotShared)
        },
        Case {
            fixed: Some(Fixed::Steps("  - start: [d, app]\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-slave-below-the-bridge", CauseId::CoveringSlave)
        },
        Case {
            fixed: Some(Fixed::Yaml("  - start: [d, app]\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-runtime-that-is-apart", CauseId::RuntimeOwnNamespace)
        },
        Case {
            fixed: Some(Fixed::Yaml("  - start: [d, app]\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-producer-in-a-user-namespace", CauseId::UserNamespaceBoundary)
        },
        Case {
            fixed: Some(Fixed::Yaml("  - start: [d, app]\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-mount-for-its-owner-only", CauseId::AllowOtherMissing)
        },
        Case {
            fixed: Some(Fixed::Yaml("  - start: d\n    expect: {node: ok}\n")),
            ..Case::new("a-fuse-conf-that-does-not-permit", CauseId::UserAllowOtherMissing)
        },
        Case {
            fix: &["apt-get install --yes fuse3   # on the node"],
            not_in_fix: &["runAsUser"],
            verify: &["# on the node"],
            ..Case::new("a-helper-that-is-not-installed", CauseId::Fusermount3Absent)
        },
        Case {
            fixed: Some(Fixed::Yaml("  - start: [d, app]\n    expect: {node: ok, app: ok}\n")),
            ..Case::new("a-producer-without-rights", CauseId::CapabilityMissing)
        },
        Case {
            fixed: Some(Fixed::Steps("  - start: d\n    expect: {node: ok}\n")),
            ..Case::new("a-file-where-a-directory-is-bound", CauseId::SourceTypeMismatch)
        },
        Case {
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-runtime-that-leaves-it-private", CauseId::PropagationNotApplied)
        },
        Case {
            fixed: Some(Fixed::Yaml("  - start: d\n    expect: {node: ok}\n")),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("a-type-that-is-another", CauseId::MountTypeUnexpected)
        },
        Case {
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-daemon-that-does-not-serve-yet", CauseId::NotYetServed)
        },
    ]
}

/// Of daemons and their mounts.
fn of_mounts() -> Vec<Case> {
    vec![
        Case {
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-daemon-that-ends-with-its-parent", CauseId::DaemonDiesWithParent)
        },
        Case {
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-daemon-that-used-too-much-memory", CauseId::DaemonOutOfMemory)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - fault: {errors: \"0\"}\n    expect: {node: ok, app: ok}\n",
            )),
            ..Case::new("a-backing-store-that-fails", CauseId::DaemonAnswersErrors)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {node: {outcome: ok, layers: 1}, app: ok}\n",
            )),
            needs: &["/usr/bin/rclone"],
            ..Case::new("a-daemon-that-cannot-unmount", CauseId::UnmountBusy)
        },
        Case {
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("a-daemon-on-a-daemon", CauseId::LowerMountLost)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {app: ok, app.held: ok, node: ok}\n",
            )),
            ..Case::new("a-file-that-stays-open", CauseId::DescriptorHeld)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - observe: true\n    expect: {app: {outcome: ok, layers: 1}, node: {outcome: ok, layers: 1}}\n",
            )),
            ..Case::new("layers-of-dead-mounts", CauseId::StackedLayers)
        },
        Case {
            on: &["second"],
            fixed: Some(Fixed::Yaml(
                "  - start: [first, second, app]\n    expect: {app: {outcome: ok, layers: 1}, node: {outcome: ok, layers: 1}, second: ok}\n",
            )),
            ..Case::new("two-producers-on-one-path", CauseId::MountsOfSeveralProducers)
        },
        Case {
            fixed: Some(Fixed::Yaml(
                "  - start: agent\n  - restart: agent\n  - restart: agent\n    expect: {node: {mounts_added: 0}}\n",
            )),
            ..Case::new("a-mount-that-multiplies", CauseId::MountsMultiply)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - run: [test, \"!\", -e, /srv/left/in]\n    expect: {run: {exit: 0}, node: ok}\n",
            )),
            ..Case::new("a-directory-that-is-mounted-on", CauseId::MountLeftBehind)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - restart: d\n  - restart: app\n    expect: {app: ok, node: ok}\n",
            )),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("content-that-is-removed", CauseId::DeletedThroughMount)
        },
        Case {
            fixed: Some(Fixed::Steps("  - start: d\n    expect: {node: ok, app: ok}\n")),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("a-directory-that-is-not-empty", CauseId::LowerFilesystemWritten)
        },
        Case {
            on: &["app"],
            fixed: Some(Fixed::Yaml(
                "  - start: [d, app]\n  - run: [umount, --lazy, /mnt/dfs]\n    in: app\n    expect: {node: ok}\n",
            )),
            ..Case::new("an-unmount-in-a-shared-copy", CauseId::UnmountFromSharedCopy)
        },
    ]
}

/// Of what consumers are bound to.
fn of_consumers() -> Vec<Case> {
    vec![
        Case {
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-dead-bind-elsewhere", CauseId::StalePublishPath)
        },
        Case {
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-volume-whose-directory-is-another", CauseId::SubPathOnDeadDentry)
        },
        Case {
            fixed: Some(Fixed::Yaml(
                "  - start: app\n  - start: d\n    expect: {app: ok, node: ok}\n",
            )),
            ..Case::new("a-sub-path-that-was-too-early", CauseId::SubPathBeforeMount)
        },
        Case {
            fixed: Some(Fixed::Yaml(
                "  - start: all\n  - fault: lazy_unmount\n    expect: {node: absent, app: {outcome: absent, fuse_mounts: 0}}\n",
            )),
            ..Case::new("a-copy-that-pins", CauseId::ConsumerPinsMount)
        },
        Case {
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-file-that-was-not-there-yet", CauseId::SourceMadeAsDirectory)
        },
    ]
}

/// Of rights, files and programs that are seldom in the way.
fn found_since() -> Vec<Case> {
    const BOTH: &str = "  - start: [d, app]\n    expect: {app: ok, node: ok}\n";
    vec![
        Case {
            fixed: Some(Fixed::Steps(
                "  - start: d\n    expect: {d: mount_error}\n  - run: [grep, \" /mnt/dfs/backup \", /proc/self/mountinfo]\n    \
                 in: d\n    expect: {run: {exit: 0}}\n",
            )),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("a-mountpoint-that-is-missing", CauseId::MountpointMissing)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - run: [mount, -t, tmpfs, inside, /mnt/dev/pts]\n    in: app\n    expect: {app: {mounts_added: 1}, \
                 node: {mounts_added: 0}}\n",
            )),
            ..Case::new("a-slave-at-its-top-only", CauseId::PropagationNotRecursive)
        },
        Case {
            fixed: Some(Fixed::Steps("  - observe: true\n    expect: {member: ok, node: ok}\n")),
            needs: &["/usr/bin/mergerfs"],
            ..Case::new("groups-that-the-daemon-does-not-know", CauseId::CallerGroupsUnknown)
        },
        Case {
            on: &["d"],
            fixed: Some(Fixed::Yaml(
                // Programs on a simulated node get no rights by any mode, so the flag tells.
                "  - start: d\n    expect: {node: ok}\n  - run: [sh, -c, \"grep ' {mountpoint} ' /proc/self/mountinfo | grep -c \
                 nosuid\"]\n    expect: {run: {exit: 1}}\n",
            )),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("a-program-without-its-rights", CauseId::MountedNosuid)
        },
        Case {
            over: true,
            when: "over",
            fixed: Some(Fixed::Steps(
                "  - run: [touch, /var/merged/written]\n    expect: {run: {exit: 0}, node: ok}\n",
            )),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("an-upper-layer-on-fuse", CauseId::FuseAsUpperDir)
        },
        Case {
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-tmpfs-over-the-mount", CauseId::MountHidden)
        },
        Case {
            on: &["d"],
            fixed: Some(Fixed::Yaml(
                "  - start: [app, d]\n    expect: {app: ok, app.write: EROFS}\n",
            )),
            ..Case::new("a-read-only-volume-below-which-is-written", CauseId::ReadOnlyNotInherited)
        },
        Case {
            status: 6,
            fixed: Some(Fixed::Yaml("  - start: [d, app]\n    expect: {app: ok, app.write: ok}\n")),
            ..Case::new("a-read-only-volume", CauseId::MountReadOnly)
        },
        Case {
            fixed: Some(Fixed::Steps("  - start: app\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-source-that-was-removed", CauseId::SourceMissing)
        },
        Case {
            over: true,
            when: "over",
            fixed: Some(Fixed::Yaml(
                "  - start: [d, app]\n  - fault: {slow: 1000}\n  - repair: liveness_probe\n    on: d\n  - fault: {slow: \
                 0}\n    expect: {app: ok, node: ok}\n",
            )),
            ..Case::new("a-probe-that-is-impatient", CauseId::ImpatientProbe)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - run: [test, \"!\", -e, /srv/publish]\n    expect: {run: {exit: 0}, node: ok}\n",
            )),
            ..Case::new("a-recovery-that-races", CauseId::RecoveryRacesUnpublish)
        },
        Case {
            fixed: Some(Fixed::Yaml("  - start: d\n    expect: {d: ok}\n")),
            ..Case::new("a-container-without-the-device", CauseId::FuseDeviceUnusable)
        },
        Case {
            status: 5,
            fixed: Some(Fixed::First(
                "  - phase: host_setup\n  - phase: producer\n  - phase: consumer\n",
            )),
            ..Case::new("a-file-at-the-bridge", CauseId::BridgeUnusable)
        },
        Case {
            fixed: Some(Fixed::Yaml(BOTH)),
            ..Case::new("a-mount-outside-its-volume", CauseId::MountOutsideVolume)
        },
        Case {
            fixed: Some(Fixed::Yaml(BOTH)),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("modes-that-deny", CauseId::FileModeDenies)
        },
        Case {
            never: &[CauseId::DaemonDenies],
            fixed: Some(Fixed::Yaml(
                "  - start: all\n    expect: {app: ok}\n  - run: [chmod, \"600\", \"{marker}\"]\n    expect: {node: ok, app: ok}\n",
            )),
            ..Case::new("modes-that-were-changed", CauseId::FileModeDenies)
        },
        Case {
            fixed: Some(Fixed::Steps(NODE_AND_APP)),
            ..Case::new("a-recovery-that-was-too-early", CauseId::RecoveryBeforeMount)
        },
        Case {
            fixed: Some(Fixed::Yaml(
                "  - start: [d, app]\n  - fault: kill\n  - repair: mount_on_top\n  - fault: kill\n  - repair: \
                 lazy_unmount_mount\n    expect: {app: ok, node: ok}\n",
            )),
            ..Case::new(
                "a-clean-up-where-a-layer-was-needed",
                CauseId::CleanUnmountWhereStackNeeded,
            )
        },
    ]
}
