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
