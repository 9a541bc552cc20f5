//! A directory of scenarios on a cluster.

use std::fs;

use serde_json::Value;

use crate::lab::lab;
use crate::support::{PASSED, TestResult, expect_code, expect_junit, expect_part, stdout};

/// The bridge can no longer be removed when this is over.
const STUCK: &str = r#"
bridge: {path: /srv/m, mountpoint: dfs}
workloads:
  - {name: fuse, role: producer}
  - {name: app, role: consumer}
steps:
  - start: all
    expect: {app: ok}
  - run: [chattr, +i, "{bridge}"]
    in: fuse
    expect: {app: ok}
"#;

const WELL: &str = r#"
workloads:
  - {name: fuse, role: producer}
  - {name: app, role: consumer}
steps:
  - start: all
    expect: {app: ok}
"#;

pub(crate) fn a_clean_up_that_fails_is_told_of_its_scenario() -> TestResult {
    let lab = lab!();
    let files = lab.scratch.path().join("files");
    fs::create_dir(&files)?;
    fs::write(files.join("stuck.yaml"), STUCK)?;
    fs::write(files.join("well.yaml"), WELL)?;
    let reports = lab.scratch.path().join("reports");
    let mut run = lab.run(&["--format", "json", "--scenario"]);
    let ran = run.arg(&files).arg("--report").arg(&reports).output();
    lab.on_node("chattr -i /srv/m")?;
    let cleaned = lab.clean(&[]).output()?;
    let ran = ran?;
    expect_code(&ran, 7)?;
    let all: Value = serde_json::from_slice(&ran.stdout)?;
    for one in all.as_array().ok_or("a list of runs")? {
        let (name, report) = (&one["name"], &one["report"]);
        let failed = report["cleanup"]["could_not"].as_array().is_some_and(|list| !list.is_empty());
        if failed != (name == "stuck") || report["verdict"]["outcome"] != "as_expected" {
            return Err(format!("{name}: {report:#}").into());
        }
    }
    let junit = reports.join("junit.xml");
    expect_junit(&junit)?;
    let junit = fs::read_to_string(junit)?;
    let told = |name: &str| junit.contains(&format!("<testsuite name=\"{name}/clean_up\""));
    if !told("stuck") || told("well") {
        return Err(format!("not of the one scenario: {junit}").into());
    }
    expect_part(&junit, "/srv/m")?;
    expect_code(&cleaned, 0)?;
    expect_part(&stdout(&cleaned), "/srv/m")?;
    lab.expect_nothing_left()?;
    PASSED
}
