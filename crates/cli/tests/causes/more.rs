//! More incidents whose fix is done: one for every cause that has a fix and can be made to happen here.

use propagation_core::diagnosis::CauseId;

use super::{Case, Fixed};

pub(super) fn all() -> Vec<Case> {
    let mut cases = of_set_ups();
    cases.extend(of_mounts());
    cases.extend(of_consumers());
    cases
}

/// Of the node, of rights and of programs.
fn of_set_ups() -> Vec<Case> {
    vec![
        Case {
            fixed: Some(Fixed::Manifest {
                from: "propagation: None, privileged: true",
                to: "propagation: Bidirectional, privileged: true",
                then: "steps:\n  - start: [d, app]\n    expect: {app: ok, node: ok}\n",
            }),
            ..Case::new("a-private-volume-of-the-producer", CauseId::ProducerNotShared)
        },
        Case {
            fixed: Some(Fixed::Steps("  - start: [d, app]\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-slave-below-the-bridge", CauseId::CoveringSlave)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: "node: {runtime: {namespace: private}}\n",
                to: "",
                then: "steps:\n  - start: [d, app]\n    expect: {app: ok, node: ok}\n",
            }),
            ..Case::new("a-runtime-that-is-apart", CauseId::RuntimeOwnNamespace)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: ", user_namespace: true",
                to: "",
                then: "steps:\n  - start: [d, app]\n    expect: {app: ok, node: ok}\n",
            }),
            ..Case::new("a-producer-in-a-user-namespace", CauseId::UserNamespaceBoundary)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: "fuse: {allow_other: false}\n",
                to: "fuse: {allow_other: true}\n",
                then: "steps:\n  - start: [d, app]\n    expect: {app: ok, node: ok}\n",
            }),
            ..Case::new("a-mount-for-its-owner-only", CauseId::AllowOtherMissing)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: "workloads:",
                to: "node: {container_fuse_conf: \"user_allow_other\\n\"}\nworkloads:",
                then: "steps:\n  - start: d\n    expect: {node: ok}\n",
            }),
            ..Case::new("a-fuse-conf-that-does-not-permit", CauseId::UserAllowOtherMissing)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: "uid: 1000",
                to: "uid: 0",
                then: "steps:\n  - start: d\n    expect: {node: ok}\n",
            }),
            ..Case::new("a-helper-that-is-not-installed", CauseId::Fusermount3Absent)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: "propagation: HostToContainer, privileged: false",
                to: "privileged: true",
                then: "steps:\n  - start: [d, app]\n    expect: {node: ok, app: ok}\n",
            }),
            ..Case::new("a-producer-without-rights", CauseId::CapabilityMissing)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: "node: {bridge: file}\n",
                to: "",
                then: "steps:\n  - start: d\n    expect: {node: ok}\n",
            }),
            ..Case::new("a-file-where-a-directory-is-bound", CauseId::SourceTypeMismatch)
        },
        Case {
            fixed: Some(Fixed::Steps("  - recreate: app\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-runtime-that-leaves-it-private", CauseId::PropagationNotApplied)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: ", type: fuse.rclone",
                to: "",
                then: "steps:\n  - start: d\n    expect: {node: ok}\n",
            }),
            needs: &["/usr/bin/bindfs"],
            ..Case::new("a-type-that-is-another", CauseId::MountTypeUnexpected)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: "serve_after_ms: 3000",
                to: "serve_after_ms: 0",
                then: "steps:\n  - start: [app, d]\n    expect: {app: ok, node: ok}\n",
            }),
            ..Case::new("a-daemon-that-does-not-serve-yet", CauseId::NotYetServed)
        },
    ]
}

/// Of daemons and their mounts.
fn of_mounts() -> Vec<Case> {
    vec![
        Case {
            fixed: Some(Fixed::Steps("  - restart: d\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-daemon-that-ends-with-its-parent", CauseId::DaemonDiesWithParent)
        },
        Case {
            fixed: Some(Fixed::Steps("  - restart: d\n    expect: {app: ok, node: ok}\n")),
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
                "  - restart: d\n    expect: {node: {outcome: ok, layers: 1}, app: ok}\n",
            )),
            needs: &["/usr/bin/rclone"],
            ..Case::new("a-daemon-that-cannot-unmount", CauseId::UnmountBusy)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - restart: d\n    expect: {node: ok}\n  - restart: app\n    expect: {app: ok}\n",
            )),
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
                "  - restart: d\n    expect: {app: {outcome: ok, layers: 1}, node: {outcome: ok, layers: 1}}\n",
            )),
            ..Case::new("layers-of-dead-mounts", CauseId::StackedLayers)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: "{name: second, role: producer}",
                to: "{name: second, role: producer, volume: {path: /srv/second}}",
                then: "steps:\n  - start: [first, second, app]\n    expect: {app: {outcome: ok, layers: 1}, node: {outcome: ok, layers: 1}, second: ok}\n",
            }),
            ..Case::new("two-producers-on-one-path", CauseId::MountsOfSeveralProducers)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: "    propagation: Bidirectional\n",
                to: "    propagation: HostToContainer\n",
                then: "steps:\n  - start: agent\n  - restart: agent\n  - restart: agent\n    expect: {node: {mounts_added: 0}}\n",
            }),
            ..Case::new("a-mount-that-multiplies", CauseId::MountsMultiply)
        },
        Case {
            fixed: Some(Fixed::Steps(
                "  - run: [sh, -c, \"umount /srv/left/in && rmdir /srv/left/in\"]\n    expect: {run: {exit: 0}, node: ok}\n",
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
            fixed: Some(Fixed::Manifest {
                from: "propagation: Bidirectional, privileged: true}\nsteps",
                to: "propagation: HostToContainer, privileged: true}\nsteps",
                then: "steps:\n  - start: [d, app]\n  - run: [umount, --lazy, /mnt/dfs]\n    in: app\n    expect: {node: ok}\n",
            }),
            ..Case::new("an-unmount-in-a-shared-copy", CauseId::UnmountFromSharedCopy)
        },
    ]
}

/// Of what consumers are bound to.
fn of_consumers() -> Vec<Case> {
    vec![
        Case {
            fixed: Some(Fixed::Steps("  - observe: true\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-dead-bind-elsewhere", CauseId::StalePublishPath)
        },
        Case {
            fixed: Some(Fixed::Steps("  - recreate: app\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-volume-whose-directory-is-another", CauseId::SubPathOnDeadDentry)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: ", sub_path: dfs/sub",
                to: "",
                then: "steps:\n  - start: app\n  - start: d\n    expect: {app: ok, node: ok}\n",
            }),
            ..Case::new("a-sub-path-that-was-too-early", CauseId::SubPathBeforeMount)
        },
        Case {
            fixed: Some(Fixed::Manifest {
                from: "propagation: None",
                to: "propagation: HostToContainer",
                then: "steps:\n  - start: all\n  - fault: lazy_unmount\n    expect: {node: absent, app: {outcome: absent, fuse_mounts: 0}}\n",
            }),
            ..Case::new("a-copy-that-pins", CauseId::ConsumerPinsMount)
        },
        Case {
            fixed: Some(Fixed::Steps("  - observe: true\n    expect: {app: ok, node: ok}\n")),
            ..Case::new("a-file-that-was-not-there-yet", CauseId::SourceMadeAsDirectory)
        },
    ]
}
