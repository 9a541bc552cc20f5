//! Daemons that are started anew, and what their filesystem does with what it is asked for.

use propagation_core::report::Status;
use propagation_core::{Report, scenario};

/// The checks that fail in a scenario.
async fn failed(text: &str) -> Vec<String> {
    let report: Report = super::run(scenario::parse("daemons", text).expect("a scenario")).await;
    let checks = report.phases.iter().flat_map(|phase| &phase.checks);
    let failed = checks.filter(|check| check.status != Status::Passed);
    failed.map(|check| format!("{}: {}", check.id, check.observed)).collect()
}

#[tokio::test]
async fn a_supervisor_starts_another_daemon_every_time() {
    for fault in ["", "  - fault: stop\n", "  - fault: {errors: EIO}\n"] {
        let again = format!("{fault}  - {{repair: remount, expect: {{app: ok}}}}\n").repeat(6);
        let text = format!(
            "deadlines: {{probe_ms: 400, start_ms: 3000, marker_ms: 3000}}
looks: asked
workloads:
  - {{name: fuse, role: producer, supervised: true}}
  - {{name: app, role: consumer}}
steps:
  - start: all
    expect: {{app: ok}}
{again}"
        );
        assert_eq!(failed(&text).await, [""; 0], "{fault:?}");
    }
}

#[tokio::test]
async fn a_producer_that_mounts_on_its_volume_mounts_anew_where_it_died() {
    let text = "looks: asked
workloads:
  - {name: fuse, role: producer, host: true, volume: {path: /var/lower}}
  - {name: app, role: consumer, volume: {path: /var/lower}}
steps:
  - run: [mkdir, -p, /var/lower]
  - start: all
    expect: {app: ok}
  - fault: kill
    expect: {app: ENOTCONN}
";
    for (repair, layers) in [("remount", 1), ("mount_on_top", 2)] {
        let repair = format!(
            "  - repair: {repair}\n  - run: [sh, -c, \"cat /var/lower/producer-marker.txt && \
             test $(grep -c ' /var/lower ' /proc/self/mountinfo) = {layers}\"]\n    expect: {{run: {{exit: 0}}}}\n"
        );
        assert_eq!(failed(&format!("{text}{repair}")).await, [""; 0], "{repair}");
    }
}

/// Changes the modes of the marker or its directory; who is refused then, and who is not.
#[tokio::test]
async fn modes_and_owners_decide_with_default_permissions() {
    let cases = [
        ("chmod 600 {marker} && stat -c %a:%u:%g {marker}", "600:0:0", "EACCES", "EACCES"),
        (
            "chmod 640 {marker} && chown 0:2000 {marker} && stat -c %a:%u:%g {marker}",
            "640:0:2000",
            "EACCES",
            "ok",
        ),
        (
            "chown 1000 {marker} && chmod 400 {marker} && stat -c %a:%u:%g {marker}",
            "400:1000:0",
            "ok",
            "ok",
        ),
        (
            "chmod 750 {mountpoint} && chgrp 2000 {mountpoint} && stat -c %a:%u:%g {mountpoint}",
            "750:0:2000",
            "EACCES",
            "ok",
        ),
    ];
    for (command, text, app, group) in cases {
        let text = format!(
            "fuse: {{options: [default_permissions]}}
looks: asked
workloads:
  - {{name: fuse, role: producer}}
  - {{name: app, role: consumer, uid: 1000}}
  - {{name: group, role: consumer, uid: 1000, groups: [2000]}}
steps:
  - start: all
    expect: {{app: ok, group: ok}}
  - run: [sh, -c, \"{command}\"]
    expect: {{run: {{outcome: ok, text: \"{text}\"}}, node: ok, app: {app}, group: {group}}}
  - repair: remount
    expect: {{app: ok, group: ok}}
"
        );
        assert_eq!(failed(&text).await, [""; 0], "{command}");
    }
}

#[tokio::test]
async fn what_consumers_made_can_be_removed_and_the_markers_cannot() {
    let text = "looks: asked
workloads:
  - {name: fuse, role: producer}
  - {name: app, role: consumer}
steps:
  - start: all
    expect: {app: ok}
  - run: [sh, -c, \"echo x > {mountpoint}/made && rm {mountpoint}/made && ! ls {mountpoint}/made\"]
    in: app
    expect: {run: {exit: 0}}
  - run: [sh, -c, \"LC_ALL=C rm -rf {mountpoint}/* 2>&1; ls {mountpoint} {mountpoint}/sub\"]
    in: app
    expect: {run: {text: Permission denied}, app: ok}
";
    assert_eq!(failed(text).await, [""; 0]);
}
