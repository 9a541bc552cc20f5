//! Scenarios of several steps and several producers, and which causes must be found.

use propagation_core::Plan;
use propagation_core::diagnosis::CauseId;
use propagation_core::scenario;

use crate::cases::Case;

/// A scenario without fuss about its file.
fn plan(text: &str) -> Plan {
    match scenario::parse("case.yaml", text) {
        Ok(plan) => plan,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn all() -> Vec<Case> {
    let mut cases = several_producers();
    cases.extend(placed_elsewhere());
    cases.extend(left_behind());
    cases
}

/// What stays wrong for somebody once the node is right.
fn left_behind() -> Vec<Case> {
    vec![
        Case::new(
            "a_descriptor_of_the_dead_connection",
            || {
                plan(
                    "workloads:\n\
                     - {name: d, role: producer}\n\
                     - {name: app, role: consumer}\n\
                     steps:\n\
                     - {start: all, expect: {app.held: ok}}\n\
                     - {fault: kill}\n\
                     - {repair: lazy_unmount_mount, expect: {app: ok, app.held: ENOTCONN}}\n",
                )
            },
            &[CauseId::DescriptorHeld, CauseId::DaemonDead],
        ),
        Case::new(
            "a_file_volume_before_its_file",
            || {
                plan(
                    "workloads:\n\
                     - {name: d, role: producer}\n\
                     - {name: app, role: consumer, volume: file, order: before_mount}\n\
                     steps:\n\
                     - {start: app}\n\
                     - {start: d, expect: {node: ok, app: not_ok}}\n",
                )
            },
            &[CauseId::SourceMadeAsDirectory],
        ),
        Case::new(
            "a_private_mount_over_the_volume_of_a_running_consumer",
            || {
                plan(
                    "workloads:\n\
                     - {name: d, role: producer, host: true}\n\
                     - {name: early, role: consumer, order: before_mount}\n\
                     steps:\n\
                     - {start: early}\n\
                     - {run: [mount, -t, tmpfs, --make-private, t, \"{bridge}\"]}\n\
                     - {start: d, expect: {node: ok, early: absent}}\n",
                )
            },
            &[CauseId::CoveringPrivate],
        ),
        Case::new(
            "a_publish_path_that_was_bound_too_late",
            || {
                plan(
                    "workloads:\n\
                     - {name: d, role: producer}\n\
                     - {name: app, role: consumer, volume: {path: /srv/x}, propagation: None}\n\
                     steps:\n\
                     - {run: [mkdir, -p, /srv/x]}\n\
                     - {start: d}\n\
                     - {start: app}\n\
                     - {publish: app, expect: {app: absent, node: ok}}\n",
                )
            },
            &[CauseId::ConsumerModeNone],
        ),
        Case::new(
            "a_listing_that_fails_for_everybody",
            || {
                plan(
                    "workloads:\n\
                     - {name: d, role: producer}\n\
                     - {name: app, role: consumer}\n\
                     steps:\n\
                     - {start: all, expect: {app.list: ok}}\n\
                     - {fault: {errors: {readdir: EIO}}, expect: {app.list: EIO, app: ok}}\n",
                )
            },
            &[CauseId::DaemonAnswersErrors],
        ),
    ]
}

fn several_producers() -> Vec<Case> {
    vec![
        Case::new(
            "a_runtime_that_only_sends_down_and_a_daemon_of_the_host_later",
            || {
                plan(
                    "node: {runtime: {namespace: slave_shared}}\n\
                     workloads:\n\
                     - {name: in-lxc, role: producer}\n\
                     - {name: sibling, role: consumer}\n\
                     - {name: host-daemon, role: producer, host: true}\n\
                     steps:\n\
                     - {start: [in-lxc, sibling], expect: {node: absent, sibling: ok}}\n\
                     - {stop: in-lxc}\n\
                     - {start: host-daemon, expect: {node: ok}}\n",
                )
            },
            &[CauseId::FreshMountHidden, CauseId::RuntimeOwnNamespace],
        )
        .evidence(&["sibling as uid 0"]),
        Case::new(
            "a_daemon_on_a_daemon_whose_mount_is_taken_off",
            || {
                plan(
                    "workloads:\n\
                     - {name: other, role: producer, fuse: {command: [bindfs, -f, \"{source}\", \"{mountpoint}\"]}}\n\
                     - name: crypt\n  \
                       role: producer\n  \
                       volume: {path: /var/crypt}\n  \
                       volumes: [{source: \"{bridge}\", destination: /data, propagation: HostToContainer}]\n  \
                       fuse: {command: [bindfs, -f, /data/dfs, \"{mountpoint}\"], marker: mount}\n\
                     - {name: plex, role: consumer, volume: {path: /var/crypt}}\n\
                     steps:\n\
                     - {run: [mkdir, -p, /var/crypt]}\n\
                     - {start: [other, crypt, plex], expect: {plex: ok}}\n\
                     - {fault: kill, on: other, expect: {node: ENOTCONN}}\n\
                     - {repair: lazy_unmount_mount, on: other, expect: {node: ok, plex: ENOTCONN}}\n",
                )
            },
            &[CauseId::LowerMountLost, CauseId::DaemonDead],
        )
        .root()
        .evidence(&["plex as uid 0: ENOTCONN", "crypt: "]),
        Case::new(
            "two_producers_on_one_path",
            || {
                plan(
                    "fuse: {stale: stack}\n\
                     workloads:\n\
                     - {name: first, role: producer}\n\
                     - {name: second, role: producer}\n\
                     - {name: reader, role: consumer}\n\
                     steps:\n\
                     - {start: first}\n\
                     - {start: second, expect: {node: {outcome: ok, layers: 2}}}\n\
                     - {start: reader, expect: {reader: ok}}\n",
                )
            },
            &[CauseId::MountsOfSeveralProducers],
        ),
        Case::new(
            "a_reader_of_a_producer_that_another_one_does_not_touch",
            || {
                plan(
                    "workloads:\n\
                     - {name: first, role: producer}\n\
                     - {name: second, role: producer, volume: {path: /var/second}}\n\
                     - {name: reader, role: consumer}\n\
                     steps:\n\
                     - {run: [mkdir, -p, /var/second]}\n\
                     - {start: [first, reader], expect: {reader: ok}}\n\
                     - {start: second, expect: {reader: ok, second: ok}}\n",
                )
            },
            &[CauseId::NothingWrong],
        ),
        Case::new(
            "the_type_that_is_waited_for_is_another",
            || {
                plan(
                    "workloads:\n\
                     - {name: p, role: producer, fuse: {command: [bindfs, -f, \"{source}\", \"{mountpoint}\"], type: fuse.rclone}}\n\
                     - {name: c, role: consumer}\n\
                     deadlines: {marker_ms: 700, start_ms: 1000}\n\
                     steps:\n\
                     - {start: all}\n",
                )
            },
            &[CauseId::MountTypeUnexpected],
        )
        .root(),
    ]
}

fn placed_elsewhere() -> Vec<Case> {
    vec![
        Case::new(
            "a_private_consumer_of_a_runtime_that_is_cut_off",
            || {
                plan(
                    "node: {runtime: {namespace: private}}\n\
                     workloads:\n\
                     - {name: rclone, role: producer, host: true}\n\
                     - {name: in-snap, role: consumer, propagation: None}\n\
                     - {name: itself, role: consumer, volume: mountpoint, propagation: None}\n\
                     steps:\n\
                     - {start: rclone, expect: {node: ok}}\n\
                     - {start: [in-snap, itself], expect: {in-snap: absent, itself: absent}}\n",
                )
            },
            &[CauseId::RuntimeOwnNamespace],
        )
        .evidence(&["does not show in runtime"]),
        Case::new(
            "a_volume_that_has_nothing_to_do_with_the_mount",
            || {
                plan(
                    "workloads:\n\
                     - {name: driver, role: producer}\n\
                     - {name: app, role: consumer, volume: {path: /var/config}, propagation: None}\n\
                     steps:\n\
                     - {start: all, expect: {node: ok, app: absent}}\n",
                )
            },
            &[CauseId::NothingWrong],
        ),
        Case::new(
            "a_bind_of_the_mount_at_another_path",
            || {
                plan(
                    "workloads:\n\
                     - {name: csi, role: producer}\n\
                     - {name: pod, role: consumer, volume: {path: /var/lib/publish}}\n\
                     steps:\n\
                     - {run: [mkdir, -p, /var/lib/publish]}\n\
                     - {start: csi}\n\
                     - {run: [mount, --bind, \"{mountpoint}\", /var/lib/publish]}\n\
                     - {start: pod, expect: {pod: ok}}\n\
                     - {fault: kill}\n\
                     - {repair: lazy_unmount_mount, expect: {node: ok, pod: ENOTCONN}}\n",
                )
            },
            &[CauseId::StalePublishPath, CauseId::DaemonDead],
        )
        .root()
        .evidence(&["pod as uid 0: ENOTCONN"]),
        Case::new(
            "a_volume_inside_a_volume_that_sends",
            || {
                plan(
                    "workloads:\n\
                     - name: handler\n  \
                       role: consumer\n  \
                       order: before_mount\n  \
                       propagation: Bidirectional\n  \
                       volumes: [{source: \"{bridge}/core\", destination: /mnt/core, propagation: Bidirectional}]\n\
                     steps:\n\
                     - {start: handler}\n\
                     - {restart: handler}\n\
                     - {restart: handler, expect: {node: {mounts_grown: 7}}}\n",
                )
            },
            &[CauseId::MountsMultiply],
        )
        .evidence(&["after 3-restart: 7 there"]),
        Case::new(
            "a_consumer_that_is_not_root_without_allow_other",
            || {
                plan(
                    "fuse: {allow_other: false}\n\
                     workloads:\n\
                     - {name: gitfs, role: producer}\n\
                     - {name: app, role: consumer, uid: 1000}\n\
                     steps:\n\
                     - {start: all, expect: {app: EACCES, app@0: ok, node: ok}}\n",
                )
            },
            &[CauseId::AllowOtherMissing],
        )
        .root()
        .evidence(&["app as uid 1000: EACCES"]),
    ]
}
