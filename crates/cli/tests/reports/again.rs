//! What a report says to do again, and many reports in one directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::formats::run;
use crate::page::{browser, expect_quiet, expect_value, no_browser};
use crate::support::{PASSED, TestResult, expect_code, expect_part, output, scratch};

pub(crate) fn the_command_in_a_report_does_the_same_again() -> TestResult {
    let scratch = scratch();
    let bridge = "/tmp/it's a bridge";
    let options =
        ["--bridge", bridge, "--fault", "terminate", "--consumers", "3", "--timeout", "90s"];
    let directory = run(scratch.path(), &options, 0)?;
    let text = fs::read_to_string(directory.join("report.txt"))?;
    let command = text.lines().find_map(|line| line.strip_prefix("Reproduce: propagation "));
    let command = command.ok_or("the report has no command")?;
    let again = Command::new("sh")
        .args(["-c", &format!("exec \"$0\" {command} --format json"), crate::support::PROPAGATION])
        .env("XDG_STATE_HOME", scratch.path())
        .output()?;
    expect_code(&again, 0)?;
    let first: Value = serde_json::from_slice(&fs::read(directory.join("report.json"))?)?;
    let second: Value = serde_json::from_slice(&again.stdout)?;
    if first["plan"] != second["plan"] {
        return Err(format!("{command} has another plan").into());
    }
    PASSED
}

/// The plan out of a report, under another name, as a scenario file.
fn plan_file(scratch: &Path, report: &Path, name: &str) -> Result<PathBuf, libtest_mimic::Failed> {
    let json = report.join("report.json");
    let printed = output(scratch, &["report", json.to_str().expect("UTF-8"), "--format", "plan"]);
    let mut plan: Value = serde_json::from_slice(&printed.stdout)?;
    plan["name"] = name.into();
    let file = scratch.join(format!("{name}.yaml"));
    fs::write(&file, plan.to_string())?;
    Ok(file)
}

pub(crate) fn the_plan_in_a_report_does_the_same_again() -> TestResult {
    let scratch = scratch();
    let directory = run(scratch.path(), &["--fault", "terminate"], 0)?;
    let file = plan_file(scratch.path(), &directory, "again")?;
    let path = file.to_str().expect("UTF-8");
    let again = output(scratch.path(), &["run", "--scenario", path, "--format", "json"]);
    expect_code(&again, 0)?;
    let mut second: Value = serde_json::from_slice(&again.stdout)?;
    let first: Value = serde_json::from_slice(&fs::read(directory.join("report.json"))?)?;
    second["plan"].as_object_mut().ok_or("no plan")?.remove("name");
    if first["plan"] != second["plan"] {
        return Err(format!("another plan: {}", second["plan"]).into());
    }
    PASSED
}

pub(crate) fn many_scenarios_get_an_index() -> TestResult {
    let scratch = scratch();
    let directory = run(scratch.path(), &["--fault", "terminate"], 0)?;
    let files = [
        plan_file(scratch.path(), &directory, "first")?,
        plan_file(scratch.path(), &directory, "second")?,
    ];
    let all = scratch.path().join("all");
    let [one, two, all_name] =
        [&files[0], &files[1], &all].map(|path| path.to_str().expect("UTF-8"));
    let arguments = ["run", "--scenario", one, "--scenario", two, "--report", all_name];
    expect_code(&output(scratch.path(), &arguments), 0)?;
    let index = fs::read_to_string(all.join("index.html"))?;
    for name in ["first", "second"] {
        expect_part(&index, &format!("<a href=\"{name}/report.html\">{name}</a>"))?;
        expect_part(&fs::read_to_string(all.join(name).join("report.html"))?, "Full success")?;
    }
    let Some(mut page) = browser(scratch.path())? else { return no_browser() };
    page.open(&all.join("index.html"))?;
    expect_quiet(&page)?;
    expect_value(&mut page, "document.querySelectorAll('tbody tr').length", &json!(2))?;
    PASSED
}
